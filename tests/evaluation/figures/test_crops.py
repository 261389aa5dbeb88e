"""Crops against Pillow's enlargement of the source, planted differences, and closed forms."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from aesop.evaluation.figures.crops import blocks, draw, enlarged
from aesop.evaluation.figures.drawing import save, style
from aesop.evaluation.figures.spec import CropsSpec
from aesop.evaluation.results import MethodResults, Metric, Results
from aesop.images.errors import ImageError
from aesop.images.write import write_image

pytest.importorskip("matplotlib")
HEIGHT, WIDTH = 96, 128


def noise(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """HR/img.png, a and b with a result each, lr with LR."""
    monkeypatch.chdir(tmp_path)
    for folder, name, image in [
        ("HR", "img", noise(0)),
        ("a", "img_x4", noise(1)),
        ("b", "img", noise(2)),
        ("lr", "img", noise(3, HEIGHT // 4, WIDTH // 4)),
    ]:
        write_image(Path(folder, f"{name}.png"), image)
    return tmp_path


def spec(**options) -> CropsSpec:
    usual = {
        "kind": "crops", "hr": "HR", "images": {"img": [40, 24, 32, 24]}, "methods": {"a": "a", "b": "b"}, "metrics": [],
        "dpi": 100,
    }  # fmt: skip
    return CropsSpec.model_validate(usual | options)


def pixels(options: CropsSpec, path: Path) -> np.ndarray:
    shown = blocks(options)
    save(lambda is_pixels: draw(options, shown, is_pixels), path)
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def pictures(page: np.ndarray) -> list[np.ndarray]:
    """The pictures of a page in one row, from left to right; white separates them."""
    inked = (page < 255).any(2)
    edges = np.flatnonzero(np.diff(np.pad(inked[:20].any(0), 1).astype(int)))
    found = []
    for left, right in edges.reshape(-1, 2):
        height = int(np.argmin(np.pad(inked[:, left:right].any(1), (0, 1))))
        found.append(page[:height, left:right])
    return found


@pytest.mark.parametrize("whole", [True, False])
def test_crops_show_the_pixels_of_the_source_enlarged(root, tmp_path, whole):
    # With odd sides no pixel of the page lies between two of the source, where libraries round as they like.
    options = spec(
        methods={"lr": "lr", "a": "a", "b": "b/img.png"}, whole=whole, columns=4, images={"img": [40, 24, 31, 23]}
    )
    shown = blocks(options)[0].crops
    page = pixels(options, tmp_path / "f.png")
    assert page.shape[1] == round(18 / 2.54 * 100)
    sources = [noise(0), noise(3, HEIGHT // 4, WIDTH // 4).repeat(4, 0).repeat(4, 1), noise(1), noise(2)]
    found = pictures(page)
    if whole:
        assert found.pop(0).shape[1] / found[0].shape[0] == pytest.approx(WIDTH / HEIGHT, rel=0.02)
    for crop, source, picture in zip(shown, sources, found, strict=True):
        expected = source[24:47, 40:71]
        np.testing.assert_array_equal(crop.image, expected)
        size = (picture.shape[1], picture.shape[0])
        np.testing.assert_array_equal(picture, Image.fromarray(expected).resize(size, Image.Resampling.NEAREST))
    assert len({picture.shape for picture in found}) == 1
    assert found[0].shape[0] == pytest.approx(found[0].shape[1] * 23 / 31, abs=1)


def test_whole_image_has_the_rectangle_where_the_region_is(root, tmp_path):
    options = spec(colour="#00ff00", hr="flat.png", dpi=200)
    write_image(Path("flat.png"), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    shown = pictures(pixels(options, tmp_path / "f.png"))[0].astype(int)
    red, green, blue = np.moveaxis(shown, 2, 0)
    rows, columns = np.nonzero((green > 200) & (red < 60) & (blue < 60))
    zoom = shown.shape[1] / WIDTH
    assert [columns.min(), columns.max()] == pytest.approx([40 * zoom, 72 * zoom], abs=3)
    assert [rows.min(), rows.max()] == pytest.approx([24 * zoom, 48 * zoom], abs=3)
    inside = shown[round(26 * zoom) : round(46 * zoom), round(42 * zoom) : round(70 * zoom)]
    assert (inside == 90).all()


def test_auto_finds_where_the_methods_differ(root):
    a = noise(1)
    b = a.copy()
    b[50:62, 70:90] ^= 0x7F
    write_image(Path("a", "img_x4.png"), a)
    write_image(Path("b", "img.png"), b)
    (block,) = blocks(spec(images={"img.png": "auto"}, size=[40, 30], methods={"lr": "lr", "a": "a", "b": "b"}))
    region = block.region
    assert (region.width, region.height) == (40, 30)
    assert region.top <= 50
    assert region.left <= 70
    assert region.top + 30 >= 62
    assert region.left + 40 >= 90


def test_auto_compares_a_single_method_with_hr(root):
    image = noise(0)
    image[30:40, 30:40] = 255 - image[30:40, 30:40]
    write_image(Path("a", "img_x4.png"), image)
    (block,) = blocks(spec(images={"img": "auto"}, size=[16, 16], methods={"a": "a"}))
    assert 24 <= block.region.top <= 30
    assert 24 <= block.region.left <= 30


def test_pixels_are_equal_squares_in_a_pdf():
    image = noise(0, 3, 5)
    for size in ((23, 14), (25, 15), (4, 2)):
        large = enlarged(image, size, is_pixels=False)
        factor = math.ceil(size[0] / 5)
        np.testing.assert_array_equal(large, cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST))


def texts(options: CropsSpec) -> dict[str, str]:
    """What the figure says, and in which weight."""
    with style():
        figure = draw(options, blocks(options), True)
    return {text.get_text(): text.get_fontweight() for text in figure.texts}


def test_values_are_measured_and_the_best_is_bold(root):
    hr = np.full((HEIGHT, WIDTH, 3), 100, np.uint8)
    write_image(Path("HR", "img.png"), hr)
    write_image(Path("a", "img_x4.png"), hr + np.uint8(10))
    write_image(Path("b", "img.png"), hr + np.uint8(5))
    # A gray level more is 219 / 255 levels of luma.
    expected = [-20 * math.log10(levels * 219 / 255 / 255) for levels in (10, 5)]
    found = texts(spec(metrics=["psnr"], methods={"a": "a", "b": "b", "lr": "lr"}, labels={"a": "Ours", "img": "Street"}))
    assert found["PSNR ↑"] == "normal"
    assert found[f"{expected[0]:.2f}"] == "normal"
    assert found[f"{expected[1]:.2f}"] == "bold"
    assert {"HR", "Ours", "b", "lr", "Street"} <= set(found)
    assert len(found) == 8  # none below LR


def record(path: Path, sets=("Set14",)) -> None:
    metrics = {
        "psnr": Metric(label="PSNR", best="max", format=".2f"),
        "lpips": Metric(label="LPIPS", best="min", format=".4f"),
    }
    values = {"a": (25.125, 0.4), "b": (24.0, 0.12341)}
    methods = tuple(
        MethodResults(name=name, values={each: {"img": {"psnr": psnr, "lpips": lpips}} for each in sets})
        for name, (psnr, lpips) in values.items()
    )
    path.write_text(Results(name="r", scale=4, metrics=metrics, methods=methods, protocol={}).to_json())


def test_values_of_results(root):
    record(Path("r.json"))
    found = texts(spec(metrics=["psnr", "lpips"], results="r.json"))
    assert {"PSNR ↑ / LPIPS ↓", "24.00", "0.4000", "25.12", "0.1234"} <= set(found)
    assert [text for text, weight in found.items() if weight == "bold"] == ["25.12", "0.1234"]
    record(Path("r.json"), ("Set14", "copy"))
    with pytest.raises(ValueError, match=r"set: r\.json, a: several sets have an image img \(Set14, copy\): choose one"):
        blocks(spec(metrics=["psnr"], results="r.json"))
    assert blocks(spec(metrics=["psnr"], results="r.json", set="copy"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"images": {"img": [100, 0, 32, 24]}},
            r"images\.img: \[100, 0, 32, 24\] reaches beyond the image, which has 128x96",
        ),
        ({"images": {"image": "auto"}}, "hr: no image image in HR"),
        ({"methods": {"a": "nowhere"}}, "methods.a: image folder nowhere does not exist"),
        ({"methods": {"a": "small"}}, r"methods\.a: its image has 60x48 pixels, HR 128x96"),
        ({"methods": {"a": "several"}}, r"methods\.a: 2 images are called img"),
        ({"metrics": ["lrpsnr"]}, "metrics: lrpsnr needs LR"),
        ({"metrics": ["psrn"]}, "metrics.psrn: there is no metric 'psrn'"),
        ({"metrics": ["ssim"], "results": "r.json"}, r"metrics: r\.json holds no ssim, but psnr, lpips"),
        (
            {"methods": {"c": "b"}, "metrics": ["psnr"], "results": "r.json"},
            r"methods: r\.json holds no c, but a, b; call it so",
        ),
        ({"metrics": ["psnr"], "results": "r.json", "set": "Set5"}, r"set: r\.json, a: no values of img"),
    ],
)
def test_faults_name_their_key(root, options, message):
    write_image(Path("small", "img.png"), noise(0, 48, 60))
    for suffix in ("x", "y"):
        write_image(Path("several", f"img_{suffix}.png"), noise(0))
    record(Path("r.json"))
    with pytest.raises((ValueError, ImageError), match=message):
        blocks(spec(**options))


def test_hr_is_cut_to_what_the_results_have(root):
    write_image(Path("HR", "img.png"), np.pad(noise(0), ((0, 3), (0, 2), (0, 0))))
    (block,) = blocks(spec())
    assert block.whole.shape == (HEIGHT, WIDTH, 3)


def test_too_many_columns_are_refused(root):
    options = spec(columns=3, width=2)
    with style(), pytest.raises(ValueError, match=r"less than 0\.5 cm wide; give fewer columns, or whole: false"):
        draw(options, blocks(options), True)


def test_files_are_the_same_every_time(root, tmp_path):
    options = spec(metrics=["psnr"])
    for kind in ("pdf", "png"):
        files = [tmp_path / f"{name}.{kind}" for name in "ab"]
        for file in files:
            pixels(options, file) if kind == "png" else save(lambda px: draw(options, blocks(options), px), file)
        assert files[0].read_bytes() == files[1].read_bytes()

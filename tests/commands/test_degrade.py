"""`aesop degrade`: the sheet shows what it says, a set can be used at once and made again, mistakes write nothing."""

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

import aesop
from aesop.cli import app
from aesop.commands.degrade import read_recipe, split_words
from aesop.data.degradation.operations import usm_sharpen
from aesop.data.degradation.random_degradation import batch_generator, degrade
from aesop.data.measured_pairs import MeasuredPairs
from aesop.images.read import ImageFile
from aesop.images.resize import imresize
from aesop.images.tensors import to_array, to_tensor
from aesop.options.datasets import PairedDataset
from aesop.options.degradation import DegradationOptions
from aesop.options.read import load_config
from published_lib import option_files, write

REPO = Path(__file__).resolve().parents[2]
PHOTOS = Path(aesop.__file__).parent / "assets" / "photos" / "heldout"
# Small images will do with these: two blurs of at most 7 pixels, nothing reduced below a half.
SMALL = [
    "degradation.blur_kernel_size=7",
    "degradation.blur_kernel_size2=7",
    "degradation.resize_range=[0.5,1.5]",
]


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["degrade", *map(str, arguments)])
    return result.exit_code, re.sub(r"\s+", " ", result.output)


def succeeded(*arguments: object) -> str:
    code, text = run(*arguments)
    assert code == 0, text
    return text


def refused(*arguments: object) -> str:
    code, text = run(*arguments)
    assert code == 1, text
    return text.removeprefix("error: ").strip()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def photo(seed: int, height: int = 48, width: int = 64, channels: int = 3) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, channels), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Images of every kind that a folder may hold, of several sizes."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    Image.fromarray(photo(1)).save(folder / "colour.png")
    Image.fromarray(photo(2, 50, 67)).save(folder / "below" / "odd.jpg")
    Image.fromarray(photo(3, channels=1)[..., 0]).save(folder / "gray.png")
    Image.fromarray(photo(4, channels=4)).save(folder / "rgba.png")
    cv2.imwrite(str(folder / "sixteen.png"), photo(5).astype(np.uint16) * 257)
    return folder


# The sheet.


def images_of(page: Path) -> dict[str, list[np.ndarray]]:
    """The page's images, RGB, by label."""
    found: dict[str, list[np.ndarray]] = {}
    for label, data in re.findall(r'alt="([^"]*)" src="data:image/png;base64,([^"]*)"', page.read_text(encoding="utf-8")):
        image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        found.setdefault(label, []).append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    return found


def expected_images(count: int, seed: int) -> list[np.ndarray]:
    """The middle 256 x 256 pixels of the astronaut, as it is and sharpened, and the middle of the results."""
    hr = ImageFile.at(PHOTOS / "astronaut.png").read()  # 384 x 264: less than a training crop, so all of it is degraded
    assert hr.shape == (264, 384, 3)
    sharp = usm_sharpen(to_tensor(hr)[None])
    results, _ = degrade(
        sharp.expand(count, -1, -1, -1),
        options=DegradationOptions(),
        scale=4,
        generator=batch_generator(seed, 0),
        per_sample=True,
    )
    whole = [hr[4:260, 64:320], to_array(sharp[0])[4:260, 64:320]]
    return whole + [to_array(image)[1:65, 16:80] for image in results]


def test_the_page_shows_hr_sharpened_hr_and_the_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "written: degradations.html" in succeeded(PHOTOS / "astronaut.png", "-n", 5, "--seed", 7)
    page = Path("degradations.html")
    shown = images_of(page)
    assert list(shown) == ["HR", "HR sharpened", "LR 1", "LR 2", "LR 3", "LR 4", "LR 5"]
    for (image,), expected in zip(shown.values(), expected_images(5, 7), strict=True):
        np.testing.assert_array_equal(image, expected)
    text = page.read_text(encoding="utf-8")
    assert text.count("<dt>jpeg 2</dt><dd>quality ") == 5
    assert "jpeg_range2: [30.0, 95.0]" in text
    assert "x4, seed 7, Real-ESRGAN&#39;s values" in text


def test_an_image_shows_the_same_without_text(tmp_path):
    succeeded(PHOTOS / "astronaut.png", "-n", 5, "--seed", 7, "-o", tmp_path / "sheet.png")
    sheet = ImageFile.at(tmp_path / "sheet.png").read()
    assert sheet.shape == (2 * 256 + 16, 4 * 256 + 3 * 16, 3)
    for k, image in enumerate(expected_images(5, 7)):
        enlarged = image.repeat(256 // len(image), 0).repeat(256 // len(image), 1)
        top, left = k // 4 * 272, k % 4 * 272
        np.testing.assert_array_equal(sheet[top : top + 256, left : left + 256], enlarged)
    assert (sheet[256:272] == 255).all()


def test_the_same_seed_draws_the_same_sheet(tmp_path):
    def drawn(seed: int) -> bytes:
        succeeded(PHOTOS / "two_dogs.png", "-n", 1, "--seed", seed, "-o", tmp_path / "sheet.html", "--overwrite")
        return (tmp_path / "sheet.html").read_bytes()

    first = drawn(1)
    assert drawn(1) == first
    assert drawn(2) != first


def test_several_images_at_another_scale(tmp_path, photos):
    succeeded(photos, *SMALL, "scale=2", "-n", 2, "-o", tmp_path / "sheet.webp")
    assert ImageFile.at(tmp_path / "sheet.webp").read().shape == (5 * 256 + 4 * 16, 4 * 256 + 3 * 16, 3)


def test_file_names_may_hold_anything(tmp_path):
    name = "long_" * 40 + "[b]\n\x07é<i>.png"
    Image.fromarray(photo(1)).save(tmp_path / name)
    succeeded(tmp_path / name, *SMALL, "-n", 1, "-o", tmp_path / "sheet.html")
    assert "é&lt;i&gt;.png" in (tmp_path / "sheet.html").read_text(encoding="utf-8")


def test_words_are_images_or_overrides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a=b.png").touch()
    images, overrides = split_words(["x.png", "scale=2", "a=b.png", "degradation.jpeg_range=[30,40]"])
    assert images == [Path("x.png"), Path("a=b.png")]
    assert overrides == ["scale=2", "degradation.jpeg_range=[30,40]"]


# The recipe.


def test_without_an_option_file_the_recipe_is_real_esrgans():
    assert read_recipe(None) == (DegradationOptions(), 4, "Real-ESRGAN's values")
    options, scale, title = read_recipe(None, ["scale=2", "degradation.jpeg_range=[40,50]"])
    assert (options.jpeg_range, scale) == ((40, 50), 2)
    assert title == "Real-ESRGAN's values, scale=2, degradation.jpeg_range=[40,50]"


@pytest.mark.parametrize("name", ["psnr", "aesop"])
def test_our_recipes_are_read(name):
    options, scale, _ = read_recipe(REPO / "configs" / f"realworld_{name}.yml")
    assert scale == 4
    assert (options == DegradationOptions()) == (name == "psnr")


def test_a_pipelines_recipe_is_that_of_its_last_degraded_stage(tmp_path):
    train = {"type": "RealESRGANDataset", "dataroot_gt": "hr"}
    degraded = {"datasets": {"train": train}, "degradation": {"queue_size": 0}}
    raw = yaml.safe_load((REPO / "configs" / "pipeline_compact.yml").read_text())
    raw["stages"]["psnr"] |= degraded
    raw["stages"]["adversarial"] |= degraded | {"degradation": {"jpeg_range": [40, 50], "queue_size": 0}}
    options, scale, title = read_recipe(write(raw, tmp_path / "pipeline.yml"))
    assert (options.jpeg_range, scale, title) == ((40, 50), 4, "pipeline.yml")


PUBLISHED = [
    name for name, file in option_files().items() if file["datasets"].get("train", {}).get("type") == "RealESRGANDataset"
]


@pytest.mark.parametrize("name", PUBLISHED or [pytest.param("", marks=pytest.mark.skip(reason="no golden folder"))])
def test_published_files_are_read_and_the_recipe_trains_as_they_do(name, tmp_path):
    file = write(option_files()[name], tmp_path / "published.yml")
    options, scale, _ = read_recipe(file)
    assert (options.jpeg_range, options.queue_size, scale) == ((50, 95), 144, 4)
    ours, theirs = (load_config(path)[0] for path in (REPO / "configs" / "realworld_aesop.yml", file))
    assert ours.degradation == theirs.degradation
    assert (ours.network_g, ours.network_d) == (theirs.network_g, theirs.network_d)
    trains = []
    for config in (ours, theirs):  # where weights are, and a schedule that acts at the end only, make no difference
        assert min(config.train.scheduler.milestones, default=400_000) == config.train.total_iter
        train = config.train.model_dump(exclude={"scheduler": True, "aesop_opt": {"autoencoder_load"}})
        assert train["aesop_opt"]
        trains.append(train)
    assert trains[0] == trains[1]
    for option in ("type", "gt_size", "batch_size_per_gpu", "use_flip", "use_rot", "num_worker_per_gpu"):
        assert getattr(ours.datasets.train, option) == getattr(theirs.datasets.train, option), option


def test_the_real_world_auto_encoder_is_the_published_one(tmp_path):
    name = "train/AutoEncoder/train_Realworld_AE_RRDB_DecoderFreeze.yml"
    if name not in option_files():
        pytest.skip("no golden folder")
    file = write(option_files()[name], tmp_path / "published.yml")
    ours, theirs = (load_config(path)[0] for path in (REPO / "configs" / "realworld_autoencoder.yml", file))
    assert ours.network_g == theirs.network_g
    assert theirs.train.scheduler.gamma == 1
    different = {"scheduler", "ema_warmup"}  # ours has no generator to start from, so its averaged weights warm up
    assert ours.train.model_dump(exclude=different) == theirs.train.model_dump(exclude=different)
    for option in ("gt_size", "batch_size_per_gpu", "use_flip", "use_rot"):
        assert getattr(ours.datasets.train, option) == getattr(theirs.datasets.train, option), option


@pytest.mark.usefixtures("no_count_of_memory")
@pytest.mark.parametrize("name", ["psnr", "autoencoder", "aesop"])
def test_a_dry_run_of_our_recipes_misses_files_only(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", str(REPO / "configs" / f"realworld_{name}.yml"), "--dry-run"])
    faults = result.output.partition("this would not run:")[2].strip().splitlines()
    assert len(faults) >= 2
    for fault in faults:
        assert re.search(r"does not exist|no weights for vgg|vgg(16|19)", fault), fault


# The set.


def test_a_set_serves_as_validation_set(tmp_path, photos):
    folder = tmp_path / "set"
    text = succeeded(photos, PHOTOS / "pagoda.png", *SMALL, "--seed", 3, "--set", folder)
    assert f"val: {{dataroot_gt: {folder}/HR, dataroot_lq: {folder}/LR}}" in text
    names = ["below/odd", "colour", "gray", "rgba", "sixteen", "pagoda"]
    assert set(contents(folder)) == {f"{kind}/{name}.png" for kind in ("HR", "LR") for name in names} | {"degradations.json"}
    pairs = MeasuredPairs.find(PairedDataset(dataroot_gt=str(folder / "HR"), dataroot_lq=str(folder / "LR")), "val", 4)
    assert {pair.name for pair in pairs.pairs} == set(names)
    for sample in (pairs[k] for k in range(len(pairs))):
        (source,) = photos.rglob(f"{Path(sample.name).name}.*") if sample.name != "pagoda" else [PHOTOS / "pagoda.png"]
        whole = cv2.cvtColor(cv2.imread(str(source)), cv2.COLOR_BGR2RGB)
        height, width = (side // 4 * 4 for side in whole.shape[:2])
        assert np.abs(sample.gt.astype(int) - whole[:height, :width]).max() <= 1  # how decoders round
        assert sample.lq.shape == (height // 4, width // 4, 3)
        # The same picture in the same place, whatever was done to it.
        plain = imresize(sample.gt, 1 / 4).astype(float)
        assert np.corrcoef(sample.lq.ravel(), plain.ravel())[0, 1] > 0.6, sample.name
    record = json.loads((folder / "degradations.json").read_text())
    assert (record["seed"], record["scale"], list(record["images"])) == (3, 4, names)
    assert record["degradation"] == read_recipe(None, SMALL)[0].model_dump(mode="json")
    assert record["images"]["pagoda"].keys() >= {"blur 1", "resize 1", "noise 1", "jpeg 1", "jpeg 2", "blur 3"}


def test_the_same_images_and_seed_give_the_same_bytes(tmp_path, photos):
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        succeeded(photos, *SMALL, "--seed", seed, "--set", tmp_path / name)
        photos = photos.rename(tmp_path / f"moved_{name}")  # where they lie makes no difference
    first, again, other = (contents(tmp_path / name) for name in ("first", "again", "other"))
    assert first == again
    same = [name for name in first if first[name] == other[name]]
    assert sorted(same) == sorted(name for name in first if name.startswith("HR/"))


def test_a_draw_depends_on_the_seed_and_the_images_number_alone(tmp_path):
    succeeded(PHOTOS / "pagoda.png", PHOTOS / "two_dogs.png", "--seed", 5, "--set", tmp_path / "one")
    succeeded(PHOTOS / "dragonfly.png", PHOTOS / "two_dogs.png", "--seed", 5, "--set", tmp_path / "two")
    one, two = (contents(tmp_path / name) for name in ("one", "two"))
    assert one["LR/two_dogs.png"] == two["LR/two_dogs.png"]
    drawn = [json.loads(made["degradations.json"])["images"] for made in (one, two)]
    assert drawn[0]["pagoda"] == drawn[1]["dragonfly"] != drawn[0]["two_dogs"]


def test_overwriting_replaces_a_former_set_and_nothing_else(tmp_path, photos):
    folder = tmp_path / "set"
    succeeded(photos, *SMALL, "--set", folder)
    (folder / "notes.txt").write_text("mine")
    assert refused(photos / "gray.png", *SMALL, "--set", folder) == (
        f"--set {folder} is not empty: choose another folder, or add --overwrite"
    )
    succeeded(photos / "gray.png", *SMALL, "--set", folder, "--overwrite")
    assert set(contents(folder)) == {"HR/gray.png", "LR/gray.png", "degradations.json", "notes.txt"}


# Mistakes.


def test_images_that_nobody_degraded_are_never_removed(tmp_path, photos):
    (tmp_path / "mine" / "HR").mkdir(parents=True)
    Image.fromarray(photo(9)).save(tmp_path / "mine" / "HR" / "precious.png")
    before = contents(tmp_path)
    for source, reason in ((photos, "images that aesop did not write"), (tmp_path / "mine" / "HR", "one of the images")):
        text = refused(source, *SMALL, "--set", tmp_path / "mine", "--overwrite")
        assert reason in text
        assert "choose another folder" in text
    assert contents(tmp_path) == before


def test_small_images_are_named_before_anything_is_written(tmp_path, photos):
    Image.fromarray(photo(6, 23, 60)).save(photos / "small.png")
    text = refused(photos, *SMALL, "--set", tmp_path / "set")
    assert text.startswith("1 of 6 images are too small to be degraded; sides of at least 26 pixels are needed")
    assert f"{photos}/small.png (60x23)" in text
    assert "sides of at least 74 pixels" in refused(photos, "--set", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_damaged_image_leaves_nothing_behind(tmp_path, photos):
    data = (photos / "sixteen.png").read_bytes()
    (photos / "sixteen.png").write_bytes(data[: len(data) // 2])
    assert "sixteen.png is truncated, damaged" in refused(photos, *SMALL, "--set", tmp_path / "set")
    assert not (tmp_path / "set").exists()
    succeeded(photos / "gray.png", *SMALL, "--set", tmp_path / "set")
    before = contents(tmp_path / "set")
    refused(photos, *SMALL, "--set", tmp_path / "set", "--overwrite")
    assert contents(tmp_path / "set") == before


def test_a_sheet_replaces_no_file_unasked_and_no_image_ever(tmp_path, photos):
    image = photos / "colour.png"
    before = image.read_bytes()
    assert "is one of the images" in refused(image, *SMALL, "-o", image, "--overwrite")
    assert "exists: add --overwrite" in refused(photos / "gray.png", *SMALL, "-o", image)
    assert "a page (.html) or an image" in refused(image, *SMALL, "-o", tmp_path / "sheet.pdf")
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nix.png"], "nix.png: no such file or folder"),
        (["scale=2"], "no image was named"),
        (["{photos}/colour.png", "-n", "0"], "-n must be 1 or more"),
        (["{photos}/colour.png", "--seed", "-1"], "--seed 0 or more"),
        (["{photos}", "-n", "25"], "5 images with 25 results each are more than the 120 that a sheet shows"),
        (["{photos}/colour.png", "degradation.jpeg_rang=[1,2]"], "did you mean jpeg_range?"),
        (["{photos}/colour.png", "degradation.crop_pad_size=24"], "degradation.crop_pad_size: with these kernels"),
        (["{photos}/colour.png", "--set", "{photos}/gray.png"], "is a file: give a folder"),
        (["{photos}/colour.png", "-c", "nix.yml"], "option file nix.yml does not exist"),
        (["{photos}/colour.png", "-c", f"{REPO}/configs/psnr_rrdb.yml"], "psnr_rrdb.yml: no degradation section"),
        (["{photos}/colour.png", "-c", f"{REPO}/configs/pipeline_compact.yml"], "yml: no degradation section"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value)[:40],
)
def test_mistakes_are_named(words, reason, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    small = [] if "-c" in words else SMALL
    assert reason in refused(*(str(word).format(photos=photos) for word in words), *small)
    assert contents(tmp_path) == before


def test_two_images_of_one_name_are_refused(photos, tmp_path):
    gray = photos / "gray.png"
    succeeded(gray, gray, *SMALL, "--set", tmp_path / "set")  # the same image twice is one
    assert {name for name in contents(tmp_path / "set") if name.startswith("HR")} == {"HR/gray.png"}
    Image.fromarray(photo(7)).save(photos / "gray.jpg")
    assert "both named 'gray'" in refused(photos, *SMALL)


def test_images_of_a_pack_are_degraded_like_files(photos, tmp_path):
    packed = CliRunner().invoke(app, ["prepare", "pack", str(photos), "-o", str(tmp_path / "photos.pack")])
    assert packed.exit_code == 0, packed.output
    succeeded(photos, *SMALL, "--set", tmp_path / "files")
    succeeded(tmp_path / "photos.pack", *SMALL, "--set", tmp_path / "pack")
    files, pack = (contents(tmp_path / name) for name in ("files", "pack"))
    assert files.keys() == pack.keys()
    assert all(files[name] == pack[name] for name in files if name.startswith("HR/"))

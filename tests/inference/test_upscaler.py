"""`aesop.Upscaler` on every kind of image, and what it does to gray, transparency, depth and broken numbers."""

import subprocess
import sys
import tracemalloc
import warnings

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

import aesop
from aesop import Upscaler
from aesop.archs.rrdbnet import RRDBNet
from aesop.inference.alpha import enlarged_alpha, has_sharp_edges, mended_colours
from aesop.inference.models import find_model
from aesop.inference.tiling import NotFinite, upscale_image
from aesop.inference.upscaler import _precision_for, default_tiling
from aesop.pictures.picture import Frame
from aesop.system.device import _pays
from aesop.weights.errors import WeightsError
from aesop.weights.load import LoadedInfo

CPU = torch.device("cpu")
PEAK = {"uint8": 255, "uint16": 65535, "float32": 1}


class Tinted(nn.Module):
    """Repeats each pixel, and shifts each channel: gray comes out with a tint."""

    def __init__(self, scale: int = 2, shift: tuple[float, ...] = (0.1, 0.0, -0.1)):
        super().__init__()
        self.scale, self.shift = scale, torch.tensor(shift)[:, None, None]
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return F.interpolate(x, scale_factor=self.scale, mode="nearest") + self.shift


@pytest.fixture
def made(monkeypatch):
    """Make an Upscaler with a given network."""

    def make(net: nn.Module, channels: int = 3, **options) -> Upscaler:
        info = LoadedInfo("RRDBNet", getattr(net, "scale", 2), {"num_in_ch": channels, "num_out_ch": channels}, {})
        monkeypatch.setattr("aesop.weights.load.load_generator", lambda path: (net.eval(), info))
        return Upscaler(device="cpu", **options)

    return make


def noise(*shape: int, dtype: str = "uint8") -> np.ndarray:
    values = np.random.default_rng(0).random(shape, np.float32) * 0.6 + 0.2
    return (values * PEAK.get(np.dtype(dtype).name, 1)).astype(dtype)


def repeat(image: np.ndarray, scale: int = 2) -> np.ndarray:
    return image.repeat(scale, 0).repeat(scale, 1)


# --- kinds of images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float16", "float64", ">u2", ">f4"])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_arrays_keep_type_and_channels(made, dtype, channels):
    image = noise(7, 9, *([channels] if channels else []), dtype=dtype)
    result = made(Tinted(shift=(0, 0, 0)), alpha="network")(image)
    assert result.dtype == image.dtype.newbyteorder("=")
    assert result.shape == (14, 18, *image.shape[2:])
    colours = slice(None) if channels in (None, 1, 3) else slice(channels - 1)
    if channels in (None, 1, 3):  # without transparency nothing is mended
        np.testing.assert_allclose(
            result[..., colours],
            repeat(image)[..., colours],
            rtol=1e-6,
            atol={"u": 0, "f": 1e-3 if dtype == "float16" else 1e-6}[image.dtype.kind],
        )


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16", "F", "P", "1"])
def test_pillow_images(made, mode):
    values = noise(6, 8, dtype="float32")
    if mode == "F":
        image = Image.fromarray(values)
    elif mode == "I;16":
        image = Image.fromarray((values * 65535).astype(np.uint16))
    else:
        image = Image.fromarray((values * 255).astype(np.uint8)).convert(mode)
    image.info["dpi"] = (300, 300)
    result = made(Tinted(shift=(0, 0, 0)))(image)
    assert result.size == (16, 12)
    assert result.info["dpi"] == (300, 300)
    assert result.mode == {"P": "RGB", "1": "L"}.get(mode, mode)
    plain = image.convert(result.mode) if mode in ("P", "1") else image
    np.testing.assert_allclose(np.asarray(result), repeat(np.asarray(plain)), rtol=1e-6)


def test_the_transparent_colour_of_a_pillow_image_becomes_alpha(made):
    image = Image.new("L", (8, 8))
    image.paste(200, (2, 2, 6, 6))
    image.info["transparency"] = 0
    result = made(Tinted(shift=(0, 0, 0)))(image)
    assert result.mode == "LA"
    assert np.asarray(result)[..., 1].min() == 0
    assert np.asarray(result)[8, 8].tolist()[1] == 255


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 6, 5), (2, 4, 6, 5)])
def test_tensors(made, dtype, shape):
    image = torch.rand(shape, dtype=dtype)
    result = made(Tinted(shift=(0, 0, 0)))(image)
    assert result.dtype == dtype
    assert result.shape == (*shape[:-2], 12, 10)
    if shape[-3] != 4:
        torch.testing.assert_close(result, F.interpolate(image[None], scale_factor=2)[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("layout", ["read-only", "mirrored", "transposed", "strided", "Fortran"])
def test_arrays_of_any_layout_stay_as_they_are(made, layout):
    plain = noise(12, 10, 4)
    image = {
        "read-only": plain,
        "mirrored": plain[::-1, ::-1, ::-1],
        "transposed": plain.transpose(1, 0, 2),
        "strided": plain[::2, 1::3],
        "Fortran": np.asfortranarray(plain),
    }[layout]
    image.flags.writeable = False
    before, upscaler = image.copy(), made(Tinted())
    with warnings.catch_warnings(action="error"):
        result = upscaler(image)
        gray = upscaler(image[..., 0])
    np.testing.assert_array_equal(result, upscaler(np.ascontiguousarray(image)))
    np.testing.assert_array_equal(gray, upscaler(np.ascontiguousarray(image[..., 0])))
    np.testing.assert_array_equal(image, before)


def test_an_empty_batch_and_a_number_of_numpy(made):
    upscaler = made(Tinted())
    assert upscaler(torch.zeros(0, 3, 4, 5, dtype=torch.float16)).shape == (0, 3, 8, 10)
    assert upscaler(torch.zeros(0, 3, 4, 5), scale=3.0).shape == (0, 3, 12, 15)
    assert upscaler(noise(4, 5), scale=np.float32(1.5)).shape == (6, 8)


def test_pillow_images_of_several_frames_are_refused_and_one_of_them_is_not(made, tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    for name in ("a.gif", "a.png", "a.webp", "a.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with Image.open(tmp_path / name) as image:
            with pytest.raises(ValueError, match=r"has 3 frames or pages: .*aesop upscale"):
                made(Tinted())(image)
            image.seek(2)
            assert made(Tinted(shift=(0, 0, 0)))(image.convert("RGB")).size == (16, 16)
    frames[0].save(tmp_path / "a.mpo", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.mpo") as image:  # what cameras call JPEG
        assert made(Tinted(shift=(0, 0, 0)))(image).size == (16, 16)


def test_info_of_a_pillow_image_fits_the_result(made, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    source = Image.fromarray(noise(6, 8, 3))
    source.save(tmp_path / "a.jpg", exif=exif, icc_profile=b"a profile", dpi=(300, 300))
    with Image.open(tmp_path / "a.jpg") as image:
        result = made(Tinted(shift=(0, 0, 0)))(image)
        assert result.info == image.info
        assert result.size == (16, 12)
        turned = ImageOps.exif_transpose(image)
    assert ImageOps.exif_transpose(result).size == (turned.width * 2, turned.height * 2)


@pytest.mark.parametrize(
    ("mode", "colour", "key"), [("1", 1, 1), ("1", 0, 0), ("L", 7, 7), ("RGB", (1, 2, 3), (1, 2, 3)), ("P", 3, 3)]
)
def test_transparent_colours_of_pillow_images(made, mode, colour, key):
    image = Image.new(mode, (8, 8), 0 if colour else 1)
    image.paste(colour, (0, 0, 8, 4))
    image.info["transparency"] = key
    result = made(Tinted(shift=(0, 0, 0)), alpha="bicubic")(image)
    assert result.mode == ("RGBA" if mode in ("RGB", "P") else "LA")
    alpha = np.asarray(result)[..., -1]
    assert (alpha[:4].max(), alpha[-4:].min()) == (0, 255)
    assert "transparency" not in result.info


@pytest.mark.parametrize(("mode", "key"), [("I;16", 300), ("RGB", (65535, 0, 0))])
def test_transparent_colours_of_16_bits_are_refused(made, mode, key):
    image = Image.new(mode, (8, 8))
    image.info["transparency"] = key
    with pytest.raises(ValueError, match="no alpha of 16 bits"):
        made(Tinted())(image)


def test_big_endian_pillow_images(made):
    image = Image.frombytes("I;16B", (5, 4), noise(4, 5, dtype="uint16").astype(">u2").tobytes())
    result = made(Tinted(shift=(0, 0, 0)))(image)
    np.testing.assert_allclose(np.asarray(result), repeat(noise(4, 5, dtype="uint16")), rtol=1e-4)


@pytest.mark.parametrize(("scale", "size"), [(2, (12, 10)), (1.5, (9, 8)), (5, (30, 25)), (0.5, (3, 2))])
def test_any_scale(made, scale, size):
    upscaler = made(Tinted(shift=(0, 0, 0)))
    even = np.full((6, 5, 4), 77, np.uint8)
    result = upscaler(even, scale=scale)
    assert result.shape == (*size, 4)
    assert set(result.ravel()) == {77}


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4), bool), "found bool"),
        (np.zeros((4, 4), np.int64), "found int64"),
        (np.full((4, 4), 1.5), r"in \[0, 1\]"),
        (np.full((4, 4), np.inf, np.float16), r"in \[0, 1\]"),
        (np.full((4, 4), 255, np.float32), r"in \[0, 1\]"),
        (np.full((4, 4), np.nan, np.float32), r"in \[0, 1\]"),
        (np.zeros((4, 4, 5), np.uint8), "1 to 4 channels"),
        (np.zeros((0, 4), np.uint8), "1 to 4 channels"),
        (torch.zeros(4, 4), "tensor"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "floating-point tensor"),
        (torch.zeros(2, 3, 0, 4), r"the shape \(2, 3, 0, 4\)"),
        *[
            (Image.new(mode, (4, 4)), f"mode {mode} are not supported")
            for mode in ("CMYK", "YCbCr", "LAB", "HSV", "I", "La")
        ],
        ("a.png", "found a str: open files"),
    ],
)
def test_other_images_are_refused(made, image, words):
    with pytest.raises(ValueError, match=words):
        made(Tinted())(image)


def test_bad_arguments(made):
    for options, words in (
        ({"tile": 3}, "^tile must be"),
        ({"overlap": 200}, "^overlap must be"),
        ({"alpha": "best"}, "alpha"),
        ({"precision": "fp8"}, "precision"),
    ):
        with pytest.raises(ValueError, match=words):
            made(Tinted(), **options)
    for scale in (0, -1, 1000, float("nan"), "2", [2], None.__class__):
        with pytest.raises(ValueError, match="scale must be a number above 0"):
            made(Tinted())(noise(4, 4), scale=scale)
    with pytest.raises(WeightsError, match="makes 4 channels of 4"):
        made(Tinted(), channels=4)


def test_importing_the_package_does_not_import_pytorch():
    code = "import sys, aesop; assert 'Upscaler' in dir(aesop); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert aesop.Upscaler is Upscaler


# --- gray ------------------------------------------------------------------------------------------------------------


def test_gray_stays_gray_and_is_the_luma_of_what_the_network_makes(made):
    image = noise(6, 5)
    result = made(Tinted())(image)
    assert result.shape == (12, 10)
    expected = repeat(image) + 255 * (0.299 * 0.1 - 0.114 * 0.1)
    assert np.abs(result - expected).max() <= 0.5 + 1e-3


def test_a_network_of_one_channel(made):
    """On gray directly; of colours it enlarges the luma, and neutral ones stay neutral."""
    torch.manual_seed(0)
    net = RRDBNet(1, 1, 4, 16, 1, 8).eval()
    upscaler = made(net, channels=1)
    gray = noise(10, 12)
    with torch.no_grad():
        direct = net(torch.from_numpy(gray)[None, None].float() / 255)[0, 0].clamp(0, 1).numpy() * 255
    assert np.abs(upscaler(gray) - direct).max() <= 0.5 + 1e-3
    neutral = upscaler(np.dstack([gray] * 3))
    assert np.abs(neutral.astype(int) - upscaler(gray)[..., None]).max() <= 1
    colour = made(Tinted(shift=(0.0,)), channels=1)(np.full((6, 6, 3), (200, 30, 90), np.uint8))
    assert np.abs(colour.astype(int) - (200, 30, 90)).max() <= 1


# --- depth -----------------------------------------------------------------------------------------------------------


def test_deep_images_are_computed_in_float32(made, monkeypatch):
    used = []

    def spy(*args, **options):
        used.append(options["precision"])
        return upscale_image(*args, **options)

    monkeypatch.setattr("aesop.inference.upscaler.upscale_image", spy)
    monkeypatch.setattr("aesop.inference.tiling.autocast", lambda device, precision: torch.autocast("cpu", enabled=False))
    upscaler = made(Tinted(shift=(0, 0, 0)), precision="bf16")
    for dtype in PEAK:
        upscaler(noise(4, 4, 3, dtype=dtype))
    assert used == ["bf16", "fp32", "fp32"]


@pytest.mark.parametrize("fastest", ["fp32", "bf16"])
def test_auto_takes_the_fastest_precision_for_rrdbnet_and_8_bits(made, monkeypatch, fastest):
    monkeypatch.setattr("aesop.inference.upscaler.fastest_precision", lambda device: fastest)
    monkeypatch.setattr("aesop.system.device.reason_against_bf16", lambda device: None)
    _pays.cache_clear()
    torch.manual_seed(0)
    net = RRDBNet(3, 3, 4, 16, 1, 8)
    nn.init.normal_(net.conv_last.weight)
    upscaler, exact = made(net), made(net, precision="fp32")
    assert (upscaler.precision, exact.precision) == (fastest, "fp32")
    assert upscaler.notes == ()
    image = noise(20, 24, 3)
    assert (upscaler(image) != exact(image)).any() == (fastest == "bf16")
    assert np.abs(upscaler(image).astype(int) - exact(image)).max() <= 2
    for dtype in ("uint16", "float32"):
        for deep in (noise(20, 24, 3, dtype=dtype), noise(20, 24, dtype=dtype)):
            np.testing.assert_array_equal(upscaler(deep), exact(deep))
    assert made(Tinted()).precision == "fp32"  # what another network loses was not measured
    assert _precision_for(net, "auto", CPU, "onnxruntime") == ("fp32", None)
    _pays.cache_clear()


def test_fp16_is_for_gpus(made):
    upscaler = made(Tinted(), precision="fp16")
    assert upscaler.precision == "fp32"
    assert upscaler.notes == ("note: a CPU computes fp16 more slowly than fp32; using fp32",)


def test_floats_beyond_the_range_stay_in_proportion(made):
    pixels = np.linspace(-1, 7, 30, dtype=np.float32).reshape(5, 6)
    net = Tinted(shift=(0, 0, 0))
    result = made(net).upscale_frame(Frame(pixels)).pixels
    np.testing.assert_allclose(result, repeat(pixels), atol=1e-5)
    assert 0 <= net.seen[0].min() <= net.seen[0].max() <= 1
    with pytest.raises(ValueError, match="NaN"):
        made(net).upscale_frame(Frame(np.full((4, 4), np.inf, np.float32)))


# --- transparency ----------------------------------------------------------------------------------------------------


def disc(side: int, softness: float = 1e-6) -> np.ndarray:
    y, x = np.mgrid[:side, :side] + 0.5
    inside = side * 0.3 - np.hypot(y - side / 2, x - side / 2)
    return (np.clip(inside / softness + 0.5, 0, 1) * 255).round().astype(np.uint8)


@pytest.mark.parametrize("soft", [1e-6, 2.0])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_no_colour_of_invisible_pixels_bleeds(made, soft, dtype):
    """A red disc on invisible green, through a network that blurs."""

    class Blurring(Tinted):
        def forward(self, x: Tensor) -> Tensor:
            return F.avg_pool2d(super().forward(F.pad(x, (2, 2, 2, 2), mode="replicate")), 5, 1, padding=2)[..., 4:-4, 4:-4]

    alpha = disc(40, soft)
    colours = np.where(alpha[..., None] > 0, (255, 0, 0), (0, 255, 0)).astype(np.uint8)
    image = np.dstack([colours, alpha])
    image = image if dtype == "uint8" else image.astype(np.uint16) * 257 if dtype == "uint16" else image / np.float32(255)
    result = made(Blurring(shift=(0, 0, 0)))(image) / PEAK[dtype]
    shown = result[..., 3] > 0.5
    assert shown.any()
    assert result[shown][:, 1].max() < 1 / 255
    assert result[shown][:, 0].min() > 254 / 255


def test_faint_colours_count_less_than_those_around():
    alpha = np.full((9, 9), 255, np.uint8)
    alpha[4, 4] = 3
    colours = np.full((9, 9, 3), (255, 0, 0), np.uint8)
    colours[4, 4] = (0, 255, 0)
    assert mended_colours(colours, alpha)[4, 4].tolist()[1] <= 6
    for even in (0, 100, 255):
        np.testing.assert_array_equal(mended_colours(noise(9, 9, 3), np.full((9, 9), even, np.uint8)), noise(9, 9, 3))


def test_invisible_pixels_take_the_nearest_colour():
    alpha, colours = np.zeros((12, 30), np.uint8), noise(12, 30)
    alpha[3, 4], alpha[8, 25] = 255, 255
    mended = mended_colours(colours, alpha)
    y, x = np.mgrid[:12, :30]
    nearer = np.hypot(y - 3, x - 4) - np.hypot(y - 8, x - 25)
    assert (mended[nearer < -1] == colours[3, 4]).all()  # OpenCV's distances are exact to a few percent
    assert (mended[nearer > 1] == colours[8, 25]).all()


@pytest.mark.parametrize("method", ["auto", "network", "bicubic"])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_alpha_stays_exactly(made, method, value):
    image = np.dstack([noise(6, 6, 3), np.full((6, 6), value, np.uint8)])
    assert set(made(Tinted(), alpha=method)(image)[..., 3].ravel()) == {value}


def test_sharp_alpha_goes_through_the_network_and_smooth_alpha_does_not(made):
    net = Tinted(shift=(0, 0, 0))
    upscaler = made(net)
    for alpha, passes in (
        (disc(32), 2),
        (cv2.resize(disc(128), (32, 32), interpolation=cv2.INTER_AREA), 2),
        (disc(32, 20), 1),
    ):
        net.seen.clear()
        result = upscaler(np.dstack([noise(32, 32, 3), alpha]))[..., 3]
        assert len(net.seen) == passes
        assert has_sharp_edges(alpha) == (passes == 2)
        if passes == 2:
            np.testing.assert_array_equal(result, repeat(alpha))
        else:
            np.testing.assert_array_equal(result, cv2.resize(alpha, (64, 64), interpolation=cv2.INTER_CUBIC))


def test_a_network_leaves_no_traces_in_even_alpha():
    alpha = disc(32)
    result = enlarged_alpha(alpha, 2, "network", lambda gray: repeat(gray) // 2 + 60)
    even = repeat(cv2.dilate(alpha, np.ones((5, 5))) == cv2.erode(alpha, np.ones((5, 5))))
    np.testing.assert_array_equal(result[even], repeat(alpha)[even])
    assert not np.isin(result[~even], (0, 255)).any()


# --- broken numbers --------------------------------------------------------------------------------------------------


class Overflowing(Tinted):
    """Repeats pixels; makes NaN at the left of the image under autocast, or always."""

    def __init__(self, always: bool):
        super().__init__(shift=(0, 0, 0))
        self.always = always

    def forward(self, x: Tensor) -> Tensor:
        broken = self.always or torch.is_autocast_enabled("cpu")
        return super().forward(torch.where(x < 0.1, torch.nan, x) if broken else x)


@pytest.mark.parametrize("tile", [0, 32])
def test_a_tile_that_is_not_finite_is_computed_again_in_float32(monkeypatch, tile):
    monkeypatch.setattr("aesop.inference.tiling.autocast", lambda device, precision: torch.autocast("cpu", torch.bfloat16))
    image = noise(60, 70, 3)
    image[5, 3] = image[40, 60] = 0
    options = {"device": CPU, "precision": "bf16", "tile": tile, "finite": True}
    np.testing.assert_array_equal(upscale_image(Overflowing(False), image, 2, **options), repeat(image))
    with pytest.raises(NotFinite, match=r"pixels at \(0, 0\)"):
        upscale_image(Overflowing(True), image, 2, **options)


def test_what_stays_broken_is_an_error_with_the_models_name(made):
    image = noise(60, 70, 3)
    image[5, 3] = 0
    with pytest.raises(ValueError, match=r"aesop_compact_x4: the network computes NaN or infinity .* in float32 too"):
        made(Overflowing(True), tile=32)(image)


# --- models and tiles ------------------------------------------------------------------------------------------------


def test_models_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("AESOP_MODELS", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(sys, "platform", "linux")
    own, shared = tmp_path / "data" / "aesop" / "models" / "portraits.pth", tmp_path / "a" / "RealESRGAN_x4plus.pth"
    for file in (own, shared):
        file.parent.mkdir(parents=True)
        file.touch()
    assert find_model("portraits") == find_model("portraits.pth") == own
    assert find_model("RealESRGAN_x4plus") == shared
    assert find_model("aesop_compact_x4") == find_model(None) == find_model("clean")
    assert find_model("web") == find_model("aesop_web_x4") != find_model("clean")
    (tmp_path / "web").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_model("web") == find_model("aesop_web_x4")
    assert find_model(shared) == shared
    slips = {
        "portrait": "portraits",
        "realesrgan-x4plus": "RealESRGAN_x4plus",
        "aesop": "aesop_web_x4",
        "Clean": "clean",
        "wbe": "web",
    }
    for name, near in slips.items():
        with pytest.raises(WeightsError, match=f"{name} does not exist(.|\n)*did you mean {near}"):
            find_model(name)
    own = "aesop_compact_x2, aesop_compact_x2_psnr, aesop_compact_x4, aesop_compact_x4_psnr, aesop_web_x4, aesop_web_x4_psnr"
    with pytest.raises(WeightsError, match=f"Known models: RealESRGAN_x4plus, {own}, clean, portraits, web, x2"):
        find_model("zzz.qqq")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.onnx", b"\x08\x08", "ONNX model"),
        ("x.param", b"7767517\n", "ncnn"),
        ("x.bin", b"\0\0\0\0\1", "ncnn"),
        ("x.engine", b"ftrt", "TensorRT"),
        ("x.mlmodel", b"\x08", "Core ML"),
        ("x.tflite", b"TFL3", "TensorFlow"),
    ],
)
def test_models_of_other_programs_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{name} is .*{words}.*: give"):
        Upscaler(tmp_path / name, device="cpu")


def test_weights_of_pytorch_may_be_called_bin(tmp_path):
    torch.save({"params": RRDBNet(3, 3, 2, 8, 1, 4).state_dict()}, tmp_path / "weights.bin")
    assert Upscaler(tmp_path / "weights.bin", device="cpu").scale == 2


def test_large_networks_get_more_overlap(made):
    assert default_tiling(RRDBNet(num_feat=8, num_block=1, num_grow_ch=4)) == (256, 24)
    assert default_tiling(RRDBNet(num_feat=64, num_block=6)) == (512, 108)  # RealESRGAN_x4plus_anime_6B
    with torch.device("meta"):
        assert default_tiling(RRDBNet()) == (512, 152)  # RealESRGAN_x4plus
    large = RRDBNet(num_feat=64, num_block=6)
    assert (made(large).tile, made(large).overlap) == (512, 108)
    assert made(large, tile=40).overlap == 20
    assert "overlap by 20 instead of 108" in made(large, tile=40).notes[0]
    assert made(large, tile=0).tile == 0
    assert made(large, overlap=4).overlap == 4
    assert not any(made(large, **tiling).notes for tiling in ({}, {"tile": 0}, {"tile": 216}, {"overlap": 4}))
    with pytest.raises(ValueError, match="overlap must be between"):
        made(large, overlap=300)


# --- frames of a video -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [0, 32])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_images_that_pass_the_network_together_are_the_same_as_one_by_one(dtype, tile):
    torch.manual_seed(0)
    net = RRDBNet(num_feat=8, num_block=1, num_grow_ch=4, scale=2).eval()
    images = noise(3, 40, 50, 3, dtype=dtype)
    together = upscale_image(net, images, 2, tile=tile, device=CPU)
    one_by_one = np.stack([upscale_image(net, image, 2, tile=tile, device=CPU) for image in images])
    assert together.shape == (3, 80, 100, 3)
    assert together.dtype == images.dtype
    # The order of sums may differ with the size of a batch.
    np.testing.assert_allclose(together, one_by_one, rtol=0, atol=1 if dtype != "float32" else 1e-5)


def test_a_batch_is_computed_again_where_one_image_is_not_finite(monkeypatch):
    monkeypatch.setattr("aesop.inference.tiling.autocast", lambda device, precision: torch.autocast("cpu", torch.bfloat16))
    images = noise(2, 60, 70, 3)
    images[1, 5, 3] = 0
    options = {"device": CPU, "precision": "bf16", "tile": 32, "finite": True}
    together = upscale_image(Overflowing(False), images, 2, **options)
    np.testing.assert_array_equal(together, np.stack([repeat(image) for image in images]))


def test_frames_of_a_video_get_the_size_asked_for(made):
    net = Tinted(shift=(0, 0, 0))
    frames = [noise(20, 30, 3), np.full((20, 30, 3), 77, np.uint8)]
    upscaler = made(net)
    assert upscaler.at_once == 1
    for image, frame in zip(upscaler.upscale_video_frames(frames, (60, 40)), frames, strict=True):
        np.testing.assert_array_equal(image, repeat(frame))
    smaller = upscaler.upscale_video_frames(frames, (45, 30))
    assert [image.shape for image in smaller] == [(30, 45, 3)] * 2
    assert (smaller[1] == 77).all()
    net.seen.clear()
    assert upscaler.upscale_video_frames(frames, (120, 80))[0].shape == (80, 120, 3)
    assert [tuple(x.shape) for x in net.seen] == [(2, 3, 20, 30), (2, 3, 40, 60)]
    gray = made(Tinted(shift=(0.0,)), channels=1).upscale_video_frames(
        [np.full((6, 6, 3), (200, 30, 90), np.uint8)] * 2, (12, 12)
    )
    assert np.abs(np.stack(gray).astype(int) - (200, 30, 90)).max() <= 1


@pytest.mark.parametrize("kind", ["colour", "gray", "sharp alpha", "deep", "reduced", "consistent"])
def test_no_more_memory_is_taken_than_is_said(made, kind):
    pixels = noise(300, 310, 3, dtype="uint16" if kind == "deep" else "uint8")
    alpha = None
    if kind == "gray":
        pixels = pixels[..., 0].copy()
    if kind == "sharp alpha":
        alpha = np.zeros((300, 310), np.uint8)
        alpha[100:200] = 255
    frame, scale = Frame(pixels, alpha), 1.3 if kind == "reduced" else 2
    upscaler = made(nn.Upsample(scale_factor=2), tile=64, consistent=kind == "consistent")
    upscaler.upscale_frame(Frame(pixels[:8, :8]), scale)  # imports what it needs
    tracemalloc.start()  # knows the arrays of NumPy, not those of PyTorch
    result = upscaler.upscale_frame(frame, scale)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    said = upscaler.memory_of(frame, scale)
    own = result.pixels.nbytes + (0 if result.alpha is None else result.alpha.nbytes)
    assert own <= said
    assert peak <= said + 1_000_000  # a strip of tiles

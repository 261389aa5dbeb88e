"""Auto-encoders whose faults are planted, and kernels that are known."""

import json
import math
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from aesop.archs.autoencoder import AutoEncoder
from aesop.archs.rrdbnet import RRDBNet
from aesop.evaluation.autoencoder_audit import AuditFinding, audit, estimate_kernel, examine, read_images, reductions
from aesop.images.errors import ImageError
from aesop.images.resize import imresize
from aesop.images.write import write_image
from aesop.weights.errors import WeightsError
from aesop.weights.load import load_autoencoder

REPO = Path(__file__).parents[2]
WEB = REPO / "reproduction" / "weights" / "web_autoencoder.safetensors"
PHOTOS = Path(str(resources.files("aesop"))) / "assets" / "photos" / "heldout"
SCALE = 4


class Enlarge(nn.Module):
    scale = SCALE

    def __init__(self, after: Callable[[Tensor], Tensor]):
        super().__init__()
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(imresize(x, SCALE))


class Made(AutoEncoder):
    """An auto-encoder of given functions: HR -> bottleneck, and what happens to the enlarged bottleneck."""

    def __init__(self, encode: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor] = lambda x: x):
        super().__init__(Enlarge(after), SCALE, 48, 4)
        self.made = encode

    def encode(self, x: Tensor) -> Tensor:
        return self.made(x)


def bicubic(x: Tensor) -> Tensor:
    return imresize(x, 1 / SCALE)


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [image[:128, :128] for image in read_images(PHOTOS, Made(bicubic))]


def found(net: AutoEncoder, photos: list[np.ndarray]) -> dict[str, AuditFinding]:
    return {finding.about: finding for finding in examine(net, photos)}


def faults(net: AutoEncoder, photos: list[np.ndarray]) -> set[str]:
    return {finding.about for finding in examine(net, photos) if finding.mark != "ok"}


def test_bicubic_and_back_has_no_fault(photos):
    findings = found(Made(bicubic), photos)
    assert {finding.mark for finding in findings.values()} == {"ok"}
    assert "scale 4: it reduces 128x128 pixels to 32x32" in findings["scale"].text
    assert findings["fidelity"].evidence["psnr"] == pytest.approx(findings["fidelity"].evidence["bicubic_psnr"], abs=1e-3)
    assert findings["bottleneck"].evidence["psnr"] > 90
    assert findings["kernel"].evidence["kernel_distance"] < 1e-3
    kept = findings["kept error"].evidence["kept"]
    assert kept["undetermined"] < 0.05 < 0.8 < kept["determined"] < 1.05


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        ((0, 0, 1), "along blue"),
        ((-1, 2, -1), "along green against red and blue"),
        ((1, 1, 1), "along red and green and blue"),
    ],
)
def test_a_lost_colour_is_named(photos, direction, words):
    """AE(HR) is gray, or the mean, along one direction of colour."""
    unit = torch.tensor(direction, dtype=torch.float32) / math.hypot(*direction)

    def without(x: Tensor) -> Tensor:
        x = x - 0.5
        return 0.5 + x - torch.einsum("c,d,ndhw->nchw", unit, unit, x)

    finding = found(Made(bicubic, without), photos)["colours"]
    assert finding.mark == "fault"
    assert f"it keeps only 0% of differences {words} (" in finding.text
    assert abs(np.dot(finding.evidence["direction"], unit.tolist())) == pytest.approx(1, abs=0.02)


def test_a_trained_autoencoder_that_loses_a_colour_in_its_last_layer(tmp_path, photos):
    """Also: the same file without the fault has none of this kind."""
    for number, photo in enumerate(photos[:3]):
        write_image(tmp_path / "HR" / f"{number}.png", photo[:96, :96])
    state = load_file(WEB)
    blue = "decoder.conv_last"
    state[f"{blue}.weight"][2], state[f"{blue}.bias"][2] = 0, 0.4
    save_file(state, tmp_path / "ae.safetensors")
    good, bad = (audit(path, tmp_path / "HR") for path in (WEB, tmp_path / "ae.safetensors"))
    assert good.fits, good.findings
    assert not bad.fits
    (colours,) = (finding for finding in bad.findings if finding.mark == "fault" and finding.about == "colours")
    assert "it keeps only 0% of differences along blue (of coarse colour" in colours.text
    assert colours.evidence["error_of_channels"]["blue"] > 0.9
    assert colours.evidence["error_of_channels"]["red"] < 0.05
    assert (good.scale, good.images) == (4, 3)
    assert good.lines()[:2] == [f"{WEB} fits", f"ok scale: {good.findings[0].text}"]
    assert bad.lines()[0].startswith(f"{tmp_path}/ae.safetensors does not fit: ")
    assert f"fault colours: {colours.text}" in bad.lines()
    assert json.loads(json.dumps(bad.to_json()))["findings"][2]["evidence"]["gain"] == colours.evidence["gain"]


def moved(x: Tensor, by: int) -> Tensor:
    return torch.roll(x, (by, by), (-2, -1))


@pytest.mark.parametrize(
    ("encode", "words"),
    [
        (lambda x: nn.functional.avg_pool2d(x, SCALE), "it reduces like this: area (mean of each block), which explains"),
        (lambda x: x[..., ::SCALE, ::SCALE], "it reduces like this: every nth pixel, from the first,"),
        (lambda x: bicubic(moved(x, -2)), "it reduces like this: bicubic, moved half an LR pixel up and left,"),
        (lambda x: bicubic(moved(x, 2)), "it reduces like this: bicubic, moved half an LR pixel down and right,"),
    ],
    ids=["area", "decimated", "up", "down"],
)
def test_another_reduction_is_named(photos, encode, words):
    finding = found(Made(encode), photos)["kernel"]
    assert finding.mark == "fault"
    assert finding.text.startswith(words)


def test_a_small_shift_is_measured(photos):
    """One HR pixel to the right: the bottleneck pixel sees what lies left of it."""
    finding = found(Made(lambda x: bicubic(torch.roll(x, 1, -1))), photos)["kernel"]
    assert finding.mark == "fault"
    assert finding.evidence["shift"] == pytest.approx((0, -1), abs=0.15)
    assert finding.text.endswith("its training was too short, or its LR images were shifted against their HR images")


@pytest.mark.parametrize(
    "encode",
    [
        lambda x: bicubic(x) - bicubic(torch.roll(x, 4, -1)) + 0.5,  # edges
        lambda x: bicubic(x[:, [2, 0, 1]]).flip(-1),  # the image, mirrored
        lambda x: (8 * bicubic(x)).sin(),
        lambda x: 1 - bicubic(x),
    ],
    ids=["edges", "mirrored", "folded", "negative"],
)
def test_a_bottleneck_that_is_no_image_is_found(photos, encode):
    finding = found(Made(encode), photos)["bottleneck"]
    assert finding.mark == "fault"
    assert finding.text.startswith("the bottleneck is no LR image: ")


def test_exchanged_channels_are_found(photos):
    """The decoder exchanges them back, so AE(HR) has no fault."""
    findings = found(Made(lambda x: bicubic(x[:, [1, 2, 0]]), lambda x: x[:, [2, 0, 1]]), photos)
    assert [finding.about for finding in findings.values() if finding.mark == "fault"] == ["bottleneck"]
    assert findings["bottleneck"].text.startswith("the bottleneck looks like LR in other colours (")
    assert "channels are mixed, exchanged or gray" in findings["bottleneck"].text
    assert "is an LR image" not in findings["bottleneck"].text


def test_a_trained_encoder_that_looks_two_pixels_away(photos):
    net = load_autoencoder(WEB)
    straight = net.encode
    net.encode = lambda x: straight(moved(x, 2))
    finding = found(net, photos[:2])["kernel"]
    assert finding.mark == "fault"
    assert "moved half an LR pixel down and right" in finding.text
    assert finding.evidence["shift"] == pytest.approx((-2, -2), abs=0.4)


def test_an_untrained_encoder_makes_no_image(photos):
    torch.manual_seed(0)
    net = AutoEncoder(RRDBNet(num_feat=16, num_block=1, num_grow_ch=4), SCALE, 48, 4).eval()
    assert {"fidelity", "colours", "bottleneck"} <= faults(net, photos)


def test_another_brightness_is_advice(photos):
    finding = found(Made(lambda x: 0.5 * bicubic(x) + 0.2, lambda x: 2 * (x - 0.2)), photos)["bottleneck"]
    assert finding.mark == "advice"
    assert finding.evidence["gain"] == pytest.approx([0.5] * 3, abs=1e-3)
    assert finding.evidence["offset"] == pytest.approx([0.2] * 3, abs=1e-3)


def test_errors_that_are_kept(photos):
    """Nothing is kept if the bottleneck does not depend on the image, everything if the image passes by."""
    last: list[Tensor] = []

    def remember(x: Tensor) -> Tensor:
        last[:] = [x]
        return bicubic(x)

    everything = found(Made(remember, lambda x: last[0]), photos)["kept error"]
    assert everything.mark == "fault"
    assert everything.evidence["kept"] == pytest.approx({"determined": 1, "undetermined": 1}, abs=1e-3)
    assert "the loss punishes plausible detail" in everything.text
    nothing = found(Made(bicubic, torch.zeros_like), photos)["kept error"]
    assert "the loss hardly sees errors that SR should not make" in nothing.text


def test_numbers_that_are_none(photos):
    (finding,) = examine(Made(bicubic, lambda x: x / 0), photos)
    assert (finding.mark, finding.about) == ("fault", "numbers")


@pytest.mark.parametrize("name", ["bicubic", "area (mean of each block)", "bilinear"])
def test_a_kernel_is_found_again(name):
    """From noise, in which all frequencies are, against the kernel's answer to single pixels."""
    reduce = reductions(SCALE)[name]
    hr = np.random.default_rng(0).random((144, 144, 3))
    kernel = estimate_kernel([reduce(hr)], [hr], SCALE)
    side = 6 * SCALE
    expected = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            image = np.zeros((side, side, 3))
            image[row, column] = 1
            expected[row, column] = reduce(image)[2, 2, 0]  # its block begins at pixel 8
    centred = np.roll(expected, (2, 2), (0, 1))  # estimates have the block in the middle, at pixel 10
    assert np.linalg.norm(kernel.weights - centred) < 0.02 * np.linalg.norm(centred)
    assert kernel.shift == pytest.approx((0, 0), abs=0.05)
    assert kernel.explained > 0.99


def test_files_and_folders_that_do_not_serve_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"aesop_compact_x4.safetensors contains .*, not an auto-encoder"):
        audit(Path(str(resources.files("aesop"))) / "assets" / "models" / "aesop_compact_x4.safetensors", PHOTOS)
    write_image(tmp_path / "small.png", np.zeros((31, 200, 3), np.uint8))
    with pytest.raises(ImageError, match="none of 1 images has 32 pixels on each side"):
        audit(WEB, tmp_path)

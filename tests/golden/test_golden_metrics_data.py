"""Golden groups C (metrics) and D (data, but for degradations): every case at the README's tolerance, or skipped by name.

A case is recognised by the function it calls (`callable`) and by the names of its values and outputs; a case nobody
here knows fails, so that a new kind is noticed.
"""

import json
import math
import re
from collections.abc import Callable

import cv2
import golden_lib as golden
import numpy as np
import pytest
import torch
from test_golden_degradations import is_degradation

from aesop.archs import build_network
from aesop.data.training_crops import augment
from aesop.images.resize import imresize, mod_crop
from aesop.images.tensors import to_array, to_tensor
from aesop.metrics import METRIC_TYPES
from aesop.metrics.ae_psnr import ae_psnr
from aesop.metrics.luma import quantise, rgb_to_y
from aesop.metrics.niqe import NIQE, block_features, fit_aggd
from aesop.metrics.psnr import psnr
from aesop.metrics.ssim import ssim
from aesop.weights.pretrained import has_pretrained

# By the first function a case calls.
SKIPPED = {}


def as_rgb(stored: torch.Tensor) -> torch.Tensor:
    """Stored 8-bit image (H, W, 3) BGR 0..255 -> (1, 3, H, W) RGB, divided by 255."""
    return stored.permute(2, 0, 1)[None, [2, 1, 0]] / 255


def number(value: float | str) -> float:
    return math.inf if value == "inf" else float(value)


def measure(name: str, sr: torch.Tensor, hr: torch.Tensor) -> float:
    """The value a stored name stands for: `calculate_psnr_pytorch/crop4_y`, `calculate_ssim/crop0_gray_HW`, ..."""
    function, _, setting = name.partition("/")
    crop = re.search(r"crop(\d+)", setting)
    border = int(crop[1]) if crop else 0
    on_y = setting.endswith("_y")
    if "gray" in setting:  # the middle channel alone: three equal ones have the same mean over channels
        sr, hr = (image[:, 1:2].expand(-1, 3, -1, -1) for image in (sr, hr))
    if METRIC_TYPES[function] == "psnr":
        return psnr(sr, hr, border, on_y, eps=1e-8 if function.endswith("_pytorch") else 0).mean().item()
    return ssim(sr, hr, border, on_y).mean().item()


def run_psnr_ssim(case: dict) -> None:
    pair = golden.inputs(case)
    sr, hr = (image if image.ndim == 4 else as_rgb(image) for image in (pair["img1"], pair["img2"]))
    for name, value in case["values"].items():
        kind = METRIC_TYPES[name.partition("/")[0]]
        golden.check(case, name, golden.max_abs(measure(name, sr, hr), number(value)), golden.LIMITS[kind])


def run_aepsnr(case: dict) -> None:
    options = case["args"]
    network = {"type": options["metric_module"], "enc_opt": options.get("enc_opt"), "dec_opt": options["dec_opt"]}
    net = build_network(network)
    golden.load(net, case["weights"]).eval()
    pair = golden.inputs(case)
    sr, hr = as_rgb(pair["img1"]), as_rgb(pair["img2"])
    for name, value in case["values"].items():
        crop, _, channels = name.partition("_")
        measured = ae_psnr(sr, hr, net, int(crop.removeprefix("crop")), channels == "y").item()
        golden.check(case, name, abs(measured - number(value)), golden.LIMITS["psnr"])


def run_niqe(case: dict) -> None:
    """The features of one block always; the metric where the pristine parameters, which are not ours, are found."""
    stored = golden.inputs(case)["img"]
    block = ((stored[:96, :96, 1] - 128) / 50)[None]
    ours = dict(zip(("alpha", "beta_l", "beta_r"), fit_aggd(block), strict=True))
    ours = {f"estimate_aggd_param/{name}": value[0] for name, value in ours.items()}
    ours["compute_feature"] = block_features(block)[0]
    if parameters := has_pretrained("niqe"):
        niqe = NIQE.from_weights()
        gray = cv2.cvtColor(stored.numpy() / np.float32(255), cv2.COLOR_BGR2GRAY) * 255
        ours["calculate_niqe/crop0_y"] = niqe(as_rgb(stored))[0]
        ours["calculate_niqe/crop0_gray"] = niqe.of_plane(torch.from_numpy(gray).round())
        ours["calculate_niqe/HW_channel1"] = niqe.of_plane(stored[..., 1])
        assert ours.keys() == case["values"].keys()
    for name, value in ours.items():
        golden.check(case, name, golden.rel_max(value, np.array(case["values"][name])), golden.LIMITS["niqe"])
    if not parameters:
        pytest.skip(f"{case['id']}: the features hold; the pristine parameters are not here (pip install --no-deps mmagic)")


def run_ycbcr_tensor(case: dict) -> None:
    rgb = as_rgb(golden.inputs(case)["img"])
    for name in ("y", "ycbcr"):
        golden.check(case, name, golden.max_abs(rgb_to_y(rgb), golden.tensor(case, name)[:, :1]), golden.LIMITS["data"])


def run_imresize(case: dict) -> None:
    image = golden.make_input(case["inputs"]["img"], case)
    scale, antialiasing = case["args"]["scale"], case["args"].get("antialiasing", True)
    forms: dict[str, Callable[[], np.ndarray]] = {}
    if case["inputs"]["img"].get("layout", "CHW") == "CHW":
        forms["tensor"] = lambda: imresize(torch.from_numpy(image), scale, antialiasing).numpy()
    else:
        forms["array"] = lambda: imresize(image, scale, antialiasing)
        planes = torch.from_numpy(np.atleast_3d(image).transpose(2, 0, 1).copy())
        forms["array as a tensor"] = lambda: (
            imresize(planes, scale, antialiasing).permute(1, 2, 0).reshape(golden.tensor(case, "y").shape).numpy()
        )
    for what, form in forms.items():
        golden.check(case, f"y ({what})", golden.max_abs(form(), golden.tensor(case, "y")), golden.LIMITS["data"])


def run_colour(case: dict) -> None:
    """RGB -> Y as the metrics do it; the chroma of the stored cases, and 8-bit results, are not computed here."""
    image = golden.make_input(case["inputs"]["img"], case)
    levels = np.round(image * np.float32(255)).astype(np.uint8)
    sources = {
        "float": torch.from_numpy(image).permute(2, 0, 1),
        "uint8": torch.from_numpy(levels).permute(2, 0, 1).double() / 255,
    }
    compared = 0
    for name in case["outputs"]:
        match = re.fullmatch(r"(rgb|bgr)2ycbcr_(float|uint8)_(full|y)", name)
        if not match and name != "to_y_channel":
            continue  # ycbcr2rgb and ycbcr2bgr
        order, kind, part = match.groups() if match else ("bgr", "uint8", "y")
        rgb = sources[kind] if order == "rgb" else sources[kind].flip(0)
        ours = rgb_to_y(rgb).permute(1, 2, 0)
        reference = golden.tensor(case, name)
        reference = reference if part == "y" else reference[..., :1]
        ours = ours.reshape(reference.shape).numpy()
        if name == "to_y_channel":
            # 0..255, where float32 itself resolves 1.5e-5 only: the limit is scaled like the values.
            golden.check(case, name, golden.max_abs(ours * 255, reference), 255 * golden.LIMITS["data"])
        elif kind == "float":
            golden.check(case, name, golden.max_abs(ours, reference), golden.LIMITS["data"])
        else:
            check_levels(case, name, np.round(ours * 255), reference.numpy())
        compared += 1
    assert compared, "the case holds no conversion to YCbCr"


def check_levels(case: dict, name: str, ours: np.ndarray, reference: np.ndarray) -> None:
    """8-bit images: at most one level apart, on fewer than 0.1 % of the values."""
    golden.check(case, f"{name}, levels", golden.max_abs(ours, reference), 1)
    golden.check(case, f"{name}, share of values", float((ours != reference).mean()), 1e-3)


def run_tensor_image(case: dict) -> None:
    x, image = golden.inputs(case)["x"], golden.make_input(case["inputs"]["img"], case)
    levels = {
        "tensor2img": to_array(x)[..., ::-1],
        "tensor2img_no_bgr": to_array(x),
        "tensor2img_minmax": to_array((x.clamp(-1, 1) + 1) / 2)[..., ::-1],
    }
    for name, ours in levels.items():
        check_levels(case, name, ours.astype(np.float32), golden.tensor(case, name).numpy())
    golden.check(case, "quantize", golden.max_abs(quantise(x), golden.tensor(case, "quantize")), golden.LIMITS["data"])
    # Our images are uint8 already: of img2tensor's float image the order of axes and channels is left to compare.
    reference = golden.tensor(case, "img2tensor")
    ours = to_tensor(np.round(image[..., ::-1] * 255).astype(np.uint8))
    golden.check(case, "img2tensor (as 8 bit)", golden.max_abs(ours, torch.round(reference * 255) / 255), 1e-6)


def run_mod_crop(case: dict) -> None:
    for name, shape in case["values"].items():
        height, width, scale = map(int, re.fullmatch(r"(\d+)x(\d+)_s(\d+)", name).groups())
        image = np.arange(height * width * 3).reshape(height, width, 3)
        cropped = mod_crop(image, scale)
        assert list(cropped.shape) == shape, name
        np.testing.assert_array_equal(cropped, image[: shape[0], : shape[1]])


def run_augment(case: dict) -> None:
    """The flips. Where a crop lies is drawn from (seed, k) here, so the seeded examples have no counterpart."""
    outcomes = next(value for name, value in case["values"].items() if name.startswith("all eight outcomes on"))
    image = np.array([[0, 1, 2], [3, 4, 5]], dtype=np.float32)[..., None]
    assert len(outcomes) == 8
    for flags, expected in outcomes.items():
        np.testing.assert_array_equal(augment(image, *json.loads(flags.lower()))[..., 0], expected, err_msg=flags)


RUNNERS: dict[str, Callable[[dict], None]] = {
    "calculate_psnr": run_psnr_ssim,
    "calculate_ssim": run_psnr_ssim,
    "calculate_psnr_pytorch": run_psnr_ssim,
    "calculate_ssim_pytorch": run_psnr_ssim,
    "calculate_aepsnr_pytorch": run_aepsnr,
    "calculate_niqe": run_niqe,
    "rgb2ycbcr_pt": run_ycbcr_tensor,
    "matlab_functions.imresize": run_imresize,
    "rgb2ycbcr": run_colour,
    "tensor2img": run_tensor_image,
    "mod_crop": run_mod_crop,
    "paired_random_crop": run_augment,
}


@pytest.mark.parametrize("case", [*golden.params("C"), *golden.params("D", lambda case: not is_degradation(case))])
def test_golden(case: dict) -> None:
    function = case["callable"].partition(",")[0]
    if function in SKIPPED:
        pytest.skip(f"{case['id']}: {SKIPPED[function]}")
    assert function in RUNNERS, f"{case['id']}: nothing here runs {case['callable']}"
    RUNNERS[function](case)

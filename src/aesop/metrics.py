"""What super-resolution papers report: PSNR, SSIM, LPIPS, DISTS, AESOP's AE-PSNR and LR-PSNR, and what pyiqa offers.

Every metric takes float RGB images (N, 3, H, W) or (3, H, W) in about [0, 1], rounds them to 8 bit first (as saving
them would), and returns one float64 number per image, shape (N,), on the CPU. NIQE is in niqe.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from os import PathLike
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aesop.archs.vgg import CONVS_PER_STAGE, VGGFeatureExtractor
from aesop.data.resize import imresize
from aesop.weights import find_pretrained

# BT.601, studio range: RGB in [0, 1] -> Y in 16..235, Cb and Cr in 16..240; before the division by 255.
YCBCR_MATRIX = ((65.481, 128.553, 24.966), (-37.797, -74.203, 112.0), (112.0, -93.786, -18.214))
YCBCR_OFFSET = (16.0, 128.0, 128.0)

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is printed and, where an option file does not say otherwise, measured."""

    label: str
    format: str
    higher_is_better: bool
    crop_border: int
    test_y_channel: bool
    needs_reference: bool = True
    """False: measured on SR alone."""
    either_channel: bool = False
    """Defined on luma and in colour alike; others were made for one of them."""
    weights: tuple[str, ...] = ()
    """The known weights (see weights.py) it needs."""


METRICS: dict[str, MetricInfo] = {
    "psnr": MetricInfo("PSNR", ".4f", True, 4, True, either_channel=True),
    "ssim": MetricInfo("SSIM", ".6f", True, 4, True, either_channel=True),
    "lpips": MetricInfo("LPIPS", ".6f", False, 0, False, weights=("alexnet", "lpips_alex")),
    "lpips_vgg": MetricInfo("LPIPS-VGG", ".6f", False, 0, False, weights=("vgg16", "lpips_vgg")),
    "dists": MetricInfo("DISTS", ".6f", False, 0, False, weights=("vgg16", "dists")),
    "niqe": MetricInfo("NIQE", ".4f", False, 0, True, needs_reference=False, weights=("niqe",)),
    "aepsnr": MetricInfo("AE-PSNR", ".4f", True, 4, True, either_channel=True),
    "lrpsnr": MetricInfo("LR-PSNR", ".4f", True, 0, True, either_channel=True),
}

# Metrics of the pyiqa package: this and their name there. Those the papers report go by their bare names too.
PYIQA = "pyiqa:"
PYIQA_NAMES = ("musiq", "maniqa", "clipiqa")

# The published option files' names (`val: metrics: <name>: type:`), of the numpy and of the torch variants.
METRIC_TYPES: dict[str, str] = {f"calculate_{name}{suffix}": name for name in METRICS for suffix in ("", "_pytorch")}
METRIC_TYPES |= {name: PYIQA + name for name in PYIQA_NAMES}
METRIC_TYPES |= {"calculate_topiq": f"{PYIQA}topiq_fr", "calculate_topiq_nr": f"{PYIQA}topiq_nr"}  # traiNNer-redux's


def metric_info(kind: str) -> MetricInfo:
    """What METRICS, or for a `pyiqa:NAME` the pyiqa package, says of a metric.

    Raises:
        ValueError: for a metric that there is not, or one of pyiqa's while that is not installed.
    """
    if kind.startswith(PYIQA):
        name = kind.removeprefix(PYIQA)
        facts = _pyiqa_facts(name)
        higher, needs_reference = not facts.get("lower_better", False), facts.get("metric_mode") == "FR"
        return MetricInfo(name.upper(), ".4f", higher, 0, False, needs_reference)
    if kind not in METRICS:
        known = ", ".join([*METRICS, *PYIQA_NAMES])
        raise ValueError(f"there is no metric {kind!r}; known: {known}, and every metric of pyiqa as {PYIQA}NAME")
    return METRICS[kind]


# --- what the metrics share -----------------------------------------------------------------------


def quantise(x: Tensor) -> Tensor:
    """Float image in about [0, 1] -> float32 multiples of 1/255 in [0, 1]; halves are rounded to even."""
    return x.float().mul(255).clamp(0, 255).round().div(255)


def rgb_to_ycbcr(x: Tensor) -> Tensor:
    """RGB (..., 3, H, W) in [0, 1] -> Y, Cb, Cr (..., 3, H, W): BT.601 studio range (Y 16..235) divided by 255."""
    matrix = torch.tensor(YCBCR_MATRIX, dtype=x.dtype, device=x.device)
    offset = torch.tensor(YCBCR_OFFSET, dtype=x.dtype, device=x.device)
    # A sum of products rather than a matrix product, which a GPU may round to TF32.
    return ((matrix[:, :, None, None] * x.unsqueeze(-4)).sum(-3) + offset[:, None, None]) / 255


def rgb_to_y(x: Tensor) -> Tensor:
    """RGB (..., 3, H, W) in [0, 1] -> Y (..., 1, H, W): BT.601 studio range (16..235) divided by 255."""
    red, green, blue = (c * x[..., i : i + 1, :, :] for i, c in enumerate(YCBCR_MATRIX[0]))
    return (red + green + blue + YCBCR_OFFSET[0]) / 255


def _batch(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    if sr.shape != hr.shape or sr.ndim not in (3, 4) or sr.shape[-3] != 3:
        raise ValueError(
            f"a metric compares RGB images of one size, (N, 3, H, W) or (3, H, W); found {tuple(sr.shape)} and "
            f"{tuple(hr.shape)}: check that SR and HR belong together and that the scale is right"
        )
    return (sr, hr) if sr.ndim == 4 else (sr[None], hr[None])


def crop(x: Tensor, border: int) -> Tensor:
    """Images (..., H, W) without `border` pixels at each side; ValueError where that leaves nothing."""
    if border < 0 or min(x.shape[-2:]) <= 2 * border:
        raise ValueError(f"a border of {border} leaves nothing of {x.shape[-2]}x{x.shape[-1]}: lower crop_border")
    return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]


def _compared(x: Tensor, crop_border: int, test_y_channel: bool) -> Tensor:
    """Cropped, in float64, Y or RGB."""
    x = crop(x, crop_border)
    x = (x.cpu() if x.device.type == "mps" else x).double()  # MPS has no float64
    return rgb_to_y(x) if test_y_channel else x


# --- fidelity -------------------------------------------------------------------------------------


def psnr(sr: Tensor, hr: Tensor, crop_border: int = 4, test_y_channel: bool = True, eps: float = 1e-8) -> Tensor:
    """Peak signal-to-noise ratio in dB, (N,).

    `eps` is added to the mean squared error on the [0, 1] scale, as the published torch version does: identical images
    give 80 dB. With 0 it is the numpy version, and identical images give infinity.

    Raises:
        ValueError: for shapes that differ or a border that leaves nothing.
    """
    sr, hr = _batch(sr, hr)
    return _psnr(quantise(sr), quantise(hr), crop_border, test_y_channel, eps)


def _psnr(sr: Tensor, hr: Tensor, crop_border: int, test_y_channel: bool, eps: float) -> Tensor:
    difference = _compared(sr, crop_border, test_y_channel) - _compared(hr, crop_border, test_y_channel)
    return -10 * torch.log10(difference.square().mean(dim=(1, 2, 3)) + eps).cpu()


def ssim(sr: Tensor, hr: Tensor, crop_border: int = 4, test_y_channel: bool = True) -> Tensor:
    """Structural similarity (Wang et al., 2004), (N,): 11x11 Gaussian window of sigma 1.5, only where it fits entirely.

    On the 0..255 scale in float64; for RGB the mean of the three channels.

    Raises:
        ValueError: for shapes that differ, or images of fewer than 11 pixels a side after cropping.
    """
    sr, hr = _batch(sr, hr)
    x, y = (_compared(quantise(image), crop_border, test_y_channel) * 255 for image in (sr, hr))
    if min(x.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs {SSIM_WINDOW} pixels a side after cropping, found {x.shape[-2]}x{x.shape[-1]}")
    mean_x, mean_y = _local_mean(x), _local_mean(y)
    var_x, var_y = _local_mean(x * x) - mean_x**2, _local_mean(y * y) - mean_y**2
    covariance = _local_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean(dim=(1, 2, 3)).cpu()


def _local_mean(x: Tensor) -> Tensor:
    """Gaussian-weighted means (N, C, H - 10, W - 10) of (N, C, H, W)."""
    distance = torch.arange(SSIM_WINDOW, dtype=x.dtype, device=x.device) - SSIM_WINDOW // 2
    window = torch.exp(-(distance**2) / (2 * SSIM_SIGMA**2))
    window = (window / window.sum()).view(1, 1, -1)
    planes = x.flatten(0, 1)[:, None]
    planes = F.conv2d(F.conv2d(planes, window[..., None]), window[:, :, None])
    return planes.view(*x.shape[:2], *planes.shape[-2:])


def lr_psnr(sr: Tensor, hr: Tensor, scale: int, crop_border: int = 0, test_y_channel: bool = True) -> Tensor:
    """PSNR in dB between SR and HR after MATLAB's bicubic 1/scale: does SR agree with its LR image? (N,).

    Both are rounded to 8 bit before and after the down-scaling. No definition of the channel and the border is
    published; ours are Y and no border, since a pixel here stands for `scale` x `scale` pixels.
    """
    small_sr, small_hr = (imresize(quantise(image), 1 / scale) for image in _batch(sr, hr))
    return psnr(small_sr, small_hr, crop_border, test_y_channel)


def ae_psnr(
    sr: Tensor,
    hr: Tensor,
    autoencoder: Callable[[Tensor], Tensor],
    crop_border: int = 4,
    test_y_channel: bool = True,
) -> Tensor:
    """PSNR in dB between AE(SR) and AE(HR), (N,): fidelity without what cannot be known (Lee et al., 2025).

    The images are rounded to 8 bit before the auto-encoder; what comes out is neither rounded nor clamped.

    Args:
        autoencoder: (N, 3, H, W) -> the same shape, on the images' device.
    """
    sr, hr = _batch(sr, hr)
    with torch.no_grad():
        estimates = [autoencoder(quantise(image)) for image in (sr, hr)]
    return _psnr(*estimates, crop_border, test_y_channel, eps=1e-8)


# --- perception -----------------------------------------------------------------------------------


class LPIPS(nn.Module):
    """Learned perceptual distance, version 0.1 (Zhang et al., 2018): (N, 3, H, W) twice -> (N,), 0 for equal images.

    Features of five layers, each pixel's feature vector scaled to length 1; the squared differences, weighted per
    channel by the learnt heads and averaged over the pixels, are added up. Load weights before using it.
    """

    shift: Tensor
    scale: Tensor
    WIDTHS: Mapping[str, tuple[int, ...]] = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}

    def __init__(self, net: Literal["alex", "vgg"] = "alex"):
        super().__init__()
        if net not in self.WIDTHS:
            raise ValueError(f"LPIPS exists with the trunks {' and '.join(self.WIDTHS)}, not {net!r}")
        self.net = net
        self.trunk = AlexNetFeatures() if net == "alex" else _vgg16(use_input_norm=False)
        self.heads = nn.ParameterList(torch.zeros(1, width, 1, 1) for width in self.WIDTHS[net])
        # The mean and deviation of ImageNet, on the scale of -1..1.
        self.register_buffer("shift", torch.tensor((-0.030, -0.088, -0.188)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor((0.458, 0.448, 0.450)).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    @classmethod
    def from_weights(
        cls,
        net: Literal["alex", "vgg"] = "alex",
        trunk: str | PathLike | None = None,
        heads: str | PathLike | None = None,
    ) -> Self:
        """With the weights at the given paths, or else those `aesop.weights.find_pretrained` finds."""
        metric = cls(net)
        metric.load_weights(
            find_pretrained("alexnet" if net == "alex" else "vgg16", trunk), find_pretrained(f"lpips_{net}", heads)
        )
        return metric

    def load_weights(self, trunk: dict[str, Tensor], heads: dict[str, Tensor]) -> None:
        """Take torchvision's trunk (`features.N.weight`) and the lpips package's heads (`linK.model.1.weight`).

        Raises:
            ValueError: when one of them is something else.
        """
        self.trunk.load_trunk(trunk)
        for k, head in enumerate(self.heads):
            name = f"lin{k}.model.1.weight"
            if name not in heads or heads[name].shape != head.shape:
                raise ValueError(f"this is no LPIPS head file for {self.net!r}: {name} {tuple(head.shape)} is missing")
            head.copy_(heads[name])

    @torch.no_grad()
    def forward(self, sr: Tensor, hr: Tensor, crop_border: int = 0) -> Tensor:
        sr, hr = _batch(sr, hr)
        x, y = ((crop(quantise(image), crop_border) * 2 - 1 - self.shift) / self.scale for image in (sr, hr))
        distance = torch.zeros(len(x), dtype=torch.float64)
        for a, b, head in zip(self.trunk(x).values(), self.trunk(y).values(), self.heads, strict=True):
            a, b = (features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10) for features in (a, b))
            distance += (head * (a - b).square()).sum(1).mean(dim=(1, 2)).cpu()
        return distance


class DISTS(nn.Module):
    """Deep image structure and texture similarity (Ding et al., 2020): (N, 3, H, W) twice -> (N,), 0 for equal images.

    Compares the means (texture) and the correlation (structure) of the channels of the image and of five VGG16 stages,
    weighted by the learnt alpha and beta. VGG16 has L2 pooling in place of max pooling. Images are not resized.
    Load weights before using it.
    """

    WIDTHS = (3, 64, 128, 256, 512, 512)

    def __init__(self):
        super().__init__()
        self.trunk = _vgg16(use_input_norm=True)
        for i, name in enumerate(self.trunk.names):
            if name.startswith("pool"):
                self.trunk.features[i] = L2Pool()
        self.alpha = nn.Parameter(torch.zeros(1, sum(self.WIDTHS), 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, sum(self.WIDTHS), 1, 1))
        self.eval().requires_grad_(False)

    @classmethod
    def from_weights(cls, trunk: str | PathLike | None = None, heads: str | PathLike | None = None) -> Self:
        """With the weights at the given paths, or else those `aesop.weights.find_pretrained` finds."""
        metric = cls()
        metric.load_weights(find_pretrained("vgg16", trunk), find_pretrained("dists", heads))
        return metric

    def load_weights(self, trunk: dict[str, Tensor], heads: dict[str, Tensor]) -> None:
        """Take torchvision's VGG16 (`features.N.weight`) and the DISTS package's `alpha` and `beta`.

        Raises:
            ValueError: when one of them is something else.
        """
        self.trunk.load_trunk(trunk)
        for name, own in (("alpha", self.alpha), ("beta", self.beta)):
            if name not in heads or heads[name].shape != own.shape:
                raise ValueError(f"this is no DISTS weight file: {name} {tuple(own.shape)} is missing")
            own.copy_(heads[name])

    @torch.no_grad()
    def forward(self, sr: Tensor, hr: Tensor, crop_border: int = 0) -> Tensor:
        sr, hr = _batch(sr, hr)
        x, y = (crop(quantise(image), crop_border) for image in (sr, hr))
        alpha, beta = (weight.flatten().cpu().double() for weight in (self.alpha, self.beta))
        total = alpha.sum() + beta.sum()
        similarity = torch.zeros(len(x), dtype=torch.float64)
        weights = zip(alpha.split(self.WIDTHS), beta.split(self.WIDTHS), strict=True)
        stages = zip([x, *self.trunk(x).values()], [y, *self.trunk(y).values()], weights, strict=True)
        for a, b, (w_texture, w_structure) in stages:
            mean_a, mean_b = a.mean(dim=(2, 3)), b.mean(dim=(2, 3))
            a, b = a - mean_a[..., None, None], b - mean_b[..., None, None]
            texture = (2 * mean_a * mean_b + 1e-6) / (mean_a**2 + mean_b**2 + 1e-6)
            variances = a.square().mean(dim=(2, 3)) + b.square().mean(dim=(2, 3))
            structure = (2 * (a * b).mean(dim=(2, 3)) + 1e-6) / (variances + 1e-6)
            similarity += (w_texture * texture.cpu() + w_structure * structure.cpu()).sum(1)
        return 1 - similarity / total


class AlexNetFeatures(nn.Module):
    """AlexNet's convolutions (torchvision's layout and names): normalised RGB -> {name: features after each ReLU}."""

    def __init__(self):
        super().__init__()
        relu, pool = nn.ReLU, lambda: nn.MaxPool2d(3, 2)
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2),
            relu(),
            pool(),
            nn.Conv2d(64, 192, 5, 1, 2),
            relu(),
            pool(),
            nn.Conv2d(192, 384, 3, 1, 1),
            relu(),
            nn.Conv2d(384, 256, 3, 1, 1),
            relu(),
            nn.Conv2d(256, 256, 3, 1, 1),
            relu(),
        )

    def load_trunk(self, state: dict[str, Tensor]) -> None:
        """Take torchvision's weights; those of the classifier are left out."""
        own = self.state_dict()
        missing = [name for name in own if name not in state]
        if missing:
            raise ValueError(f"this is no torchvision AlexNet file: {', '.join(missing[:3])} missing")
        self.load_state_dict({name: state[name].float() for name in own})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        taps = {}
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                taps[f"relu{len(taps) + 1}"] = x
        return taps


class L2Pool(nn.Module):
    """Square root of the Hanning-weighted mean of 3x3 squares: (N, C, H, W) -> half the size (DISTS, section 3.1)."""

    window: Tensor

    def __init__(self):
        super().__init__()
        window = torch.outer(*[torch.tensor((0.5, 1.0, 0.5))] * 2)
        self.register_buffer("window", (window / window.sum()).view(1, 1, 3, 3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        window = self.window.expand(x.shape[1], -1, -1, -1)
        return torch.sqrt(F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1]) + 1e-12)


def _vgg16(use_input_norm: bool) -> VGGFeatureExtractor:
    """VGG16 with the last ReLU of each stage as taps."""
    taps = [f"relu{stage}_{count}" for stage, count in enumerate(CONVS_PER_STAGE["vgg16"], 1)]
    return VGGFeatureExtractor(taps, "vgg16", use_input_norm=use_input_norm)


# --- pyiqa ----------------------------------------------------------------------------------------


class PyIQA:
    """A metric of the pyiqa package (Chen and Mo, IQA-PyTorch) by its name there; pyiqa downloads its weights itself.

    Raises:
        ValueError: pyiqa is not installed, has no such metric, or cannot set it up (the weights cannot be downloaded).
    """

    def __init__(self, name: str, device: torch.device):
        self.name = name
        self.needs_reference = metric_info(PYIQA + name).needs_reference
        try:
            self.measure = import_module("pyiqa").create_metric(name, device=device)
        except Exception as error:  # of any kind: the network's, its libraries', its own
            if isinstance(error, ImportError):
                remedy = 'A package it needs is missing: pip install "aesop-sr[iqa]" installs them all'
            else:
                remedy = (
                    "It downloads a metric's weights at first use: let this machine go online once, or copy the folder "
                    "hub/pyiqa of PyTorch's cache from one that did"
                )
            raise ValueError(f"pyiqa could not set up {name!r} ({_said(error)}). {remedy}") from error

    def __call__(self, sr: Tensor, hr: Tensor | None = None, crop_border: int = 0) -> Tensor:
        """(N,) for RGB images (N, 3, H, W) in about [0, 1]; HR for the metrics that need it only.

        Raises:
            ValueError: the images do not fit each other, or pyiqa cannot measure them.
        """
        images = _batch(sr, hr) if self.needs_reference and hr is not None else _batch(sr, sr)[:1]
        images = [crop(quantise(image), crop_border) for image in images]
        try:
            return self.measure(*images).flatten().double().cpu()
        except Exception as error:  # as above
            raise ValueError(f"pyiqa could not measure {self.name!r} ({_said(error)})") from error


def _said(error: Exception) -> str:
    """The first line of what an error says, and its kind."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


def _pyiqa_facts(name: str) -> dict[str, Any]:
    """`metric_mode` (FR or NR), `lower_better` ... of a metric of pyiqa."""
    try:
        known = import_module("pyiqa.default_model_configs").DEFAULT_CONFIGS
    except ImportError as error:
        lacks = "is not installed" if (error.name or "").startswith("pyiqa") else f"cannot be imported ({error})"
        raise ValueError(
            f'{name!r} is a metric of pyiqa, which {lacks}: pip install "aesop-sr[iqa]" (pyiqa\'s licences, PolyForm '
            "Noncommercial and S-Lab, allow no commercial use)"
        ) from error
    if name not in known:
        near = ", ".join(get_close_matches(name, known, n=4, cutoff=0.4)) or "pyiqa.list_models() names all"
        raise ValueError(f"pyiqa has no metric {name!r}; the nearest: {near}")
    if "fid" in name or name == "inception_score":
        raise ValueError(f"{name!r} judges a whole set of images at once, here each image is measured: leave it out")
    return known[name]

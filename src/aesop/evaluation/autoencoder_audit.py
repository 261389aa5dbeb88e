"""Whether an auto-encoder fits: what `AE(HR)` loses, and whether its bottleneck is the LR image of the generator's task.

The AESOP loss compares AE(SR) with AE(HR). So the auto-encoder must keep what LR determines, colours among it, and drop what
LR does not determine; and its encoder must reduce images as the training's LR images are reduced.

The encoder is described by its kernel: weights of the HR pixels around a bottleneck pixel, found by least squares, as whose
sum it is nearest. It is compared with the kernels of the usual ways of reducing images.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional as F

from aesop.archs.autoencoder import AutoEncoder
from aesop.images.errors import ImageError
from aesop.images.listing import list_images
from aesop.images.resize import imresize, mod_crop
from aesop.images.tensors import to_tensor
from aesop.metrics.psnr import unrounded_psnr
from aesop.weights.load import load_autoencoder

IMAGES, SIDE = 8, 192
"""At most so many images are looked at, of each at most SIDE x SIDE pixels in the middle."""
CHANGE = 4 / 255
"""Root mean square of the errors that are put into HR images."""
RIDGE = 4 / 255
"""Standard deviation of the noise that the estimate of a kernel allows for in HR images."""
COLOURS = ("red", "green", "blue")

# From which values on a finding is a fault. Good auto-encoders and planted faults lie far on either side (see the tests).
WORSE = 0.5
"""dB by which AE(HR) may be worse than bicubic."""
LEAST_GAIN = 0.7
"""Of the colour direction that AE(HR) keeps worst."""
LEAST_LIKENESS = 0.9
"""Share of the bottleneck's variance that some reduction of HR explains, apart from gain and offset."""
MOST_OFFSET, GAIN_RANGE = 0.05, (0.8, 1.25)
"""Of the bottleneck's channels, against the LR image's."""
LEAST_COLOUR, GRAY = 0.5, 2 / 255
"""The same for colour, of images in which it has at least the deviation GRAY."""
CLEARLY = 1.0
"""dB by which another reduction must explain the bottleneck better than bicubic."""
MOST_SHIFT = 0.25
"""HR pixels."""
LEAST_KEPT, MOST_KEPT = 0.5, 0.5
"""Shares of an error that LR determines, and of one that it does not determine, which AE keeps."""

Mark = Literal["ok", "advice", "fault"]
Reduction = Callable[[np.ndarray], np.ndarray]
"""HR (H, W, 3) -> LR (H / scale, W / scale, 3), both float in about [0, 1]."""


@dataclass(frozen=True)
class AuditFinding:
    mark: Mark
    about: str
    """One or two words that stay the same, for scripts."""
    text: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Kernel:
    """How an encoder weights HR pixels, `weights` (side, side), in the middle of which the bottleneck pixel lies."""

    weights: np.ndarray
    explained: float
    """Share of the bottleneck's variance that it explains; the rest is no weighted sum of pixels of the same channel."""

    @property
    def sum(self) -> float:
        return float(self.weights.sum())

    @property
    def shift(self) -> tuple[float, float]:
        """Where its centre of mass is, (down, right) of the bottleneck pixel, in HR pixels."""
        places = np.arange(len(self.weights)) - (len(self.weights) - 1) / 2
        down, right = self.weights.sum(1) @ places, self.weights.sum(0) @ places
        return float(down / self.sum), float(right / self.sum)

    def distance(self, other: "Kernel") -> float:
        """Root mean square of the difference, relative to the other kernel's."""
        return float(np.linalg.norm(self.weights - other.weights) / np.linalg.norm(other.weights))


@dataclass(frozen=True)
class Audit:
    """What was found about an auto-encoder, in words and numbers."""

    source: str
    scale: int
    images: int
    findings: tuple[AuditFinding, ...]

    @property
    def fits(self) -> bool:
        return all(finding.mark != "fault" for finding in self.findings)

    def lines(self) -> list[str]:
        """The verdict, and a line for each finding."""
        faults = [finding.about for finding in self.findings if finding.mark == "fault"]
        verdict = f"does not fit: {', '.join(faults)}" if faults else "fits"
        return [f"{self.source} {verdict}", *(f"{each.mark} {each.about}: {each.text}" for each in self.findings)]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "fits": self.fits}


def audit(path: Path, folder: Path, device: torch.device | None = None) -> Audit:
    """Look at an auto-encoder's weight file with the HR images of a folder, pack, or LMDB.

    Raises WeightsError for another network's file, and ImageError if there are no images that are large enough.
    """
    net = load_autoencoder(path).to(device or torch.device("cpu"))
    images = read_images(folder, net)
    return Audit(str(path), net.scale, len(images), tuple(examine(net, images)))


def read_images(folder: Path, net: AutoEncoder) -> list[np.ndarray]:
    """The middle of at most IMAGES images, evenly spread: uint8 (h, w, 3), sides multiples of the scale and at most SIDE."""
    listed = list_images(folder)
    count = min(len(listed), IMAGES)
    least = 8 * net.scale
    found = []
    for image in (listed[place * len(listed) // count] for place in range(count)):
        pixels = image.read_uint8()
        if min(pixels.shape[:2]) >= least:
            height, width = (min(SIDE, side) for side in pixels.shape[:2])
            top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
            found.append(mod_crop(pixels[top : top + height, left : left + width], net.scale))
    if not found:
        raise ImageError(f"{folder}: none of {count} images has {least} pixels on each side: give HR photographs")
    return found


def examine(net: AutoEncoder, images: Sequence[np.ndarray]) -> list[AuditFinding]:
    """All findings, from HR images, uint8 (H, W, 3), whose sides are multiples of the scale."""
    device = next(net.parameters()).device
    batches = [to_tensor(image)[None].to(device) for image in images]
    with torch.inference_mode():
        passed = [net(hr, return_bottleneck=True) for hr in batches]
        outputs, bottlenecks = ([_array(each[k]) for each in passed] for k in (0, 1))
        if not all(np.isfinite(array).all() for array in (*outputs, *bottlenecks)):
            return [AuditFinding("fault", "numbers", "it computes NaN or infinity: train it again, from an earlier state")]
        hr = [_array(each) for each in batches]
        return [
            _scale(net, hr, bottlenecks),
            _fidelity(net.scale, hr, outputs),
            _colours(net.scale, hr, outputs),
            *_bottleneck(net.scale, hr, bottlenecks),
            *_kept(net, batches),
        ]


# --- AE(HR) ------------------------------------------------------------------------------------------------------------


def _scale(net: AutoEncoder, hr: Sequence[np.ndarray], bottlenecks: Sequence[np.ndarray]) -> AuditFinding:
    whole, small = hr[0].shape, bottlenecks[0].shape
    text = (
        f"scale {net.scale}: it reduces {whole[1]}x{whole[0]} pixels to {small[1]}x{small[0]}; it fits generators of scale"
    )
    return AuditFinding("ok", "scale", f"{text} {net.scale} only", {"scale": net.scale, "type": type(net).__name__})


def _fidelity(scale: int, hr: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> AuditFinding:
    """AE(HR) beside HR that was reduced and enlarged by bicubic."""
    resized = [imresize(imresize(image, 1 / scale), scale) for image in hr]
    kept, plain = (float(np.mean([_psnr(a, b) for a, b in zip(made, hr, strict=True)])) for made in (outputs, resized))
    text = f"AE(HR) is {kept:.2f} dB from HR (luma); HR reduced and enlarged by bicubic is {plain:.2f} dB from it"
    evidence = {"psnr": kept, "bicubic_psnr": plain}
    if kept < plain - WORSE:
        remedy = "it loses more than LR does: train it longer, or look at the findings below"
        return AuditFinding("fault", "fidelity", f"{text}: {remedy}", evidence)
    return AuditFinding("ok", "fidelity", text, evidence)


def _colours(scale: int, hr: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> AuditFinding:
    """Fit AE(HR) = HR times a 3x3 matrix, at LR size, where detail does not matter; then look for directions that vanish.

    The matrix is the unit matrix if all colours are kept. Its smallest singular value belongs to the direction of colour
    that is kept worst.
    """
    small = [np.concatenate([_reduced(image, scale).reshape(-1, 3) for image in each]) for each in (hr, outputs)]
    given, made = (values - values.mean(0) for values in small)
    matrix = np.linalg.lstsq(given, made, rcond=None)[0]
    directions, gains, _ = np.linalg.svd(matrix)
    worst, gain = directions[:, -1], float(gains[-1])
    worst = worst * np.sign(worst[np.abs(worst).argmax()])
    errors = {
        name: float(np.mean((small[1][:, k] - small[0][:, k]) ** 2) / max(small[0][:, k].var(), 1e-12))
        for k, name in enumerate(COLOURS)
    }
    evidence = {"gain": gain, "direction": worst.tolist(), "error_of_channels": errors}
    shown = ", ".join(f"{name} {share:.1%}" for name, share in errors.items())
    text = f"of coarse colour, errors make up {shown} of the variance"
    if gain < LEAST_GAIN:
        lost = f"it keeps only {max(gain, 0):.0%} of differences along {_direction(worst)}"
        remedy = "it loses a colour, so the loss is blind to it: use an encoder of at least 48 features, or train it longer"
        return AuditFinding("fault", "colours", f"{lost} ({text}): {remedy}", evidence)
    return AuditFinding("ok", "colours", f"no colour is lost: {gain:.0%} of differences along the worst, {text}", evidence)


def _direction(vector: np.ndarray) -> str:
    """A direction of colour in words: `blue`, or `green against red and blue`."""
    if np.abs(vector).max() > 0.95:
        return COLOURS[int(np.abs(vector).argmax())]
    sides = {sign: [n for n, v in zip(COLOURS, vector, strict=True) if v * sign > 0.25] for sign in (1, -1)}
    words = [" and ".join(names) for names in sides.values() if names]
    return " against ".join(words)


# --- bottleneck --------------------------------------------------------------------------------------------------------


def _bottleneck(scale: int, hr: Sequence[np.ndarray], bottlenecks: Sequence[np.ndarray]) -> list[AuditFinding]:
    """Which reduction of HR explains the bottleneck best, with gain and offset of each channel, and with which kernel."""
    reduced = {name: [reduce(image) for image in hr] for name, reduce in reductions(scale).items()}
    fits = {name: _fit(bottlenecks, images) for name, images in reduced.items()}
    best = max(fits, key=lambda name: fits[name].likeness)
    bicubic, found = fits["bicubic"], fits[best]
    kernel, expected = (estimate_kernel(small, hr, scale) for small in (bottlenecks, reduced["bicubic"]))
    evidence: dict[str, Any] = {
        "psnr": bicubic.psnr,
        "likeness": {name: round(fit.likeness, 4) for name, fit in fits.items()},
        "gain": bicubic.gain,
        "offset": bicubic.offset,
        "kernel_explains": kernel.explained,
    }
    colour, mixed = _colour_likeness(bottlenecks, reduced["bicubic"], bicubic)
    evidence |= {"colour_likeness": colour, "mixed_likeness": mixed}
    if max(found.likeness, mixed) < LEAST_LIKENESS:
        text = (
            f"the bottleneck is no LR image: the reduction that explains it best, {best}, explains {found.likeness:.0%} of "
            "it. An SR network does not see what the decoder sees: train it with pixel loss between bottleneck and LR "
            "(pixel_at_LR_opt), or start from a decoder that is a PSNR network"
        )
        return [AuditFinding("fault", "bottleneck", text, evidence)]
    near = f"{bicubic.psnr:.1f} dB from bicubic LR (RGB), gain {_each(bicubic.gain, '.2f')}, "
    near += f"offset {_each(bicubic.offset, '+.3f')} for red, green, blue"
    image = f"the bottleneck is an LR image: {near}"
    off = max(map(abs, bicubic.offset)) > MOST_OFFSET
    off = off or not all(GAIN_RANGE[0] < gain < GAIN_RANGE[1] for gain in bicubic.gain)
    if colour < LEAST_COLOUR:
        text = (
            f"the bottleneck looks like LR in other colours ({near}): LR explains {max(colour, 0):.0%} of them. Its "
            "channels are mixed, exchanged or gray, which the decoder undoes. Train it longer, or with a pixel loss on the "
            "bottleneck (pixel_at_LR_opt)"
        )
        finding = AuditFinding("fault", "bottleneck", text, evidence)
    elif off:
        remedy = (
            ": its brightness or contrast is another, which the decoder undoes; a pixel loss on the bottleneck prevents it"
        )
        finding = AuditFinding("advice", "bottleneck", image + remedy, evidence)
    else:
        finding = AuditFinding("ok", "bottleneck", image, evidence)
    return [finding, _reduction(fits, kernel, expected)]


def _reduction(fits: Mapping[str, "_Fit"], kernel: Kernel, expected: Kernel) -> AuditFinding:
    """Whether a bottleneck that is an image was reduced as LR images are, by bicubic."""
    behind = {name: 10 * math.log10((1 - fit.likeness) / (1 - fits["bicubic"].likeness)) for name, fit in fits.items()}
    best = min(behind, key=behind.__getitem__)
    down, right = (own - usual for own, usual in zip(kernel.shift, expected.shift, strict=True))
    distance = kernel.distance(expected)
    evidence: dict[str, Any] = {
        "better_than_bicubic_db": {name: -value for name, value in behind.items()},
        "shift": (down, right),
        "kernel_distance": distance,
        "kernel_sum": kernel.sum,
        "kernel_explains": kernel.explained,
    }
    where = (
        f"its kernel lies {down:+.2f} pixels down and {right:+.2f} right of bicubic's, and differs from it by {distance:.0%}"
    )
    if -behind[best] > CLEARLY:
        text = (
            f"it reduces like this: {best}, which explains the bottleneck {-behind[best]:.1f} dB better than bicubic does; "
            f"{where}. It fits a generator that is trained on such LR images, and no other"
        )
        return AuditFinding("fault", "kernel", text, evidence)
    if max(abs(down), abs(right)) > MOST_SHIFT:
        text = f"{where}: its training was too short, or its LR images were shifted against their HR images"
        return AuditFinding("fault", "kernel", text, evidence)
    like = [name for name, value in behind.items() if name != "bicubic" and value < CLEARLY]
    others = f", which cannot be told here from: {'; '.join(like)}" if like else ""
    return AuditFinding("ok", "kernel", f"it reduces like bicubic{others}; {where}", evidence)


@dataclass(frozen=True)
class _Fit:
    """How a reduction explains bottlenecks: PSNR of both as they are, and a line for each channel."""

    psnr: float
    gain: tuple[float, ...]
    offset: tuple[float, ...]
    likeness: float
    """Share of the variance that the lines explain, at most 1. Lines that fall explain nothing: no image is a negative."""


def _fit(bottlenecks: Sequence[np.ndarray], reduced: Sequence[np.ndarray]) -> _Fit:
    made, given = (_pixels(images) for images in (bottlenecks, reduced))
    lines = [np.polyfit(given[:, k], made[:, k], 1) for k in range(3)]
    lines = [line if line[0] > 0 else np.array([0, made[:, k].mean()]) for k, line in enumerate(lines)]
    rest = sum(float(np.mean((made[:, k] - np.polyval(lines[k], given[:, k])) ** 2)) for k in range(3))
    error = float(np.mean((made - given) ** 2))
    return _Fit(
        -10 * math.log10(max(error, 1e-10)),
        tuple(float(line[0]) for line in lines),
        tuple(float(line[1]) for line in lines),
        1 - max(rest / max(float(made.var(0).sum()), 1e-12), 1e-6),
    )


def _pixels(images: Sequence[np.ndarray]) -> np.ndarray:
    """All pixels (n, 3) but those at borders, which encoders and reductions treat differently."""
    return np.concatenate([image[2:-2, 2:-2].reshape(-1, 3) for image in images])


def _colour_likeness(bottlenecks: Sequence[np.ndarray], lr: Sequence[np.ndarray], fit: _Fit) -> tuple[float, float]:
    """What LR explains of bottlenecks if channels may be mixed.

    Returns:
        Share of the variance of colour (channels minus their mean) that LR explains with the fit's gains, 1 if the images
        are gray, and below 0 if there is another colour; share of all variance that LR times any 3x3 matrix explains.
    """
    made, given = (_pixels(images) for images in (bottlenecks, lr))
    made, given = (values - values.mean(0) for values in (made, given))
    matrix = np.linalg.lstsq(given, made, rcond=None)[0]
    mixed = 1 - float(np.sum((made - given @ matrix) ** 2) / max(float(np.sum(made**2)), 1e-12))
    if matrix.sum(0).min() <= 0:  # brighter gray makes a channel darker
        mixed = 0.0
    made, given = (values - values.mean(1, keepdims=True) for values in (made, given * fit.gain))
    if given.std() < GRAY:
        return 1.0, mixed
    return 1 - float(np.sum((made - given) ** 2) / max(float(np.sum(given**2)), 1e-12)), mixed


def reductions(scale: int) -> dict[str, Reduction]:
    """The ways of making LR images that are in use, bicubic first, and some that come about by mistake."""
    filters = PIL.Image.Resampling

    def pillow(kind: PIL.Image.Resampling, image: np.ndarray) -> np.ndarray:
        size = (image.shape[1] // scale, image.shape[0] // scale)
        channels = [PIL.Image.fromarray(image[..., k].astype(np.float32)).resize(size, kind) for k in range(3)]
        return np.stack([np.asarray(channel, dtype=np.float64) for channel in channels], -1)

    def shifted(image: np.ndarray, by: float) -> np.ndarray:
        move = np.array([[1, 0, -by], [0, 1, -by]])
        height, width = image.shape[:2]
        return cv2.warpAffine(image, move, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)

    def blurred(sigma: float, image: np.ndarray) -> np.ndarray:
        smooth = cv2.GaussianBlur(image, (0, 0), sigma * scale / 4, borderType=cv2.BORDER_REFLECT)
        return imresize(smooth, 1 / scale, antialiasing=False)

    half = scale / 2
    return {
        "bicubic": lambda image: imresize(image, 1 / scale),
        "area (mean of each block)": partial(pillow, filters.BOX),
        "bilinear": partial(pillow, filters.BILINEAR),
        "Lanczos": partial(pillow, filters.LANCZOS),
        "bicubic without antialiasing": lambda image: imresize(image, 1 / scale, antialiasing=False),
        "every nth pixel, from the first": lambda image: image[::scale, ::scale],
        **{f"a Gaussian of sigma {s * scale / 4:g}, decimated": partial(blurred, s) for s in (1.2, 1.6, 2.0, 2.6)},
        "bicubic, moved half an LR pixel up and left": lambda image: imresize(shifted(image, half), 1 / scale),
        "bicubic, moved half an LR pixel down and right": lambda image: imresize(shifted(image, -half), 1 / scale),
    }


def estimate_kernel(reduced: Sequence[np.ndarray], hr: Sequence[np.ndarray], scale: int) -> Kernel:
    """The kernel that made LR images, or bottlenecks, of HR images, by least squares from HR patches to their pixels.

    It is one for all channels, six LR pixels wide. Frequencies that are weaker in the images than RIDGE are taken for
    absent, so compare a kernel with others that were found in the same images.
    """
    side = 6 * scale
    margin = (side - scale) // 2
    products, responses, energy = np.zeros((side**2, side**2)), np.zeros(side**2), 0.0
    for small, large in zip(reduced, hr, strict=True):
        around = np.pad(large, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(around, (side, side), axis=(0, 1))[::scale, ::scale]
        for k in range(3):  # without a border, which encoders and reductions treat differently
            patches, values = windows[2:-2, 2:-2, k].reshape(-1, side**2), small[2:-2, 2:-2, k].reshape(-1)
            patches, values = patches - patches.mean(), values - values.mean()
            products += patches.T @ patches + RIDGE**2 * len(values) * np.eye(side**2)
            responses += patches.T @ values
            energy += float(values @ values)
    weights = np.linalg.solve(products, responses)
    explained = (2 * weights @ responses - weights @ products @ weights) / max(energy, 1e-20)
    return Kernel(weights.reshape(side, side), float(explained))


# --- errors that AE keeps ----------------------------------------------------------------------------------------------


def _kept(net: AutoEncoder, batches: Sequence[Tensor]) -> list[AuditFinding]:
    """How much AE keeps of an error in HR that LR determines, noise of half of LR's size, and of one that it does not."""
    scale, generator = net.scale, torch.Generator().manual_seed(0)
    shares: dict[str, list[float]] = {"determined": [], "undetermined": []}
    distances = dict[str, list[float]]({name: [] for name in shares})
    for hr in batches:
        small = torch.randn((1, 3, hr.shape[2] // scale // 2 + 1, hr.shape[3] // scale // 2 + 1), generator=generator)
        fine = torch.randn(hr.shape, generator=generator)
        for _ in range(3):  # what bicubic makes of it in LR goes to zero
            fine = fine - imresize(imresize(fine, 1 / scale), scale)
        coarse = imresize(small, 2 * scale)[..., : hr.shape[2], : hr.shape[3]]
        for name, error in {"determined": coarse, "undetermined": fine}.items():
            change = (error * (CHANGE / error.square().mean().sqrt())).to(hr.device)
            differences = net(hr + change) - net(hr)
            shares[name].append(float(differences.square().mean().sqrt() / CHANGE))
            distances[name].append(float(-10 * differences.square().mean().clamp(min=1e-12).log10()))
    kept = {name: float(np.mean(values)) for name, values in shares.items()}
    apart = {name: float(np.mean(values)) for name, values in distances.items()}
    error = -20 * math.log10(CHANGE)
    evidence = {"kept": kept, "ae_psnr": apart, "psnr": error}
    text = (
        f"of an error that LR determines (coarse, {error:.1f} dB) it keeps {kept['determined']:.0%} (AE-PSNR "
        f"{apart['determined']:.1f} dB), of one that LR does not determine {kept['undetermined']:.0%} "
        f"({apart['undetermined']:.1f} dB)"
    )
    if kept["determined"] < LEAST_KEPT:
        return [
            AuditFinding("fault", "kept error", f"{text}: the loss hardly sees errors that SR should not make", evidence)
        ]
    if kept["undetermined"] > MOST_KEPT:
        remedy = "the loss punishes plausible detail, as a pixel loss does, so SR stays smooth"
        return [AuditFinding("fault", "kept error", f"{text}: {remedy}", evidence)]
    return [AuditFinding("ok", "kept error", text, evidence)]


# --- arrays ------------------------------------------------------------------------------------------------------------


def _array(image: Tensor) -> np.ndarray:
    """(1, 3, H, W) -> float64 (H, W, 3)."""
    return image[0].permute(1, 2, 0).double().cpu().numpy()


def _psnr(a: np.ndarray, b: np.ndarray) -> float:
    """On luma, without a border of 4 pixels."""
    a_tensor, b_tensor = (torch.from_numpy(each).permute(2, 0, 1)[None] for each in (a, b))
    return float(unrounded_psnr(a_tensor, b_tensor, 4, True))


def _reduced(image: np.ndarray, scale: int) -> np.ndarray:
    """Means of blocks of LR pixels."""
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
    return F.avg_pool2d(tensor, 2 * scale, ceil_mode=True)[0].permute(1, 2, 0).numpy()


def _each(values: Sequence[float], spec: str) -> str:
    return " ".join(format(value, spec) for value in values)

"""What images of a training say: colour, detail, checkerboards, pairs, and whether an auto-encoder fits.

All functions take float images (N, 3, H, W) in [0, 1] and return scalars. Without enough pixels the value
is NaN.
"""

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from aesop.archs.gray import luma
from aesop.images.resize import imresize

FLAT = 3 / 255  # standard deviation below which an image has too little in it to be compared
FILTER = 3  # side of the filter between two LR images
ENOUGH = 6  # pixels for each weight of the filter
BESIDE = 3  # how far the neighbours of a frequency reach


def mean_square(x: Tensor) -> Tensor:
    return x.square().mean()


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Of all images together, in dB, in colour, after clamping; at most 100."""
    return -10 * mean_square(a.clamp(0, 1) - b.clamp(0, 1)).clamp_min(1e-10).log10()


def split_of_the_error(sr: Tensor, hr: Tensor, ae_sr: Tensor, ae_hr: Tensor) -> dict[str, Tensor]:
    """The paper's split of SR - HR into r = AE(SR) - AE(HR), the fidelity bias, and the rest s, the perceptual variance.

    `se` is mean r², `ve` mean s², `cross` 2 mean r s. They sum to `mse`, mean (SR - HR)².
    """
    error, bias = sr - hr, ae_sr - ae_hr
    variance = error - bias
    split = {"se": mean_square(bias), "ve": mean_square(variance), "cross": 2 * (bias * variance).mean()}
    return split | {"mse": mean_square(error)}


def detail(sr: Tensor, hr: Tensor) -> Tensor:
    """Energy of SR's finest detail (what a 5x5 mean removes) divided by HR's: below 1 where SR is blurred.

    NaN where HR is flat: there SR's errors are all the detail that it has, and the quotient says nothing about blur.
    """
    fine = [mean_square(x - F.avg_pool2d(x, 5, 1, 2, count_include_pad=False)) for x in (sr, hr)]
    return torch.where(fine[1] < FLAT**2, torch.nan, fine[0] / fine[1])


def checkerboard(sr: Tensor, hr: Tensor, scale: int) -> Tensor:
    """Contrast of a pattern that repeats every scale pixels: energy of SR - HR at its frequencies, relative to beside them.

    It is the geometric mean over these frequencies, of all images and colours together. Without a pattern it is 0.5 to 1,
    whatever the spectrum of the error. NaN for LR images of less than 2 * BESIDE + 1 pixels a side.
    """
    height, width = sr.shape[-2:]
    if scale == 1 or min(height, width) // scale < 2 * BESIDE + 1:
        return sr.new_full((), torch.nan)
    # The window spreads a frequency over its direct neighbours, which are left out.
    window = torch.outer(*(torch.hann_window(side, device=sr.device) for side in (height, width)))
    energy = torch.fft.fft2((sr - hr).float() * window).abs().square().mean((0, 1))
    reach = range(-BESIDE, BESIDE + 1)
    beside = [shift for shift in product(reach, reach) if max(map(abs, shift)) > 1]
    around = torch.stack([energy.roll(shift, (0, 1)) for shift in beside]).mean(0)
    ratios = (energy.clamp_min(1e-20) / around.clamp_min(1e-20))[:: height // scale, :: width // scale]
    return ratios.flatten()[1:].log().mean().exp()  # the first one is no pattern


def likeness(lq: Tensor, hr: Tensor, scale: int) -> Tensor:
    """(N,) correlations of LR and the luma of HR reduced to its size; 1 where either is flat."""
    small = F.avg_pool2d(luma(hr), scale) if scale > 1 else luma(hr)
    a, b = (x - x.mean((1, 2, 3), keepdim=True) for x in (luma(lq), small))
    deviations = [x.square().mean((1, 2, 3)).sqrt() for x in (a, b)]
    correlation = (a * b).mean((1, 2, 3)) / (deviations[0] * deviations[1]).clamp_min(1e-12)
    return torch.where(torch.minimum(*deviations) < FLAT, torch.ones_like(correlation), correlation)


def colour_probe(scale: int) -> Tensor:
    """(1, 3, 24 * scale, 24 * scale): nine flat cells, of the corners of the cube of colours from 1/4 to 3/4 and gray.

    Crops of photographs have too little colour to tell from them.
    """
    corners = torch.tensor(list(product((0.25, 0.75), repeat=3)))
    colours = torch.cat([corners[:4], torch.full((1, 3), 0.5), corners[4:]])
    return colours.T.reshape(1, 3, 3, 3).repeat_interleave(8 * scale, 2).repeat_interleave(8 * scale, 3)


def colour_kept(probe: Tensor, reproduced: Tensor) -> Tensor:
    """How much of the colour that is reproduced worst arrives: 1 all, 0 nothing.

    It is the smallest singular value of the 3x3 matrix that maps the colours of the probe's cells to the reproduced ones, by
    least squares.
    """
    side = probe.shape[-1] // 3
    middle = slice(side // 4, side - side // 4)
    cells = [x.unflatten(3, (3, side)).unflatten(2, (3, side)) for x in (probe, reproduced)]
    means = [x[..., middle, :, middle].mean((3, 5))[0].flatten(1).T.cpu().double() for x in cells]
    before, after = (x - x.mean(0) for x in means)
    return torch.linalg.svdvals(torch.linalg.lstsq(before, after).solution)[-1].float()


def lr_fit(found: Tensor, lr: Tensor) -> dict[str, Tensor]:
    """How the luma of an LR image that was found relates to that of the one given: by a filter, or not at all.

    `equal` is the share of the LR image's variance that does not differ (1: the same image, 0 and less: another one), `fit`
    the share of the found image's variance that the best 3x3 filter of the LR image (and an offset) gives. `shift` is how
    far that filter's centre lies from the middle, in LR pixels, and `width` its variance, in LR pixels squared, as a mean of
    both axes: variances of kernels add, so it is that of the found image's kernel minus that of the LR image's (below 0: the
    found image is sharper).
    """
    found, lr = luma(found), luma(lr)
    nothing = found.new_full((), torch.nan)
    equal = 1 - mean_square(found - lr) / lr.var().clamp_min(1e-6)
    if lr[..., 1:-1, 1:-1].numel() < ENOUGH * FILTER**2:
        return {"equal": equal, "fit": nothing, "shift": nothing, "width": nothing}
    patches = F.unfold(lr, FILTER).movedim(1, -1).flatten(0, 1)  # (pixels, 9)
    target = found[..., 1:-1, 1:-1].flatten().cpu().double()
    patches = torch.cat([patches, torch.ones_like(patches[:, :1])], 1).cpu().double()
    # A prior for no filter at all, so that flat images say nothing.
    prior = torch.zeros(FILTER**2 + 1, dtype=target.dtype)
    prior[FILTER**2 // 2] = 1
    ridge = 1e-5 * len(patches) * torch.eye(len(prior), dtype=target.dtype)
    weights = torch.linalg.solve(patches.T @ patches + ridge, patches.T @ target + ridge @ prior)
    fit = 1 - mean_square(patches @ weights - target) / target.var().clamp_min(1e-6)
    kernel = weights[:-1].unflatten(0, (FILTER, FILTER))
    kernel = kernel / kernel.sum().clamp_min(0.1)
    down, right = (kernel[2] - kernel[0]).sum(), (kernel[:, 2] - kernel[:, 0]).sum()
    shift = torch.hypot(down, right)
    width = (kernel[0].sum() + kernel[2].sum() + kernel[:, 0].sum() + kernel[:, 2].sum() - shift.square()) / 2
    return {"equal": equal, "fit": fit.float(), "shift": shift.float(), "width": width.float()}


def reduced(images: Tensor, scale: int) -> Tensor:
    """HR -> LR by MATLAB's bicubic."""
    return imresize(images, 1 / scale) if scale > 1 else images

"""AESOP: the pixel distance after a frozen auto-encoder (Lee et al., CVPR 2025, the definition of L_AESOP), and variants."""

import copy
from os import PathLike
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from aesop.archs.autoencoder import AutoEncoder, ProbabilisticAutoEncoder
from aesop.archs.frozen import frozen, in_bf16
from aesop.archs.rrdbnet import rrdbs
from aesop.losses.loss_term import DistanceOptions
from aesop.losses.pixel import PixelLoss, weighted_reduce
from aesop.system.distributed import World
from aesop.system.option_types import Options
from aesop.weights.errors import WeightsError, option_context
from aesop.weights.load import load_autoencoder

AesopType = Literal["AutoEncoderLoss", "AutoEncoderBottleneckLoss", "ProbabilisticAutoEncoderReverseKLDivergenceLoss"]


class AutoencoderLoad(Options):
    path: str
    """The auto-encoder's weight file: ours or a published `.pth`."""
    key: str = "params_ema"
    """Which weights of a `.pth`."""


class AesopOptions(DistanceOptions):
    log_name: ClassVar[str] = "aesop"
    sharpened_by: ClassVar[str | None] = "aesop_gt_usm"

    type: AesopType = "AutoEncoderLoss"
    """AESOP; or an ablation: the distance of the bottlenecks, or the divergence of predicted Laplace distributions."""
    criterion: Literal["l1", "l2", "reverse", "forward"] = "l1"
    """Distance of AE(SR) and AE(HR): absolute (l1), squared (l2). Divergence: reverse (KL of SR from HR) or forward."""
    as_loss_map: bool = False
    """Weight the pixel loss by |AE(SR) - AE(HR)| instead."""
    range_guard: Literal["none", "clamp", "normalize"] = "none"
    """What the auto-encoder gets where SR leaves [0, 1]; `none` is the published behaviour."""
    autoencoder_load: AutoencoderLoad | None = None
    """Where the pre-trained auto-encoder is."""

    @model_validator(mode="after")
    def _fits_type(self) -> Self:
        divergence = self.type.startswith("Probabilistic")
        if divergence != (self.criterion in ("reverse", "forward")):
            raise ValueError(f"criterion of {self.type} is {'reverse or forward' if divergence else 'l1 or l2'}")
        if self.type != "AutoEncoderLoss" and (self.as_loss_map or self.range_guard != "none"):
            raise ValueError(f"as_loss_map and range_guard belong to AutoEncoderLoss, not to {self.type}")
        if divergence and self.reduction != "mean":
            raise ValueError(f"{self.type} has reduction: mean only")
        return self

    def build(self, scale: int, world: World) -> "FrozenAutoEncoderLoss":
        source = self.autoencoder_load
        assert source is not None, "the adversarial stage's options are checked for it"
        with option_context("train.aesop_opt.autoencoder_load"):
            return self.around(load_for_scale(source.path, scale, source.key))

    def around(self, autoencoder: AutoEncoder) -> "FrozenAutoEncoderLoss":
        """The loss with the given auto-encoder."""
        if self.type == "AutoEncoderLoss":
            return AESOPLoss(autoencoder, self.criterion, self.reduction, self.as_loss_map, self.range_guard)
        if self.type == "AutoEncoderBottleneckLoss":
            return BottleneckLoss(autoencoder, self.criterion, self.reduction)
        return LaplaceKLLoss(autoencoder, self.criterion)


def load_for_scale(path: str | PathLike, scale: int | None, key: str | None = None) -> AutoEncoder:
    """The auto-encoder of a weight file. One of another scale is refused: the loss of its images would look normal."""
    autoencoder = load_autoencoder(path, key)
    if scale not in (None, autoencoder.scale):
        raise WeightsError(
            f"{path} is an auto-encoder of scale {autoencoder.scale}, but scale {scale} is trained; train one of that scale"
        )
    return autoencoder


class FrozenAutoEncoderLoss(nn.Module):
    """A loss around an auto-encoder, which is frozen here and stays in eval mode. No gradient reaches hr.

    The auto-encoder runs in float32 under autocast too; see `AESOPLoss.use_bf16`.
    Shapes: `loss(sr, hr) -> scalar` for sr, hr (N, 3, H, W) in [0, 1], H and W multiples of the AE's scale.
    """

    def __init__(self, autoencoder: nn.Module, criterion: str = "l1", reduction: str = "mean"):
        super().__init__()
        if criterion not in ("l1", "l2"):
            raise ValueError(f"{type(self).__name__}: criterion must be l1 or l2, found {criterion!r}")
        self.pixel = PixelLoss(criterion, reduction)
        self.autoencoder: Any = frozen(autoencoder)

    @classmethod
    def from_pretrained(cls, path: str | PathLike, scale: int | None = None, **options) -> Self:
        """The loss with the auto-encoder of a weight file, which must have the scale given, with constructor options."""
        if path is None:
            raise ValueError(f"{cls.__name__}.from_pretrained: give the auto-encoder's weight file, found None")
        return cls(load_for_scale(path, scale), **options)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for net in self.children():
            net.eval()
        return self

    def forward(self, sr: Tensor, hr: Tensor, weight: Tensor | None = None) -> Tensor:
        if sr.shape != hr.shape or sr.ndim != 4 or sr.shape[1] != 3 or not sr.is_floating_point():
            raise ValueError(
                f"{type(self).__name__} compares two batches (N, 3, H, W) of floating-point images in [0, 1], found "
                f"{tuple(sr.shape)} {sr.dtype} and {tuple(hr.shape)} {hr.dtype}"
            )
        with torch.autocast(sr.device.type, enabled=False):
            sr, hr = (x if x.dtype == torch.float64 else x.float() for x in (sr, hr.detach()))
            return self.distance(sr, hr, weight)

    def distance(self, sr: Tensor, hr: Tensor, weight: Tensor | None) -> Tensor:
        raise NotImplementedError


class AESOPLoss(FrozenAutoEncoderLoss):
    """`mean |AE(SR) - AE(HR)|` with AE frozen. No gradient reaches HR or the AE's weights.

    Use it in place of the pixel loss of any GAN-based recipe; multiply by your weight (published: 1.0).

    Args:
        autoencoder: maps images (N, 3, H, W) in [0, 1] to images of the same shape. It is frozen here.
        criterion: `l1` (published) or `l2`.
        reduction: `mean` or `sum`.
        as_loss_map: use `|AE(SR) - AE(HR)|` as the weight of the pixel loss between SR and HR instead.
        range_guard: how SR values outside [0, 1], which the AE was not trained on, reach it.
            `none`: unchanged (published). `clamp`: the AE gets the clamped SR, and the plain distance of the clipped part is
            added, so that the gradient still pulls such pixels back. `normalize`: one affine map per image brings SR and HR
            into [0, 1], and the distance is mapped back.
    """

    def __init__(
        self,
        autoencoder: nn.Module,
        criterion: str = "l1",
        reduction: str = "mean",
        as_loss_map: bool = False,
        range_guard: str = "none",
    ):
        if range_guard not in ("none", "clamp", "normalize"):
            raise ValueError(f"AESOPLoss: range_guard must be none, clamp or normalize, found {range_guard!r}")
        super().__init__(autoencoder, criterion, reduction)
        self.as_loss_map, self.range_guard = as_loss_map, range_guard
        self.in_bf16: nn.Module | None = None

    def use_bf16(self) -> None:
        """Run the convolutions of the RRDBs in bfloat16. The residual stream and all other layers stay in float32.

        The loss is a small difference of large numbers: with every layer in bfloat16 its gradient at a GAN's output has a
        cosine of 0.78 with the float32 one, in this way 0.98 (docs/decisions.md). What `autoencoder` becomes later has no
        effect.
        """
        converted = copy.deepcopy(self.autoencoder)  # validation measures with the other
        for block in rrdbs(converted):
            in_bf16(block)
        self.in_bf16 = converted

    def distance(self, sr: Tensor, hr: Tensor, weight: Tensor | None) -> Tensor:
        excess, span, ae_sr, ae_hr = 0.0, 1.0, sr, hr
        if self.range_guard == "clamp":
            # Not sr.clamp(0, 1): newer versions of PyTorch give it a zero gradient at exactly 0 and 1.
            ae_sr = torch.where((sr < 0) | (sr > 1), sr.detach().clamp(0, 1), sr)
            excess = (sr - ae_sr).abs()
        elif self.range_guard == "normalize":
            low = sr.detach().amin((1, 2, 3), keepdim=True).clamp(max=0)
            span = sr.detach().amax((1, 2, 3), keepdim=True).clamp(min=1) - low
            ae_sr, ae_hr = (sr - low) / span, (hr - low) / span
        autoencoder = self.autoencoder if self.in_bf16 is None else self.in_bf16
        with torch.no_grad():
            target = autoencoder(ae_hr)
        estimate = autoencoder(ae_sr)
        if self.as_loss_map:
            loss_map = (estimate - target).abs() * span + excess
            return self.pixel(sr, hr, loss_map if weight is None else loss_map * weight)
        return weighted_reduce(self.pixel.distance(estimate * span, target * span) + excess, weight, self.pixel.reduction)


class BottleneckLoss(FrozenAutoEncoderLoss):
    """The distance of SR and HR at the bottleneck (published `AutoEncoderBottleneckLoss`). A weight has its size."""

    def distance(self, sr: Tensor, hr: Tensor, weight: Tensor | None) -> Tensor:
        with torch.no_grad():
            target = self.autoencoder.encode(hr)
        return self.pixel(self.autoencoder.encode(sr), target, weight)


def laplace_kl(p_mean: Tensor, p_scale: Tensor, q_mean: Tensor, q_scale: Tensor) -> Tensor:
    """KL(P || Q) of two Laplacians, elementwise, as published: an upper bound that is exact for equal means."""
    return torch.log(q_scale / p_scale) + (p_scale + (p_mean - q_mean).abs()) / q_scale - 1


class LaplaceKLLoss(FrozenAutoEncoderLoss):
    """KL divergence of the Laplacians that a ProbabilisticAutoEncoder predicts for SR and HR, averaged.

    Published as `ProbabilisticAutoEncoderReverseKLDivergenceLoss`. The scale is twice the AE's sigma, clamped at 1e-6.
    `criterion`: `reverse` is KL(SR || HR), `forward` KL(HR || SR).
    """

    def __init__(self, autoencoder: nn.Module, criterion: str = "reverse"):
        if not isinstance(autoencoder, ProbabilisticAutoEncoder):
            raise WeightsError(
                f"LaplaceKLLoss needs a ProbabilisticAutoEncoder, found {type(autoencoder).__name__}: train one with "
                "network_g.type ProbabilisticAutoEncoder_RRDBNet, or use AESOPLoss"
            )
        super().__init__(autoencoder)
        self.criterion = criterion

    def laplacian(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale, both in the images' shape."""
        mean, sigma = self.autoencoder(images, return_sigma=True)
        return mean, 2 * sigma.clamp_min(1e-6)

    def distance(self, sr: Tensor, hr: Tensor, weight: Tensor | None) -> Tensor:
        with torch.no_grad():
            target = self.laplacian(hr)
        estimate = self.laplacian(sr)
        p, q = (estimate, target) if self.criterion == "reverse" else (target, estimate)
        return weighted_reduce(laplace_kl(*p, *q), weight)

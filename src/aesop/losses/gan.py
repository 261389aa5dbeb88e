"""GAN losses on logits, plain and relativistic average (ESRGAN, section 3.2)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aesop.losses.loss_term import LossOptions
from aesop.system.distributed import World, mean_of_all
from aesop.system.option_types import Weight


class GANOptions(LossOptions):
    log_name: ClassVar[str] = "gan"
    stages: ClassVar[tuple[str, ...]] = ("adversarial",)

    type: Literal["GANLoss"] = "GANLoss"
    """The loss's published name."""
    gan_type: Literal["vanilla", "lsgan", "wgan", "wgan_softplus", "hinge"] = "vanilla"
    """The objective; vanilla is binary cross-entropy."""
    real_label_val: float = 1.0
    """Target of real images (vanilla, lsgan)."""
    fake_label_val: float = 0.0
    """Target of generated images (vanilla, lsgan)."""
    loss_weight: Weight = 5e-3
    """Weight in the generator's loss; the discriminator's is never scaled."""
    relativistic: bool = True
    """Relativistic average GAN (published synthetic recipe) or the plain one (real-world recipe)."""

    @property
    def inputs(self) -> tuple[str, ...]:  # ty: ignore[incompatible-property-override]
        return ("fake", "real") if self.relativistic else ("fake",)

    def build(self, scale: int, world: World) -> Callable[..., Tensor]:
        return self.objective(world).generator

    def objective(self, world: World) -> "GANLoss":
        """What the generator and the discriminator minimise."""
        return GANLoss(self.gan_type, self.real_label_val, self.fake_label_val, partial(mean_of_all, world))


@dataclass
class GANLoss:
    """Logits of any shape -> scalar. `is_disc` affects hinge only, whose generator term is -mean(logits)."""

    gan_type: str = "vanilla"
    real_label_val: float = 1.0
    fake_label_val: float = 0.0
    mean: Callable[[Tensor], Tensor] = torch.mean
    """What the relativistic form compares with, over the logits of all processes."""

    def __call__(self, logits: Tensor, target_is_real: bool, is_disc: bool = False) -> Tensor:
        sign = -1.0 if target_is_real else 1.0
        if self.gan_type == "wgan":
            return sign * logits.mean()
        if self.gan_type == "wgan_softplus":
            return F.softplus(sign * logits).mean()
        if self.gan_type == "hinge":
            return F.relu(1 + sign * logits).mean() if is_disc else -logits.mean()
        target = logits.new_full((), self.real_label_val if target_is_real else self.fake_label_val).expand_as(logits)
        if self.gan_type == "lsgan":
            return F.mse_loss(logits, target)
        return F.binary_cross_entropy_with_logits(logits, target)

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """The generator's term: plain without `real`, relativistic average with it. `real` is detached here."""
        if real is None:
            return self(fake, True)
        real = real.detach()
        return (self(real - self.mean(fake), False) + self(fake - self.mean(real), True)) / 2

    def discriminator(self, real: Tensor, fake: Tensor, relativistic: bool) -> tuple[Tensor, Tensor]:
        """Its real and fake terms. As published, no gradient flows through the mean of the other side."""
        if not relativistic:
            return self(real, True, is_disc=True), self(fake, False, is_disc=True)
        real_term = self(real - self.mean(fake.detach()), True, is_disc=True)
        fake_term = self(fake - self.mean(real.detach()), False, is_disc=True)
        return 0.5 * real_term, 0.5 * fake_term

"""GAN losses on logits, plain and relativistic average (ESRGAN, section 3.2)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GAN_TYPES = ("vanilla", "lsgan", "wgan", "wgan_softplus", "hinge")


class GANLoss(nn.Module):
    """Logits of any shape -> scalar. `is_disc` matters to hinge only: its generator term is -mean(logits).

    Args:
        gan_type: vanilla (binary cross-entropy), lsgan, wgan, wgan_softplus or hinge.
        real_label_val, fake_label_val: targets of vanilla and lsgan.
        mean: logits -> scalar, the mean that the relativistic form compares with; several processes give that of all.
    """

    def __init__(
        self,
        gan_type: str = "vanilla",
        real_label_val: float = 1.0,
        fake_label_val: float = 0.0,
        mean: Callable[[Tensor], Tensor] = torch.mean,
    ):
        super().__init__()
        if gan_type not in GAN_TYPES:
            raise ValueError(f"gan_type must be one of {', '.join(GAN_TYPES)}, found {gan_type!r}")
        self.gan_type, self.real_label_val, self.fake_label_val = gan_type, real_label_val, fake_label_val
        self.mean = mean

    def forward(self, logits: Tensor, target_is_real: bool, is_disc: bool = False) -> Tensor:
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
        """The generator's term: plain without `real`; with it (detached here), the relativistic average one."""
        if real is None:
            return self(fake, True)
        real = real.detach()
        return (self(real - self.mean(fake), False) + self(fake - self.mean(real), True)) / 2

    def discriminator(self, real: Tensor, fake: Tensor, relativistic: bool) -> tuple[Tensor, Tensor]:
        """The discriminator's real and fake terms; their sum is what it minimises.

        In the relativistic form each term's mean of the other side carries no gradient, as published.
        """
        if not relativistic:
            return self(real, True, is_disc=True), self(fake, False, is_disc=True)
        real_term = self(real - self.mean(fake.detach()), True, is_disc=True)
        fake_term = self(fake - self.mean(real.detach()), False, is_disc=True)
        return 0.5 * real_term, 0.5 * fake_term

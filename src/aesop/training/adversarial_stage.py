"""The adversarial stage: AESOP (or pixel), perceptual, artifact and GAN losses (the published step, which is LDL's)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aesop.archs.frozen import Bf16Copy, without_inputs
from aesop.archs.gray import in_rgb
from aesop.options.training import TrainOptions
from aesop.system.device import autocast
from aesop.system.distributed import GradientExchange, synchronised
from aesop.training.optimizers import make_optimizer
from aesop.training.stage import Mean, Scalars, Stage, StepImages


class AdversarialStage(Stage):
    """Trains a generator and a discriminator in turn. The other arguments are those of `Stage`.

    It makes the images `sr` and `sr_ema` (the averaged generator's) and the logits `real` and `fake`. Each network runs only
    as often as the gradients need: D twice on HR and twice on SR, the averaged generator for the artifact loss alone.
    """

    log_prefix = "l_g_"

    def __init__(self, train: TrainOptions, net_g: nn.Module, net_d: nn.Module, *others: Any, **named: Any):
        super().__init__(train, net_g, *others, **named)
        assert train.gan_opt is not None
        self.gan, self.objective = train.gan_opt, train.gan_opt.objective(self.world)
        self.net_d = without_inputs(synchronised(self.world, net_d)).to(self.world.device).train()
        self.networks["net_d"] = self.net_d
        self.optimizers["optimizer_d"] = make_optimizer(train.optim_d, self.net_d)
        self.exchanges["optimizer_d"] = GradientExchange(self.world, self.net_d, train.gradient_compression)
        self.hr_of_d = "gt_usm" if train.gan_gt_usm else "gt"
        needs_average = any("sr_ema" in term.inputs for term in self.terms.values())
        self.ema_in_bf16 = Bf16Copy(self.network_for_use) if self.in_bf16 and needs_average else None
        self.copies += [self.ema_in_bf16.copy] if self.ema_in_bf16 is not None else []

    def update_networks(self, batch: Mapping[str, Tensor], iteration: int) -> Scalars:
        accumulate, scalars, made = self.options.accumulate, Mean(self.options.accumulate), []
        updates_g = iteration % self.options.net_d_iters == 0 and iteration > self.options.net_d_init_iters
        if self.ema_in_bf16 is not None and updates_g:
            self.ema_in_bf16.update()
        self.optimizers["optimizer_g"].zero_grad()
        self.net_d.requires_grad_(False)
        for images in self.parts(batch):
            with torch.set_grad_enabled(updates_g):
                sr = images["sr"]
            if updates_g:
                self.backward(images, scalars)
            made.append(sr.detach())
        if updates_g:
            self.update("optimizer_g", self.net_g, scalars)

        self.net_d.requires_grad_(True)
        self.optimizers["optimizer_d"].zero_grad()
        for sr, images in zip(made, self.parts(batch), strict=True):
            loss = self.discriminator_loss(sr, images[self.hr_of_d], scalars) / accumulate
            if images.last:
                self.exchanges["optimizer_d"].start()
            loss.backward()
        self.update("optimizer_d", self.net_d, scalars)
        return scalars.values

    def make_image(self, name: str, images: StepImages) -> Tensor:
        if name == "fake":
            if self.gan.relativistic:
                _ = images["real"]  # as published, D sees HR first: its batch and spectral norms depend on the order
            return self.run(self.net_d, images["sr"])
        if name not in ("sr_ema", "real"):
            return super().make_image(name, images)
        with torch.no_grad():
            if name == "real":
                return self.run(self.net_d, images[self.hr_of_d])
            average = self.network_for_use if self.ema_in_bf16 is None else self.ema_in_bf16.copy
            return in_rgb(self.run(average, images["lq"]))

    def discriminator_loss(self, sr: Tensor, gt: Tensor, scalars: Mean) -> Tensor:
        if self.options.net_d_published_passes and self.gan.relativistic:
            with torch.no_grad():
                self.run(self.net_d, sr)
        with autocast(self.world.device, self.precision):  # weights without spectral norm are cast once for both
            real, fake = self.run(self.net_d, gt), self.run(self.net_d, sr)
        real_term, fake_term = self.objective.discriminator(real, fake, self.gan.relativistic)
        scalars.add("out_d_real", real.mean())
        scalars.add("out_d_fake", fake.mean())
        return scalars.add("l_d_real", real_term) + scalars.add("l_d_fake", fake_term)

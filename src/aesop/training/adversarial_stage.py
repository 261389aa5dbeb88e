"""The adversarial stage: AESOP (or pixel), perceptual, artifact and GAN losses (the published step, which is LDL's)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from aesop.options.training import TrainOptions
from aesop.system.distributed import World, synchronised
from aesop.training.optimizers import make_optimizer
from aesop.training.stage import Losses, Mean, Scalars, Stage, StepImages


class AdversarialStage(Stage):
    """Trains a generator and a discriminator in turn.

    It makes the images `sr` and `sr_ema` (the averaged generator's) and the logits `real` and `fake`. Each network runs only
    as often as the gradients need: D twice on HR and twice on SR, the averaged generator for the artifact loss alone.
    """

    log_prefix = "l_g_"

    def __init__(
        self,
        train: TrainOptions,
        net_g: nn.Module,
        net_d: nn.Module,
        world: World | None = None,
        precision: str = "fp32",
        losses: Losses | None = None,
    ):
        super().__init__(train, net_g, world, precision, losses)
        assert train.gan_opt is not None
        self.gan, self.objective = train.gan_opt, train.gan_opt.objective(self.world)
        self.net_d = synchronised(self.world, net_d).to(self.world.device).train()
        self.optimizers["optimizer_d"] = make_optimizer(train.optim_d, self.net_d)
        self.hr_of_d = "gt_usm" if train.gan_gt_usm else "gt"

    @property
    def networks(self) -> dict[str, nn.Module]:
        return super().networks | {"net_d": self.net_d}

    @property
    def wants_sharpened(self) -> bool:
        return super().wants_sharpened or self.options.gan_gt_usm

    def updates_generator(self, iteration: int) -> bool:
        return iteration % self.options.net_d_iters == 0 and iteration > self.options.net_d_init_iters

    def update_networks(self, batch: Mapping[str, Tensor], iteration: int) -> Scalars:
        accumulate, scalars, made = self.options.accumulate, Mean(self.options.accumulate), []
        updates_g = self.updates_generator(iteration)
        self.optimizers["optimizer_g"].zero_grad()
        self.net_d.requires_grad_(False)
        for images in self.parts(batch):
            with torch.set_grad_enabled(updates_g):
                sr = images["sr"]
            if updates_g:
                (self.total_loss(images, scalars) / accumulate).backward()
            made.append(sr.detach())
        if updates_g:
            self.update("optimizer_g", self.net_g, scalars)

        self.net_d.requires_grad_(True)
        self.optimizers["optimizer_d"].zero_grad()
        for sr, images in zip(made, self.parts(batch), strict=True):
            (self.discriminator_loss(sr, images[self.hr_of_d], scalars) / accumulate).backward()
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
            assert self.net_g_ema is not None, "the options are checked for it"
            return self.run(self.net_g_ema, images["lq"])

    def discriminator_loss(self, sr: Tensor, gt: Tensor, scalars: Mean) -> Tensor:
        if self.options.net_d_published_passes and self.gan.relativistic:
            with torch.no_grad():
                self.run(self.net_d, sr)
        real, fake = self.run(self.net_d, gt), self.run(self.net_d, sr)
        real_term, fake_term = self.objective.discriminator(real, fake, self.gan.relativistic)
        scalars.add("out_d_real", real.mean())
        scalars.add("out_d_fake", fake.mean())
        return scalars.add("l_d_real", real_term) + scalars.add("l_d_fake", fake_term)

"""The three training stages: psnr, autoencoder, adversarial. Each owns its networks and optimisers and does one step.

A step gets float images in [0, 1] on the device, updates everything (EMA last) and returns detached scalars that stay on
the device until somebody prints them.
"""

import copy
import logging
from collections.abc import Hashable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from aesop.archs import AutoEncoder, build_network
from aesop.archs.autoencoder import NARROWEST_IN_COLOUR
from aesop.losses import (
    PIXEL_CRITERIA,
    AESOPLoss,
    ArtifactLoss,
    BottleneckLoss,
    GANLoss,
    LaplaceKLLoss,
    LRLoss,
    PerceptualLoss,
    PixelLoss,
)
from aesop.losses.aesop import FrozenAutoEncoderLoss
from aesop.options.config import PathOptions, TrainConfig
from aesop.options.losses import AesopOptions, PixelOptions
from aesop.options.training import OptimizerOptions, TrainOptions
from aesop.system.device import autocast
from aesop.system.distributed import World, average_gradients, mean_of_all, synchronised
from aesop.training.lr_schedule import ema_decay, learning_rate
from aesop.weights.errors import option_context
from aesop.weights.load import load_autoencoder, load_into
from aesop.weights.pretrained import find_pretrained
from aesop.weights.read import read_state_dict

log = logging.getLogger("aesop")
Scalars = dict[str, Tensor]


class Diverged(FloatingPointError):
    """Losses, gradients or weights are NaN or infinite, and not only for a step."""


class Stage:
    """What all stages share: generator, its EMA, its optimiser, learning rate, splitting of a batch."""

    def __init__(self, train: TrainOptions, net_g: nn.Module, world: World | None = None, precision: str = "fp32"):
        self.options = train
        self.world = world or World()
        self.precision = precision
        self.net_g = synchronised(self.world, net_g).to(self.world.device).train()
        self.net_g_ema = copy.deepcopy(self.net_g).eval().requires_grad_(False) if train.ema_decay > 0 else None
        self.optimizers = {"optimizer_g": make_optimizer(train.optim_g, self.net_g)}
        self.skipped = torch.zeros((), device=self.world.device)
        """1 where the last step passed over an update."""
        self.replayed: Any = None
        """Makes the steps with the option `cuda_graphs`."""

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Everything trained, under the names of its files."""
        return {"net_g": self.net_g} | ({"net_g_ema": self.net_g_ema} if self.net_g_ema is not None else {})

    @property
    def network_for_use(self) -> nn.Module:
        """The network to validate and publish: the averaged one where there is one."""
        return self.net_g if self.net_g_ema is None else self.net_g_ema

    def step(self, lq: Tensor, gt: Tensor, iteration: int, gt_usm: Tensor | None = None) -> Scalars:
        """One optimisation step on LR (N, 3, h, w) and HR (N, 3, H, W) images; `iteration` counts from 1.

        A network whose losses or gradients are NaN or infinite keeps its weights and moments, and all keep their BatchNorm's
        running statistics; `skipped` is then 1, on every process. The EMA goes on towards the weights that were kept.

        Args:
            gt_usm: the sharpened HR, which the options `*_gt_usm` choose for single losses.
        """
        make = self.whole_step if self.replayed is None else self.replayed
        scalars = make(lq, gt, iteration, gt_usm)
        self.update_ema(iteration)
        return scalars

    def whole_step(self, lq: Tensor, gt: Tensor, iteration: int, gt_usm: Tensor | None) -> Scalars:
        """The computation of `step` but for the EMA, whose decay changes. Nothing in it waits for the device or depends on
        values there."""
        statistics = list(self._statistics())
        kept = [tensor.clone() for tensor in statistics]
        self.skipped = torch.zeros_like(self.skipped)
        scalars = self._step(lq, gt, iteration, gt_usm)
        for tensor, former in zip(statistics, kept, strict=True):
            tensor.copy_(torch.where(self.skipped > 0, former, tensor))
        return scalars

    def _step(self, lq: Tensor, gt: Tensor, iteration: int, gt_usm: Tensor | None) -> Scalars:
        """Losses, gradients and updates of a step, as each stage makes them."""
        raise NotImplementedError

    def kind_of_step(self, iteration: int) -> Hashable:
        """Steps of one kind compute the same, on other numbers."""
        return None

    def _statistics(self) -> Iterator[Tensor]:
        """The running statistics of BatchNorm, which a forward pass alone changes."""
        for net in self.networks.values():
            for module in net.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                    assert module.running_var is not None
                    yield from (module.running_mean, module.running_var)

    @property
    def wants_sharpened(self) -> bool:
        """Whether some loss compares with `gt_usm`."""
        train = self.options
        return train.l1_gt_usm or train.percep_gt_usm or train.gan_gt_usm or train.aesop_gt_usm

    def enlarge(self, lq: Tensor, gt: Tensor) -> Tensor:
        """The generator's SR; that it has HR's size is not certain for a network that somebody else wrote."""
        sr = self.run(self.net_g, lq)
        if sr.shape != gt.shape:
            raise ValueError(
                f"network_g: {type(self.net_g).__name__} makes {tuple(sr.shape)} of LR images {tuple(lq.shape)}, but HR has "
                f"{tuple(gt.shape)}: check its enlargement and its number of channels"
            )
        return sr

    def refuse_broken_weights(self, iteration: int) -> None:
        """A network with NaN in it must not become the state that is continued from."""
        for name, net in self.networks.items():
            if not all(torch.isfinite(p).all() for p in net.parameters()):
                raise Diverged(f"{name} has NaN or infinite weights at iteration {iteration}")

    def set_learning_rate(self, iteration: int) -> float:
        """Of all optimisers, for this iteration; returns the generator's."""
        train = self.options
        rates = {}
        for name, optimizer in self.optimizers.items():
            base = (train.optim_g if name == "optimizer_g" else train.optim_d).lr
            rates[name] = learning_rate(train.scheduler, base, iteration, train.warmup_iter)
            for group in optimizer.param_groups:
                if isinstance(group["lr"], Tensor):  # where a recorded step reads it
                    group["lr"].fill_(rates[name])
                else:
                    group["lr"] = rates[name]
        return rates["optimizer_g"]

    def run(self, net: nn.Module, *images: Tensor, **options: Any) -> Any:
        """A network in the chosen precision, its output in float32: losses never see bfloat16."""
        with autocast(self.world.device, self.precision):
            result = net(*images, **options)
        return tuple(t.float() for t in result) if isinstance(result, tuple) else result.float()

    def parts(self, *images: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The batch in `accumulate` parts of equal size."""
        assert images[0].shape[0] % self.options.accumulate == 0, "Config checks that accumulate divides the batch"
        return zip(*(image.chunk(self.options.accumulate) for image in images), strict=True)

    def update(self, name: str, net: nn.Module, scalars: "Mean") -> None:
        """The optimiser's step, unless a loss or gradient is NaN or infinite. Nothing waits for the device."""
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        # 0 * NaN and 0 * inf are NaN: what is wrong with one process's losses reaches all with the gradients.
        gradients[0].add_(0 * torch.stack(list(scalars.values.values())).sum())
        average_gradients(self.world, net, self.options.gradient_compression)
        broken = torch.isfinite(torch.nn.utils.get_total_norm(gradients)).logical_not().float()
        self.skipped = torch.maximum(self.skipped, broken)
        # PyTorch's own way of passing over a step (torch.amp.GradScaler's); its MPS kernels do not know it.
        optimizer = self.optimizers[name]
        optimizer.found_inf = broken  # ty: ignore[missing-attribute]
        if broken.device.type != "mps" or not broken.item():
            optimizer.step()

    @torch.no_grad()
    def update_ema(self, iteration: int) -> None:
        """Parameters are averaged; buffers (BatchNorm statistics of some generators) follow."""
        if self.net_g_ema is not None:
            averaged: list[Tensor] = list(self.net_g_ema.parameters())
            current: list[Tensor] = list(self.net_g.parameters())
            decay = ema_decay(self.options, iteration)
            torch._foreach_mul_(averaged, decay)
            torch._foreach_add_(averaged, current, alpha=1 - decay)
            for ema, buffer in zip(self.net_g_ema.buffers(), self.net_g.buffers(), strict=True):
                ema.copy_(buffer)


class PSNRStage(Stage):
    """Pixel loss alone: the net every later stage starts from."""

    def __init__(self, train: TrainOptions, net_g: nn.Module, world: World | None = None, precision: str = "fp32"):
        super().__init__(train, net_g, world, precision)
        assert train.pixel_opt is not None
        self.pixel_loss, self.pixel_weight = make_pixel_loss(train.pixel_opt)

    def _step(self, lq: Tensor, gt: Tensor, iteration: int, gt_usm: Tensor | None) -> Scalars:
        self.optimizers["optimizer_g"].zero_grad()
        scalars = Mean(self.options.accumulate)
        target = gt_usm if self.options.l1_gt_usm and gt_usm is not None else gt
        for lq_part, gt_part in self.parts(lq, target):
            loss = scalars.add("l_pix", self.pixel_weight * self.pixel_loss(self.enlarge(lq_part, gt_part), gt_part))
            (loss / self.options.accumulate).backward()
        self.update("optimizer_g", self.net_g, scalars)
        return scalars.values


class AutoEncoderStage(Stage):
    """L1(AE(HR), HR), and optionally L1(bottleneck, LR) and L1(sigma, |AE(HR) - HR|) (published `AEModel`,
    `ProbabilisticAEModel`)."""

    net_g: AutoEncoder

    def __init__(self, train: TrainOptions, net_g: AutoEncoder, world: World | None = None, precision: str = "fp32"):
        super().__init__(train, net_g, world, precision)
        assert train.pixel_opt is not None
        self.pixel_loss, self.pixel_weight = make_pixel_loss(train.pixel_opt)
        self.lr_loss, self.lr_weight = make_pixel_loss(train.pixel_at_LR_opt) if train.pixel_at_LR_opt else (None, 0.0)
        self.sigma_loss, self.sigma_weight = make_pixel_loss(train.sigmabranch_opt) if train.sigmabranch_opt else (None, 0.0)

    def trains_decoder(self, iteration: int) -> bool:
        return self.options.freeze_decoder < iteration

    def kind_of_step(self, iteration: int) -> Hashable:
        return self.trains_decoder(iteration)

    def _step(self, lq: Tensor, gt: Tensor, iteration: int, gt_usm: Tensor | None) -> Scalars:
        # A frozen decoder gets no gradient, and the optimiser passes over parameters without one.
        self.net_g.decoder.requires_grad_(self.trains_decoder(iteration))
        self.optimizers["optimizer_g"].zero_grad()
        scalars = Mean(self.options.accumulate)
        for lq_part, gt_part in self.parts(lq, gt):
            wants_sigma = {"return_sigma": True} if self.sigma_loss is not None else {}
            image, bottleneck, *sigma = self.run(self.net_g, gt_part, return_bottleneck=True, **wants_sigma)
            loss = scalars.add("l_pix", self.pixel_weight * self.pixel_loss(image, gt_part))
            if self.lr_loss is not None:
                loss = loss + scalars.add("l_pix_at_LR", self.lr_weight * self.lr_loss(bottleneck, lq_part))
            if self.sigma_loss is not None:
                residual = (image.detach() - gt_part).abs()
                loss = loss + scalars.add("l_sigmabranch", self.sigma_weight * self.sigma_loss(sigma[0], residual))
            (loss / self.options.accumulate).backward()
        self.update("optimizer_g", self.net_g, scalars)
        return scalars.values


class AdversarialStage(Stage):
    """The GAN: AESOP (or pixel) + artifact + perceptual + GAN loss (the published step, which is LDL's).

    Each network runs as often as the gradients need: D twice on HR and twice on SR, the EMA generator only for the
    artifact loss, everything on HR without a graph.
    """

    def __init__(
        self,
        train: TrainOptions,
        net_g: nn.Module,
        net_d: nn.Module,
        autoencoder: nn.Module | None = None,
        world: World | None = None,
        precision: str = "fp32",
        vgg_trunk: dict[str, Tensor] | None = None,
    ):
        super().__init__(train, net_g, world, precision)
        assert train.gan_opt is not None
        device = self.world.device
        self.net_d = synchronised(self.world, net_d).to(device).train()
        self.optimizers["optimizer_d"] = make_optimizer(train.optim_d, self.net_d)
        self.gan = train.gan_opt
        self.gan_loss = GANLoss(
            self.gan.gan_type, self.gan.real_label_val, self.gan.fake_label_val, partial(mean_of_all, self.world)
        )
        self.pixel_loss, self.pixel_weight = make_pixel_loss(train.pixel_opt) if train.pixel_opt else (None, 0.0)
        self.aesop_loss = self.artifact_loss = self.perceptual_loss = None
        if (aesop := train.aesop_opt) is not None:
            assert autoencoder is not None, "aesop_opt needs the auto-encoder"
            self.aesop_loss = make_aesop_loss(aesop, autoencoder).to(device)
        if train.artifacts_opt is not None:
            self.artifact_loss = ArtifactLoss(reduction=train.artifacts_opt.reduction)
        if (percep := train.perceptual_opt) is not None:
            self.perceptual_loss = PerceptualLoss(**percep.model_dump(exclude={"type", "vgg_path"}))
            self.perceptual_loss.vgg.load_trunk(vgg_trunk or find_pretrained(percep.vgg_type, percep.vgg_path))
            self.perceptual_loss.to(device)

    @property
    def networks(self) -> dict[str, nn.Module]:
        return super().networks | {"net_d": self.net_d}

    def updates_generator(self, iteration: int) -> bool:
        return iteration % self.options.net_d_iters == 0 and iteration > self.options.net_d_init_iters

    def kind_of_step(self, iteration: int) -> Hashable:
        return self.updates_generator(iteration)

    def _step(self, lq: Tensor, gt: Tensor, iteration: int, gt_usm: Tensor | None) -> Scalars:
        scalars = Mean(self.options.accumulate)
        sharpened = gt if gt_usm is None else gt_usm
        seen_by_d = sharpened if self.options.gan_gt_usm else gt
        updates_g = self.updates_generator(iteration)
        self.optimizers["optimizer_g"].zero_grad()
        self.net_d.requires_grad_(False)
        fakes = []
        for lq_part, gt_part, usm_part in self.parts(lq, gt, sharpened):
            with torch.set_grad_enabled(updates_g):
                sr = self.enlarge(lq_part, gt_part)
            if updates_g:
                (self.generator_loss(sr, gt_part, usm_part, lq_part, scalars) / self.options.accumulate).backward()
            fakes.append(sr.detach())
        if updates_g:
            self.update("optimizer_g", self.net_g, scalars)

        self.net_d.requires_grad_(True)
        self.optimizers["optimizer_d"].zero_grad()
        for sr, (real_part,) in zip(fakes, self.parts(seen_by_d), strict=True):
            (self.discriminator_loss(sr, real_part, scalars) / self.options.accumulate).backward()
        self.update("optimizer_d", self.net_d, scalars)
        return scalars.values

    def generator_loss(self, sr: Tensor, gt: Tensor, gt_usm: Tensor, lq: Tensor, scalars: "Mean") -> Tensor:
        train = self.options
        pixel_gt, percep_gt, gan_gt, aesop_gt = (
            gt_usm if chosen else gt
            for chosen in (train.l1_gt_usm, train.percep_gt_usm, train.gan_gt_usm, train.aesop_gt_usm)
        )
        loss = sr.new_zeros(())
        with autocast(self.world.device, self.precision):
            if self.pixel_loss is not None:
                loss = loss + scalars.add("l_g_pix", self.pixel_weight * self.pixel_loss(sr, pixel_gt))
            if self.aesop_loss is not None and train.aesop_opt is not None:
                loss = loss + scalars.add("l_g_aesop", train.aesop_opt.loss_weight * self.aesop_loss(sr, aesop_gt))
            if self.perceptual_loss is not None:
                loss = loss + scalars.add("l_g_percep", self.perceptual_loss(sr, percep_gt))
        if self.artifact_loss is not None and train.artifacts_opt is not None:
            assert self.net_g_ema is not None
            with torch.no_grad():
                sr_ema = self.run(self.net_g_ema, lq)
            artifacts = train.artifacts_opt.loss_weight * self.artifact_loss(sr, gt, sr_ema)
            loss = loss + scalars.add("l_g_artifacts", artifacts)
        real = None
        if self.gan.relativistic:
            with torch.no_grad():
                real = self.run(self.net_d, gan_gt)
        fake = self.run(self.net_d, sr)
        return loss + scalars.add("l_g_gan", self.gan.loss_weight * self.gan_loss.generator(fake, real))

    def discriminator_loss(self, sr: Tensor, gt: Tensor, scalars: "Mean") -> Tensor:
        if self.options.net_d_published_passes and self.gan.relativistic:
            with torch.no_grad():
                self.run(self.net_d, sr)
        real, fake = self.run(self.net_d, gt), self.run(self.net_d, sr)
        real_term, fake_term = self.gan_loss.discriminator(real, fake, self.gan.relativistic)
        scalars.add("out_d_real", real.mean())
        scalars.add("out_d_fake", fake.mean())
        return scalars.add("l_d_real", real_term) + scalars.add("l_d_fake", fake_term)


class Mean:
    """Scalars of a step, averaged over the parts of its batch, kept on the device."""

    def __init__(self, parts: int):
        self.parts = parts
        self.values: Scalars = {}

    def add(self, name: str, value: Tensor) -> Tensor:
        share = value.detach() / self.parts
        self.values[name] = self.values[name] + share if name in self.values else share
        return value


def make_optimizer(options: OptimizerOptions, net: nn.Module) -> torch.optim.Optimizer:
    kind = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[options.type]
    return kind(net.parameters(), lr=options.lr, betas=options.betas, weight_decay=options.weight_decay, fused=True)


def make_pixel_loss(options: PixelOptions) -> tuple[PixelLoss, float]:
    if options.type == "LRL1Loss":
        return LRLoss(options.scale or 4, "l1", options.reduction), options.loss_weight
    return PixelLoss(PIXEL_CRITERIA[options.type], options.reduction), options.loss_weight


def make_aesop_loss(options: AesopOptions, autoencoder: nn.Module) -> FrozenAutoEncoderLoss:
    if options.type == "AutoEncoderLoss":
        return AESOPLoss(autoencoder, options.criterion, options.reduction, options.as_loss_map, options.range_guard)
    if options.type == "AutoEncoderBottleneckLoss":
        assert isinstance(autoencoder, AutoEncoder), "load_autoencoder gives one"
        return BottleneckLoss(autoencoder, options.criterion, options.reduction)
    try:
        return LaplaceKLLoss(autoencoder, options.criterion)
    except ValueError as error:
        raise ValueError(f"train.aesop_opt.autoencoder_load: {error}") from error


def build_stage(config: TrainConfig, world: World) -> Stage:
    """The stage an option file asks for: networks with fresh weights from the seed, then the files it starts from.

    Raises:
        WeightsError, WeightsNotFound: naming the file that is missing or does not fit.
    """
    torch.manual_seed(config.manual_seed)
    net_g = build_network(config.network_g.model_dump())
    path = config.path
    if isinstance(net_g, AutoEncoder):
        _start_from(path, "decoder", net_g.decoder)
        if net_g.colour_channels < 3:
            log.warning(
                "network_g: this auto-encoder's encoder has only %d channels for 3 colours and will lose one; set "
                "network_g.enc_opt.num_feat to at least %d",
                net_g.colour_channels,
                NARROWEST_IN_COLOUR,
            )
    _start_from(path, "g", net_g)
    if config.stage == "psnr":
        return PSNRStage(config.train, net_g, world, config.precision)
    if config.stage == "autoencoder":
        assert isinstance(net_g, AutoEncoder)
        return AutoEncoderStage(config.train, net_g, world, config.precision)

    assert config.network_d is not None
    net_d = build_network(config.network_d.model_dump())
    _start_from(path, "d", net_d)
    autoencoder = _load_autoencoder(config)
    return AdversarialStage(config.train, net_g, net_d, autoencoder, world, config.precision)


def _start_from(path: PathOptions, which: str, net: nn.Module) -> None:
    """Load `path.pretrain_network_<which>` where it is given."""
    file = getattr(path, f"pretrain_network_{which}")
    if file:
        with option_context(f"path.pretrain_network_{which}"):
            state, _ = read_state_dict(file, getattr(path, f"param_key_{which}"))
            load_into(net, state, file, getattr(path, f"strict_load_{which}"))


def _load_autoencoder(config: TrainConfig) -> AutoEncoder | None:
    options = config.train.aesop_opt
    if options is None or options.autoencoder_load is None:
        return None
    source = options.autoencoder_load
    with option_context("train.aesop_opt.autoencoder_load"):
        autoencoder = load_autoencoder(source.path, source.key)
    if autoencoder.scale != config.scale:
        raise ValueError(
            f"train.aesop_opt.autoencoder_load: {source.path} is an auto-encoder of scale {autoencoder.scale}, but this "
            f"file trains scale {config.scale}; train an auto-encoder of that scale"
        )
    return autoencoder

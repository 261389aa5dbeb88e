"""Readings of a training, every so many iterations: what each loss asks of the generator, and what comes of it.

A reading is a pass of its own over a part of the step's images, after the step. It changes nothing: weights are the same,
bit for bit, with readings and without. docs/how-to/diagnose.md lists the values.
"""

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from itertools import combinations

import torch
from torch import Tensor, nn

from aesop.archs.autoencoder import AutoEncoder
from aesop.archs.gray import in_gray, in_rgb, is_gray
from aesop.data.degradation.operations import usm_sharpen
from aesop.data.wrong_pairs import UNLIKE
from aesop.images.resize import imresize
from aesop.losses.aesop import FrozenAutoEncoderLoss, load_for_scale
from aesop.losses.gan import GANLoss
from aesop.losses.loss_term import LossTerm
from aesop.options.config import TrainConfig
from aesop.system.device import is_out_of_memory
from aesop.system.distributed import World, unsynchronised
from aesop.training.acceleration import for_any_size
from aesop.training.adversarial_stage import AdversarialStage
from aesop.training.image_readings import (
    checkerboard,
    colour_kept,
    colour_probe,
    detail,
    likeness,
    lr_fit,
    psnr,
    reduced,
    split_of_the_error,
)
from aesop.training.stage import Scalars, Stage, StepImages
from aesop.weights.errors import option_context

log = logging.getLogger("aesop")
SAMPLED = 2048  # weights of a tensor whose movement is read
Sample = list[Tensor]
CONFIDENT = 4.6  # logit at which the gradient of binary cross-entropy is 1 % of its largest


class Readings:
    """Reads the networks of a stage every `logger.readings_freq` iterations.

    `before` and `after` stand around the step. With several processes, the main one reads its own images.

    Raises:
        ValueError, FileNotFoundError: the auto-encoder of path.autoencoder_for_readings cannot be used.
    """

    def __init__(self, config: TrainConfig, stage: Stage):
        self.config, self.stage, self.scale = config, stage, config.scale
        self.every = config.logger.readings_freq if stage.world.is_main else 0
        self.terms = {name: _of_this_process(term) for name, term in stage.terms.items()}
        self.names = {name: term.name.removeprefix(stage.log_prefix) for name, term in self.terms.items()}
        self.autoencoder = self._autoencoder() if self.every else None
        self.weights: dict[str, Sample] = {}
        self.colour_of_frozen: Scalars = {}  # read once: the auto-encoder does not change

    def _autoencoder(self) -> nn.Module | None:
        """The AESOP loss's auto-encoder, or the one that is given for reading."""
        if file := self.config.path.autoencoder_for_readings:
            with option_context("path.autoencoder_for_readings"):
                return load_for_scale(file, self.scale).to(self.stage.world.device).eval()
        aesop = self.terms.get("aesop_opt")
        return aesop.loss.autoencoder if aesop and isinstance(aesop.loss, FrozenAutoEncoderLoss) else None

    def is_due(self, iteration: int) -> bool:
        return self.every > 0 and iteration % self.every == 0

    def before(self, iteration: int) -> None:
        """Remember some weights, if a reading is due after this step."""
        if self.is_due(iteration):
            self.weights = {name: _sample(net) for name, net in self._trained(iteration).items()}

    def after(self, iteration: int, lq: Tensor, gt: Tensor) -> dict[str, float]:
        """The values of a reading by their names, `read/...`; none if none is due. Images are those of the step."""
        if not self.is_due(iteration):
            return {}
        try:
            values = self._read(iteration, lq, gt)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            log.warning("a reading does not fit into memory: this run goes on without (logger.readings_freq: 0)")
            self.every = 0
            return {}
        numbers = torch.stack([value.detach().float().to(self.stage.world.device) for value in values.values()])
        return {f"read/{name}": value for name, value in zip(values, numbers.tolist(), strict=True)}

    def _trained(self, iteration: int) -> dict[str, nn.Module]:
        """The networks that this step updates, as `g` and `d`."""
        nets, train = {"g": self.stage.net_g}, self.config.train
        if isinstance(self.stage, AdversarialStage):
            nets["d"] = self.stage.net_d
            if iteration % train.net_d_iters or iteration <= train.net_d_init_iters:
                del nets["g"]
        return nets

    def _read(self, iteration: int, lq: Tensor, gt: Tensor) -> Scalars:
        stage, values = self.stage, {}
        for name, net in self._trained(iteration).items():
            now, then = _sample(net), self.weights.pop(name)
            moved = [n for n, parameter in enumerate(net.parameters()) if parameter.requires_grad]
            values[f"update/{name}"] = _relative_distance([now[n] for n in moved], [then[n] for n in moved])
        if stage.net_g_ema is not None:
            values["ema/distance"] = _relative_distance(_sample(stage.net_g_ema), _sample(stage.net_g))
        with _left_alone(stage), for_any_size(self.config):
            images = StepImages(self._part(lq, gt), stage.make_image)
            values |= self._gradients(images)
            with torch.no_grad():
                values |= self._discriminator(images)
                values |= self._images(images)
        return values

    def _part(self, lq: Tensor, gt: Tensor) -> dict[str, Tensor]:
        """A quarter of what the step computes at once, but two images where there are."""
        at_once = len(gt) // self.config.train.accumulate
        count = max(min(2, at_once), at_once // 4)
        lq, gt = lq[:count], in_gray(gt[:count]) if is_gray(self.stage.net_g) else gt[:count]
        return {"lq": lq, "gt": gt, "gt_usm": usm_sharpen(gt) if self.stage.wants_sharpened else gt}

    def _gradients(self, images: StepImages) -> Scalars:
        """Norms of each weighted loss's gradient at SR and in the generator's weights, and the cosines between losses."""
        stage = self.stage
        trained = [parameter for parameter in stage.net_g.parameters() if parameter.requires_grad]
        at_sr: dict[str, list[Tensor]] = {}
        in_weights: dict[str, list[Tensor]] = {}
        _ = images["sr"]
        for option, term in self.terms.items():
            loss = stage.weighted_loss(term, images)
            if loss.requires_grad:
                leaves = [name for name in images.outputs if images[name].requires_grad]
                gradients = torch.autograd.grad(loss, [images[name] for name in leaves], allow_unused=True)
                reached = {name: each for name, each in zip(leaves, gradients, strict=True) if each is not None}
                del loss
                images.forget()
                if "sr" in reached:
                    at_sr[self.names[option]] = [reached["sr"]]
                through = torch.autograd.grad(
                    [images.outputs[name] for name in reached],
                    trained,
                    list(reached.values()),
                    retain_graph=True,
                    allow_unused=True,
                )
                in_weights[self.names[option]] = [
                    torch.zeros_like(p) if each is None else each for each, p in zip(through, trained, strict=True)
                ]
            images.forget()
        images.outputs.clear()  # the generator's graph
        return _norms_and_cosines("sr", at_sr) | _norms_and_cosines("weights", in_weights)

    def _discriminator(self, images: StepImages) -> Scalars:
        """How well the discriminator tells the step's images apart, after the step."""
        if not isinstance(self.stage, AdversarialStage):
            return {}
        gan, objective = self.stage.gan, _objective(self.config)
        real, fake = images["real"], images["fake"]
        # Logits as the objective sees them: how far on the right side they are.
        right = [real - fake.mean(), real.mean() - fake] if gan.relativistic else [real, -fake]
        if gan.gan_type == "lsgan":
            middle = (gan.real_label_val + gan.fake_label_val) / 2
            right = right if gan.relativistic else [real - middle, middle - fake]
        margins = torch.cat([margin.flatten() for margin in right])
        values = {"gap": real.mean() - fake.mean(), "accuracy": (margins > 0).float().mean()}
        limit = {"vanilla": CONFIDENT, "wgan_softplus": CONFIDENT, "hinge": 1.0}.get(gan.gan_type)
        if limit is not None:
            values["saturation"] = (margins > limit).float().mean()
        if gan.gan_type != "wgan":  # whose loss has no scale
            blind = torch.zeros_like(real[:1])
            if gan.gan_type == "lsgan" and not gan.relativistic:
                blind = blind + (gan.real_label_val + gan.fake_label_val) / 2
            by_chance = torch.stack(objective.discriminator(blind, blind, gan.relativistic)).sum()
            values["loss"] = torch.stack(objective.discriminator(real, fake, gan.relativistic)).sum() / by_chance
        return {f"d/{name}": value for name, value in values.items()}

    def _images(self, images: StepImages) -> Scalars:
        stage, scale = self.stage, self.scale
        lq, hr, sr = images["lq"], images["gt"], images["sr"].detach()
        values = {f"colour/{name}": (sr - hr)[:, channel].mean() for channel, name in enumerate("rgb")}
        values |= {"psnr": psnr(sr, hr), "detail": detail(sr, hr), "checkerboard": checkerboard(sr, hr, scale)}
        if scale > 1:
            values["gain"] = values["psnr"] - psnr(imresize(lq, scale), hr)
        if self.config.degradation is None:
            values["wrong_pairs"] = (likeness(lq, hr, scale) < UNLIKE).float().mean()
        if stage.net_g_ema is not None:
            average = self._run(stage.net_g_ema, images)
            values |= {"ema/psnr": psnr(average, hr), "ema/detail": detail(average, hr)}
        if isinstance(stage.net_g, AutoEncoder):
            values |= self._fit(hr, sr, images["bottleneck"].detach(), lq) | self._colour(stage.net_g)
        if self.autoencoder is not None:
            ae_hr, bottleneck = self.autoencoder(hr, return_bottleneck=True)
            values |= split_of_the_error(sr, hr, self.autoencoder(sr), ae_hr)
            if not isinstance(stage.net_g, AutoEncoder):
                self.colour_of_frozen = self.colour_of_frozen or self._colour(self.autoencoder)
                values |= self._fit(hr, ae_hr, bottleneck, lq) | self.colour_of_frozen
        return values

    def _run(self, net: nn.Module, images: StepImages) -> Tensor:
        return in_rgb(self.stage.run(net, images["gt" if isinstance(net, AutoEncoder) else "lq"]))

    def _colour(self, autoencoder: nn.Module) -> Scalars:
        """How much an auto-encoder keeps of each colour."""
        if is_gray(autoencoder):
            return {}
        probe = colour_probe(self.scale).to(self.stage.world.device)
        return {"ae/colour": colour_kept(probe, autoencoder(probe))}

    def _fit(self, hr: Tensor, ae_hr: Tensor, bottleneck: Tensor, lq: Tensor) -> Scalars:
        """How well an auto-encoder reproduces HR, and whether its bottleneck is the training's LR image."""
        lr = lq if self.config.degradation is None else reduced(hr, self.scale)
        values = {"psnr": psnr(ae_hr, hr)}
        if bottleneck.shape == lr.shape:
            values |= {f"lr_{name}": value for name, value in lr_fit(bottleneck, lr).items()}
        return {f"ae/{name}": value for name, value in values.items()}


def _objective(config: TrainConfig) -> GANLoss:
    """The GAN's objective over the images of this process alone."""
    assert config.train.gan_opt is not None
    return config.train.gan_opt.objective(World())


def _of_this_process(term: LossTerm) -> LossTerm:
    """The term without what waits for other processes."""
    objective = getattr(term.loss, "__self__", None)
    if isinstance(objective, GANLoss):
        alone = GANLoss(objective.gan_type, objective.real_label_val, objective.fake_label_val)
        return LossTerm(term.name, term.weight, term.inputs, alone.generator)
    return term


@contextmanager
def _left_alone(stage: Stage) -> Generator[None]:
    """Put back what passes of networks change: statistics and other buffers, random numbers, what requires a gradient.

    The step's gradients are dropped, which the next step would do.
    """
    device = stage.world.device
    buffers = [buffer for net in stage.networks.values() for buffer in net.buffers()]
    before = [buffer.clone() for buffer in buffers]
    for optimizer in stage.optimizers.values():
        optimizer.zero_grad()
    parameters = list(stage.net_d.parameters()) if isinstance(stage, AdversarialStage) else []
    required = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        with unsynchronised(stage.networks.values()), torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        with torch.no_grad():
            for buffer, former in zip(buffers, before, strict=True):
                buffer.copy_(former)
        for parameter, requires in zip(parameters, required, strict=True):
            parameter.requires_grad_(requires)


@torch.no_grad()
def _sample(net: nn.Module) -> Sample:
    """Evenly spread weights of each parameter, enlarged to the norm of all of them."""
    spread = [p.flatten()[:: -(-p.numel() // SAMPLED)] for p in net.parameters()]
    return [some * (p.numel() / some.numel()) ** 0.5 for some, p in zip(spread, net.parameters(), strict=True)]


def _relative_distance(now: Sample, then: Sample) -> Tensor:
    """|now - then| / |then|."""
    distance = torch.stack([(a - b).square().sum() for a, b in zip(now, then, strict=True)]).sum()
    return (distance / torch.stack([b.square().sum() for b in then]).sum().clamp_min(1e-24)).sqrt()


def _norms_and_cosines(where: str, gradients: Mapping[str, list[Tensor]]) -> Scalars:
    """`<where>/<loss>`: the norm of each gradient; `<where>_cos/<loss>+<loss>`: the cosine of each pair."""

    def product(a: list[Tensor], b: list[Tensor]) -> Tensor:
        return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()

    norms = {name: product(each, each).sqrt() for name, each in gradients.items()}
    values = {f"{where}/{name}": norm for name, norm in norms.items()}
    for a, b in combinations(gradients, 2):
        cosine = product(gradients[a], gradients[b]) / (norms[a] * norms[b]).clamp_min(1e-30)
        values[f"{where}_cos/{a}+{b}"] = cosine
    return values

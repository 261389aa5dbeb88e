"""The psnr stage, and what all stages share: the generator and its average, losses, optimizers, the training step."""

import copy
import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from aesop.archs.gray import in_gray, in_rgb, is_gray, seen_by
from aesop.data.degradation.operations import usm_sharpen
from aesop.losses import build_losses, loss_terms
from aesop.losses.loss_term import LossTerm
from aesop.options.training import TrainOptions
from aesop.system.device import autocast, uses_bf16
from aesop.system.distributed import GradientExchange, World, synchronised
from aesop.training.ema import ema_decay, update_ema
from aesop.training.lr_schedule import learning_rate
from aesop.training.optimizers import make_optimizer
from aesop.training.skipped_steps import step_unless_broken

BATCH_NORM = nn.modules.batchnorm._BatchNorm
Scalars = dict[str, Tensor]
Losses = Mapping[str, Callable[..., Tensor]] | None


class StepImages(dict[str, Tensor]):
    """The images of a step, (N, 3, height, width) in [0, 1], and what else its losses compare, by name.

    Given are `lq`, `gt` and `gt_usm` (sharpened). A stage makes the others (`sr`, `sr_ema` ...) when a loss first asks.
    Losses see the generator's outputs as leaves, at which their gradients add up until `backward` goes on from there.
    """

    def __init__(self, given: Mapping[str, Tensor], make: Callable[[str, "StepImages"], Tensor], last: bool = True):
        super().__init__(given)
        self.make, self.last = make, last  # whether no other part of the batch follows
        self.outputs: dict[str, Tensor] = {}

    def __missing__(self, name: str) -> Tensor:
        self[name] = self.make(name, self)
        return self[name]

    def output(self, name: str, image: Tensor) -> Tensor:
        """Add an output of the generator; returns what losses see of it."""
        self.outputs[name] = image
        self[name] = image.detach().requires_grad_(image.requires_grad)
        return self[name]

    def forget(self) -> None:
        """Drop what was made from outputs, such as D's logits: the graph behind it ends with the loss that asked for it."""
        for name in [name for name, image in self.items() if image.grad_fn is not None]:
            del self[name]

    def backward(self) -> None:
        """Go back through the generator from the gradients that the losses left at its outputs."""
        seen = {name: gradient for name in self.outputs if (gradient := self[name].grad) is not None}
        torch.autograd.backward([self.outputs[name] for name in seen], list(seen.values()))


class Mean:
    """The scalars of a step, averaged over the parts of its batch. They stay on the device."""

    def __init__(self, parts: int):
        self.parts = parts
        self.values: Scalars = {}

    def add(self, name: str, value: Tensor) -> Tensor:
        share = value.detach() / self.parts
        self.values[name] = self.values[name] + share if name in self.values else share
        return value


class Stage:
    """Owns the networks, losses and optimizers of one stage and makes its steps. As it is, the psnr stage's.

    `losses` are given by the names of their options; by default they are built from `train`.
    """

    log_prefix: ClassVar[str] = "l_"

    def __init__(
        self,
        train: TrainOptions,
        net_g: nn.Module,
        world: World | None = None,
        precision: str = "fp32",
        losses: Losses = None,
    ):
        self.options, self.world, self.precision = train, world or World(), precision
        self.in_bf16 = uses_bf16(self.world.device, precision)
        self.net_g = synchronised(self.world, net_g).to(self.world.device).train()
        self.frozen = freeze(self.net_g, train.freeze)
        self.net_g_ema = copy.deepcopy(self.net_g).eval().requires_grad_(False) if train.averages else None
        # The networks that a checkpoint holds, and the one to validate and publish.
        self.networks = {"net_g": self.net_g} | ({"net_g_ema": self.net_g_ema} if self.net_g_ema is not None else {})
        self.copies: list[nn.Module] = []  # of these networks, in bfloat16
        self.network_for_use = self.net_g if self.net_g_ema is None else self.net_g_ema
        self.optimizers = {"optimizer_g": make_optimizer(train.optim_g, self.net_g, self.net_g_ema)}
        self.exchanges = {"optimizer_g": GradientExchange(self.world, self.net_g, train.gradient_compression)}
        losses = build_losses(train, world=self.world) if losses is None else losses
        self.terms = loss_terms(train, losses, self.log_prefix)
        for term in self.terms.values():
            if isinstance(term.loss, nn.Module):
                term.loss.to(self.world.device)
            if self.in_bf16 and (convert := getattr(term.loss, "use_bf16", None)):
                convert()
        self.skipped = torch.zeros((), device=self.world.device)  # 1 where the last step skipped an update

    @property
    def wants_sharpened(self) -> bool:
        """Whether a loss compares with the sharpened HR."""
        return self.options.gan_gt_usm or any("gt_usm" in term.inputs for term in self.terms.values())

    def set_learning_rate(self, iteration: int) -> float:
        """Set the rates of all optimizers for this iteration; returns the generator's."""
        train = self.options
        bases = {"optimizer_g": train.optim_g.lr, "optimizer_d": train.optim_d.lr}
        rates = {name: learning_rate(train.scheduler, lr, iteration, train.warmup_iter) for name, lr in bases.items()}
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rates[name]
        return rates["optimizer_g"]

    def step(self, lq: Tensor, gt: Tensor, iteration: int, gt_usm: Tensor | None = None) -> Scalars:
        """One training step on LR (N, 3, h, w) and HR (N, 3, H, W) images in [0, 1]; `iteration` counts from 1.

        A generator of one channel is trained on their luma.

        If a network's losses or gradients are NaN or infinite, it keeps its weights and moments, all networks keep their
        BatchNorm statistics, and `skipped` is 1 on every process. The average is still updated.

        HR is sharpened here unless `gt_usm` is given. Returns the losses and the discriminator's outputs, on the device.
        Nothing here makes the host wait for the device, except PyTorch's SyncBatchNorm with several processes on CUDA.
        """
        if is_gray(self.net_g):
            gt, gt_usm = in_gray(gt), None if gt_usm is None else in_gray(gt_usm)
        if gt_usm is None:
            gt_usm = usm_sharpen(gt) if self.wants_sharpened else gt
        layers = [layer for net in self.networks.values() for layer in net.modules() if isinstance(layer, BATCH_NORM)]
        # A forward pass alone changes running statistics.
        statistics = [t for layer in layers for t in (layer.running_mean, layer.running_var) if t is not None]
        before = [tensor.clone() for tensor in statistics]
        self.skipped = torch.zeros_like(self.skipped)
        self.norms: Scalars = {}
        scalars = self.update_networks({"lq": lq, "gt": gt, "gt_usm": gt_usm}, iteration) | self.norms
        for tensor, former in zip(statistics, before, strict=True):
            tensor.copy_(torch.where(self.skipped > 0, former, tensor))
        if self.net_g_ema is not None:
            update_ema(self.net_g_ema, self.net_g, ema_decay(self.options, iteration))
        return scalars

    def update_networks(self, batch: Mapping[str, Tensor], iteration: int) -> Scalars:
        scalars = Mean(self.options.accumulate)
        self.optimizers["optimizer_g"].zero_grad()
        for images in self.parts(batch):
            self.backward(images, scalars)
        self.update("optimizer_g", self.net_g, scalars)
        return scalars.values

    def parts(self, batch: Mapping[str, Tensor]) -> Iterator[StepImages]:
        """The batch in `accumulate` parts of equal size."""
        chunks = {name: images.chunk(self.options.accumulate) for name, images in batch.items()}
        for k in range(self.options.accumulate):
            last = k == self.options.accumulate - 1
            yield StepImages({name: parts[k] for name, parts in chunks.items()}, self.make_image, last)

    def make_image(self, name: str, images: StepImages) -> Tensor:
        if name != "sr":
            raise KeyError(f"{type(self).__name__} makes no image {name!r}")
        lq, gt = images["lq"], images["gt"]
        sr = images.output("sr", in_rgb(self.run(self.net_g, lq)))
        if sr.shape != gt.shape:
            raise ValueError(
                f"network_g: {type(self.net_g).__name__} returns {tuple(sr.shape)} for LR images {tuple(lq.shape)}, but HR "
                f"has {tuple(gt.shape)}: check its scale and its number of channels"
            )
        return sr

    def run(self, net: nn.Module, *images: Tensor, **options: Any) -> Any:
        """Run a network on RGB images in the chosen precision; its output is float32."""
        with autocast(self.world.device, self.precision):
            result = net(*(seen_by(net, image) for image in images), **options)
        return tuple(t.float() for t in result) if isinstance(result, tuple) else result.float()

    def backward(self, images: StepImages, scalars: Mean) -> None:
        """Go back through each loss as soon as it is known, so that one loss at a time keeps activations, then through G."""
        for term in self.terms.values():
            loss = scalars.add(term.name, self.weighted_loss(term, images))
            if loss.requires_grad:
                (loss / self.options.accumulate).backward()
            images.forget()
        if images.last:
            self.exchanges["optimizer_g"].start()
        images.backward()

    def weighted_loss(self, term: LossTerm, images: StepImages) -> Tensor:
        inputs = [images[name] for name in term.inputs]
        with autocast(self.world.device, self.precision):
            return term.weight * term.loss(*inputs)

    def update(self, name: str, net: nn.Module, scalars: Mean) -> None:
        # 0 * NaN and 0 * inf are NaN: with a bad loss of one process, all processes skip the step.
        bad = self.exchanges[name].finish(0 * torch.stack(list(scalars.values.values())).sum())
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        gradients[0].add_(bad)
        clip_norm = getattr(self.options, name.replace("optimizer", "optim")).clip_norm
        broken, norm = step_unless_broken(self.optimizers[name], gradients, clip_norm)
        self.skipped = torch.maximum(self.skipped, broken)
        if clip_norm is not None:
            self.norms[name.replace("optimizer", "norm")] = norm


def freeze(net: nn.Module, patterns: Sequence[str]) -> list[nn.Parameter]:
    """Exclude the parameters whose names match a pattern (`*`, `?`) from training, and return them."""
    named = dict(net.named_parameters())
    for pattern in patterns:
        if not fnmatch.filter(named, pattern):
            parts = dict.fromkeys(name.partition(".")[0] + ".*" for name in named)
            raise ValueError(f"train.freeze: no tensor is named {pattern!r}; {type(net).__name__} has {', '.join(parts)}")
    frozen = [parameter for name, parameter in named.items() if any(fnmatch.fnmatchcase(name, p) for p in patterns)]
    if len(frozen) == len(named):
        raise ValueError(f"train.freeze: {', '.join(patterns)} leaves nothing to train")
    for parameter in frozen:
        parameter.requires_grad_(False)
    return frozen

"""What every loss says of itself, and the loss as one summand of a training step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from aesop.system.distributed import World
from aesop.system.option_types import Options, Weight


class LossOptions(Options):
    """The options of one loss; the class also says where it stands and builds it."""

    log_name: ClassVar[str]
    """Its name in the logs, after `l_` or, in the adversarial stage, `l_g_`."""
    stages: ClassVar[tuple[str, ...]] = ("psnr", "adversarial")
    """The stages that may use it."""
    inputs: ClassVar[tuple[str, ...]] = ("sr", "gt")
    """What it compares, by the names in `training.stage.StepImages`."""
    sharpened_by: ClassVar[str | None] = None
    """The `*_gt_usm` option that makes it compare with the sharpened HR instead of `gt`."""
    known_weights: ClassVar[tuple[str, ...]] = ()
    """The pretrained networks that it needs, by their names in `weights.pretrained`."""

    def build(self, scale: int, world: World) -> Callable[..., Tensor]:
        """The function of `inputs`. A network that is missing is a FileNotFoundError, one that does not fit a ValueError.

        A module with a method `use_bf16` gets that called under `precision: bf16`, to convert its networks once.
        """
        raise NotImplementedError


class DistanceOptions(LossOptions):
    loss_weight: Weight = 1.0
    """Factor of this loss in the sum."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over pixels, channels and images."""


@dataclass(frozen=True)
class LossTerm:
    """One summand of a step: `weight * loss(*inputs)`, logged as `name`."""

    name: str
    weight: float
    inputs: tuple[str, ...]
    loss: Callable[..., Tensor]

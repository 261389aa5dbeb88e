"""What a loss says of itself: the base of the losses' options, and the loss as one summand of a training step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from aesop.system.distributed import World
from aesop.system.option_types import Options

Reduction = Literal["mean", "sum"]


class LossOptions(Options):
    """Options of one loss, which also name it, place it and build it."""

    log_name: ClassVar[str]
    """Its name in the logs, after `l_` or, in the adversarial stage, `l_g_`."""
    stages: ClassVar[tuple[str, ...]] = ("adversarial",)
    """The stages that may use it."""
    sharpened_by: ClassVar[str | None] = None
    """The `*_gt_usm` option that replaces `gt` among its inputs by the sharpened HR."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The images it compares, by their names in a step (see `training.stage.StepImages`)."""
        return ("sr", "gt")

    @property
    def weight(self) -> float:
        """Its factor in the sum."""
        return getattr(self, "loss_weight", 1.0)

    @property
    def known_weights(self) -> tuple[str, ...]:
        """The pretrained networks it needs, by their names in `weights.pretrained`."""
        return ()

    def build(self, scale: int, world: World) -> Callable[..., Tensor]:
        """The function of `inputs` that it describes: an `nn.Module` where it holds a network.

        Args:
            scale: of the training.
            world: the processes that train together.

        Raises:
            ValueError: a network that it needs is missing or does not fit.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class LossTerm:
    """One summand of a step: `weight * loss(*inputs)`, logged as `name`."""

    name: str
    weight: float
    inputs: tuple[str, ...]
    loss: Callable[..., Tensor]

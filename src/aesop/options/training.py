"""Options of a training: length, optimisers, schedule. The losses' options stand with the losses."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from aesop.losses import LossTerms
from aesop.system.option_types import Count, Options, Positive, Weight

Rate = Annotated[float, Field(ge=0, lt=1)]


class OptimizerOptions(Options):
    type: Literal["Adam", "AdamW", "Adan", "AdamWScheduleFree"] = "Adam"
    """The optimizer. AdamWScheduleFree (generator only) averages the weights: the average is validated and saved for use, as
    the EMA is otherwise. It needs no scheduler, but a warm-up, and a higher lr."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Learning rate before warm-up and scheduler."""
    weight_decay: Weight = 0.0
    """L2 penalty on the weights (Adam: added to the gradient, else decoupled)."""
    betas: tuple[Rate, Rate] | tuple[Rate, Rate, Rate] = (0.9, 0.99)
    """Decay rates of the moments. Adan has three, by default 0.98, 0.92 and 0.99."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Scale the gradient down to this norm, over all weights, where it is larger. Norms are logged as norm_g and norm_d."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, raw: Any) -> Any:
        is_adan = isinstance(raw, Mapping) and raw.get("type") == "Adan"
        return {"betas": (0.98, 0.92, 0.99), **raw} if is_adan else raw

    @model_validator(mode="after")
    def _number_of_betas(self) -> Self:
        if len(self.betas) != (wanted := 3 if self.type == "Adan" else 2):
            raise ValueError(f"betas: {self.type} has {wanted} decay rates, found {len(self.betas)}")
        return self

    @property
    def averages(self) -> bool:
        """Whether the optimizer averages the weights."""
        return self.type == "AdamWScheduleFree"


class SchedulerOptions(Options):
    type: Literal["MultiStepLR", "MultiStepRestartLR", "CosineAnnealingRestartLR", "CosineAnnealingLR"] = "MultiStepLR"
    """How the learning rate changes. Both multi-step names mean the same; the default keeps the rate constant."""
    milestones: list[Count] = []
    """MultiStepLR: iterations after which the rate is multiplied by gamma."""
    gamma: float = 0.1
    """MultiStepLR: the factor at each milestone."""
    periods: list[Positive] = []
    """CosineAnnealingRestartLR: length of each cosine. After the last one the rate stays at its final value. Default: one
    cosine over the whole training."""
    T_max: Positive | None = None
    """CosineAnnealingLR: iterations in which the rate falls to its lowest; then it rises again. Default: the whole training.
    """
    restarts: list[Count] = [0]
    """MultiStepLR: iterations at which the schedule restarts."""
    restart_weights: list[float] = [1.0]
    """Factor of the rate after each restart (or in each period)."""
    eta_min: float = 0.0
    """CosineAnnealingRestartLR and CosineAnnealingLR: the lowest rate."""

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        of_weights = "periods" if self.type == "CosineAnnealingRestartLR" else "restarts"
        if of_weights == "periods" and not self.periods:
            raise ValueError("CosineAnnealingRestartLR needs periods, e.g. periods: [300000]")
        if self.type == "CosineAnnealingLR" and self.T_max is None:
            raise ValueError("CosineAnnealingLR needs T_max, e.g. T_max: 300000")
        if len(self.restart_weights) != len(getattr(self, of_weights)):
            raise ValueError(f"restart_weights and {of_weights} must be equally long")
        return self


class TrainOptions(LossTerms):
    total_iter: Positive
    """Length of the training in optimizer steps."""
    warmup_iter: int = -1
    """Linear warm-up of the learning rate over this many iterations; -1: none."""
    optim_g: OptimizerOptions = OptimizerOptions()
    """The generator's (or auto-encoder's) optimizer."""
    optim_d: OptimizerOptions = OptimizerOptions()
    """adversarial: the discriminator's optimizer."""
    scheduler: SchedulerOptions = SchedulerOptions()
    """The learning rate over time, for all optimizers."""
    max_skipped: Positive = 10
    """Steps with NaN or infinity are skipped. After this many consecutive ones the run rolls back."""
    max_rollbacks: Count = 3
    """How often the run may roll back to the same state before it stops."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the averaged generator, which is the one saved for use; 0: no averaging."""
    ema_warmup: bool | None = None
    """Limit the decay to (1 + i) / (10 + i) in iteration i, so that the average soon forgets the initial weights. Default:
    true, but false with path.pretrain_network_g, for published files (model_type) and for runs begun without this option."""
    accumulate: Positive = 1
    """Parts of a batch whose gradients are accumulated: less memory, the same step but for batch statistics of the parts."""
    gradient_compression: Literal["none", "bf16"] = "none"
    """Several processes: exchange gradients unchanged, or as bfloat16 (half the bytes, 8 bits of precision)."""
    freeze: list[str] = []
    """Names of the generator's tensors that are not trained, with * and ?, as in conv_first.*."""
    freeze_decoder: Count = 0
    """autoencoder: freeze the decoder's weights up to this iteration."""
    net_d_iters: Positive = 1
    """adversarial: the generator is updated every net_d_iters-th iteration."""
    net_d_init_iters: Count = 0
    """adversarial: train only the discriminator up to this iteration."""
    net_d_published_passes: bool = False
    """adversarial: repeat the published step's unused discriminator pass, which changes only buffers of its norms."""

    @property
    def averages(self) -> bool:
        """Whether there is an averaged generator, which is the one for use."""
        return self.ema_decay > 0 or self.optim_g.averages

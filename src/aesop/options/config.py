"""All options of an option file: `TrainConfig` for one training stage, `TestConfig` for `aesop test`."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

import yaml
from pydantic import BaseModel, model_validator

from aesop.archs import AutoEncoderOptions, NetworkD, NetworkG, scale_option, trained_channels, with_scale
from aesop.options.datasets import Datasets, TrainingDatasets
from aesop.options.degradation import DegradationOptions
from aesop.options.model import ModelOptions
from aesop.options.training import TrainOptions
from aesop.options.validation import ValOptions
from aesop.system.option_types import Count, Name, Options, Positive, check_network_numbers

StageName = Literal["psnr", "autoencoder", "adversarial"]
STAGES: tuple[StageName, ...] = get_args(StageName)
Scale = Literal[1, 2, 3, 4, 8]
DEFAULT_SCALE = 4
# USM sharpening blurs with a 51-pixel kernel, which mirrors up to 25 pixels at the borders.
SMALLEST_SHARPENED = 26


class WandbOptions(Options):
    project: str | None = None
    """Project name. Nothing is sent without it."""
    resume_id: str | None = None
    """Id of the run to continue."""


class LoggerOptions(Options):
    print_freq: Positive = 100
    """Log progress every N iterations."""
    readings_freq: Count = 100
    """Read gradients, discriminator, weights and images every N iterations, for `aesop diagnose`; 0: never. Readings do not
    change the training."""
    save_checkpoint_freq: Positive = 5000
    """Save weights and a resumable state every N iterations, and at the end."""
    keep_states: Positive = 2
    """Number of resumable states to keep on disk."""
    keep_models: Positive | None = None
    """Number of the newest models/net_g_<iteration> to keep, besides the best and the front. Default: all."""
    on_failed_save: Literal["continue", "stop"] = "continue"
    """Whether the run continues if a checkpoint cannot be written. The last one, or one after a signal, always stops it."""
    use_tb_logger: bool = True
    """Write TensorBoard events."""
    wandb: WandbOptions | None = None
    """Also log to Weights & Biases if a project is given (extra: pip install "aesop-sr[wandb]")."""


class PathOptions(Options):
    pretrain_network_g: str | None = None
    """Initial weights of the generator (autoencoder stage: of the auto-encoder). `aesop test` measures them."""
    compare_with: str | list[str] | None = None
    """Weight files of other generators of the same scale, which `aesop test` measures, and bicubic, with this network."""
    param_key_g: str | None = None
    """Which weights of a `.pth` to load: params_ema or params. Default: the first of these in the file."""
    strict_load_g: bool = True
    """Require every tensor to fit. With false, load only the tensors that fit."""
    pretrain_network_d: str | None = None
    """Initial weights of the discriminator."""
    param_key_d: str | None = None
    """Like param_key_g."""
    strict_load_d: bool = True
    """Like strict_load_g."""
    pretrain_network_decoder: str | None = None
    """autoencoder: initial weights of the decoder, from a trained PSNR net."""
    param_key_decoder: str | None = None
    """Like param_key_g."""
    strict_load_decoder: bool = True
    """Like strict_load_g."""
    autoencoder_for_readings: str | None = None
    """Auto-encoder by which readings split the error; it has no other effect. Default: the AESOP loss's."""
    from_scratch: bool = False
    """Allow the autoencoder and adversarial stages to start without pre-trained weights."""
    resume_state: str | None = None
    """State folder to continue from. `--resume` finds the newest one by itself."""
    experiments_root: str = "experiments"
    """Training writes to <experiments_root>/<name>."""
    results_root: str = "results"
    """Tests write to <results_root>/<name>."""


def fill_in_defaults(raw: Any) -> Any:
    """Raw options -> raw options with the defaults that depend on other options. What is no mapping is left for the checks.

    `ema_warmup: null`, without a default, marks a run that began before this option existed.
    """
    if not isinstance(raw, Mapping):
        return raw
    raw = dict(raw)
    scale, train, path = raw.get("scale", DEFAULT_SCALE), raw.get("train"), raw.get("path")
    if isinstance(train, Mapping):
        warms_up = not isinstance(path, Mapping) or path.get("pretrain_network_g") is None
        optimizer = train.get("optim_g")
        averages = isinstance(optimizer, Mapping) and optimizer.get("type") == "AdamWScheduleFree"
        train = raw["train"] = {"ema_warmup": warms_up, **({"ema_decay": 0.0} if averages else {}), **train}
        pixel = train.get("pixel_opt")
        if isinstance(pixel, Mapping) and pixel.get("type") == "LRL1Loss":
            train["pixel_opt"] = {**pixel, "scale": pixel.get("scale") or scale}
        scheduler, total = train.get("scheduler"), train.get("total_iter")
        whole = {"CosineAnnealingRestartLR": {"periods": [total]}, "CosineAnnealingLR": {"T_max": total}}
        if isinstance(scheduler, Mapping) and total is not None:
            kind = scheduler.get("type")
            train["scheduler"] = {**whole.get(kind, {}), **scheduler} if isinstance(kind, str) else scheduler
    if "network_g" in raw and scale in get_args(Scale):
        raw["network_g"] = with_scale(raw["network_g"], scale)
    return raw


class CommonConfig(Options):
    """The options that trainings and tests have in common."""

    name: Name
    """Name of the run and of its output folder."""
    stage: StageName = "psnr"
    """What to train: psnr (pixel loss), autoencoder, or adversarial (the GAN with the AESOP loss), in this order."""
    scale: Scale = DEFAULT_SCALE
    """Enlargement from LR to HR. The networks use it by default."""
    manual_seed: Count = 0
    """Seed of the initial weights and of every sample."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: the convolutions of RRDBs, and all of other networks, run in bfloat16. Weights, losses, EMA and optimisers are
    in fp32. On CUDA, fp32 uses TF32, but not in tests."""
    deterministic: bool = False
    """CUDA: slower, but a resumed training ends bit for bit like an uninterrupted one, as CPU trainings always do. Matrix
    products do not use TF32."""
    channels_last: bool = False
    """Use the channels-last memory format, which the tensor cores of NVIDIA GPUs prefer."""
    compile: bool = False
    """Compile the networks with torch.compile. This takes about a minute at the start and makes steps faster."""
    cuda_graphs: bool = False
    """CUDA: compile the networks and replay recordings of their passes, which keep their memory. Not yet run on a GPU."""
    network_g: NetworkG
    """The generator (autoencoder stage: the auto-encoder)."""
    network_d: NetworkD | None = None
    """The discriminator of the adversarial stage."""
    datasets: Datasets = Datasets()
    """Data sets: `train`, and any number of `val...` and `test...` sections."""
    degradation: DegradationOptions | None = None
    """Real-world training: make LR images by random degradation. Requires datasets.train.type: RealESRGANDataset."""
    path: PathOptions = PathOptions()
    """Initial weights and output folders."""
    model: ModelOptions = ModelOptions()
    """What the weight files say of the model: title, author, licence, tags, description."""
    val: ValOptions = ValOptions()
    """Validation during training, and the metrics of `aesop test`."""
    logger: LoggerOptions = LoggerOptions()
    """Progress lines, checkpoints, TensorBoard and Weights & Biases."""

    _fill_in = model_validator(mode="before")(fill_in_defaults)

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if faults := list(self._faults()):
            raise ValueError("\n".join(faults))
        return self

    def _faults(self) -> Iterator[str]:
        """Options that do not go together, each as `option: what is wrong and what to do`."""
        for option, network in (("network_g", self.network_g), ("network_d", self.network_d)):
            try:
                check_network_numbers(network.model_dump() if network else {})
            except ValueError as error:
                yield f"{option}: {error}"
        channels = trained_channels(self.network_g)
        if channels not in ((3, 3), (1, 1)):
            where = "network_g.dec_opt" if isinstance(self.network_g, AutoEncoderOptions) else "network_g"
            yield f"{where}: {channels[0]} channels in and {channels[1]} out; use 3 (RGB) or 1 (gray) for both"
        if self.network_d is not None and self.network_d.num_in_ch not in ({1, 3} if channels == (1, 1) else {3}):
            yield f"network_d.num_in_ch: {self.network_d.num_in_ch} does not fit images of {channels[1]} channels"
        networks: dict[str, Any] = {"network_g": self.network_g}
        if isinstance(self.network_g, AutoEncoderOptions):
            networks["network_g.dec_opt"] = self.network_g.dec_opt
        for where, network in networks.items():
            option = scale_option(network.type)
            if option is None and self.scale != 1:
                yield f"{where}.type: {network.type} keeps the size, which differs from the file's scale {self.scale}"
            elif option and (given := getattr(network, option)) != self.scale:
                yield f"{where}.{option}: {given} differs from the file's scale {self.scale}"

    def derive(self, changes: Mapping[str, Any]) -> Self:
        """Other values, checked like an option file: `config.derive({"name": "x", "train.aesop_opt": None})`."""
        raw = self.model_dump()
        for option, value in changes.items():
            set_option(raw, option, value)
        return type(self).model_validate(raw)

    @property
    def run_folder(self) -> Path:
        """The output folder of a training."""
        return self._folder_below(self.path.experiments_root)

    @property
    def results_folder(self) -> Path:
        """The output folder of a test."""
        return self._folder_below(self.path.results_root)

    def _folder_below(self, root: str) -> Path:
        # Some file systems do not allow these characters, and one published file's name has a colon.
        return Path(root).expanduser() / re.sub(r'[<>:"|?*\\]', "_", self.name)

    def to_yaml(self, defaults: bool = True) -> str:
        """The resolved options as an option file that reads back to the same configuration."""
        options = self.model_dump(mode="json", exclude_none=True, exclude_defaults=not defaults)
        return yaml.safe_dump(options, sort_keys=False, allow_unicode=True)


class TestConfig(CommonConfig):
    """A test: network, weights, test sets and metrics. Options that only a training uses are accepted and ignored."""

    __test__: ClassVar[bool] = False  # pytest takes a class of this name for a test case


class TrainConfig(CommonConfig):
    """One training stage."""

    datasets: TrainingDatasets
    """Data sets: `train`, and any number of `val...` and `test...` sections."""
    train: TrainOptions
    """Losses, optimisers and length of the training."""

    @property
    def final_model(self) -> Path:
        """The weight file that the finished training leaves."""
        return self.run_folder / "models" / f"net_g_{self.train.total_iter:08d}.safetensors"

    def for_testing(self) -> TestConfig:
        """The options with which `aesop test` measures this file's network."""
        return TestConfig.model_validate(self.model_dump(exclude={"train": True, "datasets": {"train"}}))

    def _faults(self) -> Iterator[str]:
        yield from super()._faults()
        yield from self._stage_faults()
        yield from self._crop_faults()
        yield from self._start_faults()

    def _stage_faults(self) -> Iterator[str]:
        train, stage, network = self.train, self.stage, self.network_g
        if isinstance(network, AutoEncoderOptions) != (stage == "autoencoder"):
            wanted = "an auto-encoder (AutoEncoder_RRDBNet)" if stage == "autoencoder" else "a generator"
            yield f"network_g.type: the {stage} stage trains {wanted}, found {network.type}"
        for option, loss in train.losses().items():
            if stage not in loss.stages:
                yield f"train.{option}: the {stage} stage has no such loss, only {' and '.join(loss.stages)}; remove it"
        if stage == "autoencoder" and train.pixel_opt is None:
            yield "train.pixel_opt: the autoencoder stage needs it, e.g. pixel_opt: {type: L1Loss}"
        elif not train.losses():
            yield f"train.pixel_opt: the {stage} stage needs a loss, e.g. pixel_opt: {{type: L1Loss}}"
        if stage == "adversarial" and (train.gan_opt is None) != (self.network_d is None):
            yield "train.gan_opt and network_d: give both, or neither to train without a discriminator"
        if stage == "adversarial" and train.gan_opt is None is self.network_d and train.artifacts_opt is not None:
            yield "train.artifacts_opt: the artifact loss needs a discriminator, gan_opt and network_d"
        probabilistic = network.type == "ProbabilisticAutoEncoder_RRDBNet"
        if train.sigmabranch_opt is not None and not probabilistic:
            yield "train.sigmabranch_opt: only a ProbabilisticAutoEncoder_RRDBNet has a sigma branch"
        if stage == "autoencoder" and probabilistic and train.sigmabranch_opt is None:
            yield "train.sigmabranch_opt: a probabilistic auto-encoder learns its scale from it, e.g. {type: L1Loss}"
        if network.type == "BicubicDown_RRDBNet" and train.freeze_decoder:
            yield "train.freeze_decoder: only the decoder of a BicubicDown_RRDBNet has weights to train; set it to 0"
        if train.artifacts_opt is not None and not train.averages:
            yield "train.artifacts_opt: the artifact loss compares with the EMA generator; set train.ema_decay > 0"
        if train.optim_g.averages and train.ema_decay:
            yield "train.ema_decay: AdamWScheduleFree averages the weights by itself; leave ema_decay out, or set it to 0"
        if train.optim_d.averages:
            yield "train.optim_d.type: AdamWScheduleFree averages weights for use, and no one uses the discriminator's"
        best = self.val.best_metric
        if best is not None and best not in self.val.metrics:
            yield f"val.best_metric: {best!r} is not in val.metrics ({', '.join(self.val.metrics)})"
        yield from self._front_faults()

    def _front_faults(self) -> Iterator[str]:
        """The options of the front and of the early stop."""
        val, front, early = self.val, self.val.front, self.val.early_stop
        for option, name in (("distortion", front.distortion), ("perception", front.perception)):
            if name is not None and name not in val.metrics:
                yield f"val.front.{option}: {name!r} is not in val.metrics ({', '.join(val.metrics)})"
        if front.distortion is not None and front.distortion == front.perception:
            yield f"val.front: {front.distortion!r} is both distortion and perception; name two metrics"
        if early is not None and not (val.val_freq and self.datasets.measured("val")):
            yield "val.early_stop: it looks at validations; give datasets.val and val.val_freq, or leave it out"
        if early is not None and early.watch == "front" and not front.keep:
            yield "val.early_stop.watch: there is no front with val.front.keep 0; watch best, or keep at least 2 models"

    def _crop_faults(self) -> Iterator[str]:
        """How crops, batches, scale and degradation fit together."""
        train, crops, degradation = self.train, self.datasets.train, self.degradation
        batch, size = crops.batch_size_per_gpu, crops.gt_size
        if size % self.scale:
            yield f"datasets.train.gt_size: {size} is no multiple of the scale {self.scale}"
        if self.stage == "adversarial" and self.network_d is not None and not self.network_d.takes_crops_of(size):
            yield (
                f"network_d.type: {self.network_d.type} does not take crops of datasets.train.gt_size {size}; change it, or "
                "use UNetDiscriminatorSN, which takes any multiple of 8"
            )
        sharpened = [name for name, value in train if name.endswith("_gt_usm") and value]
        if sharpened and size < SMALLEST_SHARPENED:
            yield f"train.{sharpened[0]}: sharpening needs crops of at least {SMALLEST_SHARPENED} pixels; raise gt_size"
        if batch % train.accumulate:
            yield f"train.accumulate: {train.accumulate} does not divide the batch_size_per_gpu of {batch}"
        pixel_losses = (train.pixel_opt, train.pixel_at_LR_opt, train.aesop_opt)
        if train.accumulate > 1 and any(loss and loss.reduction == "sum" for loss in pixel_losses):
            yield "train.accumulate: the parts of a batch are averaged, which does not go with reduction: sum"
        if (crops.type == "RealESRGANDataset") != (degradation is not None):
            yield "degradation: a degradation section (or {}) and datasets.train.type RealESRGANDataset require each other"
        if degradation and crops.dataroot_lq is not None:
            yield "datasets.train.dataroot_lq: LR images are made by the degradation; leave it out"
        if degradation and ((side := degradation.crop_pad_size) < size or side % self.scale):
            yield f"degradation.crop_pad_size: {side} must be a multiple of the scale, and at least gt_size {size}"
        if degradation and degradation.queue_size % batch:
            yield f"degradation.queue_size: {degradation.queue_size} is no multiple of the batch_size_per_gpu {batch}"

    def _start_faults(self) -> Iterator[str]:
        path, aesop = self.path, self.train.aesop_opt
        otherwise = "give its weights, run `aesop pipeline`, or set path.from_scratch: true to train without"
        has_start = path.pretrain_network_g or path.resume_state or path.from_scratch
        if self.stage == "autoencoder" and not (has_start or path.pretrain_network_decoder):
            yield f"path.pretrain_network_decoder: the auto-encoder's decoder starts from a trained PSNR net; {otherwise}"
        if self.stage == "adversarial" and not has_start:
            yield f"path.pretrain_network_g: the adversarial stage starts from a trained PSNR net; {otherwise}"
        if self.stage == "adversarial" and aesop is not None and aesop.autoencoder_load is None:
            yield "train.aesop_opt.autoencoder_load: give a trained auto-encoder, e.g. {path: autoencoder.safetensors}"


class OptionFile(CommonConfig):
    """An option file of either kind, for the JSON schema."""

    train: TrainOptions | None = None
    """Losses, optimisers and length of a training. A test has none."""


def set_option(raw: dict[str, Any], option: str, value: Any) -> None:
    """Set an option by its dotted path in nested raw options; sections that are missing are made."""
    *sections, name = option.split(".")
    for section in sections:
        if not isinstance(raw.get(section), dict):
            raw[section] = {}
        raw = raw[section]
    raw[name] = value.model_dump() if isinstance(value, BaseModel) else value

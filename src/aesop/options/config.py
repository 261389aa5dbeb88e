"""Every option: its type, its default and what it does. Names are BasicSR's.

`aesop schema` prints this file's content as a JSON schema for editors; option_file.py reads files into it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import model_validator

from aesop.options.datasets import Datasets
from aesop.options.degradation import DegradationOptions
from aesop.options.networks import AutoEncoderOptions, NetworkD, NetworkG, _takes, enlargement_option
from aesop.options.training import TrainOptions
from aesop.options.validation import ValOptions
from aesop.system.option_types import Count, Name, Options, Positive, check_network_numbers

STAGES = ("psnr", "autoencoder", "adversarial")


class WandbOptions(Options):
    project: str | None = None
    """The project's name; without it nothing is sent."""
    resume_id: str | None = None
    """Id of the run to continue."""


class LoggerOptions(Options):
    print_freq: Positive = 100
    """A line of progress every so many iterations."""
    save_checkpoint_freq: Positive = 5000
    """Save weights and resumable state every so many iterations (and at the end)."""
    keep_states: Positive = 2
    """How many resumable states stay on disk; weights are all kept."""
    on_failed_save: Literal["continue", "stop"] = "continue"
    """What to do when a checkpoint cannot be written (a full disk): go on until the next one is due, or stop. The former
    states stay in both cases; the last checkpoint of a run, and that of a signal, always stop."""
    use_tb_logger: bool = True
    """Write TensorBoard events."""
    wandb: WandbOptions | None = None
    """Also log to Weights & Biases when a project is given (extra: pip install "aesop-sr[wandb]")."""


class PathOptions(Options):
    pretrain_network_g: str | None = None
    """Weights the generator (or, for the autoencoder stage, the auto-encoder) starts from."""
    compare_with: str | list[str] | None = None
    """Weight files of other generators of the same scale, which `aesop test` measures beside this network, as it does
    bicubic; their architectures are found from the files."""
    param_key_g: str | None = None
    """Which weights of a `.pth`: params_ema or params; default: the first of these that it has."""
    strict_load_g: bool = True
    """Every tensor must fit; false: take those that do."""
    pretrain_network_d: str | None = None
    """Weights the discriminator starts from."""
    param_key_d: str | None = None
    """As param_key_g."""
    strict_load_d: bool = True
    """As strict_load_g."""
    pretrain_network_decoder: str | None = None
    """autoencoder: weights of the PSNR net the decoder starts from."""
    param_key_decoder: str | None = None
    """As param_key_g."""
    strict_load_decoder: bool = True
    """As strict_load_g."""
    from_scratch: bool = False
    """Allow the autoencoder or adversarial stage to start without the weights it is meant to start from."""
    resume_state: str | None = None
    """A state folder to continue from; `--resume` finds the newest by itself."""
    experiments_root: str = "experiments"
    """Training writes into <experiments_root>/<name>."""
    results_root: str = "results"
    """Testing writes into <results_root>/<name>."""


# The sharpening's blur is 51 pixels wide and mirrors half of it at the borders.
SMALLEST_SHARPENED = 26


class Config(Options):
    """One option file: one training stage, or a test."""

    name: Name
    """Names the output folder."""
    stage: Literal["psnr", "autoencoder", "adversarial"] = "psnr"
    """What is trained: psnr (pixel loss), then autoencoder, then adversarial (the AESOP GAN)."""
    scale: Literal[1, 2, 3, 4, 8] = 4
    """Enlargement from LR to HR; the networks take it from here."""
    manual_seed: Count = 0
    """Determines initial weights and every sample."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """What the networks run in; losses, EMA and optimiser stay in fp32."""
    deterministic: bool = False
    """CUDA: deterministic algorithms only, slower, so that a training that stopped and went on ends bit for bit as one that
    did not. On a CPU it always does."""
    channels_last: bool = False
    """Keep images and features channel by channel within a pixel: what the tensor cores of NVIDIA GPUs want."""
    compile: bool = False
    """Compile the networks (torch.compile): a minute at the start, fewer and larger kernels from then on."""
    cuda_graphs: bool = False
    """CUDA, one process: record a training step once and replay it, so that the GPU does not wait for Python. A recording
    keeps its memory. Not yet run on a GPU."""
    network_g: NetworkG
    """The generator; for the autoencoder stage the auto-encoder."""
    network_d: NetworkD | None = None
    """The discriminator of the adversarial stage."""
    datasets: Datasets = Datasets()
    """What is trained, validated and tested on."""
    degradation: DegradationOptions | None = None
    """Real-world training: LR images are made by random degradations; goes with datasets.train.type RealESRGANDataset."""
    path: PathOptions = PathOptions()
    """Weights to start from, folders to write to."""
    train: TrainOptions | None = None
    """Losses, optimisers and length of the training; a test has none."""
    val: ValOptions = ValOptions()
    """Validation while training, and what `aesop test` measures."""
    logger: LoggerOptions = LoggerOptions()
    """Progress lines, checkpoints and where figures are sent."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.train is not None and self.train.ema_warmup is None:
            self.train.ema_warmup = self.path.pretrain_network_g is None
        faults = [*self._size_faults(), *self._scale_faults()]
        if self.train is not None:
            faults += self._train_faults(self.train)
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _size_faults(self) -> Iterator[str]:
        for where, network in (("network_g", self.network_g), ("network_d", self.network_d)):
            try:
                check_network_numbers(network.model_dump() if network else {})
            except ValueError as error:
                yield f"{where}: {error}"

    def _scale_faults(self) -> Iterator[str]:
        networks: list[tuple[str, Any]] = [("network_g", self.network_g)]
        if isinstance(self.network_g, AutoEncoderOptions):
            networks.append(("network_g.dec_opt", self.network_g.dec_opt))
        for where, network in networks:
            option = enlargement_option(network)
            given = getattr(network, option, None) if option else 1
            if given is None and option:
                setattr(network, option, self.scale)
            elif given != self.scale:
                called = f".{option}: {given}" if option else f".type: {network.type} keeps the size, which"
                yield f"{where}{called} differs from the file's scale {self.scale}"
        if self.train and self.train.pixel_opt and self.train.pixel_opt.type == "LRL1Loss":
            self.train.pixel_opt.scale = self.train.pixel_opt.scale or self.scale
        if self.datasets.train and self.datasets.train.gt_size % self.scale:
            yield f"datasets.train.gt_size: {self.datasets.train.gt_size} is no multiple of the scale {self.scale}"

    def _train_faults(self, train: TrainOptions) -> Iterator[str]:
        is_autoencoder = isinstance(self.network_g, AutoEncoderOptions)
        if is_autoencoder != (self.stage == "autoencoder"):
            wanted = "an auto-encoder (AutoEncoder_RRDBNet)" if self.stage == "autoencoder" else "a generator"
            yield f"network_g.type: the {self.stage} stage trains {wanted}, found {self.network_g.type}"
        if self.datasets.train is None:
            yield "datasets.train: missing; give at least dataroot_gt"
        elif self.datasets.train.batch_size_per_gpu % train.accumulate:
            batch = self.datasets.train.batch_size_per_gpu
            yield f"train.accumulate: {train.accumulate} does not divide the batch_size_per_gpu of {batch}"
        sums = [o for o in (train.pixel_opt, train.pixel_at_LR_opt, train.aesop_opt) if o and o.reduction == "sum"]
        if sums and train.accumulate > 1:
            yield "train.accumulate: parts of a batch are averaged, which does not go with reduction: sum"
        yield from self._degradation_faults()
        for option, loss in train.losses().items():
            if self.stage not in loss.stages:
                places = " and ".join(loss.stages)
                yield f"train.{option}: it has no place in the {self.stage} stage, only in {places}; remove it"
        probabilistic = self.network_g.type == "ProbabilisticAutoEncoder_RRDBNet"
        if train.sigmabranch_opt is not None and not probabilistic:
            yield "train.sigmabranch_opt: only a ProbabilisticAutoEncoder_RRDBNet has a sigma branch"
        if self.stage == "autoencoder" and probabilistic and train.sigmabranch_opt is None:
            yield "train.sigmabranch_opt: a probabilistic auto-encoder learns its scale from it, e.g. {type: L1Loss}"
        sharpened = [name for name, value in train if name.endswith("_gt_usm") and value]
        if sharpened and self.datasets.train is not None and self.datasets.train.gt_size < SMALLEST_SHARPENED:
            yield f"train.{sharpened[0]}: sharpening takes images from {SMALLEST_SHARPENED} pixels on; raise gt_size"
        if self.network_g.type == "BicubicDown_RRDBNet" and train.freeze_decoder:
            yield "train.freeze_decoder: a BicubicDown_RRDBNet has nothing but its decoder to train; set it to 0"
        best = self.val.best_metric
        if best is not None and best not in self.val.metrics:
            yield f"val.best_metric: {best!r} is none of val.metrics ({', '.join(self.val.metrics)})"
        start = self.path.pretrain_network_g or self.path.resume_state or self.path.from_scratch
        if self.stage in ("psnr", "autoencoder") and train.pixel_opt is None:
            yield f"train.pixel_opt: the {self.stage} stage needs it, e.g. pixel_opt: {{type: L1Loss}}"
        if self.stage == "autoencoder" and not (start or self.path.pretrain_network_decoder):
            yield (
                "path.pretrain_network_decoder: the auto-encoder's decoder starts from a trained PSNR net; give its "
                "weights (or run `aesop pipeline`, or set path.from_scratch: true if you mean it)"
            )
        if self.stage == "adversarial":
            yield from self._adversarial_faults(train, bool(start))

    def _degradation_faults(self) -> Iterator[str]:
        crops, degradation = self.datasets.train, self.degradation
        if crops is None:
            return
        if (crops.type == "RealESRGANDataset") != (degradation is not None):
            yield (
                "degradation: it goes with datasets.train.type: RealESRGANDataset, and that with a degradation section "
                "(`degradation: {}` takes Real-ESRGAN's values)"
            )
        if degradation is None:
            return
        if crops.dataroot_lq is not None:
            yield "datasets.train.dataroot_lq: LR images are made by the degradation; leave it out"
        side = degradation.crop_pad_size
        if side < crops.gt_size or side % self.scale:
            yield f"degradation.crop_pad_size: {side} must be a multiple of the scale, and at least gt_size {crops.gt_size}"
        if degradation.queue_size % crops.batch_size_per_gpu:
            yield (
                f"degradation.queue_size: {degradation.queue_size} is no multiple of the batch_size_per_gpu "
                f"{crops.batch_size_per_gpu}"
            )

    def _adversarial_faults(self, train: TrainOptions, has_start: bool) -> Iterator[str]:
        if not has_start:
            yield (
                "path.pretrain_network_g: the adversarial stage starts from a trained PSNR net; give its weights (or run "
                "`aesop pipeline`, or set path.from_scratch: true if you mean it)"
            )
        if train.gan_opt is None or self.network_d is None:
            yield "train.gan_opt and network_d: the adversarial stage needs both"
        if train.aesop_opt is not None and train.aesop_opt.autoencoder_load is None:
            yield (
                "train.aesop_opt.autoencoder_load: give the trained auto-encoder's weights, e.g. autoencoder_load: "
                "{path: autoencoder.safetensors} (made by the autoencoder stage)"
            )
        if train.artifacts_opt is not None and train.ema_decay == 0:
            yield "train.artifacts_opt: the artifact loss compares with the EMA generator; set train.ema_decay > 0"
        size = self.datasets.train.gt_size if self.datasets.train else None
        if self.network_d is not None and size and not _takes(self.network_d, size):
            yield (
                f"network_d.type: {self.network_d.type} does not take crops of gt_size {size}: change "
                "datasets.train.gt_size, or use UNetDiscriminatorSN, which takes any multiple of 8"
            )

    @property
    def run_folder(self) -> Path:
        """What training writes into."""
        return Path(self.path.experiments_root).expanduser() / self._folder_name

    @property
    def results_folder(self) -> Path:
        """What testing writes into."""
        return Path(self.path.results_root).expanduser() / self._folder_name

    @property
    def _folder_name(self) -> str:
        """The name without what cannot be in a folder's name everywhere: a published file has a colon in it."""
        return re.sub(r'[<>:"|?*\\]', "_", self.name)

    def to_yaml(self) -> str:
        """The resolved configuration; reading it gives the same one."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)

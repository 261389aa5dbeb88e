"""`--dry-run`: what a training or test would read, build and write, and what it lacks, before it starts."""

import re
from collections.abc import Collection, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from aesop.archs import build_network
from aesop.conversion.portable import portability_advice
from aesop.data.degradation.degrader import Degrader
from aesop.data.find_pairs import Single
from aesop.data.measured_pairs import MeasuredPairs
from aesop.data.training_crops import training_crops
from aesop.metrics.build import check_metrics, without_reference
from aesop.options.config import TestConfig, TrainConfig
from aesop.options.datasets import PairedDataset, TrainDataset
from aesop.system.device import pick_device
from aesop.training.checkpoint import states
from aesop.training.kept_front import front_axes
from aesop.training.lr_schedule import schedule_mismatch
from aesop.weights.pretrained import find_file


def dry_run_report(
    config: TrainConfig | TestConfig, made: Collection[Path] = (), images: bool = True, resume: bool = False
) -> tuple[list[str], list[str]]:
    """What a training or test would do, and the faults in its way. It runs and writes nothing.

    `made` are files that earlier stages of a pipeline will have written by then. Without `images` it skips the data sets.
    With `resume`, a training that has a state needs no weights to start from.
    """
    lines: list[str] = []
    faults: list[str] = []
    sets, training = _sets(config), config if isinstance(config, TrainConfig) else None
    with _collected(faults):
        lines.append(f"device: {pick_device(config.device)}")
    for name, options in (("network_g", config.network_g), ("network_d", config.network_d)):
        with _collected(faults, f"{name}: "):
            if options is not None:
                count = sum(p.numel() for p in build_network(options.model_dump()).parameters())
                lines.append(f"{name}: {options.type}, {count:,} parameters")
    for section, data in sets.items() if images else ():
        missing = missing_roots(section, data)
        faults += missing
        with _collected(faults):
            lines += [] if missing else [f"datasets.{section}: {_describe_set(config, section, data)}"]
    if training and training.degradation is not None:
        with _collected(faults):
            Degrader(training, rank=0)

    if training and (mismatch := schedule_mismatch(training.train)):
        lines.append(f"note: {mismatch}")
    if training and training.stage != "autoencoder":
        with suppress(ValueError):  # a network that cannot be built is among the faults
            if advice := portability_advice(training.network_g.model_dump()):
                lines.append(f"note: {advice}")
    lines.append("would read:")
    without_network = not training and not config.path.pretrain_network_g
    absent = [("path.pretrain_network_g", "(not given)")] if without_network else []
    for option, file in [*absent, *weight_files(config, resume)]:
        if Path(file) in made:
            state = "made by an earlier stage"
        elif Path(file).expanduser().is_file():
            state = "found"
        else:
            state = "MISSING"
            faults.append(_missing(option, file))
        lines.append(f"  {option}: {file} ({state})")
    losses = training.train.losses() if training else {}
    for option, name in [(option, name) for option, loss in losses.items() for name in loss.known_weights]:
        lines.append(f"  train.{option}: {name} (MISSING)")
        with _collected(faults, f"train.{option}: "):
            find_file(name)
            lines[-1] = f"  train.{option}: {name} (found)"
    with _collected(faults):
        metrics = config.val.metrics
        if training and not (training.datasets.measured("val") and config.val.val_freq):
            metrics = {}
        elif not training and all(data.type == "SingleImageDataset" for data in sets.values()):
            metrics = without_reference(metrics)
        if training and metrics:
            front_axes(training)
        faults += check_metrics(metrics, has_autoencoder=training is not None and training.train.aesop_opt is not None)
    written = [f"{config.run_folder}/", str(training.final_model)] if training else [f"{config.results_folder}/"]
    return [*lines, "would write:", *(f"  {path}" for path in written)], faults


def check_inputs(config: TrainConfig | TestConfig, source: object, resume: bool = False) -> None:
    """Raise ValueError naming every folder and weight file in the options that does not exist. See `dry_run_report`."""
    files = weight_files(config, resume)
    missing = [_missing(option, file) for option, file in files if not Path(file).expanduser().is_file()]
    missing += [fault for section, data in _sets(config).items() for fault in missing_roots(section, data)]
    if missing:
        raise ValueError(
            f"{source} names files or folders that do not exist; set them in the file or append key=value to the command "
            "(datasets.NAME=null leaves a set out):\n  " + "\n  ".join(missing)
        )


def missing_roots(section: str, data: PairedDataset) -> list[str]:
    """A fault for each folder of a data set that does not exist."""
    options = {f"datasets.{section}.dataroot_gt": data.dataroot_gt, f"datasets.{section}.dataroot_lq": data.dataroot_lq}
    roots = [
        (option, root) for option, given in options.items() for root in ([given] if isinstance(given, str) else given or [])
    ]
    return [_missing(option, root) for option, root in roots if not Path(root).expanduser().exists()]


def _missing(option: str, path: str) -> str:
    # Published files leave such a path to the user.
    return f"{option}: {path} {'has to be filled in' if re.match('<?YOUR[ _]', path) else 'does not exist'}"


@contextmanager
def _collected(faults: list[str], prefix: str = "") -> Generator[None]:
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        faults.append(f"{prefix}{error}")


def weight_files(config: TrainConfig | TestConfig, resume: bool = False) -> list[tuple[str, str]]:
    """The weight files that a training starts from or a test measures, each with its option."""
    path = config.path
    files = [("path.pretrain_network_g", path.pretrain_network_g)]
    if isinstance(config, TrainConfig):
        files += [
            ("path.pretrain_network_d", path.pretrain_network_d),
            ("path.pretrain_network_decoder", path.pretrain_network_decoder),
        ]
        if path.resume_state or (resume and states(config.run_folder / "state")):
            files = []
        aesop, perceptual = config.train.aesop_opt, config.train.perceptual_opt
        files += [
            ("train.aesop_opt.autoencoder_load", aesop.autoencoder_load.path if aesop and aesop.autoencoder_load else None),
            ("train.perceptual_opt.vgg_path", perceptual.vgg_path if perceptual else None),
            ("path.autoencoder_for_readings", path.autoencoder_for_readings),
        ]
    else:
        others = [path.compare_with] if isinstance(path.compare_with, str) else path.compare_with or []
        files += [("path.compare_with", file) for file in others]
    return [(option, file) for option, file in files if file]


def _sets(config: TrainConfig | TestConfig) -> dict[str, PairedDataset]:
    """The data sets that are read."""
    if isinstance(config, TrainConfig):
        return {"train": config.datasets.train, **config.datasets.measured("val")}
    return config.datasets.measured("test") or config.datasets.measured("val")


def _describe_set(config: TrainConfig | TestConfig, section: str, data: PairedDataset) -> str:
    """How many images a data set has, and where its LR images come from."""
    trained_on = isinstance(config, TrainConfig) and isinstance(data, TrainDataset)
    pairs = training_crops(config).pairs if trained_on else MeasuredPairs.find(data, section, config.scale).pairs
    if isinstance(pairs[0], Single):
        origin = "inputs without HR"
    elif trained_on and config.degradation:
        origin = "LR by random degradation"
    else:
        origin = "LR files" if pairs[0].lq else f"LR by bicubic 1/{config.scale}"
    return f"{len(pairs)} images, {origin}"

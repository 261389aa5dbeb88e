"""`--dry-run`: what a training or test would read, build and write, and what it lacks, before it starts."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from aesop.archs import build_network
from aesop.data.degradation.degrader import Degrader
from aesop.data.find_pairs import Single
from aesop.data.measured_pairs import MeasuredPairs
from aesop.metrics.build import check_metrics, without_reference
from aesop.options.config import CommonConfig, TestConfig, TrainConfig
from aesop.options.datasets import PairedDataset, TrainDataset
from aesop.system.device import pick_device
from aesop.training.training_images import training_images
from aesop.weights.pretrained import find_file


class Report(NamedTuple):
    lines: list[str]
    """What would happen."""
    faults: list[str]


def dry_run_training(config: TrainConfig, made: Collection[Path] = (), images: bool = True) -> Report:
    """Describe a training without training or writing anything.

    Args:
        made: files that earlier stages of a pipeline will have written by then.
        images: also look at the data sets. `aesop doctor` does this itself, in more detail.
    """
    report = Report([], [])
    _add_networks(config, report)
    if images:
        _add_sets(config, report)
    if config.degradation is not None:
        try:
            Degrader(config, rank=0)
        except ValueError as error:
            report.faults.append(str(error))
    report.lines.append("would read:")
    _add_files(_weights(config), report, made)
    for option, name in ((option, name) for option, loss in config.train.losses().items() for name in loss.known_weights):
        try:
            find_file(name)
            report.lines.append(f"  train.{option}: {name} (found)")
        except FileNotFoundError as error:
            report.lines.append(f"  train.{option}: {name} (MISSING)")
            report.faults.append(f"train.{option}: {error}")
    if config.datasets.measured("val") and config.val.val_freq:
        report.faults.extend(check_metrics(config.val.metrics, has_autoencoder=config.train.aesop_opt is not None))
    report.lines.extend(["would write:", f"  {config.run_folder}/", f"  {config.final_model}"])
    return report


def dry_run_test(config: TestConfig, images: bool = True) -> Report:
    """Describe what `aesop test` would do, like `dry_run_training`."""
    report = Report([], [])
    _add_networks(config, report)
    if images:
        _add_sets(config, report)
    report.lines.append("would read:")
    not_given = [] if config.path.pretrain_network_g else [("path.pretrain_network_g", "(not given)")]
    _add_files([*not_given, *_weights(config)], report)
    metrics = config.val.metrics
    try:
        if all(data.type == "SingleImageDataset" for data in _sets(config).values()):
            metrics = without_reference(metrics)
        report.faults.extend(check_metrics(metrics, has_autoencoder=False))
    except ValueError as error:
        report.faults.append(str(error))
    report.lines.extend(["would write:", f"  {config.results_folder}/"])
    return report


def check_inputs(config: TrainConfig | TestConfig, source: object) -> None:
    """Raise ValueError naming every folder and weight file in the options that does not exist."""
    missing = [_missing(option, file) for option, file in _weights(config) if not Path(file).expanduser().is_file()]
    missing += [fault for section, data in _sets(config).items() for fault in missing_roots(section, data)]
    if missing:
        raise ValueError(
            f"{source} names files or folders that do not exist; set them in the file or append key=value to the command "
            "(datasets.NAME=null leaves a set out):\n  " + "\n  ".join(missing)
        )


def missing_roots(section: str, data: PairedDataset) -> list[str]:
    """A fault for each folder of a data set that does not exist."""
    roots = {"dataroot_gt": data.dataroot_gt or [], "dataroot_lq": data.dataroot_lq or []}
    return [
        _missing(f"datasets.{section}.{option}", root)
        for option, given in roots.items()
        for root in ([given] if isinstance(given, str) else given)
        if not Path(root).expanduser().exists()
    ]


def _missing(option: str, path: str) -> str:
    # Published files leave such a path to the user.
    return f"{option}: {path} {'has to be filled in' if re.match('<?YOUR[ _]', path) else 'does not exist'}"


def _weights(config: TrainConfig | TestConfig) -> list[tuple[str, str]]:
    """The weight files that a training starts from or a test measures, each with its option."""
    path = config.path
    files = [("path.pretrain_network_g", path.pretrain_network_g)]
    if isinstance(config, TrainConfig):
        aesop, perceptual = config.train.aesop_opt, config.train.perceptual_opt
        files += [
            ("path.pretrain_network_d", path.pretrain_network_d),
            ("path.pretrain_network_decoder", path.pretrain_network_decoder),
            ("train.aesop_opt.autoencoder_load", aesop.autoencoder_load.path if aesop and aesop.autoencoder_load else None),
            ("train.perceptual_opt.vgg_path", perceptual.vgg_path if perceptual else None),
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


def _add_networks(config: CommonConfig, report: Report) -> None:
    """Device and networks, which are built at their full size."""
    try:
        report.lines.append(f"device: {pick_device(config.device)}")
    except ValueError as error:
        report.faults.append(str(error))
    for name, options in (("network_g", config.network_g), ("network_d", config.network_d)):
        if options is not None:
            try:
                count = sum(p.numel() for p in build_network(options.model_dump()).parameters())
                report.lines.append(f"{name}: {options.type}, {count:,} parameters")
            except ValueError as error:
                report.faults.append(f"{name}: {error}")


def _add_sets(config: TrainConfig | TestConfig, report: Report) -> None:
    """How many images each data set has, and where its LR images come from."""
    for section, data in _sets(config).items():
        if missing := missing_roots(section, data):
            report.faults.extend(missing)
            continue
        trained_on = isinstance(config, TrainConfig) and isinstance(data, TrainDataset)
        try:
            pairs = training_images(config).pairs if trained_on else MeasuredPairs(data, section, config.scale).pairs
        except ValueError as error:
            report.faults.append(str(error))
            continue
        if isinstance(pairs[0], Single):
            origin = "inputs without HR"
        elif trained_on and config.degradation:
            origin = "LR by random degradation"
        else:
            origin = "LR files" if pairs[0].lq else f"LR by bicubic 1/{config.scale}"
        report.lines.append(f"datasets.{section}: {len(pairs)} images, {origin}")


def _add_files(files: list[tuple[str, str]], report: Report, made: Collection[Path] = ()) -> None:
    for option, file in files:
        if Path(file) in made:
            state = "made by an earlier stage"
        elif Path(file).expanduser().is_file():
            state = "found"
        else:
            state = "MISSING"
            report.faults.append(_missing(option, file))
        report.lines.append(f"  {option}: {file} ({state})")

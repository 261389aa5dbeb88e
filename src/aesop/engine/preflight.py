"""Everything a training would read, build and write, looked at before it starts: `--dry-run`, and a pipeline's beginning."""

from collections.abc import Collection
from pathlib import Path

import torch

from aesop.archs import build_network
from aesop.config import Config
from aesop.data.pairs import MeasuredPairs, TrainingCrops
from aesop.device import pick_device
from aesop.engine.train import final_model, run_folder
from aesop.evaluate import check_metrics
from aesop.weights import find_pretrained, has_pretrained


def preflight(config: Config, made: Collection[Path] = ()) -> tuple[list[str], list[str]]:
    """Lines that describe the run, and every fault found, without training or writing anything.

    Args:
        made: files that an earlier stage of a pipeline will have written by then.
    """
    assert config.train is not None
    assert config.datasets.train is not None
    lines: list[str] = []
    faults: list[str] = []
    try:
        lines.append(f"device: {pick_device(config.device)}")
    except ValueError as error:
        faults.append(str(error))
    for name, options in (("network_g", config.network_g), ("network_d", config.network_d)):
        if options is not None:
            with torch.device("meta"):
                count = sum(p.numel() for p in build_network(options.model_dump()).parameters())
            lines.append(f"{name}: {options.type}, {count:,} parameters")
    crops = config.datasets.train
    datasets = {"train": lambda: TrainingCrops(crops, config.scale, config.manual_seed)}
    for section, data in config.datasets.measured("val").items():
        datasets[section] = lambda data=data, section=section: MeasuredPairs(data, section, config.scale)
    for section, open_dataset in datasets.items():
        try:
            pairs = open_dataset().pairs
            origin = "LR files" if pairs[0].lq else f"LR by bicubic 1/{config.scale}"
            lines.append(f"datasets.{section}: {len(pairs)} images, {origin}")
        except ValueError as error:
            faults.append(str(error))
    lines.append("would read:")
    for option, file in starting_files(config).items():
        there = "made by a stage before" if Path(file) in made else "found" if Path(file).is_file() else "MISSING"
        lines.append(f"  {option}: {file} ({there})")
        if there == "MISSING":
            faults.append(f"{option}: {file} does not exist")
    if (percep := config.train.perceptual_opt) is not None and percep.vgg_path is None:
        there = "found" if has_pretrained(percep.vgg_type) else "MISSING"
        lines.append(f"  train.perceptual_opt: {percep.vgg_type} ({there})")
        if there == "MISSING":
            try:
                find_pretrained(percep.vgg_type)
            except FileNotFoundError as error:
                faults.append(f"train.perceptual_opt: {error}")
    if config.datasets.measured("val") and config.val.val_freq:
        faults += check_metrics(config.val.metrics, has_autoencoder=config.train.aesop_opt is not None)
    lines += ["would write:", f"  {run_folder(config)}/", f"  {final_model(config)}"]
    return lines, faults


def starting_files(config: Config) -> dict[str, str]:
    """The weight files a training starts from, by the option that names them."""
    assert config.train is not None
    aesop, percep = config.train.aesop_opt, config.train.perceptual_opt
    files = {
        "path.pretrain_network_g": config.path.pretrain_network_g,
        "path.pretrain_network_d": config.path.pretrain_network_d,
        "path.pretrain_network_decoder": config.path.pretrain_network_decoder,
        "train.aesop_opt.autoencoder_load": aesop.autoencoder_load.path if aesop and aesop.autoencoder_load else None,
        "train.perceptual_opt.vgg_path": percep.vgg_path if percep else None,
    }
    return {option: file for option, file in files.items() if file}

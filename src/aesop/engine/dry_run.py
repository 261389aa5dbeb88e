"""`--dry-run`: the resolved configuration, sizes, and every file that would be read and written."""

from pathlib import Path

import torch

from aesop.archs import build_network
from aesop.config import Config
from aesop.data.pairs import find_pairs
from aesop.device import pick_device
from aesop.engine.train import final_model, run_folder


def describe(config: Config, made_before: set[Path] | None = None) -> str:
    """Text for the terminal. Files that exist are checked; `made_before` holds those a former stage will make."""
    assert config.train is not None
    lines = [config.to_yaml().rstrip(), "", f"device: {pick_device(config.device)}"]
    for name, options in (("network_g", config.network_g), ("network_d", config.network_d)):
        if options is not None:
            with torch.device("meta"):
                count = sum(p.numel() for p in build_network(options.model_dump()).parameters())
            lines.append(f"{name}: {options.type}, {count:,} parameters")
    sections = {"train": config.datasets.train, **config.datasets.measured("val")}
    for section, data in sections.items():
        if data is not None:
            pairs = find_pairs(data, section)
            origin = "LR files" if pairs[0].lq else f"LR by bicubic 1/{config.scale}"
            lines.append(f"datasets.{section}: {len(pairs)} images, {origin}")
    lines.append("would read:")
    aesop = config.train.aesop_opt
    files = {
        "path.pretrain_network_g": config.path.pretrain_network_g,
        "path.pretrain_network_d": config.path.pretrain_network_d,
        "path.pretrain_network_decoder": config.path.pretrain_network_decoder,
        "train.aesop_opt.autoencoder_load": aesop.autoencoder_load.path if aesop and aesop.autoencoder_load else None,
    }
    for option, file in files.items():
        if file is not None:
            there = "found" if Path(file).is_file() else "MISSING"
            if made_before and Path(file) in made_before:
                there = "made by a stage before"
            lines.append(f"  {option}: {file} ({there})")
    lines += ["would write:", f"  {run_folder(config)}/", f"  {final_model(config)}"]
    if made_before is not None:
        made_before.add(final_model(config))
    return "\n".join(lines)

"""`aesop bench CONFIG`: how fast a training runs on this machine, and where the time goes."""

from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console
from rich.table import Column, Table

from aesop.check.time_and_memory import estimate
from aesop.options.config import TrainConfig
from aesop.system.device import pick_device
from aesop.system.terminal import Note, progress
from aesop.system.wording import readable


def run(config: TrainConfig, seconds: float, console: Console) -> dict[str, Any]:
    """Make steps on the real data for about `seconds`, then each part of a step alone; print and return the times."""
    device, batch, side = pick_device(config.device), config.datasets.train.batch_size_per_gpu, config.datasets.train.gt_size
    with progress.status("measuring"):
        measured, replaced = estimate(config, seconds=seconds, with_parts=True)
    notes = [f"measured with untrained weights for {', '.join(replaced)}"] if replaced else []
    for note in (*notes, *measured.said):
        console.print(Note(f"note: {note}"))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    memory = f", peak memory {readable(measured.memory)}" if measured.memory else ""
    console.print(
        f"{config.name}: {config.stage} stage on {name}, {config.precision}, batch {batch} x {side} px: "
        f"{batch / measured.seconds:.3g} images/s, {measured.seconds:.3g} s per step{memory}, {measured.waiting:.0%} of the "
        "time waiting for data"
    )
    table = Table("part, alone", Column("ms", justify="right"), Column("share", justify="right"))
    total = sum(measured.parts.values())
    for part, spent in sorted(measured.parts.items(), key=lambda entry: -entry[1]):
        table.add_row(part, f"{1000 * spent:.1f}", f"{spent / total:.0%}")
    console.print(table)
    return asdict(measured) | {"device": name, "precision": config.precision, "batch": batch}

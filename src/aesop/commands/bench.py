"""`aesop bench CONFIG`: what a training costs on this machine, and where its time goes."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from aesop.check.time_and_memory import estimate
from aesop.options.config import TrainConfig
from aesop.system.device import pick_device
from aesop.system.files import replacing
from aesop.system.wording import readable


def run(config: TrainConfig, seconds: float, output: Path | None, console: Console) -> None:
    """Make steps on the real data for about `seconds` seconds, then each part alone; print, and write `output` as JSON.

    Raises:
        MemoryError, ValueError, OSError: when it cannot run.
    """
    device, crops = pick_device(config.device), config.datasets.train
    with Console(stderr=True).status("a short run"):
        measured, missing = estimate(config, seconds=seconds, with_parts=True)
    if missing:
        console.print(f"note: measured with untrained weights in place of {', '.join(missing)}", markup=False)
    for line in measured.said:
        console.print(f"note: {line}", markup=False, highlight=False, soft_wrap=True)
    batch = crops.batch_size_per_gpu
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    memory = f", {readable(measured.memory)} at the peak" if measured.memory else ""
    console.print(
        f"{config.name}: {config.stage} stage on {name}, {config.precision}, batch {batch} x {crops.gt_size} px: "
        f"{batch / measured.seconds:.3g} images/s, {measured.seconds:.3g} s a step{memory}; "
        f"{measured.waiting:.0%} of the time waits for data",
        markup=False, highlight=False,
    )  # fmt: skip
    table = Table("part, alone", "ms", "share")
    for column in table.columns[1:]:
        column.justify = "right"
    total = sum(measured.parts.values())
    for part, spent in sorted(measured.parts.items(), key=lambda entry: -entry[1]):
        table.add_row(part, f"{1000 * spent:.1f}", f"{spent / total:.0%}")
    console.print(table)
    if output is not None:
        with replacing(output) as temporary:
            content = asdict(measured) | {"device": name, "precision": config.precision, "batch": batch}
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

"""`aesop prepare`: what is done once to a set of photographs so that a training reads them faster."""

import shutil
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from aesop.check.image_audit import usable_cores
from aesop.images.errors import ImageError
from aesop.images.listing import list_images
from aesop.images.pack import CHANNELS, write
from aesop.images.read import image_size, read_image_uint8


def pack(inputs: Sequence[Path], output: Path, overwrite: bool, console: Console) -> None:
    """Decode all images of folders into the pack `output` (see data.pack), in the order a training would list them.

    Of one folder the images' names are those below it; of several they begin with the folder's name.

    Raises:
        ValueError: another ending than .pack, an output that exists, folders without images, two images of one name,
            images that cannot be read (all whose headers are wrong are counted), or too little space on the disk.
    """
    if output.suffix != ".pack":
        raise ValueError(f"--output: a pack's name ends in .pack, found {output}")
    if output.is_dir():
        raise ValueError(f"--output: {output} is a folder; a pack is a file")
    if output.exists() and not overwrite:
        raise ValueError(f"{output} exists: choose another name, or replace it with --overwrite")
    files = _find(inputs)
    needed = _bytes_needed(list(files.values()))
    place = next(parent for parent in output.absolute().parents if parent.exists())
    if (free := shutil.disk_usage(place).free) < needed:
        raise ValueError(
            f"{len(files)} decoded images take {needed / 1e9:.1f} GB, {place} has {free / 1e9:.1f} GB free: make room, or "
            "give another place with --output"
        )

    def decoded() -> Generator[tuple[str, np.ndarray]]:
        names, cores = list(files), usable_cores()
        with ThreadPoolExecutor(cores) as threads:
            # A few at a time: decoding is faster than many a disk.
            for start in range(0, len(names), cores):
                part = names[start : start + cores]
                yield from zip(part, threads.map(read_image_uint8, [files[name] for name in part]), strict=True)

    write(output, track(decoded(), "packing", len(files), console=console, disable=not console.is_terminal))
    console.print(
        f"{len(files)} images, {output.stat().st_size / 1e9:.2f} GB: {output}. To train on it: "
        f"datasets.train.dataroot_gt={output}",
        markup=False,
        highlight=False,
    )


def _find(folders: Sequence[Path]) -> dict[str, Path]:
    """Name in the pack -> file."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in list_images(folder):
            relative = path.relative_to(folder)
            name = (relative if len(folders) == 1 else folder.absolute().name / relative).as_posix()
            if name in found:
                raise ValueError(f"{path} and {found[name]} would both be named {name!r} in the pack: rename one folder")
            found[name] = path
    return found


def _bytes_needed(files: Sequence[Path]) -> int:
    """Of the decoded images, from their headers."""
    total, faults = 0, []
    for path in files:
        try:
            width, height = image_size(path)
            total += width * height * CHANNELS
        except ImageError as error:
            faults.append(str(error))
    if faults:
        raise ImageError(
            f"{len(faults)} of {len(files)} images cannot be read: {'; '.join(faults[:3])}{'; ...' if faults[3:] else ''}. "
            "Repair or remove them"
        )
    return total

"""`aesop prepare`: converting images once, so that trainings read them faster."""

import shutil
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from aesop.images.errors import ImageError
from aesop.images.listing import by_name, list_images
from aesop.images.pack import CHANNELS, write
from aesop.images.read import ImageFile
from aesop.system.device import usable_cores
from aesop.system.terminal import Note, shows_progress
from aesop.system.wording import first_few


def pack(inputs: Sequence[Path], output: Path, overwrite: bool, console: Console) -> dict[str, Any]:
    """Decode all images of folders into a pack (see images/pack.py), in the order in which they are listed.

    The images are named by their paths below the folder. Of several folders the names begin with the folder's name.
    Prints and returns what was written.
    """
    if output.suffix != ".pack":
        raise ValueError(f"--output: a pack's name ends in .pack, found {output}")
    if output.is_dir():
        raise ValueError(f"--output: {output} is a folder; a pack is a file")
    if output.exists() and not overwrite:
        raise ValueError(f"{output} exists: choose another name, or replace it with --overwrite")
    images = by_name(
        (f"{folder.absolute().name}/{image.name}" if len(inputs) > 1 else image.name, image)
        for folder in inputs
        for image in list_images(folder)
    )
    needed = _bytes_needed([*images.values()])
    place = next(parent for parent in output.absolute().parents if parent.exists())
    if (free := shutil.disk_usage(place).free) < needed:
        raise ValueError(
            f"{len(images)} decoded images take {needed / 1e9:.1f} GB, but {place} has {free / 1e9:.1f} GB free: free "
            "space, or choose another place with --output"
        )
    write(output, track(_decoded(images), "packing", len(images), console=console, disable=not shows_progress(console)))
    size = output.stat().st_size
    what = f"{len(images)} images, {size / 1e9:.2f} GB"
    console.print(Note(f"{what}: {output}. To train on it: datasets.train.dataroot_gt={output}"))
    return {"written": output, "images": len(images), "bytes": size}


def _decoded(images: Mapping[str, ImageFile]) -> Generator[tuple[str, np.ndarray]]:
    names, cores = list(images), usable_cores()
    with ThreadPoolExecutor(cores) as threads:
        # In small parts: decoding may be faster than writing, and what waits is kept in memory.
        for start in range(0, len(names), cores):
            part = names[start : start + cores]
            yield from zip(part, threads.map(lambda name: images[name].read_uint8(), part), strict=True)


def _bytes_needed(images: Sequence[ImageFile]) -> int:
    """Return the size of the decoded images, from their headers."""
    total, faults = 0, []
    for image in images:
        try:
            width, height = image.size()
            total += width * height * CHANNELS
        except ImageError as error:
            faults.append(error)
    if faults:
        raise ImageError(f"{len(faults)} of {len(images)} images cannot be read: {first_few(faults)}. Repair or remove them")
    return total

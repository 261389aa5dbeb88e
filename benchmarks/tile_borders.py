"""Measure how far the borders of tiles show: what the overlaps in `aesop.inference.upscaler` are chosen from.

    python benchmarks/tile_borders.py [MODEL ...] [--pictures 2] [--record]

Parts of 320 x 240 pixels of the most detailed photographs pass through the network whole, and cut into halves: left, right,
upper, lower. All results are rounded to 8 bits. What differs at d input pixels from a cut is what the border of a tile
changes there. The overlap that is needed is the least one with which tiles, cross-faded as in `aesop.inference.tiling`,
differ from the whole by at most one level at these cuts.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import aesop
from aesop.images.read import ImageFile
from aesop.images.tensors import to_array, to_tensor
from aesop.inference.models import find_model
from aesop.inference.tiling import GRAIN, Axis
from aesop.inference.upscaler import default_tiling
from aesop.weights.load import load_generator
from record import described, write

PHOTOS = Path(aesop.__file__).parent / "assets" / "photos"
WIDTH, HEIGHT = 320, 240
DISTANCES = (0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 72, 80, 96, 112)
CPU = torch.device("cpu")


def detailed_pictures(count: int) -> list[tuple[str, np.ndarray]]:
    found = []
    for path in sorted(PHOTOS.glob("*/*.[jp][pn]g")):
        image = ImageFile.at(path).read_uint8()
        if image.shape[1] < WIDTH or image.shape[0] < HEIGHT:
            continue
        top, left = (image.shape[0] - HEIGHT) // 2, (image.shape[1] - WIDTH) // 2
        middle = np.ascontiguousarray(image[top : top + HEIGHT, left : left + WIDTH])
        found.append((np.abs(np.diff(middle.astype(int), axis=1)).mean(), path.name, middle))
    return [(name, picture) for _, name, picture in sorted(found, key=lambda each: -each[0])[:count]]


def by_distance(net: nn.Module, scale: int, pictures: list[np.ndarray]) -> list[np.ndarray]:
    """The absolute differences in levels at each distance from a cut, in input pixels."""

    def run(image: np.ndarray) -> np.ndarray:
        return to_array(net(to_tensor(np.ascontiguousarray(image))[None])[0]).astype(int)

    found: list[list[np.ndarray]] = [[] for _ in range(max(WIDTH, HEIGHT) // 2)]
    for picture in pictures:
        whole = run(picture)
        for axis in (0, 1):
            middle = picture.shape[axis] // 2
            first, second = (slice(None, middle), slice(middle, None))
            for part, large in ((first, slice(None, middle * scale)), (second, slice(middle * scale, None))):
                index, place = ((part,), (large,)) if axis == 0 else ((slice(None), part), (slice(None), large))
                difference = np.moveaxis(np.abs(run(picture[index]) - whole[place]), axis, 0)
                difference = difference[::-1] if part is first else difference  # from the cut on
                for distance in range(middle):
                    found[distance].append(difference[distance * scale : (distance + 1) * scale].ravel())
    return [np.concatenate(each) for each in found if each]


def needed_overlap(largest: list[int]) -> int | None:
    """The least overlap at which no pixel differs by more than one level, if both tiles err as much as any has."""
    for overlap in range(GRAIN, len(largest) + 1, GRAIN):
        weights = Axis(10_000, (0, 10_000 - overlap), overlap).weights(1)[1].numpy()  # of the right tile, from its border on
        blended = [
            weights[distance] * largest[distance] + (1 - weights[distance]) * largest[overlap - 1 - distance]
            for distance in range(overlap)
        ]
        if max(blended) < 1.5 and max(largest[overlap:], default=0) <= 1:
            return overlap
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="weight files (default: the shipped model)")
    parser.add_argument("--pictures", type=int, default=2)
    parser.add_argument("--record", metavar="NAME", help="write results/NAME_<date>_cpu.json, such as tile_borders")
    arguments = parser.parse_args()
    pictures, results = detailed_pictures(arguments.pictures), []
    for model in arguments.models or [None]:
        path = find_model(model)
        net, info = load_generator(path)
        parameters = sum(weight.numel() for weight in net.parameters())
        print(f"\n{path.name}: {info.arch}, {parameters / 1e6:.1f} million parameters\n")
        with torch.inference_mode():
            found = by_distance(net, info.scale, [picture for _, picture in pictures])
        largest = [int(each.max()) for each in found]
        result: dict[str, Any] = {"model": path.name, "network": info.arch, "parameters": parameters}
        result |= {"largest_at": largest, "needed": needed_overlap(largest), "default": default_tiling(net)[1]}
        result["mean_at"] = [float(each.mean()) for each in found]
        result["share_above_1_at"] = [float((each > 1).mean()) for each in found]
        results.append(result)
        print("| px from a cut | largest difference | from here on | > 1 level | mean |")
        print("| --- | --- | --- | --- | --- |")
        for distance in DISTANCES:
            levels = f"{largest[distance]} | {max(largest[distance:])}"
            print(
                f"| {distance} | {levels} | {result['share_above_1_at'][distance]:.3%} | {result['mean_at'][distance]:.3f} |"
            )
        print(f"\noverlap needed: {result['needed']}, by default: {result['default']}", flush=True)
    if arguments.record:
        write(arguments.record, described(CPU) | {"pictures": [name for name, _ in pictures], "models": results})


if __name__ == "__main__":
    main()

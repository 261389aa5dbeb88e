"""Measure how far into a tile its borders show: what the overlaps in `aesop.inference.overlap` are chosen from.

    python benchmarks/tile_borders.py [MODEL ...] [--images FOLDER] [--crops 3] [--record]

Crops of 320 x 96 pixels of photographs pass through the network whole, and without their first 64 columns. The two results,
rounded to 8 bits, are compared column by column: at d input pixels from the cut, the difference is what a tile's border
changes there. Printed are the largest difference and the share of values that differ by more than one level, by d.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

import aesop
from aesop.images.read import ImageFile
from aesop.images.tensors import to_array, to_tensor
from aesop.inference.models import find_model
from aesop.weights.load import load_generator
from record import described, write

PHOTOS = Path(aesop.__file__).parent / "assets" / "photos" / "train"
WIDTH, HEIGHT, CUT = 320, 96, 64
DISTANCES = (0, 2, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 112, 128, 160, 192)
CPU = torch.device("cpu")


def crops_of(folder: Path, count: int) -> list[np.ndarray]:
    """The middles of the first photographs, with their most detailed rows."""
    crops = []
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".jpg", ".png")):
        image = ImageFile.at(path).read_uint8()
        if image.shape[1] < WIDTH or image.shape[0] < HEIGHT:
            continue
        left = (image.shape[1] - WIDTH) // 2
        middle = image[:, left : left + WIDTH]
        detail = np.abs(np.diff(middle.astype(int), axis=1)).sum((1, 2))
        sums = np.convolve(detail, np.ones(HEIGHT), "valid")
        top = int(sums.argmax())
        crops.append(np.ascontiguousarray(middle[top : top + HEIGHT]))
        if len(crops) == count:
            break
    return crops


def measure(model: str | None, crops: list[np.ndarray]) -> dict[str, Any]:
    path = find_model(model)
    net, info = load_generator(path)
    differences = []
    with torch.inference_mode():
        for crop in crops:
            whole = to_array(net(to_tensor(crop)[None])[0])[:, CUT * info.scale :]
            part = to_array(net(to_tensor(np.ascontiguousarray(crop[:, CUT:]))[None])[0])
            difference = np.abs(whole.astype(int) - part)
            columns = difference.reshape(len(difference), -1, info.scale, 3)
            differences.append(columns.transpose(1, 0, 2, 3).reshape(WIDTH - CUT, -1))
    by_distance = np.concatenate(differences, 1)
    rows = []
    for distance in DISTANCES:
        beyond = by_distance[distance:]
        here = by_distance[distance : distance + 4]
        rows.append(
            {
                "distance": distance,
                "largest_beyond": int(beyond.max()),
                "share_above_1": float((here > 1).mean()),
                "share_above_10": float((here > 10).mean()),
                "mean": float(here.mean()),
            }
        )
    return {
        "model": path.name,
        "network": info.arch,
        "parameters": sum(weight.numel() for weight in net.parameters()),
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="weight files (default: the shipped model)")
    parser.add_argument("--images", type=Path, default=PHOTOS)
    parser.add_argument("--crops", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="write results/tile_borders_<date>_cpu.json")
    arguments = parser.parse_args()
    crops = crops_of(arguments.images, arguments.crops)
    results = []
    for model in arguments.models or [None]:
        result = measure(model, crops)
        results.append(result)
        print(f"\n{result['model']}: {result['network']}, {result['parameters'] / 1e6:.1f} million parameters\n")
        print("| px from the cut | largest beyond | > 1 level here | > 10 levels | mean |\n| --- | --- | --- | --- | --- |")
        for row in result["rows"]:
            shares = f"{row['share_above_1']:.3%} | {row['share_above_10']:.3%} | {row['mean']:.3f}"
            print(f"| {row['distance']} | {row['largest_beyond']} | {shares} |", flush=True)
    if arguments.record:
        write("tile_borders", described(CPU) | {"crops": len(crops), "images": arguments.images.name, "models": results})


if __name__ == "__main__":
    main()

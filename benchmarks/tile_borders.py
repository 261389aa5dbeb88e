"""Measure how far the borders of tiles show: what the overlaps in `aesop.inference.upscaler` are chosen from.

    python benchmarks/tile_borders.py [MODEL ...] [--images FOLDER] [--crops 4] [--picture FILE] [--record]

Crops of 320 x 96 pixels, the most detailed of the photographs, pass through the network whole, and without their first 64
columns. Both results are rounded to 8 bits and compared column by column: what differs at d input pixels from the cut is
what a border changes there. Then the picture is upscaled in tiles of 256 pixels, with the overlap that is the default for
the network, and compared with what the network makes of the whole.
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
from aesop.inference.tiling import upscale_image
from aesop.inference.upscaler import default_tiling
from aesop.weights.load import load_generator
from record import described, write

PHOTOS = Path(aesop.__file__).parent / "assets" / "photos"
WIDTH, HEIGHT, CUT, TILE = 320, 96, 64, 256
DISTANCES = (0, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 72, 80, 96, 112, 128, 160, 192)
CPU = torch.device("cpu")


def detailed_crops(folder: Path, count: int) -> list[np.ndarray]:
    found = []
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".jpg", ".png")):
        image = ImageFile.at(path).read_uint8()
        if image.shape[1] < WIDTH or image.shape[0] < HEIGHT:
            continue
        left = (image.shape[1] - WIDTH) // 2
        middle = image[:, left : left + WIDTH]
        detail = np.convolve(np.abs(np.diff(middle.astype(int), axis=1)).sum((1, 2)), np.ones(HEIGHT), "valid")
        top = int(detail.argmax())
        found.append((detail[top], path.name, np.ascontiguousarray(middle[top : top + HEIGHT])))
    return [crop for _, _, crop in sorted(found, key=lambda each: (-each[0], each[1]))[:count]]


def by_distance(net: nn.Module, scale: int, crops: list[np.ndarray]) -> list[dict[str, Any]]:
    differences = []
    for crop in crops:
        whole = to_array(net(to_tensor(crop)[None])[0])[:, CUT * scale :]
        part = to_array(net(to_tensor(np.ascontiguousarray(crop[:, CUT:]))[None])[0])
        columns = np.abs(whole.astype(int) - part).reshape(len(whole), -1, scale, 3)
        differences.append(columns.transpose(1, 0, 2, 3).reshape(WIDTH - CUT, -1))
    all_crops = np.concatenate(differences, 1)
    rows = []
    for distance in DISTANCES:
        here = all_crops[distance : distance + 4]
        shares = {f"share_above_{levels}": float((here > levels).mean()) for levels in (1, 10)}
        row = {"distance": distance, "largest_beyond": int(all_crops[distance:].max()), "mean": float(here.mean())}
        rows.append(row | shares)
    return rows


def in_tiles(net: nn.Module, scale: int, overlap: int, picture: np.ndarray) -> dict[str, Any]:
    whole = upscale_image(net, picture, scale, tile=0, device=CPU).astype(int)
    tiled = upscale_image(net, picture, scale, tile=TILE, overlap=overlap, device=CPU)
    difference = np.abs(whole - tiled)
    return {"overlap": overlap, "largest": int(difference.max()), "share": float((difference > 0).mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="weight files (default: the shipped model)")
    parser.add_argument("--images", type=Path, default=PHOTOS / "train")
    parser.add_argument("--crops", type=int, default=4)
    parser.add_argument("--picture", type=Path, default=PHOTOS / "heldout" / "pagoda.png")
    parser.add_argument("--record", action="store_true", help="write results/tile_borders_<date>_cpu.json")
    arguments = parser.parse_args()
    crops, picture, results = (
        detailed_crops(arguments.images, arguments.crops),
        ImageFile.at(arguments.picture).read_uint8(),
        [],
    )
    for model in arguments.models or [None]:
        path = find_model(model)
        net, info = load_generator(path)
        parameters = sum(weight.numel() for weight in net.parameters())
        print(f"\n{path.name}: {info.arch}, {parameters / 1e6:.1f} million parameters\n")
        print("| px from the cut | largest beyond | > 1 level here | > 10 levels | mean |\n| --- | --- | --- | --- | --- |")
        with torch.inference_mode():
            rows = by_distance(net, info.scale, crops)
        for row in rows:
            shares = f"{row['share_above_1']:.3%} | {row['share_above_10']:.3%} | {row['mean']:.3f}"
            print(f"| {row['distance']} | {row['largest_beyond']} | {shares} |", flush=True)
        tiled = in_tiles(net, info.scale, default_tiling(net)[1], picture)
        print(
            f"\nin tiles of {TILE} that overlap by {tiled['overlap']}: at most {tiled['largest']} levels from the whole, "
            f"{tiled['share']:.3%} differ",
            flush=True,
        )
        results.append(
            {"model": path.name, "network": info.arch, "parameters": parameters, "from_a_cut": rows, "in_tiles": tiled}
        )
    if arguments.record:
        names = {"images": arguments.images.name, "crops": len(crops), "picture": arguments.picture.name}
        write("tile_borders", described(CPU) | names | {"models": results})


if __name__ == "__main__":
    main()

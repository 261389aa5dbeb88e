"""Measure upscaling on the CPU: plain PyTorch, `aesop upscale`, and `aesop upscale --runtime openvino`.

    python benchmarks/upscale_cpu.py [--image FILE] [--blocks 23] [--repeats 5] [--record]

RRDBNet with 64 features, x4, fp32, on 128x128 tiles of one of the demo's photographs. The methods alternate, tile by
tile. "Plain" is the network as the paper describes it: contiguous tensors and a new tensor for every activation. Weights
are random, scaled so that the image fills its range, which does not affect the time. The difference is the largest one
between the 8-bit images, in grey levels. "Of a product" is the rate of operations relative to a float32 matrix product.
Without the packages of the extra `cpu`, the third method is left out.
"""

import argparse
import copy
import statistics
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import aesop
from aesop.archs.rrdbnet import RRDBNet
from aesop.images.read import ImageFile
from aesop.images.tensors import to_array, to_tensor
from aesop.inference.openvino_runtime import Converted, with_runtime
from aesop.inference.tiling import upscale_image
from record import described, write

PHOTOS = Path(aesop.__file__).parent / "assets" / "photos" / "train"
SCALE, TILE, CPU = 4, 128, torch.device("cpu")


class Plain(nn.Module):
    """A plain RRDBNet x4 with the weights of `net`."""

    def __init__(self, net: RRDBNet):
        super().__init__()
        self.net = copy.deepcopy(net)

    def dense(self, block: nn.Module, x: Tensor) -> Tensor:
        features = x
        for k in range(1, 5):
            features = torch.cat((features, F.leaky_relu(block.get_submodule(f"conv{k}")(features), 0.2)), 1)
        return block.get_submodule("conv5")(features) * 0.2 + x

    def forward(self, x: Tensor) -> Tensor:
        feat = first = self.net.conv_first(x)
        for block in self.net.body:
            inner = feat
            for k in range(1, 4):
                inner = self.dense(block.get_submodule(f"rdb{k}"), inner)
            feat = inner * 0.2 + feat
        feat = self.net.conv_body(feat) + first
        for k in (1, 2):
            feat = F.leaky_relu(self.net.get_submodule(f"conv_up{k}")(F.interpolate(feat, scale_factor=2.0)), 0.2)
        return self.net.conv_last(F.leaky_relu(self.net.conv_hr(feat), 0.2))


def network(blocks: int, tile: np.ndarray) -> RRDBNet:
    torch.manual_seed(0)
    net = RRDBNet(num_block=blocks).eval()
    with torch.no_grad():
        result = net(to_tensor(tile)[None])
        gain = 0.2 / result.std()
        net.conv_last.weight.mul_(gain)
        net.conv_last.bias.copy_(0.5 - result.mean((0, 2, 3)) * gain)
    return net


def measure(net: RRDBNet, tiles: list[np.ndarray], repeats: int) -> tuple[list[dict[str, Any]], str | None]:
    """Return a row for each method, the plain one first, and the message of the runtime."""
    plain = Plain(net).eval()

    def plainly(tile: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return to_array(plain(to_tensor(tile)[None])[0])

    ways = {"plain PyTorch": plainly, "aesop upscale": lambda tile: upscale_image(net, tile, SCALE, device=CPU)}
    try:
        converted, line = with_runtime(net, "openvino", CPU, "fp32")
    except ValueError as error:
        converted, line = None, str(error)
    if isinstance(converted, Converted):
        ways["--runtime openvino"] = lambda tile: upscale_image(converted, tile, SCALE, device=CPU)
    first = {name: way(tiles[0]).astype(int) for name, way in ways.items()}
    durations: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats):
        for name, way in ways.items():
            begun = time.perf_counter()
            way(tiles[number % len(tiles)])
            durations[name].append(time.perf_counter() - begun)
    rows = []
    for name, each in durations.items():
        rows.append(
            {
                "way": name,
                "s_per_tile": statistics.median(each),
                "fastest_s": min(each),
                "ratio": statistics.median(durations["plain PyTorch"]) / statistics.median(each),
                "ratio_of_fastest": min(durations["plain PyTorch"]) / min(each),
                "grey_levels_apart": int(np.abs(first[name] - first["plain PyTorch"]).max()),
            }
        )
    return rows, line


def work_of_a_tile(net: RRDBNet) -> float:
    """Return the floating-point operations of one tile with direct convolutions."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        copy.deepcopy(net).to("meta")(torch.empty(1, 3, TILE, TILE))
    return counter.get_total_flops()


def matrix_rate(side: int = 2048, repeats: int = 10) -> float:
    """Return the operations per second of a float32 matrix product, an approximate upper bound of this processor."""
    a, b, seconds = torch.rand(side, side), torch.rand(side, side), []
    for _ in range(repeats):
        begun = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - begun)
    return 2 * side**3 / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, help="image file (default: a photograph of the demo)")
    parser.add_argument("--blocks", type=int, default=23)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--note", help="note for the record, such as other load on the machine")
    parser.add_argument("--record", action="store_true", help="write results/upscale_<date>_cpu.json")
    arguments = parser.parse_args()
    photo = min(p for p in PHOTOS.iterdir() if p.suffix in (".png", ".jpg", ".webp"))
    image = ImageFile.at(arguments.image or photo).read()
    height, width = image.shape[:2]
    tiles = [
        np.ascontiguousarray(image[y : y + TILE, x : x + TILE])
        for y in range(0, height - TILE + 1, TILE)
        for x in range(0, width - TILE + 1, TILE)
    ]
    record = described(CPU) | {"blocks": arguments.blocks, "repeats": arguments.repeats, "note": arguments.note}
    with suppress(PackageNotFoundError):
        record["versions"]["openvino"] = version("openvino")
    print(f"{record['date']}, {record['machine']}, {record['versions']}\n")
    net = network(arguments.blocks, tiles[0])
    record["ways"], record["runtime"] = rows, line = measure(net, tiles, arguments.repeats)
    record["flops"], record["matrix_flops_per_s"] = flops, rate = work_of_a_tile(net), matrix_rate()
    print("| method | s per tile, median | s, fastest | vs plain, median | vs plain, fastest | of a product | difference |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        times = f"{row['s_per_tile']:.2f} | {row['fastest_s']:.2f} | {row['ratio']:.2f} | {row['ratio_of_fastest']:.2f}"
        share = flops / row["fastest_s"] / rate
        print(f"| {row['way']} | {times} | {share:.0%} | {row['grey_levels_apart']} |")
    print(f"\nA tile is {flops / 1e9:.0f} GFLOP; a matrix product in float32 runs at {rate / 1e9:.0f} GFLOP/s")
    print(f"\n{line}")
    if arguments.record:
        write("upscale", record)


if __name__ == "__main__":
    main()

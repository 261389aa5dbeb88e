"""Export every kind of network to every format, in fp32 and fp16: differences from PyTorch as a Markdown table.

python benchmarks/export_table.py [FILE...] [--output FILE] [--record]

The networks are small ones with random weights, scaled so that their image of a photograph has contrast; each weight file
adds a row. `aesop export` writes, runs, and compares them, and what it refuses is in the table with its reason.
"""

import argparse
import hashlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

import record
from aesop.archs import build_network
from aesop.commands.export import export
from aesop.conversion import onnx_format, openvino_format
from aesop.conversion.onnx_format import to_onnx
from aesop.conversion.targets import TARGETS
from aesop.images.photograph import photograph_for
from aesop.system.files import replacing
from aesop.weights.load import load_generator
from aesop.weights.save import save_weights

RRDB = {"type": "RRDBNet", "num_feat": 16, "num_block": 1, "num_grow_ch": 8}
SWIN = {"depths": [2, 2], "embed_dim": 24, "num_heads": [2, 2], "mlp_ratio": 2, "upsampler": "pixelshuffle"}
WINDOWS = {"upscale": 4, "in_chans": 3, "img_size": 48, "window_size": 8, "resi_connection": "1conv", **SWIN}
NETWORKS = {
    **{f"RRDBNet x{scale}": {**RRDB, "scale": scale} for scale in (1, 2, 3, 4, 8)},
    "RRDBNet x4, gray": {**RRDB, "num_in_ch": 1, "num_out_ch": 1},
    "SwinIR x4": {"type": "SwinIR", **WINDOWS},
    "DRCT x4": {"type": "DRCT", **WINDOWS, "depths": [6], "num_heads": [2], "gc": 8},
    "Compact (SRVGG) x4": {"type": "Compact", "num_feat": 24, "num_conv": 4, "upscale": 4},
    "SPAN x4": {"type": "SPAN", "num_in_ch": 3, "num_out_ch": 3, "feature_channels": 24, "upscale": 4},
    "MSRResNet x4": {"type": "MSRResNet", "num_feat": 24, "num_block": 4, "upscale": 4},
    "EDSR x4": {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 24, "num_block": 4, "upscale": 4},
    "SPSRNet x4": {"type": "SPSRNet", "nf": 16, "nb": 20, "gc": 16, "upscale": 4},
}
CONVERTED: dict[tuple[str, bool], bytes] = {}  # conversion to ONNX takes nearly all of the time
PACKAGES = ("onnx", "onnxruntime", "openvino", "pnnx", "ncnn")


def network(options: dict[str, Any]) -> nn.Module:
    """A network whose every weight shows in an image with a standard deviation of 0.1 to 0.5."""
    torch.manual_seed(0)
    net = build_network(options).eval()
    weights = [parameter for parameter in net.parameters() if parameter.ndim > 1 and parameter.requires_grad]
    image = photograph_for(next(iter(weights)).shape[1] if options.get("num_in_ch") == 1 else 3, 48, 48)
    with torch.no_grad():
        for weight in weights:
            weight.normal_(0, weight[0].numel() ** -0.5)
        low, high = 0.1, 4.0
        for _ in range(30):  # the contrast grows with the gain
            gain = (low * high) ** 0.5
            for weight in weights:
                weight.mul_(gain)
            contrast = net(image).std().item()
            if 0.1 < contrast < 0.5:
                return net
            for weight in weights:
                weight.div_(gain)
            low, high = (gain, high) if contrast < 0.1 else (low, gain)
    raise RuntimeError(f"no gain gives {options} a usable contrast")


def to_onnx_once(net: nn.Module, channels: int, half: bool = False) -> bytes:
    """ONNX, the starting point of OpenVINO too, of networks with the same weights."""
    weights = hashlib.sha256(b"".join(value.numpy().tobytes() for value in net.state_dict().values())).hexdigest()
    if (weights, half) not in CONVERTED:
        CONVERTED[weights, half] = to_onnx(net, channels, half)
    return CONVERTED[weights, half]


def measured(file: Path, target: str, half: bool) -> dict[str, Any]:
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            (made,) = export(str(file), [target], Console(file=io.StringIO()), half=half, output=Path(folder))
            result: dict[str, Any] = {"difference": made.difference}
        except ValueError as error:
            result = {"refused": str(error)}
    result["seconds"] = round(time.perf_counter() - begun, 1)
    print(file.stem, target, "fp16" if half else "fp32", result, file=sys.stderr, flush=True)
    return result


def row(name: str, file: Path) -> dict[str, Any]:
    results = {
        f"{target} {'fp16' if half else 'fp32'}": measured(file, target, half)
        for target in TARGETS
        for half in (False, True)
    }
    return {"network": name, "results": results}


def rows(files: list[Path]) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        for name, options in NETWORKS.items():
            file = Path(folder) / f"{name.replace(' ', '_')}.safetensors"
            save_weights(file, network(options).state_dict(), {"network": json.dumps(options)})
            yield row(name, file)
    for file in files:
        info = load_generator(file)[1]
        yield row(f"{file.stem} ({info.arch} x{info.scale})", file)


def markdown(found: list[dict[str, Any]]) -> str:
    columns = list(found[0]["results"])
    lines = [f"| network | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    reasons: list[str] = []
    for line in found:
        cells = []
        for result in line["results"].values():
            if (reason := result.get("refused")) and reason not in reasons:
                reasons.append(reason)
            cells.append(f"no ({reasons.index(reason) + 1})" if reason else f"{result['difference']:.1e}")
        lines.append(f"| {line['network']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))])


HEAD = """# Exported networks

`aesop export` writes a network, runs it in the target's own runtime, and compares its images of three parts of a photograph
(40x48, 61x75, and 96x64 pixels) with PyTorch's in float32. The table shows the largest difference of a value, whose range is
1; more than 1/510 (2.0e-03) in fp32 or 1/255 (3.9e-03) in fp16 is refused. RRDBNet x1 and x2 are padded inside. The first
rows are small networks with random weights, the last ones real models (`python benchmarks/export_table.py`).

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="weight files; each adds a row")
    parser.add_argument("--output", type=Path, help="file to write (default: standard output)")
    parser.add_argument("--record", action="store_true", help="write a record to results/")
    arguments = parser.parse_args()
    onnx_format.to_onnx = openvino_format.to_onnx = to_onnx_once
    described = record.described(torch.device("cpu"))
    described["versions"] |= {package: version(package) for package in PACKAGES}
    versions = ", ".join(f"{name} {described['versions'][name]}" for name in ("torch", *PACKAGES))
    found = []
    for line in rows(arguments.files):
        found.append(line)
        text = f"{HEAD}{markdown(found)}\n\n{described['date']}, {described['machine']}; {versions}.\n"
        if arguments.output:
            with replacing(arguments.output) as temporary:
                temporary.write_text(text)
    if not arguments.output:
        sys.stdout.write(text)
    if arguments.record:
        record.write("export", {**described, "networks": found})


if __name__ == "__main__":
    main()

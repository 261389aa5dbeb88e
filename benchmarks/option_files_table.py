"""Read each published option file, resolve it at full size, and run it to its first step or image: Markdown tables.

    python benchmarks/option_files_table.py docs/evidence/published_files.md BasicSR=../BasicSR LDL=../LDL

Requires the golden folder (AESOP_GOLDEN), which contains the parsed files of the AESOP code. Other projects are given as
NAME=CHECKOUT. The first step uses reduced networks and tiny images, as in tests/options/test_published_files.py.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
from typer.testing import CliRunner

from aesop.archs import build_network
from aesop.cli import app
from aesop.options.config import TrainConfig
from aesop.options.error_messages import ConfigError
from aesop.options.read import load_config
from aesop.options.yaml_file import read_yaml
from published_lib import SMALL, Substitutes, option_files, write

HEAD = """# Published option files

Every option file of the published code, unmodified (`python benchmarks/option_files_table.py`). "Read": all options are
known; the number of notes counts warnings about options without effect here. "Dry run": resolves to the full-size
networks (parameters of network_g) and lists the paths to fill in. "First step or image": reaches the first training step,
or writes test images, with tiny images and networks reduced by overrides.

| file | stage | network_g | read | dry run | first step or image |
| --- | --- | --- | --- | --- | --- |
"""


OTHERS = """
## Other projects

Every file below `options/`. "Run": read, and it reaches the first training step or writes test images, with tiny images and
networks, without the weights that its training starts from.

| project, commit | files | run | not read: why |
| --- | --- | --- | --- |
"""


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def row(name: str, options: dict, substitutes: Substitutes, folder: Path) -> str:
    file = write(options, folder / "published.yml")
    config, notes = load_config(file)
    trains = isinstance(config, TrainConfig)
    verb = "train" if trains else "test"
    _, text = run(verb, "-opt", file, "--dry-run")
    size = re.search(r"network_g: \w+, ([\d,]+) parameters", text)
    missing = len(re.findall(r"has to be filled in|does not exist", text))
    code, text = run(verb, "-opt", file, *substitutes.overrides(options))
    reached = "yes" if code == 0 else f"NO: {text.strip().splitlines()[-1][:80]}"
    stage = config.stage if trains else "test"
    dry = f"{size[1]} parameters, {missing} paths" if size else "NO"
    return f"| {name} | {stage} | {config.network_g.type} | yes, {len(notes)} notes | {dry} | {reached} |"


def small(options: dict[str, Any], folder: Path, runs: str, weights: Path) -> Iterator[tuple[str, Any]]:
    """What puts a file of another project onto tiny images: LR is made from HR, and a training starts from scratch."""
    yield "device", "cpu"
    yield "path", {"experiments_root": str(folder / runs), "results_root": str(folder / runs), "from_scratch": True}
    for section, data in options["datasets"].items():
        lone = data["type"] == "SingleImageDataset"
        training = section == "train"
        images = str(folder / ("LR" if lone else "HR" if training else "smallHR"))
        yield (
            f"datasets.{section}",
            {
                **{name: value for name, value in data.items() if training and name in ("gt_size", "use_hflip", "use_rot")},
                **{"name": section, "type": data["type"].replace("RealESRGANPaired", "PairedImage")},
                "dataroot_lq" if lone else "dataroot_gt": images,
                **({"batch_size_per_gpu": 1, "num_worker_per_gpu": 0} if training else {}),
            },
        )
    for name, value in SMALL.get(options["network_g"]["type"], {}).items():
        yield f"network_g.{name}", value
    yield "val.metrics", {"psnr": {}}
    if "train" in options:
        yield "train.total_iter", 1
        yield "val.val_freq", 1
        yield "logger", {"use_tb_logger": False}
        if "network_d" in options:
            yield "network_d.num_feat", 4
        if "perceptual_opt" in options["train"]:
            yield "train.perceptual_opt.vgg_path", str(weights)
        if "queue_size" in options:
            yield "queue_size", 1
    else:
        network = load_config(write(options, folder / "full.yml"), [])[0].network_g.model_dump(exclude_none=True)
        file = folder / "net.pth"
        torch.save({"params": build_network(network | SMALL.get(network["type"], {})).state_dict()}, file)
        yield "path.pretrain_network_g", str(file)


def project_row(name: str, checkout: Path, substitutes: Substitutes) -> str:
    files, reached, reasons = sorted((checkout / "options").rglob("*.yml")), 0, Counter[str]()
    for file in files:
        options, _ = read_yaml(file)
        try:
            load_config(file)
        except ConfigError as error:
            fault = error.faults[0]
            found = re.search(r"(?:model_type: |no network )'(\w+)'", fault) or re.search(r"network_g: (\w+) has no", fault)
            reasons[found[1] if found else fault] += 1
            continue
        overrides = [f"{key}={json.dumps(v)}" for key, v in small(options, substitutes.folder, name, substitutes.vgg())]
        resized = write(options, substitutes.folder / f"{file.stem}.yml")
        code, text = run("train" if "train" in options else "test", "-opt", resized, *overrides)
        reached += code == 0
        if code:
            reasons[f"{file.stem} is read, but {text.strip().splitlines()[-1][:200]}"] += 1
    commit = subprocess.run(["git", "-C", checkout, "rev-parse", "--short=8", "HEAD"], capture_output=True, text=True)
    why = ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
    return f"| {name} {commit.stdout.strip()} | {len(files)} | {reached} | {why} |"


def main() -> None:
    files = option_files()
    if not files:
        sys.exit("the golden folder with the option files was not found: set AESOP_GOLDEN")
    with tempfile.TemporaryDirectory() as folder:
        substitutes = Substitutes(Path(folder) / "substitutes")
        lines = [row(name, options, substitutes, Path(folder)) for name, options in files.items()]
        projects = [argument.split("=", 1) for argument in sys.argv[2:]]
        rows = [project_row(name, Path(checkout), substitutes) for name, checkout in projects]
    text = HEAD + "\n".join(lines) + "\n" + (OTHERS + "\n".join(rows) + "\n" if rows else "")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()

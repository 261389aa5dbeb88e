"""Load every kind of checkpoint, convert it back, and compare outputs: a Markdown table.

python benchmarks/checkpoint_table.py [FOLDER] [--output FILE]

Each kind is a tiny file in the form its project saves (tests/checkpoint_kinds.py); each weight file in FOLDER adds a row.
A file is loaded from its path alone, converted to safetensors, and converted back to a `.pth`. The output of all three is
compared with that of the network the file was made from, or with spandrel's output for a file in FOLDER.
"""

import argparse
import math
import sys
import tempfile
from pathlib import Path

import spandrel
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from checkpoint_kinds import KINDS, Kind, Result, output, round_trip

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")


HEAD = """# Checkpoint kinds

Each file is loaded from its path alone, converted to our safetensors, and converted back to its original form. The table
compares the output of all three with that of the network the file was made from (`python
benchmarks/checkpoint_table.py`). The first rows are tiny files in the form each project saves
(tests/checkpoint_kinds.py). The last rows are real files, compared with spandrel's output; some contain no network and
are refused.

"""


def kind_row(kind: Kind) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = kind.write(Path(folder))
        try:
            result = round_trip(file, Path(folder), output(kind.network(), kind.side), kind.side, kind.back)
        except ValueError as error:
            return refused(kind.name, file, error)
    return row(kind.name, result, kind.altered)


def file_row(file: Path) -> str:
    try:
        reference = output(spandrel.ModelLoader("cpu").load_from_file(file).model.float().eval(), 16)
    except spandrel.UnsupportedModelError:
        reference = torch.tensor(torch.nan)
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = round_trip(file, Path(folder), reference, back={"key": "none"})
        except ValueError as error:
            return refused(file.name, file, error)
    return row(file.name, result, "")


def row(name: str, result: Result, altered: str) -> str:
    back = "the same tensors" if result.identical else altered or "no: other tensors"
    difference = "not compared" if math.isnan(result.difference) else f"{result.difference:.1e}"
    return f"| {name} | {result.info.arch} x{result.info.scale} | {back} | {difference} |"


def refused(name: str, file: Path, error: ValueError) -> str:
    reason, _, _ = str(error).replace(str(file), "it").partition(" Expected:")
    return f"| {name} | no: {reason} | | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="folder of weight files; each adds a row")
    parser.add_argument("--output", type=Path, help="file to write (default: standard output)")
    arguments = parser.parse_args()
    lines = [HEAD + "| file | loads as | converts back to | largest output difference |", "| --- | --- | --- | --- |"]
    lines += [kind_row(kind) for kind in KINDS]
    if arguments.folder:
        lines += [file_row(file) for file in sorted(arguments.folder.iterdir()) if file.suffix in SUFFIXES]
    text = "\n".join(lines) + "\n"
    if arguments.output:
        arguments.output.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()

"""The published option files, each read, resolved at full size and run to its first step or image; as a markdown table.

    python benchmarks/option_files_table.py docs/evidence/published_files.md

Needs the golden folder (AESOP_GOLDEN), which holds the files as parsed. Networks are cut down and images are tiny for the
first step, as in tests/test_published_files.py.
"""

import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from typer.testing import CliRunner

from aesop.cli import app
from aesop.options.read import load_config
from published_lib import Substitutes, option_files, write

HEAD = """# The published option files

Every option file of the published code, as it is (`python benchmarks/option_files_table.py`). Read: all options are
understood, so many of them with a line that they have no meaning here. Dry run: resolves to the full-size networks
(parameters of network_g) and lists the paths that are to be filled in. First step: reaches its first training step, or
writes its test images, on tiny images with networks cut down by overrides.

| file | stage | network_g | read | dry run | first step or image |
| --- | --- | --- | --- | --- | --- |
"""


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def row(name: str, options: dict, substitutes: Substitutes, folder: Path) -> str:
    file = write(options, folder / "published.yml")
    config, notes = load_config(file)
    verb = "train" if config.train else "test"
    _, text = run(verb, "-opt", file, "--dry-run")
    size = re.search(r"network_g: \w+, ([\d,]+) parameters", text)
    missing = len(re.findall(r"has to be filled in|does not exist", text))
    code, text = run(verb, "-opt", file, *substitutes.overrides(options))
    reached = "yes" if code == 0 else f"NO: {text.strip().splitlines()[-1][:80]}"
    stage = config.stage if config.train else "test"
    dry = f"{size[1]} parameters, {missing} paths" if size else "NO"
    return f"| {name} | {stage} | {config.network_g.type} | yes, {len(notes)} notes | {dry} | {reached} |"


def main() -> None:
    files = option_files()
    if not files:
        sys.exit("no golden folder with the option files: set AESOP_GOLDEN")
    with tempfile.TemporaryDirectory() as folder:
        substitutes = Substitutes(Path(folder) / "substitutes")
        lines = [row(name, options, substitutes, Path(folder)) for name, options in files.items()]
    text = HEAD + "\n".join(lines) + "\n"
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()

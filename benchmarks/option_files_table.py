"""Read each published option file, resolve it at full size, and run it to its first step or image: a Markdown table.

    python benchmarks/option_files_table.py docs/evidence/published_files.md

Requires the golden folder (AESOP_GOLDEN), which contains the parsed files. The first step uses reduced networks and tiny
images, as in tests/options/test_published_files.py.
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

HEAD = """# Published option files

Every option file of the published code, unmodified (`python benchmarks/option_files_table.py`). "Read": all options are
known; the number of notes counts warnings about options without effect here. "Dry run": resolves to the full-size
networks (parameters of network_g) and lists the paths to fill in. "First step or image": reaches the first training step,
or writes test images, with tiny images and networks reduced by overrides.

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
        sys.exit("the golden folder with the option files was not found: set AESOP_GOLDEN")
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

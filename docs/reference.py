"""Write the reference pages from the code: options, commands, metrics, and the Python classes.

`docs/conf.py` calls `write_pages`, so that a page cannot fall behind what it describes. Each function returns a page in
Markdown, as MyST reads it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

import aesop
from aesop.cli import app
from aesop.evaluation.figures.spec import CropsSpec, PlaneSpec
from aesop.metrics import METRICS
from aesop.metrics.pyiqa_metrics import PYIQA_NAMES
from aesop.options.config import OptionFile

OPTIONS_INTRO = """\
# Options

The options of an option file, in its order: `aesop train`, `aesop pipeline`, and `aesop test` read it, and `key.path=value`
on the command line changes any of them. `aesop schema` prints the same as a JSON schema, with which editors complete and
check option files.

A pipeline file has the options that its stages share, and below `stages` a section for each of `psnr`, `autoencoder`, and
`adversarial` with those that differ; `weights: FILE` in place of options skips a stage.
"""
FIGURES_INTRO = """\
# Figure files

The options of a file that `aesop figure` draws; `kind` says which of the two it is. The guide has
[examples](../how-to/figures.md).
"""
COMMANDS_INTRO = """\
# Commands

Every command with all of its arguments and options. `aesop COMMAND --help` prints the same; `python -m aesop` is the same as
`aesop`. The [exit codes](exit-codes.md) are common to all.
"""
METRICS_INTRO = """\
# Metrics

The names are those of `val.metrics` in option files and of `--metrics` on the command line. *Border*: how many HR pixels are
left out at each side by default. *Luma or colour*: luma by default, colour with `test_y_channel: false` or `--rgb`. Weights
are read from this machine and [never downloaded](../get-started/install.md#pretrained-networks).
"""
PYTHON_INTRO = """\
# Python

`import aesop` takes milliseconds; PyTorch is imported when one of these classes is used first.
"""


def write_pages(folder: Path) -> None:
    """Write every page into `folder`. A page that is the same as before keeps its time, for builds that go on."""
    pages = {
        "options.md": options_page(OPTIONS_INTRO, OptionFile.model_json_schema()),
        "figure-files.md": figures_page(),
        "commands.md": commands_page(),
        "metrics.md": metrics_page(),
        "python.md": python_page(),
    }
    for name, text in pages.items():
        file = folder / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def options_page(intro: str, schema: dict[str, Any]) -> str:
    """The options of the whole file, then a section for each group of options, in the file's order."""
    parts = [intro, *_fields(schema, "")]
    for name, paths in _sections(schema).items():
        section, level = schema["$defs"][name], "###" if "." in paths[0] else "##"
        parts.append(f"({_anchor(name)})=\n{level} {', '.join(f'`{path}`' for path in paths)}\n")
        if text := section.get("description"):
            parts.append(f"{escaped(text)}\n")
        parts += _fields(section, f"{paths[0]}.")
    return "\n".join(parts)


def figures_page() -> str:
    """The options of both kinds of figures, each as a group of its own."""
    parts = [FIGURES_INTRO]
    for kind, spec in (("plane", PlaneSpec), ("crops", CropsSpec)):
        schema = spec.model_json_schema()
        parts += [f"## `kind: {kind}`\n", f"{escaped(schema['description'])}\n", *_fields(schema, f"{kind}.")]
    return "\n".join(parts)


def _fields(section: dict[str, Any], prefix: str) -> Iterator[str]:
    """A directive for each option, which has an address and an entry in the search."""
    for name, field in section.get("properties", {}).items():
        lines = [f"```{{confval}} {prefix}{name}", f":type: {_type(field)}"]
        if name in section.get("required", []):
            lines.append(":default: required")
        elif (default := field.get("default")) is not None and not isinstance(default, dict):
            lines.append(f":default: `{_yaml(default)}`")
        groups = ", ".join(f"[{_short(group)}](#{_anchor(group)})" for group in _references(field))
        text = f"{escaped(field.get('description', ''))}{f' Options: {groups}.' if groups else ''}"
        yield "\n".join([*lines, "", text, "```\n"])


def _sections(schema: dict[str, Any]) -> dict[str, list[str]]:
    """The groups of options, by their names in the schema, with the paths at which they stand: `network_g[RRDBNet]`."""
    found: dict[str, list[str]] = {}

    def visit(section: dict[str, Any], prefix: str) -> None:
        fields = dict(section.get("properties", {}))
        if isinstance(more := section.get("additionalProperties"), dict):  # data sets
            fields |= {"val*": more, "test*": more}
        for name, field in fields.items():
            groups = list(_references(field))
            for group in groups:
                path = f"{prefix}{name}" + (".NAME" if "additionalProperties" in field else "")
                path += f"[{_short(group)}]" if len(groups) > 1 else ""
                paths = found.setdefault(group, [])
                if path not in paths:
                    paths.append(path)
                    paths.sort(key=lambda path: path.count("."))
                    visit(schema["$defs"][group], f"{path}.")

    visit(schema, "")
    return found


def _references(field: Any) -> Iterator[str]:
    """The names of the groups that an option may hold."""
    if isinstance(field, dict):
        if "$ref" in field:
            yield field["$ref"].rpartition("/")[2]
        for name, part in field.items():
            if name != "discriminator":
                yield from _references(part)
    elif isinstance(field, list):
        for part in field:
            yield from _references(part)


def _short(group: str) -> str:
    return group.removesuffix("Options")


def _type(field: dict[str, Any]) -> str:
    """What a JSON schema accepts, for people."""
    if "$ref" in field:
        return "section"
    for union in ("anyOf", "oneOf"):
        if union in field:
            kinds = [kind for kind in field[union] if kind.get("type") != "null"]
            return " or ".join(dict.fromkeys(map(_type, kinds)))
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "prefixItems" in field:
        return f"[{', '.join(_type(item) for item in field['prefixItems'])}]"
    match field.get("type"):
        case "array":
            return f"list of {_type(field.get('items', {}))}"
        case "object":
            more = field.get("additionalProperties")
            return f"{_type(more)} for each name" if isinstance(more, dict) else "section"
        case "integer" | "number" as kind:
            limits = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "up to", "exclusiveMaximum": "below"}
            return " ".join([kind, *(f"{word} {field[limit]:g}" for limit, word in limits.items() if limit in field)])
        case "boolean":
            return "`true` or `false`"
        case "string":
            return "text"
    return "any"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return str(value) if value != "" else '""'


def _anchor(name: str) -> str:
    return f"section-{name.lower()}"


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its full name, groups included."""
    waiting = [("aesop", get_command(app))]
    while waiting:
        name, command = waiting.pop(0)
        yield name, command
        waiting[:0] = [(f"{name} {verb}", sub) for verb, sub in getattr(command, "commands", {}).items()]


def commands_page() -> str:
    """A section for each command: usage, arguments, options."""
    return "\n".join([COMMANDS_INTRO, *(part for name, command in commands() for part in _command(name, command))])


def _command(name: str, command: Any) -> Iterator[str]:
    params = [param for param in command.params if not getattr(param, "hidden", False)]
    arguments = [param for param in params if param.param_type_name == "argument"]
    options = [param for param in params if param.param_type_name == "option"]
    usage = [name, "[OPTIONS]" if options else "", *map(_argument, arguments)]
    usage.append("COMMAND" if hasattr(command, "commands") else "")
    yield f"## {name}\n\n{escaped(command.help or '')}\n\n```text\n{' '.join(filter(None, usage))}\n```\n"
    for argument in arguments:
        yield f"`{_argument(argument)}`\n: {escaped(argument.help or '')}\n"
    yield f"```{{program}} {name}\n```\n"
    context = typer.Context(command)
    for option in options:
        words, text = option.get_help_record(context)
        words = re.sub(r"<(?:list\[)?(\w+).*>", r"<\1>", words.replace(" / ", ", "))
        yield f"```{{option}} {words}\n{escaped(text)}\n```\n"


def _argument(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required else f"[{name}]"


def metrics_page() -> str:
    """A table of the metrics of aesop, and the names of pyiqa's."""
    channel = {"luma": "luma", "colour": "colour", "either": "luma or colour"}
    rows = ["| name | in tables | better | border | measured on | needs |", "| --- | --- | --- | --- | --- | --- |"]
    for name, metric in METRICS.items():
        needs = ["HR"] if metric.needs_reference else []
        needs += ["an auto-encoder"] if metric.needs_autoencoder else []
        needs += [f"`{weights}`" for weights in metric.weights]
        better = "larger" if metric.best == "max" else "smaller"
        cells = (f"`{name}`", metric.label, better, metric.crop_border, channel[metric.channel], ", ".join(needs))
        rows.append(f"| {' | '.join(map(str, cells))} |")
    extra = (
        f'With `pip install "aesop-sr[iqa]"` also {", ".join(f"`{name}`" for name in PYIQA_NAMES)}, and every other one '
        "of pyiqa as `pyiqa:NAME`. pyiqa has its own licence, which does not allow commercial use."
    )
    return "\n".join([METRICS_INTRO, *rows, "", extra, ""])


def python_page() -> str:
    """The public classes, documented by their docstrings."""
    parts = [PYTHON_INTRO]
    for name in sorted(set(aesop.__all__) - {"__version__"}, key=lambda name: (name != "Upscaler", name)):
        lines = [f".. autoclass:: aesop.{name}", "   :members:", "   :special-members: __call__"]
        parts += [f"## {name}\n", "```{eval-rst}", *lines, "   :inherited-members: Module", "```\n"]
    parts += ["## aesop.spandrel\n", "```{eval-rst}", ".. automodule:: aesop.spandrel", "```\n"]
    return "\n".join(parts)


def escaped(text: str) -> str:
    """Text of a docstring or a help text as Markdown: outside of code, no character begins HTML or emphasis."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([<*\[\]|])", r"\\\1", part) for part in parts)

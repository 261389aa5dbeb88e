"""The JSON that `--json FILE` writes, of one shape for all commands: `{"aesop": VERSION, "command": "models info", ...}`.

The other keys are the command's own: docs/reference/json.md lists them. Values that are no numbers (NaN, infinity) are null,
paths are strings.
"""

import json
import math
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import aesop
from aesop.system.files import replacing
from aesop.system.terminal import console, stdout_for_result

STDOUT = Path("-")
_BEGINNING = b'{\n "aesop": "'


@contextmanager
def json_report(command: str, file: Path | None) -> Generator[dict[str, Any]]:
    """Yield a dictionary for what a command finds, and write it in the end, also if the command fails; None: write nothing.

    An empty dictionary is not written. With `-` for a file, the report goes to standard output, and everything else to
    standard error. Of torchrun's processes the first writes. Raises ValueError at once if the file could not be written.
    """
    found: dict[str, Any] = {}
    if file is None:
        yield found
    elif file == STDOUT:
        with stdout_for_result():
            try:
                yield found
            finally:
                if found and not console.quiet:
                    sys.stdout.write(_text(command, found))
    else:
        _check(file)
        try:
            yield found
        finally:
            if found and not console.quiet:
                with replacing(file) as temporary:
                    temporary.write_text(_text(command, found), encoding="utf-8")


def _text(command: str, found: Mapping[str, Any]) -> str:
    return json.dumps({"aesop": aesop.__version__, "command": command, **_plain(found)}, indent=1) + "\n"


def _plain(value: Any) -> Any:
    """The value with what JSON has: mappings, lists, texts, finite numbers, booleans, and null."""
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump())
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return str(value) if isinstance(value, os.PathLike) else value


def _check(file: Path) -> None:
    """ValueError unless the file can be written, and is none of the user's."""
    if file.is_dir():
        raise ValueError(f"--json {file} is a folder: give a file")
    if file.exists():
        with file.open("rb") as there:
            if there.read(len(_BEGINNING)) != _BEGINNING:
                raise ValueError(f"--json {file} exists, and is no report of aesop: give another name")
    folder = next(parent for parent in file.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"--json {file}: {folder} is {'not writable' if folder.is_dir() else 'no folder'}")

"""`aesop card`: a folder to publish a model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from aesop.publishing.card import FINDER, write_card
from aesop.system.terminal import Note
from aesop.system.wording import readable


def card(model: str, output: Path | None, console: Console, **options: Any) -> dict[str, Any]:
    """Write the folder; print and return what is in it. `options`: see `write_card`."""
    folder = write_card(model, output, **options)
    sizes = sizes_in(folder)
    console.print(Note("\n".join([f"written: {folder}", *listing(sizes)])))
    entry = json.loads(next(folder.glob("*.json")).read_text(encoding="utf-8"))
    notes = []
    if entry["license"] is None:
        notes.append("without a licence nobody may use the model or pass it on: add --license, such as CC-BY-4.0")
    if not entry["images"]:
        advice = f"upload those in {folder}/images and add their addresses"
        notes.append(f"{entry['name']}'s JSON names no pictures: {advice}")
    for note in notes:
        console.print(Note(f"note: {note}"))
    return {"written": folder, "sizes": sizes, "notes": notes}


def sizes_in(folder: Path) -> dict[str, int]:
    """The bytes of each file of a card, by its name within."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FINDER)
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}


def listing(sizes: Mapping[str, int]) -> list[str]:
    """A line for each file."""
    return [f"{name} ({readable(size)})" for name, size in sizes.items()]

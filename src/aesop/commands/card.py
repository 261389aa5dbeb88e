"""`aesop card`: a folder to publish a model."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from aesop.publishing.card import write_card
from aesop.system.terminal import Note
from aesop.system.wording import readable


def card(model: str, output: Path | None, console: Console, **options: Any) -> None:
    """Write the folder and print what is in it. `options`: see `write_card`."""
    folder = write_card(model, output, **options)
    console.print(Note("\n".join([f"written: {folder}", *listing(folder)])))
    entry = json.loads(next(folder.glob("*.json")).read_text(encoding="utf-8"))
    if entry["license"] is None:
        console.print(
            Note("note: without a licence nobody may use the model or pass it on: add --license, such as CC-BY-4.0")
        )
    if not entry["images"]:
        advice = f"upload those in {folder}/images and add their addresses"
        console.print(Note(f"note: {entry['name']}'s JSON names no pictures: {advice}"))


def listing(folder: Path) -> list[str]:
    """A line for each file of a card, by its name within."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [f"{file.relative_to(folder)} ({readable(file.stat().st_size)})" for file in files]

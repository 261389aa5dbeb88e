"""`models/front/`: the models of the perception-distortion front. Its index is `Progress.front`, a part of the state.

A model is written when it joins the front, before the state that knows it. A file goes when neither the index nor that of a
kept state names it, so that after a rollback, or if the newest state is damaged, the front of an older state is whole.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from aesop.training.full_disk import write_or_log
from aesop.training.progress import FrontEntry

log = logging.getLogger("aesop")


def front_file(models: Path, iteration: int) -> Path:
    return models / "front" / f"net_g_{iteration:08d}.safetensors"


def with_files(index: Sequence[FrontEntry], models: Path) -> list[FrontEntry]:
    """The entries whose files are there: a run that continues from the state of another has none of its files."""
    there = [entry for entry in index if front_file(models, entry["iteration"]).is_file()]
    if gone := [str(entry["iteration"]) for entry in index if entry not in there]:
        log.warning("%s/front lacks the models of iterations %s, which leave the front", models, ", ".join(gone))
    return there


def remove_unnamed(models: Path, index: Iterable[FrontEntry], states: Iterable[Path]) -> None:
    """Remove the files that neither the index nor that of a state names."""
    named = {entry["iteration"] for entry in index}
    for state in states:
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):  # nothing continues from a damaged state
            named |= {entry["iteration"] for entry in json.loads((state / "state.json").read_text()).get("front", [])}
    names = {front_file(models, iteration).name for iteration in named}
    for file in (models / "front").glob("net_g_*.safetensors"):
        if file.name not in names:
            write_or_log(f"{file} could not be removed", file.unlink)

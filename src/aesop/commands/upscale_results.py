"""What became of the images or videos of `aesop upscale`, and the summary of it."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from aesop.commands.upscale_plan import PIPE


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one image. `target` was written unless `error` is set; `notes` say what is not as in the source."""

    source: Path
    target: Path
    error: str | None
    notes: Sequence[str]
    skipped: bool = False
    """With `skip_existing`: the target was there before."""
    kind: str = "image"
    """Or `video`."""


def report(results: Sequence[Result], console: Console) -> bool:
    """Print the summary, to standard error if standard output has the picture. Return whether all images were upscaled."""
    if any(result.target == PIPE for result in results):
        console = Console(stderr=True)
    console.print(summary(results), markup=False, highlight=False, soft_wrap=True)
    return not any(result.error for result in results)


def summary(results: Sequence[Result]) -> str:
    """Say how many images were upscaled and where they are, what is not as in the sources, and why others failed."""
    kind = results[0].kind if results else "image"
    done = [result.target for result in results if result.error is None]
    place = f": {done[0] if len(done) == 1 else os.path.commonpath([t.parent for t in done])}" if done else ""
    if done == [PIPE]:
        place = ""
    skipped = sum(result.skipped for result in results)
    before = f" ({skipped} {'was' if skipped == 1 else 'were'} there already)" if skipped else ""
    lines = [f"upscaled {len(done) - skipped} of {counted(len(results), kind)}{before}{place}"]
    notes = Counter(note for result in results for note in dict.fromkeys(result.notes))
    lines += [f"note: {note} ({counted(count, kind)})" for note, count in notes.items()]
    # Most errors name the file themselves.
    lines += [f"failed: {'' if str(r.source) in r.error else f'{r.source}: '}{r.error}" for r in results if r.error]
    return "\n".join(lines)


def counted(count: int, kind: str) -> str:
    return f"{count} {kind}{'' if count == 1 else 's'}"

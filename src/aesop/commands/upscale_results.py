"""What became of the images of `aesop upscale`, and the summary of it."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from aesop.commands.upscale_plan import PIPE
from aesop.system.wording import first_few


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one image. `target` was written unless `error` is set; `notes` say what is not as in the source."""

    source: Path
    target: Path
    error: str | None
    notes: Sequence[str]
    skipped: bool = False
    """With `skip_existing`: the target was there before."""


def report(results: Iterable[Result], console: Console) -> bool:
    """Print the summary, to standard error if standard output has the picture. Return whether all images were upscaled."""
    summed = _Summary(results)
    console = Console(stderr=True) if summed.is_piped else console
    console.print(summed.text(), markup=False, highlight=False, soft_wrap=True)
    return not summed.failed


def summary(results: Iterable[Result]) -> str:
    """Say how many images were upscaled and where they are, what is not as in the sources, and why others failed."""
    return _Summary(results).text()


class _Summary:
    """What the summary needs of results: there may be millions, and they are not kept."""

    def __init__(self, results: Iterable[Result]):
        self.all = self.done = self.skipped = 0
        self.is_piped = False
        self.failed: list[str] = []
        self._noted: Counter[str] = Counter()
        self._named: dict[str, list[str]] = {}  # the first images of each note
        self._place: Path | None = None  # of the result, or of all results
        for result in results:
            self._add(result)

    def _add(self, result: Result) -> None:
        self.all += 1
        self.is_piped |= result.target == PIPE
        for note in dict.fromkeys(result.notes):
            self._noted[note] += 1
            self._named[note] = [*self._named.get(note, []), result.source.name][:3]
        if result.error:  # most errors name the file themselves
            self.failed.append(f"{'' if str(result.source) in result.error else f'{result.source}: '}{result.error}")
            return
        self.done += 1
        self.skipped += result.skipped
        if self._place is None:
            self._place = result.target
        else:
            first = self._place.parent if self.done == 2 else self._place
            self._place = Path(os.path.commonpath([first, result.target.parent]))

    def text(self) -> str:
        place = "" if self._place in (None, PIPE) else f": {self._place}"
        before = f" ({self.skipped} {'was' if self.skipped == 1 else 'were'} there already)" if self.skipped else ""
        lines = [f"upscaled {self.done - self.skipped} of {counted(self.all, 'image')}{before}{place}"]
        for note, count in self._noted.items():
            images = f"{count} images: " if count > 1 else ""
            lines.append(f"note: {note} ({images}{first_few(self._named[note], 3, ', ', count)})")
        return "\n".join([*lines, *(f"failed: {error}" for error in self.failed)])


def counted(count: int, kind: str) -> str:
    return f"{count} {kind}{'' if count == 1 else 's'}"

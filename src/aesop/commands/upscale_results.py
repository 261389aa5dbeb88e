"""What became of the images or videos of `aesop upscale`, and the summary of it."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich.console import Console

from aesop.commands.upscale_plan import PIPE
from aesop.system.terminal import Output
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
    kind: str = "image"
    """Or `video`."""
    size: tuple[int, int] | None = None
    """(width, height) of the result, of a picture's first page; None if there is an error."""
    map: Path | None = None
    """With `hallucination_map`: the map beside the target."""
    model: str | None = None
    """Which of aesop's models was chosen; None if the model was named, nothing was computed, or there is an error."""


def kept(results: Iterable[Result], found: dict[str, Any]) -> Iterator[Result]:
    """Pass results on, and keep them in `found["results"]`."""
    found["results"] = []
    for result in results:
        found["results"].append(result)
        yield result


def report(results: Iterable[Result], console: Console) -> bool:
    """Print the summary, to standard error if standard output has the picture. Return whether all images were upscaled.

    With `--quiet`, print the errors only.
    """
    total = Summary.of(results)
    is_quiet = isinstance(console, Output) and console.is_quiet
    text = "\n".join(total.errors()) if is_quiet else total.text()
    if total.is_piped or is_quiet:
        console = Console(stderr=True)
    if text:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    return not total.failed


class Summary:
    """How many images were upscaled and where they are, what is not as in the sources, and why others failed."""

    def __init__(self) -> None:
        self.count = self.done = self.skipped = 0
        self.kind = "image"
        self.is_piped = False
        self.failed: list[str] = []
        self.notes: dict[str, tuple[int, list[str]]] = {}  # note -> how many images it is about, and the first of them
        self.models: dict[str, tuple[int, list[str]]] = {}  # model -> how many images it upscaled, and the first of them
        self._place: Path | None = None  # of the result, or of all results

    @classmethod
    def of(cls, results: Iterable[Result]) -> Self:
        total = cls()
        for result in results:
            total.add(result)
        return total

    def add(self, result: Result) -> None:
        self.count += 1
        self.kind = result.kind
        self.is_piped |= result.target == PIPE
        for note in dict.fromkeys(result.notes):
            _count(self.notes, note, result)
        if result.model:
            _count(self.models, result.model, result)
        if result.error:  # most errors name the file themselves
            self.failed.append(f"{'' if str(result.source) in result.error else f'{result.source}: '}{result.error}")
            return
        self.done += 1
        self.skipped += result.skipped
        if self.done == 1:
            self._place = result.target
        elif self._place is not None:
            first = self._place if self.done > 2 else self._place.parent
            self._place = Path(os.path.commonpath([first, result.target.parent]))

    def text(self) -> str:
        place = "" if self._place in (None, PIPE) else f": {self._place}"
        before = f" ({self.skipped} {'was' if self.skipped == 1 else 'were'} there already)" if self.skipped else ""
        lines = [f"upscaled {self.done - self.skipped} of {counted(self.count, self.kind)}{before}{place}"]
        lines += [f"with {line}" for line in self._listed(self.models)]
        lines += [f"note: {line}" for line in self._listed(self.notes)]
        return "\n".join([*lines, *self.errors()])

    def _listed(self, found: dict[str, tuple[int, list[str]]]) -> Iterator[str]:
        for what, (count, names) in found.items():
            about = f"{counted(count, self.kind)}: " if count > 1 else ""
            yield f"{what} ({about}{first_few(names, 3, ', ', count)})"

    def errors(self) -> list[str]:
        return [f"failed: {error}" for error in self.failed]


def _count(found: dict[str, tuple[int, list[str]]], what: str, result: Result) -> None:
    count, names = found.get(what, (0, []))
    found[what] = (count + 1, [*names, result.source.name][:3])


def counted(count: int, kind: str) -> str:
    return f"{count} {kind}{'' if count == 1 else 's'}"

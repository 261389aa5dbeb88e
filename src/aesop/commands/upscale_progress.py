"""What `aesop upscale` shows while it works: a bar on terminals, lines elsewhere."""

import json
import time
from collections.abc import Callable, Sequence
from threading import Lock
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from aesop.system.wording import duration

STYLES = ("bar", "plain", "json")
Style = str | Callable[[float], None]
COMPUTED = 0.99  # of an image, when it is computed but not yet written


class UpscaleProgress:
    """Progress over all images, in the style `bar`, `plain` or `json`; default: a bar on a terminal, else plain lines.

    A function as style is called with the part of all that is done, from 0 to 1; what it raises ends the work.

    Lines are printed when the whole percent changes. A plain one is `37% photo.png (2 of 10, 0:01:20 left)`; one of JSON has
    the keys percent, image, number, of, and seconds_left, which is null at first. Images count by their `sizes` in pixels if
    they are given; one whose size is not known counts as much as the average. Several threads may report.
    """

    def __init__(self, console: Console, images: int, style: Style | None = None, sizes: Sequence[int | None] = ()):
        if not callable(style) and style not in (None, *STYLES):
            raise ValueError(f"--progress {style}: use {', '.join(STYLES)}")
        self.console, self.images = console, images
        self.style = style or ("bar" if console.is_terminal else "plain")
        self.succeeded = 0
        """Images that are done, or were."""
        known = [size for size in sizes if size]
        self._average = sum(known) / len(known) if known else 1
        self._sizes = sizes
        self._total = sum(map(self._size, range(images))) or 1
        self._finished = self._idle = 0.0  # of the total; idle: done without work
        self._parts: dict[int, float] = {}  # of the images that are computed
        self._name, self._number, self._shown = "", 0, ("", -1)
        self._begun = time.perf_counter()
        self._lock = Lock()

    def __enter__(self) -> Self:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        show = self.style == "bar" and self.console.is_terminal
        self._bar = Progress(*columns, console=self.console, transient=True, disable=not show)
        self._task = self._bar.add_task("", total=None)
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def begin(self, number: int, name: str) -> None:
        """An image begins, `number` from 0."""
        with self._lock:
            self._name, self._number = name, number
            self._parts[number] = 0
            self._show()

    def update(self, number: int, part: float) -> None:
        """Of an image that has begun, `part` is computed, from 0 to 1."""
        with self._lock:
            self._parts[number] = max(self._parts[number], part * COMPUTED)  # it may start again with smaller tiles
            self._show()

    def resume(self, number: int, part: float) -> None:
        """Of an image that has begun, `part` was done before, and says nothing about the time that the rest takes."""
        with self._lock:
            self._idle += part * self._size(number)

    def finish(self, number: int, succeeded: bool = True, worked: bool = True) -> None:
        """An image that has begun is done or failed, with or without work."""
        with self._lock:
            del self._parts[number]
            self.succeeded += succeeded
            self._finished += self._size(number)
            self._idle += 0 if worked else self._size(number)
            self._show()

    def _size(self, number: int) -> float:
        return (self._sizes[number] if self._sizes else None) or self._average

    def _show(self) -> None:
        done = (self._finished + sum(part * self._size(number) for number, part in self._parts.items())) / self._total
        if callable(self.style):
            self.style(done)
            return
        worked = done - self._idle / self._total
        if self.style == "bar":
            name = self._name if self.images == 1 else f"{self._name} ({self._number + 1} of {self.images})"
            # Until something is done, the bar only moves: an image of a single tile would stay at 0 % to its end.
            self._bar.update(self._task, description=name, completed=done, total=1 if done else None)
            return
        percent = int(100 * done + 1e-9)
        if (self._name, percent) == self._shown:
            return
        self._shown = (self._name, percent)
        left = (time.perf_counter() - self._begun) * (1 - done) / worked if worked > 0 else None
        number = self._number + 1
        if self.style == "json":
            line = {"percent": percent, "image": self._name, "number": number, "of": self.images}
            text = json.dumps(line | {"seconds_left": None if left is None else round(left, 1)})
        else:
            rest = "" if left is None or percent == 100 else f", {duration(left)} left"
            text = f"{percent}% {self._name} ({number} of {self.images}{rest})"
        self.say(text)

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self.console.file.flush()

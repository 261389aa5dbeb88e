"""What `aesop upscale` shows while it works: a bar on terminals, lines elsewhere."""

import json
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from aesop.system.wording import duration

STYLES = ("bar", "plain", "json")


class UpscaleProgress:
    """Progress over all images, in the style `bar`, `plain` or `json`; default: a bar on a terminal, else plain lines.

    Lines are printed when the whole percent changes. A plain one is `37% photo.png (2 of 10, 0:01:20 left)`; one of JSON has
    the keys percent, image, number, of, and seconds_left, which is null at first.
    """

    def __init__(self, console: Console, images: int, style: str | None = None):
        if style not in (None, *STYLES):
            raise ValueError(f"--progress {style}: use {', '.join(STYLES)}")
        self.console, self.images = console, images
        self.style = style or ("bar" if console.is_terminal else "plain")
        self._done, self._name, self._shown = 0, "", ("", -1)
        self._before = 0.0
        self._begun = time.perf_counter()

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

    def begin(self, name: str) -> None:
        """The next image begins."""
        self._name = name
        self._show(0)

    def resume(self, part: float) -> None:
        """Of the current image, `part` was done before, and says nothing about the time that the rest takes."""
        self._before += part

    def update(self, part: float) -> None:
        """Of the current image, `part` is done, from 0 to 1."""
        self._show(part)

    def finish(self) -> None:
        """The current image is done, or failed."""
        self._show(1)
        self._done += 1

    def _show(self, part: float) -> None:
        done = (self._done + part) / self.images
        if self.style == "bar":
            name = self._name if self.images == 1 else f"{self._name} ({self._done + 1} of {self.images})"
            # Until something is done, the bar only moves: an image of a single tile would stay at 0 % to its end.
            self._bar.update(self._task, description=name, completed=done, total=1 if done else None)
            return
        percent = int(100 * done + 1e-9)
        if (self._name, percent) == self._shown:
            return
        self._shown = (self._name, percent)
        worked = done - self._before / self.images
        left = (time.perf_counter() - self._begun) * (1 - done) / worked if worked > 0 else None
        number = self._done + 1
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

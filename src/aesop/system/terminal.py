"""What commands print: results and notes to standard output, progress to standard error; and how much of it.

`-q` leaves out notes, progress, and log lines below warnings; the log then goes to standard error, so that standard output
has the result alone. `-v` adds log lines of the level DEBUG.
"""

import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text


class Note(Text):
    """A line that accompanies a result: what was written where, how far a command is, what is unusual."""


class Output(Console):
    """A console that leaves out notes and rules while `is_quiet`."""

    is_quiet = False

    def print(self, *objects: Any, **options: Any) -> None:
        if not (self.is_quiet and any(isinstance(each, Note) for each in objects)):
            super().print(*objects, **options)

    def rule(self, *title: Any, **options: Any) -> None:
        if not self.is_quiet:
            super().rule(*title, **options)


# Without markup, as messages contain names of files. Under torchrun, only rank 0 prints.
console = Output(soft_wrap=True, markup=False, highlight=False, quiet=os.environ.get("RANK", "0") != "0")
progress = Console(stderr=True)


def set_verbosity(quiet: bool = False, verbose: bool = False) -> None:
    """Set how much `console`, `progress`, and the log print. ValueError for both at once."""
    if quiet and verbose:
        raise ValueError("--quiet and --verbose exclude each other: give one of them")
    console.is_quiet = progress.quiet = quiet
    log = logging.getLogger("aesop")
    log.setLevel(logging.DEBUG if verbose else logging.INFO)
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
    for handler in _log_handlers():
        handler.setLevel(logging.WARNING if quiet else logging.NOTSET)
        handler.stream = sys.stderr if quiet else sys.stdout


def shows_progress(console: Console) -> bool:
    """Whether bars are to be shown on a console."""
    return console.is_terminal and not (isinstance(console, Output) and console.is_quiet)


def is_verbose() -> bool:
    return logging.getLogger("aesop").level == logging.DEBUG


@contextmanager
def stdout_for_result() -> Generator[None]:
    """While entered, everything that is printed goes to standard error."""
    streams = [(handler, handler.stream) for handler in _log_handlers()]
    for handler, _ in streams:
        handler.stream = sys.stderr
    console.stderr = True
    try:
        yield
    finally:
        console.stderr = False
        for handler, stream in streams:
            handler.stream = stream


def _log_handlers() -> list[logging.StreamHandler]:
    """Those that print, without those that write files."""
    return [handler for handler in logging.getLogger("aesop").handlers if type(handler) is logging.StreamHandler]

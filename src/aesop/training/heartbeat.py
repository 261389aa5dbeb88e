"""A line now and then from a program that works for long."""

import time

SILENCE = 30.0
"""Seconds after which the terminal shows that a training goes on."""


class Heartbeat:
    """Says when a line is due because none was shown for `SILENCE` seconds. By this process's clock alone."""

    def __init__(self) -> None:
        self.shown = time.monotonic()

    def is_due(self) -> bool:
        return time.monotonic() - self.shown >= SILENCE

    def beat(self) -> None:
        """A line was shown."""
        self.shown = time.monotonic()

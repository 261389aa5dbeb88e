"""Signals that stop a training: it finishes the step, saves its state and exits with 128 + the number of the signal.

SIGINT (Ctrl-C), SIGTERM (pre-emption by a cluster), SIGUSR1 (SLURM). A second one of a kind has its usual effect.
"""

import signal
import threading
from types import FrameType
from typing import Any, Self

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interrupted(Exception):
    """A signal stopped the training after a complete step; its state is saved."""

    def __init__(self, number: int, iteration: int, resumes: bool = False):
        stopped = f"stopped by {signal.Signals(number).name} after iteration {iteration}"
        how = "the same command" if resumes else "--resume"
        super().__init__(f"{stopped}; the state is saved, {how} continues")
        self.exit_code = 128 + number


class Signals:
    """While entered, stores a signal in `number` instead of ending the process. Works in the main thread only."""

    number: int = 0

    def __enter__(self) -> Self:
        self._former: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        signal.signal(number, self._former[number])

"""What a full disk costs a training: log lines, images and checkpoints, but never the training itself."""

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger("aesop")


def attempt(write: Callable[..., object], *arguments: Any) -> OSError | None:
    """Call `write`; returns its OSError instead of raising it."""
    try:
        write(*arguments)
    except OSError as error:
        return error
    return None


def write_or_log(failure: str, write: Callable[..., object], *arguments: Any) -> bool:
    """Write what a training can do without. Where that fails, log `failure` with the reason and return False."""
    error = attempt(write, *arguments)
    if error is not None:
        log.error("%s: %s", failure, error)
    return error is None

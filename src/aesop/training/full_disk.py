"""What a full disk costs a training: log lines, images and checkpoints, but never the training itself."""

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger("aesop")


def write_or_log(failure: str, write: Callable[..., object], *arguments: Any) -> bool:
    """Write what a training can do without. Where that fails, log `failure` with the reason and return False."""
    try:
        write(*arguments)
    except OSError as error:
        log.error("%s: %s", failure, error)
        return False
    return True

"""Errors about weight files."""

from collections.abc import Generator
from contextlib import contextmanager


class WeightsError(ValueError):
    """A weight file cannot be read, or it contains something other than what was asked for."""


class WeightsNotFound(FileNotFoundError):
    """Pretrained weights are not on this machine; the message says how to get them."""


@contextmanager
def option_context(option: str) -> Generator[None]:
    """Prefix a WeightsError with the option that names the file."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{option}: {error}") from error

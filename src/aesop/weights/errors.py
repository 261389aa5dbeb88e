"""What is raised for weight files that cannot be used."""

from collections.abc import Generator
from contextlib import contextmanager


class WeightsError(ValueError):
    """A weight file that cannot be read, or that holds something else than what was asked for."""


class WeightsNotFound(FileNotFoundError):
    """Known pre-trained weights that are not on this machine; the message says where to put them."""


@contextmanager
def naming(option: str) -> Generator[None]:
    """Say which option a weight file that cannot be used came from."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{option}: {error}") from error

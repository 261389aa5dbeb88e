"""What the tests of weight files share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from aesop.weights.errors import WeightsError
from aesop.weights.load import load_network


@pytest.fixture
def refused() -> Callable[[Path], str]:
    """Give the message with which loading a file fails; it names the file."""

    def message(path: Path) -> str:
        with pytest.raises(WeightsError) as caught:
            load_network(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    return message

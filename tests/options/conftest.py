from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "options.yml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write

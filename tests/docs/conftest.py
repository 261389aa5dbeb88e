import os
import sys
from pathlib import Path

import pytest

import aesop


@pytest.fixture
def aesop_command(tmp_path, monkeypatch):
    """`aesop` on the path: in these tests' environment it may be installed elsewhere or not at all."""
    command = tmp_path / "bin" / "aesop"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m aesop "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(aesop.__file__).parents[1]))

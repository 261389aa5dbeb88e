"""What guides show of the output of commands is that output, up to the last digits, which processors compute differently."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import aesop
from aesop.cli import app

REPO = Path(__file__).resolve().parents[2]
HELD_OUT = Path(aesop.__file__).parent / "assets" / "photos" / "heldout"
NUMBER = r"[-+]?\d+(?:\.\d+)?"


@pytest.mark.slow
def test_verdict_on_an_autoencoder():
    page = (REPO / "docs" / "how-to" / "autoencoder.md").read_text(encoding="utf-8")
    shown = re.findall(r"(?s)```text\n(.*?)```", page)[0]
    file = REPO / "reproduction" / "weights" / "web_autoencoder.safetensors"
    result = CliRunner().invoke(app, ["diagnose", str(file), "--data", str(HELD_OUT)], env={"COLUMNS": "500"})
    assert result.exit_code == 0, result.output
    findings = " ".join(result.output.split())
    texts = [" ".join(text.split()) for text in re.split(r"(?m)^(?=ok |fault |advice )", shown) if text.strip()]
    assert len(texts) == 6
    for text in texts:
        words = re.escape(re.sub(NUMBER, "\0", text)).replace(re.escape("\0"), f"({NUMBER})")
        found = re.search(words, findings)
        assert found, f"{text}\nis not in\n{findings}"
        expected = [float(number) for number in re.findall(NUMBER, text)]
        assert [float(number) for number in found.groups()] == pytest.approx(expected, rel=0.02, abs=0.021)

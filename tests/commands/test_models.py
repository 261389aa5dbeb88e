"""`aesop models`."""

from typer.testing import CliRunner

from aesop.archs import build_network
from aesop.cli import app
from aesop.weights.save import save_weights

RRDB = {"type": "RRDBNet", "scale": 2, "num_feat": 8, "num_block": 1, "num_grow_ch": 4}


def test_every_model_has_a_line(tmp_path, monkeypatch):
    net = build_network(RRDB)
    save_weights(tmp_path / "mine.safetensors", net.state_dict(), {"purpose": "drawings"})
    (tmp_path / "broken.pth").write_bytes(b"no weights")
    monkeypatch.setenv("AESOP_MODELS", str(tmp_path))
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == 0
    lines = {line.partition(":")[0]: line for line in result.stdout.splitlines()}
    count = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    file = tmp_path / "mine.safetensors"
    assert lines["mine"] == f"mine: x2, RRDBNet, {count:.2f} million parameters: drawings ({file})"
    assert lines["broken"].startswith("broken: cannot be used: ")
    assert lines["aesop_compact_x4"].endswith("(comes with aesop)")
    assert "x4, RRDBNet, 1.12 million parameters: small clean photographs" in lines["aesop_compact_x4"]

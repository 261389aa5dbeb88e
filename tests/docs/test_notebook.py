"""The notebook for Colab runs from top to bottom; it is stored without outputs."""

import json
from pathlib import Path

import nbclient
import nbformat
import pytest

REPO = Path(__file__).resolve().parents[2]
NOTEBOOK = REPO / "notebooks" / "aesop.ipynb"


def test_no_outputs_are_stored():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


@pytest.mark.slow
def test_notebook(tmp_path, monkeypatch, aesop_command):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # Raises the errors of cells.
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(work)}}).execute()
    results = json.loads((work / "compared" / "results.json").read_text())
    assert {method["name"] for method in results["methods"]} == {"1_psnr", "3_adversarial", "Bicubic"}
    shown = [output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert sum("image/png" in data for data in shown) == 2
    assert shown[-1]["text/plain"].endswith("(2, 3, 64, 64))")

"""The notebooks run in their order in one folder, and are kept with small outputs."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 350_000  # Of a notebook with its outputs.


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(notebook):
    """What the cells of a notebook have shown, as text."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs]


@pytest.mark.slow
def test_notebooks_run_in_their_order(tmp_path):
    """The encoder of the first is used by the next ones."""
    ran = {}
    for file in NOTEBOOKS:
        shutil.copy(file, tmp_path)
        notebook = nbformat.read(file, as_version=4)
        folder = {"metadata": {"path": str(tmp_path)}}
        NotebookClient(notebook, timeout=900, kernel_name="python3", resources=folder).execute()
        ran[file.stem[0]] = notebook
    assert sorted(ran) == list("123456")
    made_by = (tmp_path / "work/run/pretrain/artefact.json").read_text()
    assert '"trained_in": "notebook"' in made_by
    assert any("simattention" in text and "none" in text for text in texts(ran["3"]))
    assert any("0 errors" in text for text in texts(ran["6"]))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_outputs_are_kept_and_small(file):
    notebook = nbformat.read(file, as_version=4)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs and not [
        output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"
    ]
    assert file.stat().st_size < MOST_BYTES
    assert not [text for text in texts(notebook) if "/root/" in text or "/tmp/" in text]

"""The notebook of the docs does what it shows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
QUICK = 'train={"epochs": 1, "refit": False, "preset": None}, evaluate={"peers": ["knn"], "peers_seconds": 1.0}'

pytestmark = pytest.mark.slow


def test_the_notebook_runs_and_its_answers_are_those_of_the_server(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "recipes" / "shop", tmp_path / "recipes" / "shop")
    (tmp_path / "docs").mkdir()
    notebook = nbformat.read(ROOT / "docs" / "python.ipynb", as_version=4)
    for cell in notebook.cells:  # an epoch is enough
        cell.source = cell.source.replace('name="shop", ', f'name="shop", {QUICK}, ')
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path / "docs"}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "Run <b>shop</b>" in code[1].outputs[0]["data"]["text/html"]
    assert [*code[2].outputs[0]["data"]] == ["text/plain", "text/html"]
    assert "item KNN" in code[2].outputs[0]["data"]["text/html"]
    assert "C1001" in code[3].outputs[0]["data"]["text/html"]
    served, table = code[4].outputs[0]["data"]["text/plain"], code[3].outputs[0]["data"]["text/plain"]
    assert re.findall("SKU-\\w+", served) == re.findall("C1000 .*(SKU-\\w+)", table)
    assert "[data]" in code[5].outputs[0]["text"]

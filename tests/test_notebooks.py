"""The notebooks of the documentation: they run, and are kept as they are before they ran."""

import re

import nbformat
import pytest
from test_docs import pages

SHORTER = re.compile(r"= \S+  # the tests take (\S+)$", re.MULTILINE)
NOTEBOOKS = [path for path in pages.places() if path.endswith(".ipynb")]


def read(path):
    """A notebook and its cells of code."""
    notebook = nbformat.reads(pages.read_text(path), as_version=4)
    return notebook, [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_notebook_is_kept_without_what_comes_out(path):
    notebook, cells = read(path)
    nbformat.validate(notebook)
    assert not [cell for cell in cells if cell.outputs or cell.execution_count]


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_a_notebook_runs_and_ends_with_a_picture(path):
    notebook, cells = read(path)
    for cell in cells:
        cell.source = SHORTER.sub(r"= \1", cell.source)
    pages.run_notebook(notebook)
    assert any("image/png" in output.get("data", ()) for output in cells[-1].outputs)

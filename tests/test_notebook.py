"""The recipe as a notebook: its outputs are what its code gives, and it can be opened by Jupyter."""

import base64
import io
import re
from pathlib import Path

import notebooks
import numpy as np
import PIL.Image

PAGE = Path(__file__).parents[1] / "docs" / "recipe.ipynb"
_MOST_BYTES = 300_000


def test_every_cell_gives_what_the_notebook_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = notebooks.read(PAGE)
    found = notebooks.told(notebooks.run(notebook))
    cells = notebooks.code_cells(notebook)
    for cell, given in zip(cells, found, strict=True):
        assert [given] == notebooks.told([cell["outputs"]]), "".join(cell["source"])


def test_the_notebook_is_small_and_as_jupyter_stores_it():
    notebook = notebooks.read(PAGE)
    assert PAGE.stat().st_size < _MOST_BYTES
    assert notebook.keys() == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    names = [cell["id"] for cell in notebook["cells"]]
    assert len({*names}) == len(names)
    assert [cell["execution_count"] for cell in notebooks.code_cells(notebook)] == [
        number + 1 for number in range(len(notebooks.code_cells(notebook)))
    ]


def test_its_pictures_show_something():
    outputs = [output for cell in notebooks.code_cells(notebooks.read(PAGE)) for output in cell["outputs"]]
    drawn = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert drawn
    for picture in drawn:
        assert np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(picture))).convert("L")).std() > 1


def test_its_links_lead_to_pages():
    text = "".join(line for cell in notebooks.read(PAGE)["cells"] for line in cell["source"])
    found = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
    assert {"tutorial.md", "serve.md", "python.md"} <= set(found)
    assert [link for link in found if not (PAGE.parent / link).exists()] == []

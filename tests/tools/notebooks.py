"""The code of a notebook, run in its order: `python tests/tools/notebooks.py docs/recipe.ipynb` stores what it shows.

It is run as Jupyter runs it, without Jupyter: what a cell prints, what its last expression gives in each form in which
that shows itself, and the figures that it leaves open are its outputs.
"""

import ast
import base64
import contextlib
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path

_PICTURE = re.compile(r'src="data:image/png;base64,[^"]*"')


def read(path):
    """A notebook, as nbformat has it."""
    return json.loads(Path(path).read_text())


def write(path, notebook):
    """Write a notebook as Jupyter does."""
    Path(path).write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def code_cells(notebook):
    """Those with code, in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(notebook):
    """Run all code cells in the folder at work, and give the outputs of each."""
    import matplotlib as mpl  # with pyplot half a second, which collecting the test need not take
    import matplotlib.pyplot as plt

    mpl.use("agg")
    plt.close("all")
    names = {"__name__": "__main__"}
    return [_run_cell("".join(cell["source"]), names, number + 1) for number, cell in enumerate(code_cells(notebook))]


def _run_cell(source, names, number):
    import matplotlib.pyplot as plt

    body, printed, value = ast.parse(source), io.StringIO(), None
    last = body.body.pop() if body.body and isinstance(body.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(printed):
        exec(compile(body, f"cell {number}", "exec"), names)  # noqa: S102  # these cells are our own
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)  # noqa: S307  # likewise
    outputs = []
    if printed.getvalue():
        outputs.append({"name": "stdout", "output_type": "stream", "text": _lines(printed.getvalue())})
    if value is not None:
        data = _forms(value)
        outputs.append({"data": data, "execution_count": number, "metadata": {}, "output_type": "execute_result"})
    for figure in map(plt.figure, plt.get_fignums()):
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", bbox_inches="tight", metadata={"Software": None})
        data = {"image/png": base64.b64encode(drawn.getvalue()).decode(), "text/plain": _lines(repr(figure))}
        outputs.append({"data": data, "metadata": {}, "output_type": "display_data"})
    plt.close("all")
    return outputs


def _forms(value):
    """What a value shows of itself, by the kind of content."""
    forms = {"text/plain": _lines(repr(value))}
    if hasattr(value, "_repr_html_"):
        forms["text/html"] = _lines(value._repr_html_())
    return forms


def _lines(text):
    return text.splitlines(keepends=True)


def told(outputs):
    """Outputs of cells as texts by the kind of content: what is printed as one, and no pictures.

    Of these, other versions of other libraries make other bytes.
    """
    return [_told(cell) for cell in outputs]


def _told(cell):
    printed = "".join(line for output in cell if "text" in output for line in output["text"])
    shown = [
        {
            kind: "" if kind == "image/png" else _PICTURE.sub("", "".join(lines))
            for kind, lines in output["data"].items()
        }
        for output in cell
        if "data" in output
    ]
    return [*([{"printed": printed}] if printed else []), *shown]


def main(path):
    """Run a notebook in a folder of its own, and store its outputs in its file."""
    path = Path(path).absolute()
    notebook = read(path)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        outputs = run(notebook)
        os.chdir(path.parent)
    for number, (cell, found) in enumerate(zip(code_cells(notebook), outputs, strict=True)):
        cell.update(execution_count=number + 1, outputs=found)
    write(path, notebook)
    print(f"{path.name}: {len(outputs)} cells run, {path.stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What answers and indexes are made of as notebooks show them: HTML that stands alone wherever it is put.

Its style is on each element, as notebooks that are not trusted show no style sheet, and its text has the colour of what
is around it, light or dark. There is no script in it, and nothing that is asked for elsewhere.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from knnvote.indexer.labels import show_class
from knnvote.indexer.manifest import Manifest

from .thumbnails import SMALL, Thumbnail

_LONGEST = 60  # characters of a label
_LINE = "rgba(128,128,128,.5)"  # on light and dark alike
_BAR = "#4a90c2"
_CELL = "text-align:left;vertical-align:top;padding:.35em 1em .35em 0;font-weight:inherit;white-space:"


def text(value: object) -> str:
    """Text that cannot speak as HTML, cut where it is long."""
    said = str(value)
    return escape(said if len(said) <= _LONGEST else f"{said[: _LONGEST - 1]}…")


def show_label(label: Any, manifest: Manifest) -> str:
    """A label with its name, whichever way it is written, as HTML."""
    return f"<bdi>{text(show_class(label, manifest.class_names))}</bdi>"


def faint(html: str) -> str:
    """What is read second."""
    return f'<span style="font-size:.85em;opacity:.8">{html}</span>'


def frame(title: str, parts: Iterable[str]) -> str:
    """All that is shown, below its title, which is text."""
    body = "".join(parts)
    return f'<div style="overflow-wrap:anywhere;max-width:60em"><div><strong>{escape(title)}</strong></div>{body}</div>'


def card(drawn: Thumbnail, label: str, note: str) -> str:
    """A small picture above its label and a note, which are HTML; these alone where there is none."""
    if not drawn.source:
        return f"{label} {faint(note)}"
    style = f"width:{SMALL}px;height:{SMALL}px;max-width:none;margin:0;object-fit:contain;image-rendering:pixelated;"
    style += f"border:1px solid {_LINE};box-sizing:content-box;display:block"
    shown = f'<img src="{drawn.source}" alt="{text(drawn.told)}" width="{SMALL}" height="{SMALL}" style="{style}">'
    return f"{shown}{label}<br>{faint(note)}"


def cards(several: Sequence[str], *, has_pictures: bool) -> str:
    """Things beside each other, in as many lines as the width takes; what are no pictures below each other."""
    style = "margin:0 .6em .4em 0;padding:0;line-height:1.3"
    if has_pictures:
        style += ";display:inline-block;vertical-align:top;min-width:3.6em;max-width:9em"
    items = "".join(f'<li style="{style}">{one}</li>' for one in several)
    return f'<ul style="list-style:none;margin:.2em 0 0;padding:0">{items}</ul>'


def bar(share: float) -> str:
    """A share as a bar; what it is stands beside it."""
    style = f"display:inline-block;width:{6 * share:.2f}em;height:.7em;margin-right:.4em;background:{_BAR}"
    return f'<span aria-hidden="true" style="{style}"></span>'


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows of cells, the first of which says what the others are of."""
    lines = []
    for head, *others in rows:
        cells = "".join(f'<td style="{_CELL}normal">{one}</td>' for one in others)
        lines.append(
            f'<tr style="background:none;border-top:1px solid {_LINE}">'
            f'<th scope="row" style="{_CELL}nowrap">{head}</th>{cells}</tr>'
        )
    style = "border-collapse:collapse;table-layout:auto;margin:.3em 0;color:inherit;font-size:inherit"
    return f'<table style="{style}"><tbody>{"".join(lines)}</tbody></table>' if lines else ""

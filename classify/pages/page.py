"""HTML pages from templates: one file each, of one family, and nothing in it leads a browser out of its folder."""

import base64
import hashlib
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from knnvote.classify.names import Ink
from knnvote.classify.pictures.figures import INK, check_plot_extra, missing_characters
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.files import atomic_write

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

_BLACK = "#000000"  # of axes and their numbers, unless told
_OURS = re.compile(r'<meta name="knnvote-page" content="([^"]*)">')  # in the head of every page
_HEAD = 1024  # bytes, in which that stands, whatever the title
_MOST_LINKS = 20  # to other pages
_CONTENTS = re.compile(r'<h2 id="([^"]+)">(.*?)</h2>', re.DOTALL)


@dataclass(frozen=True)
class Tile:
    """One of the few numbers that the first screen shows.

    Attributes:
        what: it is.
        value: as it is shown.
        note: what else is to be known of it.
        tone: ``good`` or ``bad`` where it is one of them.
    """

    what: str
    value: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Frame:
    """What a page is told beside what was found.

    Attributes:
        command: that writes it again; empty where that is not known.
        ink: what the greatest values of its pictures are.
    """

    command: str = ""
    ink: Ink = "light"


@dataclass(frozen=True)
class Link:
    """Another page of the folder, by its address relative to this one; that itself has none."""

    title: str
    address: str


def check_page(path: Path, *, has_figures: bool) -> None:
    """Refuse, before any work, a page that could not be written.

    Args:
        path: of the page.
        has_figures: whether matplotlib draws some of it.

    Raises:
        OptionError: its name does not end in .html.
        KnnvoteError: Jinja2, or matplotlib for figures, is not installed.
    """
    if path.suffix.lower() != ".html":
        raise OptionError(f"{path} is no name of a page: give one that ends in .html")
    if has_figures:
        check_plot_extra()
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise KnnvoteError("pages need Jinja2, which is not installed: pip install 'knnvote[plot]'") from error


def write_page(path: Path, template: str, *, title: str, frame: Frame | None = None, **content: Any) -> None:
    """Write a page, whole or not at all; an older one is replaced.

    Args:
        path: of the page.
        template: name of a file in ``classify/pages/templates``.
        title: of the page, by which others of its folder name it.
        frame: what it is told beside what was found.
        content: what it shows; text is escaped.

    Raises:
        KnnvoteError: it cannot be written.
    """
    text = render_page(template, title=title, frame=frame, links=_links(path, title), **content)
    with atomic_write(path) as stream:
        stream.write(text.encode())


def render_page(
    template: str,
    *,
    title: str,
    frame: Frame | None = None,
    links: Sequence[Link] = (),
    scripts: Sequence[str] = ("page.js",),
    **content: Any,
) -> str:
    """A page as text.

    Args:
        template: name of a file in ``classify/pages/templates``.
        title: of the page.
        frame: what it is told beside what was found.
        links: to pages beside it, itself among them.
        scripts: names of files there, which it runs one after the other.
        content: what it shows; text is escaped.
    """
    frame = frame or Frame()
    folder = files("knnvote.classify.pages") / "templates"
    script = "".join((folder / name).read_text() for name in scripts)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text: str = (
        _environment()
        .get_template(template)
        .render(
            title=title,
            command=frame.command,
            ink=frame.ink,
            links=links,
            version=version("knnvote"),
            script=script,
            script_digest=digest,
            **content,
        )
    )
    return text


@cache
def _environment() -> "Environment":
    import jinja2
    import markupsafe

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("knnvote.classify.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["contents"] = _contents
    environment.filters["breakable"] = lambda text: markupsafe.Markup("<wbr>#").join(text.split("#"))
    return environment


def _contents(body: str) -> list[tuple[str, str]]:
    """Address and title, as text, of each section of a page."""
    plain = ((place, re.sub(r"<[^>]*>", "", title)) for place, title in _CONTENTS.findall(body))
    return [(html.unescape(place), html.unescape(title)) for place, title in plain]


def _links(path: Path, title: str) -> list[Link]:
    """This page and those of knnvote that lie beside it, by their names; none where it is alone."""
    found = [(path.name, Link(title, ""))]
    for other in sorted(path.parent.glob("*.html")):
        of_other = None if other.name == path.name else _title_of(other)
        if of_other is not None and len(found) <= _MOST_LINKS:
            found.append((other.name, Link(of_other, "./" + quote(other.name))))
    return [link for _, link in sorted(found, key=lambda named: named[0])] if len(found) > 1 else []


def _title_of(path: Path) -> str | None:
    """The title of a page of knnvote; None of any other file, and of one that cannot be read."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD).decode(errors="replace")
    except OSError:
        return None
    found = _OURS.search(head)
    return html.unescape(found[1]) if found else None


def inline_svg(figure: "Figure") -> str:
    """A figure as part of a page: its text stays text, in the page's own colour, light or dark."""
    import matplotlib as mpl

    stream = io.StringIO()
    with (
        mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "knnvote", "font.family": "sans-serif"}),
        missing_characters(),
    ):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    # Text without a colour of its own is black: the style of the page gives it one.
    return svg.replace(INK, "currentColor").replace(_BLACK, "currentColor")

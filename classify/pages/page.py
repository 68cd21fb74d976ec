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

from knnvote.classify.names import Ink
from knnvote.classify.pictures.figures import INK, check_plot_extra, missing_characters
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.files import atomic_write

from .facts import Fact, last_written
from .links import Link, links_among, links_beside, pages_in

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

_BLACK = "#000000"  # of axes and their numbers, unless told
_START = re.compile(r'(<body[^>]*>\n)(?:<nav class="links".*?</nav>\n)?', re.DOTALL)  # with links, if there are some
# Where a name may be broken that no space divides: behind what joins words, before a row's number and a capital.
_BREAKS = re.compile(r"(?<=\w[_/-])(?=\w)|(?=#)|(?<=[a-z])(?=[A-Z])")
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


def write_page(
    path: Path, template: str, *, title: str, made: list[Fact], frame: Frame | None = None, **content: Any
) -> None:
    """Write a page, whole or not at all; an older one is replaced.

    Args:
        path: of the page.
        template: name of a file in ``classify/pages/templates``.
        title: of the page, by which others of its folder name it.
        made: what it was made from.
        frame: what it is told beside what was found.
        content: what it shows; text is escaped.

    Raises:
        KnnvoteError: it cannot be written.
    """
    text = render_page(template, title=title, made=made, frame=frame, links=links_beside(path, title), **content)
    with atomic_write(path) as stream:
        stream.write(text.encode())


def render_page(
    template: str,
    *,
    title: str,
    made: list[Fact],
    frame: Frame | None = None,
    links: Sequence[Link] = (),
    scripts: Sequence[str] = ("page.js",),
    **content: Any,
) -> str:
    """A page as text.

    Args:
        template: name of a file in ``classify/pages/templates``.
        title: of the page.
        made: what it was made from.
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
            made=made,
            date=last_written(made),
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


def with_links(text: str, links: Sequence[Link]) -> str:
    """The text of a page with these links in the place of those with which it was written."""
    start: str = _environment().get_template("links.html.j2").render(links=links)
    return _START.sub(lambda found: found[1] + start, text, count=1)


def link_pages(pages: Sequence[Path]) -> None:
    """Have pages of one folder lead to all that lie there now: the first of them were written before the last.

    Raises:
        KnnvoteError: one cannot be written.
    """
    for page in pages:
        text = with_links(page.read_text(encoding="utf-8"), links_among(pages_in(page.parent), page.name))
        with atomic_write(page) as stream:
            stream.write(text.encode())


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
    environment.filters["breakable"] = lambda text: markupsafe.Markup("<wbr>").join(_BREAKS.split(text))
    return environment


def _contents(body: str) -> list[tuple[str, str]]:
    """Address and title, as text, of each section of a page."""
    plain = ((place, re.sub(r"<[^>]*>", "", title)) for place, title in _CONTENTS.findall(body))
    return [(html.unescape(place), html.unescape(title)) for place, title in plain]


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

"""HTML pages from templates: one file each, without scripts, and nothing in it leads a browser elsewhere."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knnvote.classify.pictures.figures import INK, check_plot_extra, missing_characters
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.data.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BLACK = "#000000"  # of axes and their numbers, unless told


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


def write_page(path: Path, template: str, **content: Any) -> None:
    """Write a page, whole or not at all; an older one is replaced.

    Args:
        path: of the page.
        template: name of a file in ``classify/pages/templates``.
        content: what it shows; text is escaped.

    Raises:
        KnnvoteError: it cannot be written.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("knnvote.classify.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template).render(**content)
    with atomic_write(path) as stream:
        stream.write(text.encode())


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

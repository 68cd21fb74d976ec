"""What all pictures share: figures without a window, colours, text as it is, and files of the same bytes each time."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knnvote.data.errors import KnnvoteError, OptionError, stack_level
from knnvote.data.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KINDS = (".png", ".svg")
_LONGEST = 24  # characters of a label in a picture
DPI = 120
INK, WRONG = "#222222", "#882255"
# Paul Tol's muted scheme and a dark grey, which colour-blind people can tell apart.
_COLOURS = (
    "#332288",
    "#88CCEE",
    "#CC6677",
    "#117733",
    "#DDCC77",
    "#AA4499",
    "#44AA99",
    "#882255",
    "#999933",
    "#555555",
)
MARKERS = "osD^vP*X<>"  # of classes that share a colour, none is the same
# Those of them that are installed draw the characters that matplotlib's own font lacks.
_FONTS = (
    "Noto Sans CJK JP",  # Linux
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",  # Windows
    "Malgun Gothic",
    "Nirmala UI",
    "Hiragino Sans",  # macOS
    "Apple SD Gothic Neo",
    "Arial Unicode MS",
)


def style(place: int) -> tuple[str, str]:
    """Colour and marker of a class by its place in class order; of 90 classes no two have both in common."""
    turn = place // len(_COLOURS)
    return _COLOURS[place % len(_COLOURS)], MARKERS[(place + turn) % len(MARKERS)]


def check_picture(path: Path) -> None:
    """Refuse, before any work, a picture that could not be written.

    Raises:
        OptionError: the path ends in neither .png nor .svg.
        KnnvoteError: matplotlib is not installed.
    """
    if path.suffix.lower() not in _KINDS:
        raise OptionError(f"{path} is no name of a picture: give one that ends in {' or '.join(_KINDS)}")
    check_plot_extra()


def check_plot_extra() -> None:
    """Refuse to draw without matplotlib.

    Raises:
        KnnvoteError: it is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise KnnvoteError("pictures need matplotlib, which is not installed: pip install 'knnvote[plot]'") from error


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of so many inches, known to no window; matplotlib lays it out without overlaps."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def outlined() -> list[Any]:
    """Path effects that set text off from what is behind it."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground="white")]


def font_families() -> list[str]:
    """The fonts of labels, which may be of any script: matplotlib's own, and behind it others that are installed."""
    from matplotlib.font_manager import get_font_names

    installed = set(get_font_names())
    return ["sans-serif", *(name for name in _FONTS if name in installed)]


@contextmanager
def missing_characters() -> Iterator[set[str]]:
    """While texts are laid out or drawn, gather the characters that no font has in place of a warning for each."""
    missing: set[str] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield missing
    for warning in caught:
        glyph = re.match(r"Glyph (\d+) .* missing from font", str(warning.message), re.DOTALL)
        if glyph:
            missing.add(chr(int(glyph[1])))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def plain(value: Any, longest: int = _LONGEST) -> str:
    """A label as text of one line, never blank, and cut in the middle if it is too long: names often start alike."""
    text = "".join(char if char.isprintable() else " " for char in str(value))
    if not text.strip():
        return "(blank)"
    kept = longest - 1
    return text if len(text) <= longest else f"{text[: kept - kept // 2]}…{text[-(kept // 2) :]}"


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG or SVG, whole or not at all; the same figure gives the same bytes.

    Raises:
        OptionError: the path ends in neither .png nor .svg.
        KnnvoteError: it cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.text import Text

    check_picture(path)
    families = font_families()
    for text in figure.findobj(Text):
        text.set_fontfamily(families)
    kind = path.suffix.lower()[1:]
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    drawn = io.BytesIO()  # whole before the file is begun, of which a killed process leaves no part then
    with mpl.rc_context({"svg.hashsalt": "knnvote"}), missing_characters() as missing:
        figure.savefig(drawn, format=kind, metadata=metadata)
    if missing:
        warnings.warn(
            f"{path} shows boxes for {len(missing):,} characters that no font has, such as {min(missing)}: install a "
            f"font that has them, of {', '.join(_FONTS)}, and delete {mpl.get_cachedir()}/fontlist*.json",
            stacklevel=stack_level(),
        )
    with atomic_write(path) as stream:
        stream.write(drawn.getbuffer())

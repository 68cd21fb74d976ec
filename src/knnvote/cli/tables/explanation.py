"""What ``explain`` tells of each image: the answer, the vote as bars, the neighbours, and how near they are."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from knnvote.classify.look.explain import Explanation, Explanations
from knnvote.classify.look.words import advice, kept_values, left_out, nearness, outvoted, verdict
from knnvote.data.text import printable
from knnvote.indexer.labels import show_class

from .picture import half_blocks, shows_pictures
from .table import Name, add_row, kept_name, new_table, print_line, print_table

_BAR = 30  # characters of all votes
_CELLS = (18, 28)  # characters of a picture's line, at least and at most
_MOST_PICTURES = 12
_GAP = 2


def print_explanations(found: Explanations) -> None:
    """All of them on stdout, an empty line between two."""
    for place, one in enumerate(found.shown):
        if place:
            print_line("")
        _print_one(found, one)


def _print_one(found: Explanations, one: Explanation) -> None:
    names = found.index.manifest.class_names
    print_line(f"{one.name}: {verdict(one, names)}")
    kept = ", ".join(f"{name} {text}" for name, text in kept_values(one))
    for line in (advice(one), left_out(one, names), outvoted(one, names), kept and f"its row: {kept}"):
        if line:
            print_line(line)
    console = Console(markup=False, emoji=False, highlight=False)
    if one.pixels is not None and shows_pictures(console):
        console.print(pictures_in_lines(found, one, console.width))
    if one.votes:
        table = new_table("", "label", "vote", "neighbours")
        table.columns[1].justify = "left"
        for vote in one.votes:
            bar = "█" if console.encoding.startswith("utf") else "#"
            drawn = f"{bar * round(_BAR * vote.share)} {vote.share:.0%}"
            add_row(table, Name(show_class(vote.label, names)), drawn, str(vote.neighbors))
        print_table(table)
    if one.neighbors:
        weight = () if found.index.sample_weight is None else ("weight",)
        keep = found.index.manifest.keep
        read = [*map(printable, keep)]
        table = new_table("", "rank", "id", "label", "distance", *weight, *read, text=("id", "label"), read=read)
        digits = len(str(len(one.neighbors)))
        for rank, neighbor in enumerate(one.neighbors, 1):
            label = Name(show_class(neighbor.label, names))
            texts = (kept_name(neighbor.kept, column) for column in keep)
            weighed = () if neighbor.weight is None else (f"{neighbor.weight:g}",)
            add_row(table, f"{rank:{digits}}", Name(neighbor.id), label, f"{neighbor.distance:.4g}", *weighed, *texts)
        print_table(table)
        print_line(nearness(found, one))


def pictures_in_lines(found: Explanations, one: Explanation, width: int) -> Table:
    """The image and those of its neighbours, the nearest first, in lines with their labels below."""
    index, names = found.index, found.index.manifest.class_names
    low, high = index.image_range
    shades = min(0.0, low), high
    pictures: list[tuple[Any, str]] = [(one.pixels, "image")]
    for rank, neighbor in enumerate(one.neighbors, 1):
        pictures.append((index.picture(neighbor.row), f"{rank}: {show_class(neighbor.label, names)}"))
    fits = [picture for picture in pictures if picture[0] is not None][:_MOST_PICTURES]
    in_line = min(len(fits), (width + _GAP) // (_CELLS[0] + _GAP))
    cell = min(_CELLS[1], (width + _GAP) // in_line - _GAP)
    lines = Table.grid(padding=(0, _GAP, 0, 0))
    for first in range(0, len(fits), in_line):
        line = fits[first : first + in_line]
        lines.add_row(*(half_blocks(pixels, shades, cell) for pixels, _ in line))
        lines.add_row(*(Text(printable(told)[:cell]) for _, told in line))
    return lines

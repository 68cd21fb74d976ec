"""What was measured as tables for people."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from knnvote.data.text import show_bytes

from .measure import Result

LEGEND = (
    "queries/s: test images a processor-second, search, final distances and vote; speed: the same over IndexFlatL2's "
    "in the same turn; processor, wall: of building; saved: the index as a file; grown: the process's own memory, by "
    "building; judged: test images behind recall, agreement and accuracy"
)
_WIDTH = 150
_HEADERS = (
    "contender",
    "setting",
    "queries/s",
    "speed",
    "recall",
    "p5",
    "agreement",
    "accuracy",
    "judged",
    "processor",
    "wall",
    "saved",
    "grown",
)


def print_results(results: Sequence[Result], *, test_images: int, k: int, turns: int) -> None:
    """The table of one set of stored images."""
    title = f"{results[0].n:,} stored and {test_images:,} test images, k = {k}, one thread, medians of {turns} turns"
    table = new_table(title, *_HEADERS)
    for result in results:
        table.add_row(*_row(result))
    print_table(table)


def _row(result: Result) -> list[str]:
    build, quality = result.build, result.quality
    return [
        result.contender,
        result.shown,
        f"{result.queries_per_second:,.0f}",
        f"{result.ratio:.2f} x",
        f"{quality.recall:.4f}",
        f"{quality.recall_p5:.2f}",
        f"{quality.agreement:.4f}",
        "" if quality.accuracy is None else f"{quality.accuracy:.4f}",
        f"{quality.images:,}",
        f"{build.processor_seconds:.1f} s",
        f"{build.wall_seconds:.1f} s",
        show_bytes(build.bytes),
        "" if build.resident_bytes is None else show_bytes(max(0, build.resident_bytes)),
    ]


def print_growth(results: Sequence[Result], exponents: Mapping[str, float]) -> None:
    """Cost a test image for each number of stored images, with the exponents below."""
    headers = ("contender", "setting", "stored", "cost a test image", "speed", "recall", "agreement")
    table = new_table("growth of cost with stored images", *headers, "processor", "wall", "saved", "grown")
    for result in sorted(results, key=lambda result: (result.contender, result.n)):
        row = _row(result)
        cost = f"{1e6 / result.queries_per_second:,.1f} us"
        table.add_row(*row[:2], f"{result.n:,}", cost, row[3], row[4], row[6], *row[-4:])
    print_table(table)
    powers = new_table("", "contender", "cost grows as n to the power", left=1)
    for name, exponent in exponents.items():
        powers.add_row(name, f"{exponent:.2f}")
    print_table(powers)


def print_legend(legend: str = LEGEND) -> None:
    """What the columns mean."""
    Console(width=120, highlight=False, markup=False, emoji=False).print(legend)


def new_table(title: str, *headers: str, left: int = 2) -> Table:
    """A table of figures, of which the first columns stand to the left."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i < left else "right", no_wrap=True)
    return table


def print_table(table: Table) -> None:
    """On stdout, in lines as long as it takes."""
    width = max(_WIDTH, Console().width)  # a narrow terminal wraps a row rather than lose figures
    Console(width=width, highlight=False, markup=False, emoji=False).print(table)

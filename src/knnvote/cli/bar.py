"""A progress bar of rows, with rich."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _RowsPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "")


@contextmanager
def row_bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr: rows done, rows a second, time left. Yields what to call with each batch's rows."""
    columns = (
        TextColumn(label),
        BarColumn(),
        TextColumn("{task.completed:,.0f} rows"),
        _RowsPerSecond(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda rows: bar.advance(task, rows)

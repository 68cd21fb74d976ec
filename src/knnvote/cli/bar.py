"""A progress bar on a terminal, with rich."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as _TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from knnvote.data.progress import Advance, Total

from .log_lines import show_rate

_MOST_NAME = 40  # columns of a terminal: what counts nothing may have names from paths, and has room


class _NameColumn(ProgressColumn):
    """What is being done, cut where there is no room."""

    def render(self, task: Task) -> Text:
        """As text."""
        return Text(task.description, no_wrap=True, overflow="ellipsis")


class _DoneColumn(ProgressColumn):
    """How much is done, and how many units a second: of 80 columns there are no more for it."""

    def render(self, task: Task) -> Text:
        """As text."""
        unit = task.fields["unit"]
        if not task.completed:
            return Text("")
        done = f"{task.completed:,.0f} {unit}" if task.total is None else f"{task.percentage:.0f}%"
        return Text(f"{done}, {show_rate(task.speed)} {unit}/s" if task.speed else done)


class _TimeLeftColumn(_TimeRemainingColumn):
    """Rich's own, where there is something to count."""

    def render(self, task: Task) -> Text:
        """As text."""
        return Text("") if task.total is None else Text.assemble(super().render(task), " left")


class ProgressBar:
    """Shows the innermost stage in one line on stderr, which is cleared when the outermost ends."""

    def __init__(self) -> None:
        """Show nothing yet."""
        self._open: list[TaskID] = []
        self._bar = _new_bar()

    def close(self) -> None:
        """Clear it at the end of a command, which an error may bring while the stage of a generator is still open."""
        self._bar.stop()

    @contextmanager
    def __call__(self, name: str, total: Total, unit: str) -> Iterator[Advance]:
        """Show a stage while it lasts; as a `Watch`."""
        if not self._open:
            self._bar.start()
        else:
            self._bar.update(self._open[-1], visible=False)
        task = self._bar.add_task(name, total=total() if callable(total) else total, unit=unit)
        self._open.append(task)
        try:
            yield lambda more: self._bar.advance(task, more)
        finally:
            self._open.remove(task)
            if self._open:
                self._bar.update(self._open[-1], visible=True)
            else:
                self._bar.stop()
            self._bar.remove_task(task)


def _new_bar() -> Progress:
    """In one line: of 80 columns the bar has what the rest leaves, and long names give way."""
    return Progress(
        _NameColumn(table_column=Column(max_width=_MOST_NAME)),
        BarColumn(None, table_column=Column(ratio=1)),
        _DoneColumn(table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("elapsed", table_column=Column(no_wrap=True)),
        _TimeLeftColumn(table_column=Column(no_wrap=True)),
        console=Console(stderr=True),
        transient=True,
        expand=True,
        redirect_stdout=False,  # which is data
    )

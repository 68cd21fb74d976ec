"""What a command says: talk and progress on stderr, what it found on stdout as JSON or a table."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from knnvote.data.errors import spelled
from knnvote.data.text import printable

from .spelling import as_typed

if TYPE_CHECKING:
    from knnvote.classify.vote import Rule
    from knnvote.indexer.index import Index


class HasJson(Protocol):
    """What a library call found, which programs can have as one object."""

    def to_json(self) -> dict[str, Any]:
        """The object."""


Found = TypeVar("Found", bound=HasJson)


def talk(message: str) -> None:
    """Say something to who runs the command, on stderr."""
    click.echo("\n".join(map(printable, message.split("\n"))), err=True)


def talk_note(note: str) -> None:
    """Say what is to be known of what was done, its parameters as they are typed."""
    talk(f"note: {spelled(note, as_typed)}")


def talk_written(path: Path) -> None:
    """Say that a file was written."""
    talk(f"{path}: written")


def print_json(record: dict[str, Any]) -> None:
    """One object in one line on stdout, for programs."""
    import json

    takes_all = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(record, ensure_ascii=not takes_all)
    # What a terminal would obey is written as JSON escapes it.
    click.echo("".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text))


def end(
    found: Found,
    *,
    file: Path | None,
    write: Callable[[Path], None],
    as_json: bool,
    print_table: Callable[[Found], None],
) -> None:
    """End a command with what it found: a page or picture if one was asked for, then JSON or else a table."""
    if file is not None:
        write(file)
        talk_written(file)
    if as_json:
        print_json(found.to_json())
    else:
        print_table(found)


@contextmanager
def row_progress(label: str, inputs: Any = (), *, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A progress bar where a person is looking; `total` rows, or those of the inputs."""
    if not sys.stderr.isatty():
        yield lambda _rows: None
        return
    from .bar import row_bar

    rows = sum(source.count_rows() for source in inputs) if total is None else total
    with row_bar(label, rows) as advance:
        yield advance


def talk_no_promise(index: "Index", rule: "Rule") -> None:
    """Say that an adaptive index was not tuned for the rule, if it was not."""
    from knnvote.classify.search.search import why_no_promise

    reason = why_no_promise(index, rule)
    if reason is not None:
        talk(f"note: {reason}")

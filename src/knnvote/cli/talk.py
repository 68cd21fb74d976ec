"""What a command says: talk and progress on stderr, what it found on stdout as JSON or a table."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from knnvote.data.errors import spelled
from knnvote.data.progress import log, watched_by
from knnvote.data.text import printable

from .log_lines import ProgressLines
from .spelling import as_typed

if TYPE_CHECKING:
    from knnvote.classify.vote import Rule
    from knnvote.indexer.index import Index


class HasJson(Protocol):
    """What a library call found, which programs can have as one object."""

    def to_json(self) -> dict[str, Any]:
        """The object."""


Found = TypeVar("Found", bound=HasJson)


@dataclass
class _Loudness:
    """How much is said."""

    is_quiet: bool = False


_loudness = _Loudness()


class _TalkHandler(logging.Handler):
    """Says what the library logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one."""
        talk(record.getMessage())


@contextmanager
def loud(*, is_quiet: bool, is_verbose: bool) -> Iterator[None]:
    """Say nothing but errors, or what the library logs too."""
    _loudness.is_quiet = is_quiet
    handler, level = _TalkHandler(), log.level
    if is_verbose:
        log.addHandler(handler)
        log.setLevel(logging.INFO)
    try:
        yield
    finally:
        _loudness.is_quiet = False
        log.removeHandler(handler)
        log.setLevel(level)


def talk(message: str) -> None:
    """Say something to who runs the command, on stderr, unless only errors are wanted."""
    if not _loudness.is_quiet:
        talk_error(message)


def talk_error(message: str) -> None:
    """Say what went wrong, on stderr."""
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
def watch_progress() -> Iterator[None]:
    """Have the stages of a command shown: by a bar where a person is looking, else by a line now and then."""
    if _loudness.is_quiet:
        yield
    elif sys.stderr.isatty():
        from .bar import ProgressBar

        with closing(ProgressBar()) as bar, watched_by(bar):
            yield
    else:
        with watched_by(ProgressLines(talk)):
            yield


def talk_no_promise(index: "Index", rule: "Rule") -> None:
    """Say that an adaptive index was not tuned for the rule, if it was not, or on what it was measured."""
    from knnvote.classify.search.search import why_no_promise
    from knnvote.indexer.growth.told import measured_on

    manifest = index.manifest
    reason, told = why_no_promise(index, rule), measured_on(manifest.growth, manifest.search, manifest.vote)
    if reason is not None:
        talk(f"note: {reason}")
    elif told is not None:
        talk(f"note: what {index.path} promises was {told}")


def talk_approximate(index: "Index", what: str) -> None:
    """Say that figures found by an approximate search are approximate too."""
    from knnvote.classify.search.search import is_exact

    if not is_exact(index, 1):
        talk(f"note: the search of {index.path} is approximate, and so are {what}: an exact index gives exact ones")

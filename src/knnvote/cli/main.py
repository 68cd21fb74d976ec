"""The command line: options in, calls to the library, its results and errors as text.

stdout is data, stderr is talk. Exit 0 done, 1 data or run-time error, 2 usage, 3 done but some inputs failed, 130
interrupted. A command imports what it needs when it runs, so that ``--help`` answers at once.
"""

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, NoReturn, cast

import click

from knnvote.data.errors import KnnvoteError, OptionError, memory_ran_out

from . import data, disk, evaluate, index, jobs, look, show
from .classify import classify
from .command import Group
from .interruption import Interrupted, heed_signals, leaves_threads, was_interrupted, words
from .service.serve import serve
from .spelling import as_typed
from .talk import talk_error, talk_note

if TYPE_CHECKING:
    from io import TextIOWrapper

_INTERRUPTED = 130


def _tell_version(context: click.Context, _option: click.Parameter, is_given: bool) -> None:  # click's
    """Tell the version, and what searches: all that a report of a fault or of a speed has to name."""
    if is_given:
        import textwrap
        from importlib.metadata import version

        from knnvote.indexer.codes.library import describe_kernel

        click.echo(f"knnvote {version('knnvote')}")
        click.echo(textwrap.fill(f"kernel {describe_kernel()}", 80, break_long_words=False, break_on_hyphens=False))
        context.exit()


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_tell_version,
    help="Show the version and the kernel, and exit.",
)
def cli() -> None:
    """Classify images by their nearest labelled neighbours.

    \b
    Two steps, one folder between them:
      labelled images --index--> index folder --classify--> predictions
    """  # noqa: D301  # click needs the real character


for _title, _commands in {
    "Get images": (data.demo, data.sample, data.convert),
    "Build an index": (index.index, index.add, index.remove, index.relabel, index.compact),
    "Classify": (classify, serve),
    "Judge": (evaluate.compare, evaluate.choose_k, evaluate.choose_threshold, evaluate.suspects, jobs.diff),
    "Look": (look.explain, look.review, show.show, show.map_space, show.report),
    "Check what is on disk": (disk.inspect, disk.verify),
}.items():
    cli.add_section(_title, _commands)


class _WithoutPandas:
    """PyArrow would import pandas, to ask whether an array is one of its own: a quarter of a command's start."""

    def find_spec(self, fullname: str, _path: object, _target: object = None) -> None:
        """Find what is imported, which only others do."""
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname, name=fullname)


def main() -> None:
    """Run the command line and exit with its code."""
    sys.meta_path.insert(0, _WithoutPandas())
    if sys.stdout is not None:  # names in letters that a terminal does not have are written as Python escapes them
        cast("TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")
    warnings.showwarning = lambda message, *_rest, **_named: talk_note(getattr(message, "marked", str(message)))
    try:
        heed_signals(_exit_interrupted)
        code = _run()
    except Interrupted:  # before anything was done, or while an error was told
        _exit_interrupted()
    if leaves_threads():
        if sys.stdout is not None:
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _run() -> int:
    try:
        code = _call()
    except KnnvoteError as error:
        talk_error(f"error: {error.told(as_typed)}")
        return 2 if isinstance(error, OptionError) else 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MemoryError:
        talk_error(f"error: {memory_ran_out('give fewer --threads')}; what was there before is as it was")
        return 1
    except BrokenPipeError:
        sys.stdout = None  # who reads it is gone: nothing is left to flush
        return 1
    except OSError as error:
        sys.stdout = None  # what it still holds cannot be written either
        talk_error(f"error: cannot write {error.filename or 'to stdout'}: {error.strerror}")
        return 1
    except (Interrupted, KeyboardInterrupt, click.Abort):
        sys.stdout.flush()
        _exit_interrupted()  # a batch still at work in a thread is not waited for
    return code if isinstance(code, int) else 0


def _call() -> Any:
    try:
        return cli.main(standalone_mode=False)
    except BaseException as error:
        if was_interrupted():  # whatever a library made of it: an interrupted import, say, is an ImportError
            raise Interrupted from error
        raise


def _exit_interrupted() -> NoReturn:
    talk_error(words.told)
    os._exit(_INTERRUPTED)

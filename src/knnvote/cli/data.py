"""Commands that make images to work with: sample, convert, demo."""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from knnvote.data.text import counted

from .command import Command
from .options import complete_file, complete_folder, example, is_given, parse_local
from .service.serve import check_can_serve, open_option, port_option, serve
from .talk import talk, talk_note

if TYPE_CHECKING:
    from knnvote.demo import DemoPaths

_WIDTH = 78  # of a terminal's columns, but for the two that fold a line
_OF_SERVE = {"port": "--port", "opens": "--open"}


@click.command(cls=Command, epilog=example("knnvote demo"))
@click.argument("folder", callback=parse_local, default="knnvote-demo", shell_complete=complete_folder)
@click.option("--serve", "serves", is_flag=True, help="Open a page then, on which one draws digits.")
@port_option
@open_option(default=True)
def demo(folder: Path, serves: bool, port: int, opens: bool) -> None:
    """Walk the whole tour on scikit-learn's digits."""
    if serves:
        check_can_serve(port)
    elif given := [name for name in ("port", "opens") if is_given(name)]:
        raise click.UsageError(f"{_OF_SERVE[given[0]]} is of --serve: give that too")
    from knnvote.demo import run_demo

    paths = run_demo(folder, click.echo)
    tell_next(paths, click.echo, _program())
    if serves:
        context = click.get_current_context()
        context.invoke(serve, index_folder=str(paths.index("exact")), pages=paths.folder, port=port, opens=opens)


def tell_next(paths: "DemoPaths", say: Callable[[str], object], program: str) -> None:
    """Tell what to open and what to try on the files of a demo, as commands that can be pasted."""
    import shlex

    exact, adaptive, test, folder, out = (
        shlex.quote(str(path))
        for path in (paths.index("exact"), paths.index("adaptive"), paths.test, paths.folder, paths.explained)
    )
    say(f"\nAll files are in {folder}. {'Open in a browser:' if paths.pages else 'There are no pages to open:'}")
    for page in paths.pages:
        say(f"  {page}")
    if paths.lacks:
        say(f"  {paths.lacks}")
    say("Draw digits of your own, and have them recognised:")
    say(_folded(program, "serve", exact, "--pages", folder, "--open"))
    say("Try next:")
    say(_folded(program, "compare", test, f"--index {exact}", f"--index {adaptive}"))
    say(_folded(program, "classify", exact, test, f"--out {out}", "--neighbors", "--min-confidence 0.8"))
    say(_folded(program, "inspect", adaptive))


def _folded(*words: str) -> str:
    """A command in lines that fit a terminal, which a shell takes as one; a long name has a line of its own."""
    lines = ["  " + words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) < _WIDTH:
            lines[-1] += f" {word}"
        else:
            lines[-1] += " \\"
            lines.append(f"    {word}")
    return "\n".join(lines)


@click.command(cls=Command, epilog=example("knnvote sample digits digits"))
@click.argument("name", type=click.Choice(["digits"]))
@click.argument("folder", callback=parse_local, shell_complete=complete_folder)
def sample(name: str, folder: Path) -> None:  # noqa: ARG001  # digits are the only sample there is
    """Write a sample data set to FOLDER as Parquet."""
    from knnvote.data.sample import write_digits

    for path in write_digits(folder):
        click.echo(path)


def _parse_sources(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> tuple[Path, ...]:
    return tuple(parse_local(ctx, param, value) for value in values)


@click.command(
    cls=Command,
    short_help="Convert IDX, CSV, JSON, NPY and NPZ files to Parquet.",
    epilog=example("knnvote convert images-idx3-ubyte.gz labels-idx1-ubyte.gz images.parquet"),
)
@click.argument(
    "sources", nargs=-1, required=True, callback=_parse_sources, metavar="SRC...", shell_complete=complete_file
)
@click.argument("destination", metavar="DEST", callback=parse_local, shell_complete=complete_file)
@click.option("--images-key", metavar="NAME", help="Array of the images in an NPZ file that holds several.")
@click.option("--labels-key", metavar="NAME", help="Array of the labels in an NPZ file that holds several.")
@click.option(
    "--label-column",
    type=click.IntRange(min=0),
    metavar="N",
    help="Which column of a CSV file without header is the label, from 1; 0 if none is.",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
def convert(  # noqa: PLR0917  # click passes options by name
    sources: tuple[Path, ...],
    destination: Path,
    images_key: str | None,
    labels_key: str | None,
    label_column: int | None,
    overwrite: bool,
) -> None:
    """Convert IDX, CSV, JSON lines, NPY and NPZ files to Parquet."""
    from knnvote.data.convert.convert import convert as convert_files

    rows = convert_files(
        sources,
        destination,
        images_key=images_key,
        labels_key=labels_key,
        label_column=label_column,
        overwrite=overwrite,
        tell=talk_note,
    )
    talk(f"{destination}: {counted(rows, 'row')}")


def _program() -> str:
    """How a person calls this command: by its name where that finds it, else by its path."""
    import shlex

    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m knnvote"
    on_path = shutil.which("knnvote")
    return "knnvote" if on_path is not None and Path(on_path).resolve() == called.resolve() else str(called)

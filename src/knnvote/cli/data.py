"""Commands that make images to work with: sample, convert, demo."""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from knnvote.data.text import counted

from .command import Command
from .options import complete_file, complete_folder, example, parse_local
from .talk import talk, talk_note

if TYPE_CHECKING:
    from knnvote.demo import DemoPaths


@click.command(cls=Command, epilog=example("knnvote demo"))
@click.argument("folder", callback=parse_local, default="knnvote-demo", shell_complete=complete_folder)
def demo(folder: Path) -> None:
    """Walk the whole tour on scikit-learn's digits."""
    from knnvote.demo import run_demo

    tell_next(run_demo(folder, click.echo), click.echo, _program())


def tell_next(paths: "DemoPaths", say: Callable[[str], object], program: str) -> None:
    """Tell what to try on the files of a demo, as commands that can be pasted."""
    import shlex

    exact, adaptive, test, folder, out = (
        shlex.quote(str(path))
        for path in (paths.index("exact"), paths.index("adaptive"), paths.test, paths.folder, paths.explained)
    )
    say(f"\nAll files are in {folder}. Try next:")
    say(f"  {program} compare {test} --index {exact} --index {adaptive}")
    say(f"  {program} classify {exact} {test} --out {out} --neighbors --min-confidence 0.8")
    say(f"  {program} inspect {adaptive}")


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

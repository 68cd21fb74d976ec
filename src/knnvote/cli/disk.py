"""Commands that look at what is on disk: inspect, verify."""

import click

from knnvote.data.codecs.names import Background

from .command import Command
from .options import (
    check_table_ids,
    complete_file,
    complete_folder,
    example,
    find_labelled,
    image_options,
    is_given,
    json_option,
    label_column_option,
    labels_option,
    seen_options,
    table_ids_option,
)
from .spelling import as_typed
from .talk import print_json, talk, talk_error, talk_note

_OF_IMAGES = ("quick", "image_column", "shape", "label_column", "labels", "id_column", "grayscale", "background")


@click.command(
    cls=Command,
    short_help="Show what an index or output holds, or check images.",
    epilog=example("knnvote inspect digits/train.parquet digits/test.parquet"),
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=complete_file)
@click.option(
    "--quick",
    is_flag=True,
    help="Of images: look at the first rows of each file alone, but at all of CSV.",
)
@image_options
@label_column_option
@labels_option
@table_ids_option
@seen_options
@json_option
def inspect(  # noqa: PLR0917  # click passes options by name
    paths: tuple[str, ...],
    quick: bool,
    image_column: str | None,
    shape: tuple[int, ...] | None,
    label_column: str | None,
    labels: str | None,
    id_column: str | None,
    grayscale: bool,
    background: Background | None,
    as_json: bool,
) -> None:
    """Show what an index or a job's output holds, or check images before any work."""
    from knnvote.classify.inspection import inspect_images, inspect_made, is_made
    from knnvote.data.layout import ImageOptions

    check_table_ids(labels, id_column)
    made = [path for path in paths if is_made(path)]
    if made and paths[1:]:
        raise click.UsageError(f"{made[0]} is an index or a job's output: give one at a time, and no images with it")
    facts = inspect_made(paths[0]) if made or not paths[1:] else None
    if facts is None:
        inputs = find_labelled(paths, labels, label_column, id_column)
        images = ImageOptions(image_column=image_column, shape=shape, grayscale=grayscale, background=background)
        column = None if labels else label_column
        facts = inspect_images(paths, inputs, images=images, label_column=column, quick=quick)
    elif given := [as_typed(name) for name in _OF_IMAGES if is_given(name)]:
        raise click.UsageError(f"{', '.join(given)}: of files of images alone, and {paths[0]} is none")
    if as_json:
        print_json(facts)
    if facts["type"] == "images" and all("error" in file for file in facts["files"]):
        for file in facts["files"]:
            name, error = file["path"], file["error"]
            talk_error(f"error: {error if name in error else f'{name}: {error}'}")
        click.get_current_context().exit(1)
    if not as_json:
        from .tables.inspection import print_inspection

        print_inspection(facts)


@click.command(
    cls=Command,
    short_help="Check every byte of an index folder or of outputs.",
    epilog=example("knnvote verify digits.knn"),
)
@click.argument("path", shell_complete=complete_folder)
def verify(path: str) -> None:
    """Check every byte of an index folder, or of a job's outputs against receipts and inputs."""
    from knnvote.classify.verification import verify_path

    found = verify_path(path)
    for problem in found.problems:
        talk_error(problem)
    if found.gone:
        talk(f"note: {len(found.gone):,} inputs are gone and could not be compared, the first {found.gone[0]}")
    for words in found.kept:
        talk_note(words)
    if found.problems:
        click.get_current_context().exit(1)
    talk(f"{found.shown}: {found.summary}")

"""Commands that build and change an index folder: index, add, remove, relabel, compact."""

from pathlib import Path
from typing import Any

import click

from knnvote.data.codecs.names import Background
from knnvote.data.text import counted
from knnvote.indexer.names import KINDS, METRIC_NAMES, TASKS

from .classify import check_distance, distance_options
from .command import Command
from .interruption import words
from .options import (
    class_weight_option,
    complete_file,
    complete_folder,
    dry_run_option,
    example,
    find_labelled,
    image_column_option,
    image_options,
    images_argument,
    is_given,
    label_column_option,
    labels_option,
    local_index_argument,
    neighbor_options,
    parse_local,
    part_options,
    seed_option,
    seen_options,
    skip_bad_option,
    steps_option,
    threads_option,
    ties_option,
    weight_column_option,
)
from .talk import talk, talk_note


@click.command(cls=Command, epilog=example("knnvote index digits/train.parquet --out digits.knn"))
@images_argument
@click.option(
    "--out",
    metavar="X.knn",
    required=True,
    callback=parse_local,
    shell_complete=complete_folder,
    help="The index folder to make.",
)
@click.option(
    "--kind",
    type=click.Choice([kind for kind in KINDS if kind != "factory"]),
    default="exact",
    show_default=True,
    help="How it searches.",
)
@click.option("--factory", metavar="STRING", help="Any FAISS factory string, instead of a kind.")
@click.option(
    "--metric",
    type=click.Choice(METRIC_NAMES),
    default="l2",
    show_default=True,
    help="Of distances.",
)
@click.option(
    "--task",
    type=click.Choice(TASKS),
    default="classification",
    show_default=True,
    help="Vote for a class, or average numbers.",
)
@neighbor_options(", for which the index is made")
@ties_option
@class_weight_option()
@click.option(
    "--target-agreement",
    type=float,
    metavar="SHARE",
    default=0.999,
    show_default=True,
    help="Share of labels of an adaptive index that exact search gives too.",
)
@click.option(
    "--target-accuracy",
    type=float,
    metavar="SHARE",
    help="Accept answers so sure that so many are right.",
)
@click.option("--by-class", is_flag=True, help="Likewise for each class of enough answers.")
@distance_options
@image_options
@label_column_option
@labels_option
@click.option("--id-column", metavar="NAME", help="Column of ids; file#row or paths otherwise.")
@click.option(
    "--group-column",
    metavar="NAME",
    help="Column of groups that are left out as one.",
)
@weight_column_option
@click.option("--keep", multiple=True, metavar="NAME", help="Store this column for people to read; repeat.")
@seen_options
@steps_option
@skip_bad_option
@part_options
@click.option("--overwrite", is_flag=True, help="Replace an index folder that exists.")
@dry_run_option
@seed_option("Of everything random.")
@threads_option
def index(  # noqa: PLR0917  # click passes options by name
    images: tuple[str, ...],
    out: Path,
    kind: Any,
    factory: str | None,
    task: str,
    metric: Any,
    overwrite: bool,
    seed: int,
    threads: int | None,
    image_column: str | None,
    shape: tuple[int, ...] | None,
    label_column: str | None,
    labels: str | None,
    id_column: str | None,
    group_column: str | None,
    weight_column: str | None,
    keep: tuple[str, ...],
    grayscale: bool,
    background: Background | None,
    steps: tuple[str, ...],
    skip_bad: bool,
    limit: int | None,
    sample: int | None,
    dry_run: bool,
    **of_vote: Any,
) -> None:
    """Build an index folder from labelled images."""
    from knnvote.classify.adaptive.tune import Tuning
    from knnvote.classify.vote import Rule
    from knnvote.data.layout import ImageOptions
    from knnvote.indexer.build import IndexOptions, index_files
    from knnvote.indexer.training import TrainingOptions

    training = TrainingOptions(
        images=ImageOptions(image_column=image_column, shape=shape, grayscale=grayscale, background=background),
        steps=steps,
        label_column=None if labels else label_column,
        id_column=None if labels else id_column,
        group_column=group_column,
        weight_column=weight_column,
        keep=keep,
        is_regression=task == "regression",
        skip_bad=skip_bad,
        limit=limit,
        sample=sample,
    )
    kind = _kind(kind, factory)
    options = IndexOptions(kind=kind, factory=factory, metric=metric, overwrite=overwrite, seed=seed, threads=threads)
    check_distance(of_vote["max_distance"])
    rule = Rule(weights=of_vote["weights"], max_distance=of_vote["max_distance"]).of_metric(metric)
    tune = Tuning(**{**of_vote, "weights": rule.stored_weights})
    _talk_untuned(kind)
    beside = {"group_column": group_column, "weight_column": weight_column, "keep": keep}
    inputs = find_labelled(images, labels, label_column, id_column, **beside)
    if dry_run:
        from knnvote.classify.dry_run import dry_index

        from .tables.dry_run import print_dry_run

        print_dry_run(dry_index(inputs, out, training, options, tune, tell=talk_note))
        return
    words.of_build()
    index_files(inputs, out, training=training, options=options, tune=tune, tell=talk_note)
    _talk_index(out)
    _talk_guessed(out)
    _talk_stored(out, threads)


def _talk_stored(out: Path, threads: int | None) -> None:
    """Tell where fewer images are stored than vote, or near copies decide what left-out images show."""
    from knnvote.classify.evaluation.near_copies import near_copies_stored
    from knnvote.classify.vote import Rule
    from knnvote.data.layout import noun
    from knnvote.indexer.folder.open import open_index
    from knnvote.indexer.threads import limit_threads

    index = open_index(out)
    rule = Rule.of(index)
    if rule.k > index.n:
        holds = f"{out} holds {counted(index.n, noun(index.shape))}"
        talk(f"note: --k is {rule.k:,}, and {holds}: until it holds as many, classify needs --k {index.n:,} or less")
    with limit_threads(threads):
        found = near_copies_stored(index, rule)
    note = None if found is None else found.told_of_stored(index)
    if note is not None:
        talk_note(note)


def _talk_guessed(out: Path) -> None:
    """Tell which column the labels came from, where nobody named it and labels are not usually called so."""
    from knnvote.indexer.labels import is_usual_name
    from knnvote.indexer.manifest import read_manifest

    column = read_manifest(out).label_column
    if column is not None and not is_given("label_column") and not is_usual_name(column):
        talk(f"note: labels are those of column {column!r}, the only one that could be; --label-column names it")


def _kind(kind: str, factory: str | None) -> Any:
    """The kind of index that is asked for by its name, or by a FAISS factory string."""
    if factory is None:
        return kind
    if is_given("kind"):
        raise click.UsageError("--factory names a kind of its own: leave out --kind")
    return "factory"


def _talk_untuned(kind: str) -> None:
    """Tell of an option that was given and changes nothing."""
    if is_given("target_agreement") and kind != "adaptive":
        talk(f"note: --target-agreement without effect: only adaptive indexes are tuned, and this one is {kind}")


@click.command(cls=Command, epilog=example("knnvote add digits.knn digits/test.parquet"))
@local_index_argument
@images_argument
@image_column_option
@label_column_option
@labels_option
@click.option("--new-classes", is_flag=True, help="Take classes of --labels that the index has not.")
@click.option("--id-column", metavar="NAME", help="Column of ids; that of the index otherwise.")
@click.option("--group-column", metavar="NAME", help="Column of groups; that of the index otherwise.")
@click.option("--weight-column", metavar="NAME", help="Column of weights; that of the index otherwise.")
@seen_options
@skip_bad_option
@threads_option
def add(  # noqa: PLR0917  # click passes options by name
    index_folder: Path,
    images: tuple[str, ...],
    image_column: str | None,
    label_column: str | None,
    labels: str | None,
    id_column: str | None,
    group_column: str | None,
    weight_column: str | None,
    grayscale: bool,
    background: Background | None,
    skip_bad: bool,
    **how: Any,
) -> None:
    """Add labelled images to an index folder."""
    if how["new_classes"] and labels is None:
        raise click.UsageError("--new-classes is of a table of labels, and other labels may be new: leave it out")
    from knnvote.classify.adaptive.tune import Tuning
    from knnvote.data.layout import ImageOptions
    from knnvote.indexer.grow import add_files
    from knnvote.indexer.manifest import read_manifest
    from knnvote.indexer.training import TrainingOptions

    training = TrainingOptions(
        images=ImageOptions(image_column=image_column, grayscale=grayscale, background=background),
        label_column=None if labels else label_column,
        id_column=None if labels else id_column,
        group_column=group_column,
        weight_column=weight_column,
        skip_bad=skip_bad,
    )
    manifest = read_manifest(index_folder)
    groups, weights = group_column or manifest.group_column, weight_column or manifest.weight_column
    beside = {"group_column": groups, "weight_column": weights, "keep": manifest.keep}
    inputs = find_labelled(images, labels, label_column, id_column, **beside)
    words.of_index()
    added = add_files(index_folder, inputs, tuning=Tuning, training=training, tell=talk_note, **how)
    _talk_index(index_folder, added, "{} added")


@click.command(cls=Command, epilog=example("knnvote remove digits.knn test.parquet#0 test.parquet#1"))
@local_index_argument
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option(
    "--ids",
    "id_file",
    metavar="FILE",
    shell_complete=complete_file,
    help="A file of ids: Parquet, CSV, or text with one a line.",
)
@click.option("--id-column", metavar="NAME", help="Column of ids in FILE; its only one, or id, otherwise.")
@threads_option
def remove(
    index_folder: Path, ids: tuple[str, ...], id_file: str | None, id_column: str | None, threads: int | None
) -> None:
    """Remove images from an index folder by their ids."""
    import pyarrow as pa

    from knnvote.classify.adaptive.tune import Tuning
    from knnvote.data.inputs import find_inputs
    from knnvote.indexer.grow import remove_ids
    from knnvote.indexer.growth.fixes import read_id_column

    if not ids and id_file is None:
        raise click.UsageError("nothing to remove is named: give IDs, or a file of them with --ids")
    if id_column is not None and id_file is None:
        raise click.UsageError("--id-column is of a file of ids: give one with --ids")
    from_file = [] if id_file is None else read_id_column(find_inputs([id_file]), id_column).chunks
    all_ids = pa.chunked_array([pa.array(ids, pa.string()), *from_file])
    words.of_index()
    removed = remove_ids(index_folder, all_ids, tuning=Tuning, threads=threads, tell=talk_note)
    _talk_index(index_folder, removed, "{} removed")


@click.command(
    cls=Command,
    short_help="Give images of an index folder other labels, by a file.",
    epilog=example("knnvote relabel digits.knn suspects.csv"),
)
@local_index_argument
@click.argument("fixes", shell_complete=complete_file)
@click.option("--id-column", metavar="NAME", help="Column of ids in FIXES; id otherwise.")
@click.option("--label-column", metavar="NAME", help="Column of labels in FIXES; fix or else label otherwise.")
@click.option("--new-classes", is_flag=True, help="Take labels of classes that the index has not.")
@threads_option
def relabel(index_folder: Path, fixes: str, id_column: str | None, label_column: str | None, **how: Any) -> None:
    """Give images of an index folder the labels that FIXES, a CSV or Parquet file, has by their ids."""
    from knnvote.classify.adaptive.tune import Tuning
    from knnvote.data.inputs import find_inputs
    from knnvote.indexer.folder.open import open_index
    from knnvote.indexer.grow import relabel as change_labels
    from knnvote.indexer.growth.fixes import read_fixes

    index, named = open_index(index_folder), {"id_column": id_column, "label_column": label_column}
    given = read_fixes(find_inputs([fixes]), **named, index=index, tell=talk_note)
    words.of_index()
    changed = change_labels(index_folder, given, tuning=Tuning, tell=talk_note, **how)
    empty = given["label"].null_count
    few = {0: "", 1: f"; 1 row of {fixes} has no label, and leaves its image's"}
    left = few.get(empty, f"; {empty:,} rows of {fixes} have no label, and leave theirs")
    talk(f"{index_folder}: {counted(changed, 'label')} changed by {counted(len(given) - empty, 'row')}{left}")
    if changed:
        _talk_index(index_folder)


@click.command(
    cls=Command,
    short_help="Build an index folder afresh after it grew or shrank.",
    epilog=example("knnvote compact digits.knn"),
)
@local_index_argument
@threads_option
def compact(index_folder: Path, threads: int | None) -> None:
    """Build an index folder afresh from the images that it stores, where some were added or removed since."""
    from knnvote.classify.adaptive.tune import Tuning
    from knnvote.indexer.grow import compact as build_afresh

    words.of_index()
    changed = build_afresh(index_folder, tuning=Tuning, threads=threads)
    if changed:
        _talk_index(index_folder, changed, "built afresh, after {} came or went")
    else:
        talk(f"{index_folder}: nothing to do, for it is as it was built")


def _talk_index(out: Path, changed: int = 0, change: str = "") -> None:
    """Say what an index folder holds that was just written, and first of how many images what became, if of any."""
    from knnvote.data.layout import noun, show_shape
    from knnvote.data.text import show_bytes
    from knnvote.indexer.folder.generations import read_timing
    from knnvote.indexer.growth.told import measured_on
    from knnvote.indexer.manifest import read_manifest

    from .tables.inspection import class_lines, tuning_lines, vote_lines, weights_line

    manifest = read_manifest(out)
    timing = read_timing(out, manifest.generation)
    skipped = f", {manifest.skipped:,} bad rows left out" if manifest.skipped else ""
    steps = f", steps {manifest.steps}" if manifest.images else ""
    thing = noun(manifest.shape)
    if change:
        talk(f"{out}: {change.format(counted(changed, thing))}")
    talk(
        f"{out}: {counted(manifest.n, thing)} of {show_shape(manifest.shape)}{skipped}{steps}, {manifest.kind}, "
        f"{show_bytes(manifest.folder_bytes)}; read in {timing.read_seconds:.1f} s, "
        f"built in {timing.build_seconds:.1f} s"
    )
    if manifest.groups is not None:
        talk(manifest.groups.told)
    if len(manifest.classes) == 1:
        talk(f"note: all {thing}s are of one class, {manifest.classes[0]}: every answer will be it")
    if manifest.sample_weight is not None:
        talk(f"weights {weights_line(manifest.sample_weight)}")
    acceptance = None if manifest.vote is None else manifest.vote.acceptance
    of_classes = class_lines(acceptance, manifest.class_names, str(out))
    for line in [*tuning_lines(manifest.search), *vote_lines(manifest.vote, thing), *of_classes]:
        talk(line)
    if (told := measured_on(manifest.growth, manifest.search, manifest.vote)) is not None:
        talk(told)
    if manifest.growth is not None and manifest.growth.is_outgrown:
        talk(f"note: {manifest.growth.told}; knnvote compact {out} builds it afresh, for a faster search")

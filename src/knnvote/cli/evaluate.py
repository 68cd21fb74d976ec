"""Commands that judge an index: compare, choose-k, choose-step, choose-threshold, suspects."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from knnvote.data.codecs.names import Background
from knnvote.data.steps.names import STEPS

from .command import Command
from .options import (
    POSITIVE,
    check_table_ids,
    class_weight_option,
    complete_file,
    complete_folder,
    example,
    find_labelled,
    image_options,
    images_argument,
    index_argument,
    json_option,
    label_column_option,
    labels_option,
    page_frame,
    page_option,
    parse_algorithms,
    parse_list,
    parse_plot,
    part_options,
    seen_options,
    table_ids_option,
    threads_option,
    vote_options,
)
from .talk import end, print_json, talk_approximate, talk_no_promise, talk_note, talk_written

if TYPE_CHECKING:
    from knnvote.classify.vote import Rule
    from knnvote.indexer.index import Index


@click.command(cls=Command, epilog=example("knnvote compare digits/test.parquet --index digits.knn"))
@images_argument
@click.option(
    "--index",
    "index_folders",
    metavar="INDEX",
    required=True,
    multiple=True,
    shell_complete=complete_folder,
    help="An index folder to compare; may be repeated.",
)
@vote_options
@image_options
@seen_options
@click.option("--label-column", metavar="NAME", help="Column of the true labels.")
@labels_option
@table_ids_option
@part_options
@threads_option
@click.option(
    "--with",
    "algorithms",
    metavar="NAMES",
    callback=parse_algorithms,
    help="Searches of scikit-learn too, over the images of the first --index: some of brute,kd_tree,ball_tree.",
)
@page_option("figures, plots, and the first 100 flips of each index")
@json_option
def compare(  # noqa: PLR0917  # click passes options by name
    images: tuple[str, ...],
    index_folders: tuple[str, ...],
    image_column: str | None,
    shape: tuple[int, ...] | None,
    grayscale: bool,
    background: Background | None,
    label_column: str | None,
    labels: str | None,
    id_column: str | None,
    limit: int | None,
    sample: int | None,
    threads: int | None,
    algorithms: Any,
    report: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare indexes with exact search on test images."""
    from knnvote.classify.evaluation.compare import compare as compare_indexes
    from knnvote.classify.vote import Rule
    from knnvote.data.layout import ImageOptions
    from knnvote.indexer.folder.open import open_index

    from .tables.comparison import print_comparison

    check_table_ids(labels, id_column)
    inputs = find_labelled(images, labels, label_column, id_column)
    indexes = [open_index(folder) for folder in index_folders]
    rules = [Rule.of(index, **options) for index in indexes]
    of_images: dict[str, Any] = {
        "images": ImageOptions(image_column=image_column, shape=shape, grayscale=grayscale, background=background),
        "label_column": None if labels else label_column,
        "threads": threads,
    }
    for index, rule in zip(indexes, rules, strict=True):
        talk_no_promise(index, rule)
    comparison = compare_indexes(inputs, indexes, rules, limit=limit, sample=sample, algorithms=algorithms, **of_images)

    def write(page: Path) -> None:
        from knnvote.classify.pages.comparison import write_comparison
        from knnvote.data.reading import Part

        part = Part(limit=limit, sample=sample)
        write_comparison(page, comparison, inputs, indexes, rules, part=part, frame=page_frame(page), **of_images)

    end(comparison, file=report, write=write, as_json=as_json, print_table=print_comparison)


max_k_option = click.option(
    "--max-k",
    type=POSITIVE,
    metavar="N",
    help="The most neighbours to try; by default 30, or all others of fewer images.",
)


@click.command(
    cls=Command,
    short_help="Measure the accuracy of every k and weighting.",
    epilog=example("knnvote choose-k digits.knn"),
)
@index_argument
@max_k_option
@click.option(
    "--plot",
    metavar="FILE",
    is_flag=False,
    flag_value="choose-k.png",
    callback=parse_plot,
    shell_complete=complete_file,
    help="Draw them too, as PNG or SVG; to choose-k.png if no FILE is given.",
)
@class_weight_option("; by default as the index was made for")
@threads_option
@json_option
def choose_k(  # noqa: PLR0917  # click passes options by name
    index_folder: str, max_k: int | None, plot: Path | None, class_weight: Any, threads: int | None, as_json: bool
) -> None:
    """Measure the accuracy of every k and weighting, each stored image left out in turn."""
    from knnvote.classify.choosing.choose_k import choose_k as choose
    from knnvote.indexer.folder.open import open_index

    from .tables.evaluation import print_choice

    opened = open_index(index_folder)
    talk_approximate(opened, "accuracies")
    choice = choose(opened, max_k=max_k, class_weight=class_weight, threads=threads)

    def draw(picture: Path) -> None:
        from knnvote.classify.pictures.choice import draw_choice
        from knnvote.classify.pictures.figures import save

        save(draw_choice(choice), picture)

    end(choice, file=plot, write=draw, as_json=as_json, print_table=lambda choice: print_choice(choice, opened))


@click.command(
    cls=Command,
    short_help="Measure the accuracy of steps between image and vector.",
    epilog=example("knnvote choose-step digits.knn"),
)
@index_argument
@click.option(
    "--steps",
    "chains",
    metavar="NAMES",
    multiple=True,
    help=f"Steps to try together, in this order: some of {', '.join(STEPS)}, with blanks between; may be repeated. By "
    "default the usual ones.",
)
@max_k_option
@class_weight_option("; by default as the index was made for")
@click.option(
    "--sample",
    type=click.IntRange(min=2),
    metavar="N",
    help="So many stored images, at random, stand for all; by default 60,000.",
)
@threads_option
@json_option
def choose_step(  # noqa: PLR0917  # click passes options by name
    index_folder: str,
    chains: tuple[str, ...],
    max_k: int | None,
    class_weight: Any,
    sample: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure the accuracy of steps between image and vector, each with its best k, stored images left out in turn."""
    from knnvote.classify.choosing.choose_steps import choose_steps
    from knnvote.indexer.folder.open import open_index

    from .tables.steps import print_steps

    index = open_index(index_folder)
    options: dict[str, Any] = {"max_k": max_k, "sample": sample, "class_weight": class_weight, "threads": threads}
    found = choose_steps(index, chains or None, **options)
    if as_json:
        print_json(found.to_json())
    else:
        print_steps(found, index_folder, index.manifest)


@click.command(
    cls=Command,
    short_help="List images whose neighbours disagree with their label.",
    epilog=example("knnvote suspects digits.knn --csv suspects.csv"),
)
@index_argument
@click.option(
    "--k",
    type=POSITIVE,
    metavar="N",
    help="Neighbours that vote; by default 20, or half of the mean number of images of a class.",
)
@class_weight_option("; by default as the index was made for")
@click.option(
    "--top",
    type=POSITIVE,
    metavar="N",
    default=20,
    show_default=True,
    help="Suspects in the page and the table, which has 20 at most beside a page or list; --json has all.",
)
@click.option(
    "--csv",
    metavar="FILE",
    callback=parse_list,
    shell_complete=complete_file,
    help="Write all as a new CSV file, with an empty column fix to be filled in: knnvote relabel takes it.",
)
@click.option(
    "--reviewed",
    metavar="FILE",
    multiple=True,
    shell_complete=complete_file,
    help="Leave out images by ids in FILE, of a list to be filled in those that are; may be repeated.",
)
@click.option(
    "--id-column", metavar="NAME", help="Column of ids in a FILE of --reviewed; its only one, or id, otherwise."
)
@page_option("suspects as pictures, with their neighbours", has_figures=False)
@threads_option
@json_option
def suspects(  # noqa: PLR0917  # click passes options by name
    index_folder: str,
    k: int | None,
    class_weight: Any,
    top: int,
    csv: Path | None,
    reviewed: tuple[str, ...],
    id_column: str | None,
    report: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """List stored images whose neighbours disagree with their label."""
    from knnvote.classify.evaluation.suspects import find_suspects
    from knnvote.data.tables import write_new_csv
    from knnvote.indexer.folder.open import open_index
    from knnvote.indexer.growth.fixes import read_reviewed

    from .tables.evaluation import print_suspects

    if id_column is not None and not reviewed:
        raise click.UsageError("--id-column is of a file of what was reviewed: give one with --reviewed")
    seen = read_reviewed([*reviewed], id_column) if reviewed else ()
    opened = open_index(index_folder)
    talk_approximate(opened, "neighbours")
    found = find_suspects(opened, k=k, class_weight=class_weight, reviewed=seen, threads=threads, tell=talk_note)
    if csv is not None:
        write_new_csv(found.to_table(), csv)
        talk_written(csv)

    def write(page: Path) -> None:
        from knnvote.classify.pages.suspects import write_suspects

        write_suspects(page, found, opened, top, page_frame(page))

    end(found, file=report, write=write, as_json=as_json, print_table=lambda one: print_suspects(one, top, csv, report))


@click.command(
    cls=Command,
    short_help="Tell what each --min-confidence or --max-distance accepts.",
    epilog=example("knnvote choose-threshold digits.knn --target-accuracy 0.99"),
)
@index_argument
@click.argument("tests", metavar="[IMAGES]...", nargs=-1, shell_complete=complete_file)
@click.option(
    "--target-accuracy", type=float, metavar="SHARE", help="Share of the accepted answers that is to be right."
)
@click.option(
    "--false-alarms",
    type=float,
    metavar="SHARE",
    help="Choose the --max-distance that lets such a share of known images abstain.",
)
@click.option(
    "--unknown",
    metavar="PATH",
    multiple=True,
    shell_complete=complete_file,
    help="Images of none of the classes, for --max-distance; may be repeated.",
)
@vote_options
@image_options
@seen_options
@label_column_option
@labels_option
@click.option("--id-column", metavar="NAME", help="Column of ids, of --labels or of IMAGES.")
@threads_option
@json_option
def choose_threshold(  # noqa: PLR0917  # click passes options by name
    index_folder: str,
    tests: tuple[str, ...],
    target_accuracy: float | None,
    false_alarms: float | None,
    unknown: tuple[str, ...],
    image_column: str | None,
    shape: tuple[int, ...] | None,
    grayscale: bool,
    background: Background | None,
    label_column: str | None,
    labels: str | None,
    id_column: str | None,
    threads: int | None,
    as_json: bool,
    **of_rule: Any,
) -> None:
    """Tell what each --min-confidence accepts and how much of it is right, or what each --max-distance refuses."""
    from knnvote.classify.vote import Rule
    from knnvote.data.layout import ImageOptions
    from knnvote.indexer.folder.open import open_index

    is_of_distance = false_alarms is not None or bool(unknown)
    if is_of_distance and target_accuracy is not None:
        raise click.UsageError("--target-accuracy is of --min-confidence: give it without --false-alarms and --unknown")
    if labels is not None and not tests:
        raise click.UsageError("--labels is of labelled images: give IMAGES too")
    check_table_ids(labels, id_column)
    index = open_index(index_folder)
    rule = Rule.of(index, **of_rule).accepting(None)
    given: dict[str, Any] = {
        "tests": find_labelled(tests, labels, label_column, id_column) if tests else None,
        "images": ImageOptions(image_column=image_column, shape=shape, grayscale=grayscale, background=background),
        "label_column": None if labels else label_column,
        "threads": threads,
    }
    if is_of_distance:
        _choose_distance(index, rule, false_alarms, unknown, given, as_json=as_json)
    else:
        _choose_confidence(index, rule, target_accuracy, given, as_json=as_json)


def _choose_distance(
    index: "Index", rule: "Rule", false_alarms: float | None, unknown: tuple[str, ...], given: Any, *, as_json: bool
) -> None:
    from knnvote.classify.evaluation.distances import choose_distance
    from knnvote.classify.search.distance_limit import FALSE_ALARMS

    from .tables.thresholds import print_distances

    share = FALSE_ALARMS if false_alarms is None else false_alarms
    found = choose_distance(index, rule, share, unknown=unknown or None, **given)
    if as_json:
        print_json(found.to_json())
    else:
        print_distances(found)


def _choose_confidence(
    index: "Index", rule: "Rule", target_accuracy: float | None, given: Any, *, as_json: bool
) -> None:
    from knnvote.classify.evaluation.threshold import choose_threshold

    from .tables.thresholds import print_threshold

    found = choose_threshold(index, rule, target_accuracy, **given)
    if as_json:
        print_json(found.to_json())
    else:
        print_threshold(found, index)
    if target_accuracy is not None and found.chosen is None:
        click.get_current_context().exit(1)

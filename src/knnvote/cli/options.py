"""Options and arguments that commands share, and how their text is read."""

import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from knnvote.classify.names import INKS, Ink
from knnvote.data.codecs.names import BACKGROUNDS
from knnvote.data.errors import OptionError
from knnvote.data.steps.names import STEPS
from knnvote.indexer.names import TIES, WEIGHTS, base_name

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from knnvote.classify.pages.page import Frame

_INK = "knnvote.ink"  # in the context of a command
Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]
POSITIVE = click.IntRange(min=1)


def example(text: str) -> str:
    """The end of a command's help: how it is called."""
    return f"\b\nExample:\n  {text}"


def complete_file(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """What the shell itself knows of files and folders."""
    return _completed_by_shell(incomplete, "file")


def complete_folder(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    """What the shell itself knows of folders."""
    return _completed_by_shell(incomplete, "dir")


def _completed_by_shell(incomplete: str, kind: str) -> "list[CompletionItem]":
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type=kind)]


def is_given(name: str) -> bool:
    """Whether the command that runs was given this parameter, even if with the value that it has without."""
    source = click.get_current_context().get_parameter_source(name)  # none where another command runs it
    return source not in {None, click.core.ParameterSource.DEFAULT}


def parse_shape(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """An image's shape, such as 28x28."""
    if value is None:
        return None
    shape = _sides(value)
    if not shape:
        raise click.BadParameter(f"{value!r} is not a shape: give height and width, such as 28x28")
    return shape


def parse_grid(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[int, ...]:
    """Rows and columns of a picture, such as 2x5."""
    grid = _sides(value)
    if not grid:
        raise click.BadParameter(f"{value!r} is not a grid: give rows and columns, such as 2x5")
    return grid


def _sides(text: str) -> tuple[int, ...]:
    """Numbers above 0 with x between them; none where the text is something else."""
    try:
        sides = tuple(int(side) for side in text.lower().split("x"))
    except ValueError:
        return ()
    return sides if min(sides) >= 1 else ()


def parse_local(_ctx: click.Context, _param: click.Parameter, value: str) -> Path:
    """A path on this machine, which a URI is not."""
    from knnvote.data.locations import local_path

    try:
        return local_path(value)
    except OptionError as error:
        raise click.BadParameter(str(error)) from None


def _parse_output(ctx: click.Context, param: click.Parameter, value: str) -> Path:
    """The path of a file to write, which is not among the outputs of a job."""
    from knnvote.classify.job.record import has_records
    from knnvote.data.locations import locate

    path = parse_local(ctx, param, value)
    job = next((folder for folder in path.resolve().parents if has_records(locate(folder))), None)
    if job is not None:
        raise click.BadParameter(f"{path} lies in the folder of a job, {job}, which is for outputs: give another")
    return path


def parse_distance(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Any:
    """A distance, auto for one that is yet to be found, or none for any."""
    if value in {None, "auto", "none"}:
        return value
    try:
        return float(str(value))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no distance: give a number, auto, or none") from None


def parse_picture(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
    """The path of a picture, which is checked before any work."""
    if value is None:
        return None
    from knnvote.classify.pictures.figures import check_picture

    path = _parse_output(ctx, param, value)
    check_picture(path)
    return path


def parse_plot(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
    """The path of a picture, after an option that needs none: what stands there may have been meant for another."""
    try:
        return parse_picture(ctx, param, value)
    except OptionError as error:
        raise OptionError(f"{error.marked}, or put {param.opts[0]} last") from None


def parse_page(
    ctx: click.Context, param: click.Parameter, value: str | None, *, has_figures: bool = False
) -> Path | None:
    """The path of a page, which is checked before any work."""
    if value is None:
        return None
    from knnvote.classify.pages.page import check_page

    path = _parse_output(ctx, param, value)
    check_page(path, has_figures=has_figures)
    return path


def parse_list(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
    """The path of a CSV file that is not there yet: one that is may have been filled in by hand."""
    if value is None:
        return None
    path = _parse_output(ctx, param, value)
    if path.suffix != ".csv":
        raise click.BadParameter(f"{path} is no name of a CSV file: give one that ends in .csv")
    if path.exists() or path.is_symlink():
        raise click.BadParameter(f"{path} exists, and may have been filled in: give a new name")
    return path


def parse_algorithms(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Names of scikit-learn's searches, separated by commas."""
    from knnvote.classify.evaluation.sklearn_search import ALGORITHMS

    names = tuple(name.strip() for name in value.split(",")) if value is not None else ()
    unknown = [name for name in names if name not in ALGORITHMS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is no search of scikit-learn: give some of {', '.join(ALGORITHMS)}")
    return tuple(dict.fromkeys(names))


class NameChoice(click.Choice):  # type: ignore[type-arg]  # generic from click 8.2 on alone
    """One of some names; what stands in brackets after it, the library reads."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is typed."""
        name = base_name(value)
        return str(value) if name != value and name in self.choices else super().convert(value, param, ctx)


def _either(words: Iterable[str]) -> str:
    """A, B, or C."""
    *first, last = words
    text = ", ".join([*first, f"or {last}"])
    return text[0].upper() + text[1:]


def together(*decorators: Decorator[Any]) -> Decorator[Any]:
    """Several options as one decorator, in the order of the help."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


images_argument = click.argument("images", nargs=-1, required=True, shell_complete=complete_file)
index_argument = click.argument("index_folder", metavar="INDEX", shell_complete=complete_folder)
local_index_argument = click.argument(
    "index_folder", metavar="INDEX", callback=parse_local, shell_complete=complete_folder
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1, 1024),  # libraries crash where the system gives them fewer threads than they ask for
    metavar="N",
    help="Threads; all by default.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
image_column_option = click.option("--image-column", metavar="NAME", help="Column of images, or prefix of one a pixel.")
weight_column_option = click.option(
    "--weight-column", metavar="NAME", help="Column of weights of images' votes, above 0."
)
label_column_option = click.option("--label-column", metavar="NAME", help="Column of the labels.")
labels_option = click.option(
    "--labels",
    metavar="PATH",
    shell_complete=complete_file,
    help="Labels by ids, paths or rows: CSV, Parquet, NPY..., or a folder.",
)
table_ids_option = click.option("--id-column", metavar="NAME", help="Column of ids in the table of labels.")
skip_bad_option = click.option("--skip-bad", is_flag=True, help="Leave out and count rows that do not fit.")
steps_option = click.option(
    "--step",
    "steps",
    type=NameChoice(list(STEPS)),
    multiple=True,
    metavar="NAME",
    help=f"Image to vector: {', '.join(STEPS)}; repeat.",
)
part_options = together(
    click.option("--limit", type=POSITIVE, metavar="N", help="So many rows of all files, the first."),
    click.option("--sample", type=POSITIVE, metavar="N", help="So many rows of all files, at random."),
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Tell rows, seconds and bytes; write nothing.")
seen_options = together(
    click.option("--grayscale", is_flag=True, help="Convert colour images to grey."),
    click.option("--background", type=click.Choice(BACKGROUNDS), help="What shows through transparent pixels."),
)
image_options = together(
    image_column_option,
    click.option("--shape", metavar="HxW", callback=parse_shape, help="Shape of an image, if the file does not tell."),
)


def seed_option(what: str) -> Decorator[Any]:
    """The seed of something random."""
    return click.option(
        "--seed", type=click.IntRange(0, 2**31 - 1), metavar="N", default=0, show_default=True, help=what
    )


def neighbor_options(why: str = "", default_k: str = "") -> Decorator[Any]:
    """How many neighbours vote, and with what weights; a default that depends on something is told in words."""
    return together(
        click.option(
            "--k",
            type=POSITIVE,
            metavar="N",
            default=None if default_k else 5,
            show_default=True,
            help=f"Neighbours that vote{why}{default_k}.",
        ),
        click.option(
            "--weights",
            type=NameChoice(list(WEIGHTS)),
            default="uniform",
            show_default=True,
            help=f"{_either(WEIGHTS.values())}.",
        ),
    )


def parse_class_weight(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Any:
    """A name, or the weights that a file gives."""
    from knnvote.classify.weighting import read_class_weights

    return value if value in {None, "none", "balanced"} else read_class_weights(str(value))


def class_weight_option(default: str = "") -> Decorator[Any]:
    """What votes of a class are multiplied by."""
    return click.option(
        "--class-weight",
        metavar="NAME|FILE",
        callback=parse_class_weight,
        shell_complete=complete_file,
        help=f"balanced, none, or CSV of class and weight{default}.",
    )


_TIES = "Among equal votes the nearer class, or the first in class order as scikit-learn has it."
ties_option = click.option("--ties", type=click.Choice(TIES), default="nearest", show_default=True, help=_TIES)
# What the index was made for stands where nothing is given.
vote_options = together(
    click.option(
        "--k", type=POSITIVE, metavar="N", help="Neighbours that vote; by default as the index was made for, else 5."
    ),
    click.option(
        "--weights", type=NameChoice(list(WEIGHTS)), help=f"{_either(WEIGHTS.values())}; by default likewise."
    ),
    click.option("--ties", type=click.Choice(TIES), help=f"{_TIES[:-1]}; by default likewise."),
    class_weight_option("; by default likewise"),
)


def picture_option(default: str) -> Decorator[Any]:
    """Where a picture goes."""
    return click.option(
        "--out",
        metavar="FILE",
        default=default,
        show_default=True,
        callback=parse_picture,
        shell_complete=complete_file,
        help="A PNG or SVG.",
    )


def page_option(what: str, *, has_figures: bool = True, has_pictures: bool = True) -> Decorator[Any]:
    """Where a page goes and, if it has pictures, the ink of them, which `page_frame` knows."""
    callback = partial(parse_page, has_figures=has_figures)
    option = click.option(
        "--report", metavar="FILE", callback=callback, shell_complete=complete_file, help=f"Write a page too: {what}."
    )
    return (lambda command: option(ink_option(_with_page_alone(command)))) if has_pictures else option


def ink_option(command: Command) -> Command:
    """What a picture's great values are drawn as."""
    told = "Draw the greatest values light, so that 0 is black as in any viewer, or dark, as ink on paper."
    return click.option("--ink", type=click.Choice(INKS), default=INKS[0], show_default=True, help=told)(command)


def _with_page_alone(command: Command) -> Command:
    """A command that refuses an ink without a page, and leaves it to `page_frame`."""

    @wraps(command)
    def run(*, ink: Ink, report: Path | None, **options: Any) -> Any:
        if report is None and is_given("ink"):
            raise click.UsageError("--ink is of the page: give one with --report")
        click.get_current_context().meta[_INK] = ink
        return command(report=report, **options)

    return cast("Command", run)


def page_frame(page: Path, ink: Ink | None = None) -> "Frame":
    """What a page is told of the command that writes it, which names it without its folder: it is the same in any."""
    from knnvote.classify.pages.page import Frame

    of_page: Ink = ink or click.get_current_context().meta.get(_INK, INKS[0])
    words = [f"{option}{equals}{_without_folder(value, page)}" for option, equals, value in map(_split, sys.argv[1:])]
    return Frame(command=shlex.join(["knnvote", *words]), ink=of_page)


def _split(word: str) -> tuple[str, str, str]:
    """A word of a command line as option, equals sign and value; one that is no such pair as the value alone."""
    option, equals, value = word.partition("=")
    return (option, equals, value) if equals and option.startswith("--") else ("", "", word)


def _without_folder(value: str, page: Path) -> str:
    return page.name if Path(value) == page else value


def find_labelled(
    images: Sequence[str],
    labels: str | None,
    label_column: str | None,
    id_column: str | None,
    **beside: Any,
) -> Any:
    """The inputs, their labels from a table if one is given, whose columns the other options name then.

    Those that may be beside the labels are of groups, of weights and those to keep, as `join_labels` has them.
    """
    from knnvote.data.inputs import find_inputs
    from knnvote.data.labels.join import join_labels

    if labels is None:
        return find_inputs(images)
    return join_labels(images, labels, label_column=label_column, id_column=id_column, **beside)


def check_table_ids(labels: str | None, id_column: str | None) -> None:
    """Refuse a column of a table of labels that is not given."""
    if id_column is not None and labels is None:
        raise click.UsageError("--id-column is of a table of labels: give one with --labels")

"""Labelled images of files, joined with what an index stores."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from knnvote.data.containers.label_table import LabelTable
from knnvote.data.errors import OptionError, param
from knnvote.data.input_file import InputFile
from knnvote.data.inputs import count_rows
from knnvote.data.labels.lists import told_to_fill_in
from knnvote.data.progress import stage
from knnvote.data.steps.chain import steps_of
from knnvote.indexer.index import Index
from knnvote.indexer.training import TrainingOptions, TrainingSet, read_training_set

from .again import without_stored
from .stored import refuse_stored_files, training_set
from .written import read_as_stored, refuse_new_in_tables

_MANY = 10  # the part of all images that new ones have to be, at least, to be many: one in so many


def with_files(
    index: Index,
    sources: Sequence[InputFile],
    training: TrainingOptions | None,
    progress: Callable[[int], None],
    tell: Callable[[str], None],
    *,
    new_classes: bool,
) -> TrainingSet:
    """What an index is to store with the images of some files, but of vectors (m, d) those of the files alone."""
    options, stored = _like_stored(index, training or TrainingOptions()), training_set(index)
    sources = read_as_stored(index, sources, options.label_column)
    if not new_classes:
        refuse_new_in_tables(index, sources)
    with stage("reading", partial(count_rows, sources), progress=progress) as advance:
        found = read_training_set(sources, options, metric=index.metric, stored=stored, progress=advance, tell=tell)
    tables = [*dict.fromkeys(source.labels for source in sources if isinstance(source.labels, LabelTable))]
    found = without_stored(index, found, tables, tell)
    refuse_stored_files(index, stored, found.sources[len(stored.sources) :], sources)
    _tell_of_review(index, tables, len(found.vectors), tell)
    return replace(found, feature_names=stored.feature_names, estimator=stored.estimator, part=stored.part)


def _like_stored(index: Index, training: TrainingOptions) -> TrainingOptions:
    """Options that read new images as the stored ones were read, or would have been, had they been in need of more."""
    manifest, images = index.manifest, training.images
    if training.steps and steps_of(training.steps) != index.steps:
        raise OptionError(
            f"{index.path} has the steps {index.steps}, for new images too: add them without {param('steps')}"
        )
    if training.limit is not None or training.sample is not None:
        raise OptionError(f"{param('limit')} and {param('sample')} are of a new index: add whole files")
    if images.background is not None and manifest.background not in {None, images.background}:
        raise OptionError(
            f"{index.path} has images on a {manifest.background} background, and new ones on {images.background} would "
            f"be seen otherwise: add them without {param('background')}"
        )
    return replace(
        training,
        images=replace(
            images,
            grayscale=images.grayscale or manifest.grayscale is not None,
            background=images.background or manifest.background,
        ),
        id_column=training.id_column or manifest.id_column,
        group_column=_group_column(index, training.group_column),
        weight_column=_weight_column(index, training.weight_column),
        keep=_keep(index, training.keep),
        is_regression=index.is_regression,
    )


def _group_column(index: Index, named: str | None) -> str | None:
    """The column of the groups of new images, which have groups if the stored ones have."""
    has_groups, column = index.manifest.groups is not None, index.manifest.group_column
    if named is not None and not has_groups:
        raise OptionError(
            f"{index.path} has no groups, and images without one beside others are not left out with theirs: add "
            f"without {param('group_column')}, or build an index of all with it"
        )
    if has_groups and named is None and column is None:
        raise OptionError(f"images of {index.path} have groups: name those of new ones with {param('group_column')}")
    return named or column


def _weight_column(index: Index, named: str | None) -> str | None:
    """The column of the weights of new images, which have weights if the stored ones have."""
    own = index.manifest.sample_weight
    if own is None and named is not None:
        raise OptionError(
            f"the images of {index.path} have no weights: leave out {param('weight_column')}, or build it again with "
            "it of all images"
        )
    if own is not None and named is None and own.column is None:
        raise OptionError(
            f"each image of {index.path} has a weight, given by an array: name the column of the new ones' with "
            f"{param('weight_column')}"
        )
    return named or index.manifest.weight_column


def _keep(index: Index, named: Sequence[str]) -> tuple[str, ...]:
    """The columns of new images that are kept, which are those of the stored ones."""
    keep = index.manifest.keep
    if not {*named} <= {*keep}:
        kept = (
            f"keeps the columns {', '.join(map(repr, keep))} of its files" if keep else "keeps no columns of its files"
        )
        raise OptionError(
            f"{index.path} {kept}, and so of new ones: add without {param('keep')}, or build an index of all with it"
        )
    return keep


def _tell_of_review(index: Index, tables: Sequence[LabelTable], added: int, tell: Callable[[str], None]) -> None:
    """Tell that images which came since an index was built are many of all, where new ones were listed for doubt.

    All are no fair sample then. Whether those of before came from such lists is not known, and not said.
    """
    lists = [table.shown for table in tables if told_to_fill_in(table.header)]
    before = 0 if index.manifest.growth is None else index.manifest.growth.added
    came, n = before + added, index.n + added
    if lists and added and not index.is_regression and _MANY * came >= n:
        beside = f", with the {before:,} added before, as far as such lists had these too," if before else ""
        tell(
            f"rows of {lists[0]} were listed for being doubtful, and{beside} are {came / n:.0%} of the images "
            "now: what stored images, each left out, show of accuracy and thresholds is of harder ones than most to "
            "come; labelled images drawn at random show it better, as knnvote choose-threshold takes them"
        )

"""An index folder that grows, shrinks or is mended: exact answers are those of an index built of what it then stores.

An index with codes is not built again: images come into its lists, and go from them, until `compact` builds it afresh
from the rows that it has, in their order. Others, that FAISS searches or that are scanned plainly, are built afresh by
each change: FAISS cannot remove from every index, and one that was added to would answer otherwise than one built at
once. Labels alone change without either: what makes a search fast depends on none, what tuning promises is of labels.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError, OptionError, param, warn
from knnvote.data.files import hold_lock
from knnvote.data.input_file import InputFile
from knnvote.data.inputs import Inputs, count_rows, find_inputs, refuse_splits
from knnvote.data.locations import local_path
from knnvote.data.progress import stage

from .build import IndexOptions, Tune, build, renew_labels
from .building.provenance import ids_as_stored
from .fixes import change_labels, fixes_of, read_as_stored, told_to_fill_in
from .folder.facts import of_stored_classes
from .folder.generations import remove_leftovers
from .folder.open import open_index
from .folder.verify import verify_folder
from .growth.change import Manner, append, grown, leave_out
from .growth.stored import keep, training_set, weight_column_of, with_rows
from .growth.told import has_promise, tell_of_forgotten
from .index import Index
from .leftovers import LOCK
from .manifest import Source, read_manifest
from .rungs import Growth, class_weight_of_classes
from .training import TrainingOptions, TrainingSet, read_training_set

Tuner = Callable[..., Tune]  # called with k, weights, ties and targets: `knnvote.Tuning`
_MANY = 10  # the part of all images that new ones have to be, at least, to be many: one in so many


def add_files(
    path: Path | str,
    inputs: Inputs,
    *,
    tuning: Tuner | None = None,
    training: TrainingOptions | None = None,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
    tell: Callable[[str], None] = warn,
) -> int:
    """Add labelled images in Parquet files to an index, after the images that it stores.

    Args:
        path: the index folder.
        inputs: Parquet files of images and labels like those stored, folders of them, globs or URIs: one or several.
        tuning: the class `knnvote.Tuning`, by which an index that was tuned is tuned again for the same k, weights and
            target, when a fifth of the images on which it was has come or gone; else there is no need of one.
        training: what the user says of the new images. Task, grayscale, background, id column and weight column are
            the index's; grayscale and a background that it has not become its own.
        threads: that work; None for as many as there are processors.
        progress: told the rows of each batch.
        tell: told what could have been meant otherwise: labels, images of two scales or all equal, copies of files.

    Returns:
        How many images were added.

    Raises:
        KnnvoteError: a file or label does not fit, ids are stored, or tuning is due and none given; nothing is changed.

    Example:
        >>> from knnvote import add_files, open_index
        >>> add_files("digits.knn", "digits/test.parquet")
        450
        >>> open_index("digits.knn").n
        1797
    """
    start, sources = time.perf_counter(), find_inputs(inputs)
    refuse_splits(sources)
    with _claimed(local_path(path)) as (index, digests):
        if index.inverted_file is None:
            _check_tuning(index, tuning)
        examples = _read_more(index, sources, training, progress, tell)
        added = examples.vectors
        if index.inverted_file is None:
            whole = np.concatenate([index.vectors, added], dtype=added.dtype)
            _build_again(index, replace(examples, vectors=whole), tuning, threads, start=start)
        else:
            manner = _manner(index, grown(index, added=len(added)), tuning, threads, start=start)
            append(index, examples, digests.get("vectors"), manner)
        return len(added)


def remove_ids(
    path: Path | str,
    ids: str | Sequence[str] | pa.ChunkedArray,
    *,
    tuning: Tuner | None = None,
    threads: int | None = None,
    tell: Callable[[str], None] = warn,
) -> int:
    """Remove every image that has one of some ids from an index.

    Args:
        path: the index folder.
        ids: strings, one or several.
        tuning: the class `knnvote.Tuning`, by which an index that was tuned is tuned again for the same k, weights and
            target, when a fifth of the images on which it was has come or gone; else there is no need of one.
        threads: that work; None for as many as there are processors.
        tell: told of classes that no image has now, whose weights or thresholds the index therefore forgets.

    Returns:
        How many images were removed.

    Raises:
        KnnvoteError: an id is not stored, no image would be left, or tuning is due and none is given; nothing is
            changed.

    Example:
        >>> from knnvote import open_index, remove_ids
        >>> remove_ids("digits.knn", ["train.parquet#0", "train.parquet#7"])
        2
        >>> open_index("digits.knn").n
        1345
    """
    start = time.perf_counter()
    with _claimed(local_path(path)) as (index, _):
        ids = [ids] if isinstance(ids, str) else ids
        kept = _other_rows(index, pc.unique(ids if isinstance(ids, pa.ChunkedArray) else pa.array(ids, pa.string())))
        removed = int((~kept).sum())
        if index.inverted_file is None:
            _check_tuning(index, tuning)
            examples = keep(index, kept)
            vectors = index.vectors[kept].astype(examples.vectors.dtype, copy=False)
            _build_again(index, replace(examples, vectors=vectors), tuning, threads, start=start)
        else:
            manner = _manner(index, grown(index, removed=removed), tuning, threads, start=start)
            leave_out(index, kept, keep(index, kept), manner)
        tell_of_forgotten(index, index.labels.filter(pa.array(kept)), tell)
        return removed


def compact(path: Path | str, *, tuning: Tuner | None = None, threads: int | None = None) -> int:
    """Build an index afresh from the images that it stores, where images came or went since it was built.

    Its bytes are then those of an index built of these images in this order, and what it promises is measured on them.

    Args:
        path: the index folder.
        tuning: the class `knnvote.Tuning`, by which an index that was tuned is tuned again for the same k, weights and
            target; others need none.
        threads: that build it; None for as many as there are processors.

    Returns:
        How many images came or went since it was built. Where none did, nothing is written.

    Raises:
        KnnvoteError: it cannot be built or written, or it was tuned and no tuning is given; nothing is changed.

    Example:
        >>> from knnvote import add_files, compact
        >>> add_files("digits.knn", "digits/test.parquet")
        450
        >>> compact("digits.knn"), compact("digits.knn")
        (450, 0)
    """
    start = time.perf_counter()
    with _claimed(local_path(path)) as (index, _):
        growth = index.manifest.growth
        if growth is None:
            return 0
        _check_tuning(index, tuning)
        stored = training_set(index)
        whole = replace(stored, provenance=stored.provenance.combine_chunks())
        _build_again(index, whole, tuning, threads, start=start)
        return growth.added + growth.removed


def relabel_ids(
    path: Path | str,
    ids: str | Sequence[str] | pa.ChunkedArray,
    labels: Any,
    *,
    tuning: Tuner | None = None,
    threads: int | None = None,
    tell: Callable[[str], None] = warn,
) -> int:
    """Give other labels to stored images by their ids. All else is kept as it is, to the bit.

    Args:
        path: the index folder.
        ids: strings, one or several; every image that has one gets its label.
        labels: one for each id: as the stored ones are, or text that says one; None leaves an image as it is.
        tuning: the class `knnvote.Tuning`, by which an index that was tuned is tuned again for the same k, weights and
            target, for its promise is one of labels; others need none.
        threads: that tune it; None for as many as there are processors.
        tell: told of ids that are stored several times, of classes that are new, and of those that no image has now.

    Returns:
        How many images have another label than before. Where none has, nothing is written.

    Raises:
        KnnvoteError: an id is not stored or has unlike labels, a label is of another kind than the stored ones, or the
            index was tuned and no tuning is given; nothing is changed.

    Example:
        >>> from knnvote import open_index, relabel_ids
        >>> relabel_ids("digits.knn", ["train.parquet#0", "train.parquet#7"], [2, 5])
        1
    """
    start = time.perf_counter()
    with _claimed(local_path(path)) as (index, _):
        _check_tuning(index, tuning)
        changed = change_labels(index, fixes_of(ids, labels), tell)
        count = int(pc.sum(pc.not_equal(changed, index.labels)).as_py())
        if count:
            renew_labels(index, changed, _as_before(index, tuning), threads, start=start)
            tell_of_forgotten(index, changed, tell)
        return count


@contextmanager
def _claimed(path: Path) -> Iterator[tuple[Index, dict[str, Any]]]:
    """An index whose every byte was checked, held against other builds until its successor is committed.

    And hashlib's of each of its files by its role.
    """
    digests: dict[str, Any] = {}
    read_manifest(path)  # before the lock is written into a folder that is no index
    with hold_lock(path / LOCK, f"another build is writing to {path}: wait for it, and run the same command again"):
        remove_leftovers(path)
        with stage("checking the index"):
            problems = verify_folder(path, digests)
        if problems:  # a new generation would seal the damage
            raise KnnvoteError(f"{problems[0]}; nothing was changed: build the index again from its images")
        yield open_index(path), digests


def _check_tuning(index: Index, tuning: Tuner | None) -> None:
    """Refuse, before any work, to leave an index without the promise that it had."""
    if tuning is None and has_promise(index.manifest):
        raise KnnvoteError(f"{index.path} was tuned, and has to be tuned again: pass tuning=knnvote.Tuning")


def _manner(index: Index, growth: Growth, tuning: Tuner | None, threads: int | None, *, start: float) -> Manner:
    """How an index is changed that will have changed so much: its promise is measured again where that is due."""
    if not (growth.is_due and has_promise(index.manifest)):
        return Manner(tune=None, threads=threads, start=start)
    _check_tuning(index, tuning)
    return Manner(tune=_as_before(index, tuning), threads=threads, start=start)


def _read_more(
    index: Index,
    sources: Sequence[InputFile],
    training: TrainingOptions | None,
    progress: Callable[[int], None],
    tell: Callable[[str], None],
) -> TrainingSet:
    """What an index is to store with the images of some files, but of vectors (m, d) those of the files alone."""
    options = _like_stored(index, training or TrainingOptions())
    sources, stored = read_as_stored(index, sources, options.label_column), training_set(index)
    with stage("reading", partial(count_rows, sources), progress=progress) as advance:
        found = read_training_set(sources, options, metric=index.metric, stored=stored, progress=advance, tell=tell)
    _refuse_stored_ids(index, found.provenance["id"].combine_chunks())
    _refuse_stored_files(index, stored, found.sources[len(stored.sources) :], sources)
    _tell_of_review(index, sources, len(found.vectors), tell)
    return replace(found, feature_names=stored.feature_names, estimator=stored.estimator, part=stored.part)


def _like_stored(index: Index, training: TrainingOptions) -> TrainingOptions:
    """Options that read new images as the stored ones were read, or would have been, had they been in need of more."""
    manifest, images = index.manifest, training.images
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
        id_column=training.id_column or index.manifest.id_column,
        weight_column=weight_column_of(index, training.weight_column),
        is_regression=index.is_regression,
    )


def _tell_of_review(index: Index, inputs: Sequence[InputFile], added: int, tell: Callable[[str], None]) -> None:
    """Tell that new images that are many of all were chosen for being doubtful: all are no fair sample then."""
    tables = {source.labels for source in inputs if source.labels is not None}
    lists = [table.shown for table in tables if told_to_fill_in(table.header)]
    if lists and not index.is_regression and _MANY * added >= index.n + added:
        tell(
            f"rows of {lists[0]} were listed for being doubtful, and are {added / (index.n + added):.0%} of the images "
            "now: what stored images, each left out, show of accuracy and thresholds is of harder ones than most to "
            "come; labelled images drawn at random show it better, as knnvote choose-threshold takes them"
        )


def _refuse_stored_ids(index: Index, ids: pa.Array) -> None:
    """Refuse ids of new images, those from the n-th, that are among the ids before."""
    new, stored = ids[index.n :], ids[: index.n]
    again = new.filter(pc.is_in(new, value_set=stored.filter(pc.is_in(stored, value_set=new))))  # of many stored few
    if len(again):
        raise KnnvoteError(
            f"{index.path} stores {len(again):,} of the {len(new):,} ids already, the first {again[0].as_py()!r}; "
            "nothing was added: remove these first with knnvote remove or, if they are other images, rename their "
            f"files or name a column of ids with {param('id_column')}"
        )


def _refuse_stored_files(index: Index, stored: TrainingSet, new: Sequence[Source], inputs: Sequence[InputFile]) -> None:
    """Refuse a file that is stored under another path, which gives its images other ids."""
    if any(source.labels is not None for source in inputs):
        return  # tables may each tell the labels of other rows of one file
    paths = {source.mark: source.path for source in with_rows(stored.sources, stored.provenance)}
    for source in new:
        if source.mark in paths:
            raise KnnvoteError(
                f"{index.path} stores images of a file with the same bytes as {source.path} already, then named "
                f"{paths[source.mark]}; nothing was added: leave it out, or remove those images first"
            )


def _other_rows(index: Index, ids: pa.Array) -> NDArray[np.bool_]:
    """(n,) whether a stored image stays when those of some distinct ids go."""
    if not len(ids):
        raise KnnvoteError(f"no id is given of an image to remove from {index.path}: give one at least")
    ids = ids_as_stored(ids, index.ids)
    unknown = ids.filter(pc.invert(pc.is_in(ids, value_set=index.ids)))
    if len(unknown):
        raise KnnvoteError(
            f"{index.path} does not store {len(unknown):,} of the {len(ids):,} ids, the first "
            f"{unknown[0].as_py()!r}; nothing was removed: give ids as {param('Answer.neighbors')} shows them"
        )
    kept: NDArray[np.bool_] = ~pc.is_in(index.ids, value_set=ids).to_numpy(zero_copy_only=False)
    if not kept.any():
        raise KnnvoteError(
            f"all {index.n:,} images of {index.path} would be removed, and an index needs at least one: "
            "delete the folder instead"
        )
    return kept


def _build_again(
    index: Index, examples: TrainingSet, tuning: Tuner | None, threads: int | None, *, start: float
) -> None:
    """Build an index of the same kind from other images, and commit it in its place."""
    options = IndexOptions(
        kind=index.kind,
        factory=index.manifest.factory if index.kind == "factory" else None,
        metric=index.metric,
        seed=index.manifest.seed,
        threads=threads,
    )
    build(examples, index.path, options, _as_before(index, tuning), start=start)


def _as_before(index: Index, tuning: Tuner | None) -> Tune:
    """What tunes its successor for all that an index was tuned for."""
    tuned, vote = index.tuned, index.vote
    if tuning is None or (tuned is None and vote.acceptance is None):  # where nothing is measured
        return lambda successor: replace(
            successor, manifest=of_stored_classes(replace(successor.manifest, vote=index.manifest.vote))
        )
    targets: dict[str, Any] = {} if tuned is None else {"target_agreement": tuned.target_agreement}
    if vote.acceptance is not None:
        targets |= {"target_accuracy": vote.acceptance.target_accuracy, "by_class": bool(vote.acceptance.by_class)}

    def tune(successor: Index) -> Index:
        class_weight = class_weight_of_classes(vote.class_weight, frozenset(successor.manifest.classes))
        return tuning(k=vote.k, weights=vote.weights, ties=vote.ties, class_weight=class_weight, **targets)(successor)

    return tune

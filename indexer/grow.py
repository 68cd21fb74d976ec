"""An index folder that grows, shrinks or is mended: exact answers are those of an index built of what it then stores.

An index with codes is not built again: images come into its lists, and go from them, until `compact` builds it afresh
from the rows that it has, in their order. Others, that FAISS searches or that are scanned plainly, are built afresh by
each change: FAISS cannot remove from every index, and one that was added to would answer otherwise than one built at
once. Labels alone change without either: what makes a search fast depends on none, what tuning promises is of labels.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError, check_instance, warn
from knnvote.data.files import hold_lock
from knnvote.data.inputs import Inputs, find_inputs, refuse_splits
from knnvote.data.locations import local_path
from knnvote.data.progress import stage
from knnvote.data.tables import SupportsArrow

from .build import IndexOptions, build, renew_labels
from .building.provenance import id_array, known_ids, repeated_told
from .folder.generations import remove_leftovers
from .folder.open import open_index
from .folder.verify import verify_folder
from .growth.arrays import with_arrays
from .growth.change import Manner, append, grown, leave_out
from .growth.fixes import change_labels, fixes_of
from .growth.images import with_files
from .growth.stored import after_stored, keep, training_set, with_kept
from .growth.told import has_promise, tell_of_forgotten
from .growth.tuned import Tuner, as_before
from .index import Index
from .leftovers import LOCK
from .manifest import read_manifest
from .records.growth import Growth
from .training import TrainingOptions, TrainingSet


def add_files(
    path: Path | str,
    inputs: Inputs,
    *,
    tuning: Tuner | None = None,
    training: TrainingOptions | None = None,
    new_classes: bool = False,
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
        training: what the user says of the new images. Task, grayscale, background, id column, weight column and what
            is kept are the index's; grayscale and a background that it has not become its own.
        new_classes: whether a table of labels, which people fill in, may have classes that the index has not; those of
            other labels are told.
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
    check_instance("training", training or TrainingOptions(), TrainingOptions)
    start, sources = time.perf_counter(), find_inputs(inputs)
    refuse_splits(sources)
    with _claimed(local_path(path)) as (index, digests):
        more = partial(with_files, index, sources, training, progress, tell, new_classes=new_classes)
        return _add(index, more, digests, tuning, threads, start=start)


def add_arrays(
    path: Path | str,
    images: NDArray[Any] | SupportsArrow,
    labels: NDArray[Any] | Sequence[Any],
    *,
    ids: NDArray[Any] | Sequence[Any] | None = None,
    groups: NDArray[Any] | Sequence[Any] | None = None,
    sample_weight: NDArray[Any] | Sequence[float] | None = None,
    tuning: Tuner | None = None,
    threads: int | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
    tell: Callable[[str], None] = warn,
) -> int:
    """Add labelled images of arrays to an index, after the images that it stores.

    Args:
        path: the index folder.
        images: (m, *shape) of the index's shape or flat, of any number type; a table with a column a value; or a column
            of lists or tensors.
        labels: (m,) of the kind that it has.
        ids: (m,) texts or whole numbers by which they are known, none of them stored; without them ``array#row``, whose
            numbers count on.
        groups: (m,) integers or strings, None for an image without one, if the stored images have groups.
        sample_weight: (m,) what the vote of each is multiplied by, if the stored images have weights.
        tuning: as `add_files` has it.
        threads: that work; None for as many as there are processors.
        progress: told the rows of each block that was looked through.
        tell: told of classes that are new, and of images of another scale than the stored ones.

    Returns:
        How many images were added.

    Raises:
        KnnvoteError: images or labels do not fit, ids are stored, or tuning is due and none given; nothing is changed.

    Example:
        >>> from knnvote import add_arrays, open_index
        >>> stored = open_index("digits.knn")
        >>> add_arrays("digits.knn", stored.vectors[:2] // 2, stored.labels[:2], ids=["pale", "paler"])
        2
        >>> open_index("digits.knn").ids[-2:].to_pylist()
        ['pale', 'paler']
    """
    start = time.perf_counter()
    with _claimed(local_path(path)) as (index, digests):
        beside = {"ids": ids, "groups": groups, "sample_weight": sample_weight}
        more = partial(with_arrays, index, images, labels, **beside, progress=progress, tell=tell)
        return _add(index, more, digests, tuning, threads, start=start)


def remove_ids(
    path: Path | str,
    ids: str | int | Sequence[str] | Sequence[int] | pa.ChunkedArray,
    *,
    tuning: Tuner | None = None,
    threads: int | None = None,
    tell: Callable[[str], None] = warn,
) -> int:
    """Remove every image that has one of some ids from an index.

    Args:
        path: the index folder.
        ids: texts, or whole numbers where ids are such, one or several.
        tuning: the class `knnvote.Tuning`, by which an index that was tuned is tuned again for the same k, weights and
            target, when a fifth of the images on which it was has come or gone; else there is no need of one.
        threads: that work; None for as many as there are processors.
        tell: told of ids that several images have, of numbers that became integers, and of classes that no image has
            now, whose weights or thresholds the index therefore forgets.

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
        kept = _other_rows(index, pc.unique(id_array(ids)), tell)
        removed = int((~kept).sum())
        if index.inverted_file is None:
            _check_tuning(index, tuning)
            _build_again(index, with_kept(index, kept, keep(index, kept)), tuning, threads, start=start)
        else:
            manner = _manner(index, grown(index, removed=removed), tuning, threads, start=start)
            leave_out(index, kept, keep(index, kept), manner)
        tell_of_forgotten(index, index.labels.filter(pa.array(kept)), tell)
        return removed


def compact(path: Path | str, *, tuning: Tuner | None = None, threads: int | None = None) -> int:
    """Build an index afresh from the images that it stores, where images came or went since it was built.

    Its bytes are then those of an index built of these images in this order, with steps fitted as its own are, and what
    it promises is measured on them.

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
    ids: str | int | Sequence[str] | Sequence[int] | pa.ChunkedArray,
    labels: Any,
    *,
    new_classes: bool = False,
    tuning: Tuner | None = None,
    threads: int | None = None,
    tell: Callable[[str], None] = warn,
) -> int:
    """Give other labels to stored images by their ids. All else is kept as it is, to the bit.

    Args:
        path: the index folder.
        ids: as `remove_ids` has them; every image that has one gets its label.
        labels: one for each id: as the stored ones are, or text that says one; None leaves an image as it is.
        new_classes: whether a label may be of a class that the index has not.
        tuning: the class `knnvote.Tuning`, by which an index that was tuned is tuned again for the same k, weights and
            target, for its promise is one of labels; others need none.
        threads: that tune it; None for as many as there are processors.
        tell: told of ids that are stored several times, of classes that are new, and of those that no image has now.

    Returns:
        How many images have another label than before. Where none has, nothing is written.

    Raises:
        KnnvoteError: an id is not stored or has unlike labels, a label is of another kind than the stored ones or of a
            class that is new and must not be, or the index was tuned and no tuning is given; nothing is changed.

    Example:
        >>> from knnvote import open_index, relabel_ids
        >>> relabel_ids("digits.knn", ["train.parquet#0", "train.parquet#7"], [2, 5])
        1
    """
    given = fixes_of(ids, labels)
    return relabel(path, given, new_classes=new_classes, tuning=tuning, threads=threads, tell=tell)


def relabel(
    path: Path | str,
    fixes: pa.Table,
    *,
    new_classes: bool,
    tuning: Tuner | None,
    threads: int | None = None,
    tell: Callable[[str], None] = warn,
) -> int:
    """The same as `relabel_ids`, with what `read_fixes` gives, whose places are told of what is refused."""
    start = time.perf_counter()
    with _claimed(local_path(path)) as (index, _):
        _check_tuning(index, tuning)
        changed = change_labels(index, fixes, tell, new_classes=new_classes)
        count = int(pc.sum(pc.not_equal(changed, index.labels)).as_py())
        if count:
            renew_labels(index, changed, as_before(index, tuning), threads, start=start)
            tell_of_forgotten(index, changed, tell)
        return count


def _add(
    index: Index,
    more: Callable[[], TrainingSet],
    digests: Mapping[str, Any],
    tuning: Tuner | None,
    threads: int | None,
    *,
    start: float,
) -> int:
    """Commit an index with more images, whose number is given; `append` has what the arguments are."""
    if index.inverted_file is None:
        _check_tuning(index, tuning)
    examples = more()
    added = len(examples.vectors)
    if not added:  # all are stored already
        return 0
    if index.inverted_file is None:
        _build_again(index, after_stored(index, examples), tuning, threads, start=start)
    else:
        append(index, examples, digests, _manner(index, grown(index, added=added), tuning, threads, start=start))
    return added


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
    return Manner(tune=as_before(index, tuning), threads=threads, start=start)


def _other_rows(index: Index, ids: pa.Array, tell: Callable[[str], None]) -> NDArray[np.bool_]:
    """(n,) whether a stored image stays when those of some distinct ids go."""
    if not len(ids):
        raise KnnvoteError(f"no id is given of an image to remove from {index.path}: give one at least")
    ids = known_ids(ids, index.ids, index.path, "nothing was removed", tell)
    kept: NDArray[np.bool_] = ~pc.is_in(index.ids, value_set=ids).to_numpy(zero_copy_only=False)
    if not kept.any():
        raise KnnvoteError(
            f"all {index.n:,} images of {index.path} would be removed, and an index needs at least one: "
            "delete the folder instead"
        )
    if (told := repeated_told(index.ids.filter(pa.array(~kept)))) is not None:
        tell(f"{told}: all that have it are removed")
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
    build(examples, index.path, options, as_before(index, tuning), start=start)

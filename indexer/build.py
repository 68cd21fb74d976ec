"""Labelled images to an index folder."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.errors import (
    KnnvoteError,
    OptionError,
    check,
    check_instance,
    check_one_of,
    is_whole,
    param,
    plain,
    warn,
)
from knnvote.data.files import hold_lock
from knnvote.data.input_file import InputFile
from knnvote.data.inputs import Inputs, count_rows, find_inputs, refuse_splits
from knnvote.data.locations import local_path, locate
from knnvote.data.progress import stage
from knnvote.data.tables import SupportsArrow, named_values

from .arrays.labelled import training_set_from_arrays
from .building.content import read_through, sha256
from .building.doubts import tell_of_groups, tell_of_like_classes
from .building.work import Work
from .faiss_index import build_faiss, faiss_metric, held_vectors
from .folder.facts import describe, library_versions, of_labels, unmeasured
from .folder.generations import remove_leftovers
from .folder.write import write_folder
from .groups.record import Groups, refuse_one_group
from .index import Index, Timing
from .leftovers import LOCK, WORK, is_leftover
from .manifest import FORMAT, is_index_folder, read_manifest
from .names import KINDS, METRIC_NAMES, Kind, MetricName
from .records.growth import lost_told
from .records.weights import weights_of
from .threads import available_processors, check_threads, limit_threads
from .training import TrainingOptions, TrainingSet, read_training_set

_REMEMBERED = 64  # changes of labels

MAX_SEED = 2**31 - 1  # what FAISS takes
_REPLACING = "options=IndexOptions(overwrite=True)"  # how it is asked for
Tune = Callable[[Index], Index]  # called with an index that is not yet on disk; gives it with what was found of it


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """What kind of index to build.

    Attributes:
        kind: ``exact``, ``adaptive``, ``hnsw`` or ``factory``.
        factory: a FAISS factory string, for kind ``factory``.
        metric: ``l2``, ``cosine`` or ``l1``.
        seed: of everything random.
        threads: that build it; None for as many as there are processors.
        overwrite: replace an index folder that is there.

    Example:
        >>> from knnvote import IndexOptions, index_files
        >>> index_files("digits/train.parquet", "digits.knn", options=IndexOptions(metric="cosine", overwrite=True))
    """

    kind: Kind = "exact"
    factory: str | None = None
    metric: MetricName = "l2"
    seed: int = 0
    threads: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Refuse values without a meaning.

        Raises:
            OptionError: naming the value.
        """
        check_one_of("kind", self.kind, KINDS)
        check_one_of("metric", self.metric, METRIC_NAMES)
        if self.kind != "exact":
            faiss_metric(self.metric)
        if (self.kind == "factory") != (self.factory is not None):
            raise OptionError("kind 'factory' and a FAISS factory string go together: give both or neither")
        is_seed = is_whole(self.seed) and 0 <= self.seed <= MAX_SEED
        check("seed", self.seed, is_seed, f"give a whole number from 0 to {MAX_SEED}")
        check_threads(self.threads)
        object.__setattr__(self, "seed", plain(self.seed))
        object.__setattr__(self, "threads", plain(self.threads))


def index_files(
    inputs: Inputs,
    out: Path | str,
    *,
    training: TrainingOptions | None = None,
    options: IndexOptions | None = None,
    tune: Tune | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
    tell: Callable[[str], None] = warn,
) -> None:
    """Build the index of labelled images in Parquet files and commit it at `out`.

    Args:
        inputs: Parquet files, folders of them, globs or URIs: one or several.
        out: the index folder to make.
        training: what the user says of the images.
        options: what kind of index to build.
        tune: finds the rungs of an adaptive index, and the vote that stands where none is asked for (`knnvote.Tuning`);
            without it the most careful rung stands.
        progress: told the rows of each batch.
        tell: told what could have been meant otherwise: labels, images of two scales or all equal, copies of files.

    Raises:
        KnnvoteError: an input does not fit, or `out` cannot be written or is in use; nothing there is changed.

    Example:
        >>> from knnvote import index_files, open_index
        >>> index_files(["digits/train.parquet", "digits/test.parquet"], "both.knn")
        >>> open_index("both.knn").n
        1797
    """
    training, options = training or TrainingOptions(), options or IndexOptions()
    check_instance("training", training, TrainingOptions)
    _check_options(options, tune)
    start = time.perf_counter()
    sources = find_inputs(inputs)
    refuse_splits(sources)
    with (
        _claimed(local_path(out), overwrite=options.overwrite, tell=tell) as folder,
        _work(folder, sources, training, options, tell) as work,
    ):
        rows = training.limit or training.sample or partial(count_rows, sources)
        with stage("reading", rows, progress=progress) as advance:
            examples = read_training_set(
                sources, training, metric=options.metric, seed=options.seed, work=work, progress=advance, tell=tell
            )
        refuse_one_group(Groups.of(examples.provenance, examples.group_column), len(examples.provenance))
        build(examples, folder, options, tune, start=start, work=work)


def index_arrays(
    images: NDArray[Any] | SupportsArrow,
    labels: NDArray[Any] | Sequence[Any],
    out: Path | str,
    *,
    steps: Sequence[str] = (),
    ids: NDArray[Any] | Sequence[Any] | None = None,
    groups: NDArray[Any] | Sequence[Any] | None = None,
    sample_weight: NDArray[Any] | Sequence[float] | None = None,
    is_regression: bool = False,
    options: IndexOptions | None = None,
    tune: Tune | None = None,
    progress: Callable[[int], None] = lambda _rows: None,
) -> None:
    """Build the index of labelled images in memory and commit it at `out`.

    Args:
        images: (n, *shape) of any number type, be it a tensor that lies in memory; a table with a column a value, a
            pandas or Polars DataFrame or an Arrow table, whose names the index keeps; or a column of lists or tensors,
            a Series or an Arrow array.
        labels: (n,) integers, strings or booleans; numbers for regression.
        out: the index folder to make.
        steps: between an image and its vector, in this order, as ``("centred", "unit")``; by default none.
        ids: (n,) texts or whole numbers by which images are known; without them ``array#row``, from 0.
        groups: (n,) integers or strings, as `TrainingOptions` has a column of; None for an image without one.
        sample_weight: (n,) what the vote of each image is multiplied by, finite and above 0; None for all alike.
        is_regression: labels are numbers to be averaged.
        options: what kind of index to build.
        tune: finds the rungs of an adaptive index, and the vote that stands where none is asked for (`knnvote.Tuning`);
            without it the most careful rung stands.
        progress: told the rows of each block that was looked through.

    Raises:
        KnnvoteError: the arrays do not fit, or `out` cannot be written or is in use; nothing there is changed.

    Example:
        >>> import numpy as np
        >>> from knnvote import index_arrays, open_index
        >>> images = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
        >>> index_arrays(images, ["low", "middle", "high"], "three.knn", ids=["a", "b", "c"])
        >>> open_index("three.knn").classes.to_pylist()
        ['high', 'low', 'middle']
    """
    options, start = options or IndexOptions(), time.perf_counter()
    _check_options(options, tune)
    with _claimed(local_path(out), overwrite=options.overwrite) as folder:
        given = {"ids": ids, "steps": steps, "groups": groups, "sample_weight": sample_weight}
        examples = _taken(images, labels, options, is_regression=is_regression, progress=progress, **given)
        build(examples, folder, options, tune, start=start)


def _taken(
    images: NDArray[Any] | SupportsArrow, labels: NDArray[Any] | Sequence[Any], options: IndexOptions, **given: Any
) -> TrainingSet:
    """Labelled images of arrays, with what else is given; how labels and groups lie is told."""
    values, names = named_values(images)
    examples = training_set_from_arrays(values, labels, metric=options.metric, feature_names=names, **given)
    tell_of_like_classes(examples.provenance["label"], warn)
    tell_of_groups(examples.provenance, 0, None, is_regression=examples.is_regression, tell=warn)
    refuse_one_group(Groups.of(examples.provenance, None), len(examples.provenance))
    return examples


def _check_options(options: object, tune: object) -> None:
    """Refuse what cannot say how an index is built, before any work."""
    check_instance("options", options, IndexOptions)
    is_called = tune is None or (callable(tune) and not isinstance(tune, type))
    check("tune", tune, is_called, "give what is called with the index, as Tuning(k=3) is")


@contextmanager
def _claimed(
    out: Path, *, overwrite: bool, asked: str = _REPLACING, tell: Callable[[str], None] = warn
) -> Iterator[Path]:
    """Hold the destination for this build alone; a folder made for a build that fails is removed again."""
    check_destination(out, overwrite=overwrite, asked=asked)
    is_new = not out.exists()
    try:
        with hold_lock(out / LOCK, f"another build is writing to {out}: wait for it, or give another path"):
            check_destination(out, overwrite=overwrite, asked=asked)  # by now another build may have ended
            remove_leftovers(out)  # of a killed one, whose generation is taken again
            _tell_of_lost(out, tell)
            yield out
    finally:
        if is_new:
            with suppress(OSError):  # only an empty folder goes
                out.rmdir()


def _tell_of_lost(out: Path, tell: Callable[[str], None]) -> None:
    """Tell of what an index that is to be replaced has and its images have not; one that is damaged tells nothing."""
    with suppress(KnnvoteError):
        before = read_manifest(out) if is_index_folder(out) else None
        if before is not None and (lost := lost_told(before.growth, before.relabelled_from)) is not None:
            tell(f"{out} has {lost}")


def check_destination(out: Path, *, overwrite: bool, asked: str = _REPLACING) -> None:
    """Refuse to write an index where something else is, or over an index without being told to, as is asked for."""
    if is_index_folder(out):
        if not overwrite:
            raise KnnvoteError(f"{out} exists: pass {param(asked)} to replace it, or give another path")
    elif os.path.lexists(out) and not (out.is_dir() and all(map(is_leftover, locate(out).below(recursive=False)))):
        raise KnnvoteError(f"{out} exists and is not an index folder: give a new path, such as {out}.knn")


def _work(
    folder: Path,
    sources: Sequence[InputFile],
    training: TrainingOptions,
    options: IndexOptions,
    tell: Callable[[str], None],
) -> AbstractContextManager[Work]:
    """What a build of files is kept in, with what a killed one of the same made."""
    made_from = {
        "inputs": [[source.address, source.relative, sha256(repr(source.state()))] for source in sources],
        "labels": [None if source.labels is None else source.labels.fingerprint for source in sources],
        "training": repr(training),
        "options": repr(replace(options, threads=options.threads or available_processors(), overwrite=False)),
        "format": FORMAT,
        "versions": library_versions(),
    }
    return Work.taken_up(folder / WORK, made_from, tell)


def build(
    examples: TrainingSet,
    out: Path,
    options: IndexOptions,
    tune: Tune | None,
    *,
    start: float,
    work: Work | None = None,
) -> None:
    """Build the index of a training set and commit it at `out`, whose lock the caller holds.

    Args:
        examples: what to store.
        out: the index folder.
        options: what kind of index to build.
        tune: finds what is known of the index's answers.
        start: `time.perf_counter()` when the reading of examples began.
        work: where it is kept slice by slice, with what a killed build of the same made; None for memory alone.

    Raises:
        KnnvoteError: it cannot be built or written; what is at `out` is not changed.
    """
    work = work or Work()
    index, timing = build_in_memory(examples, out, options, tune, start=start, work=work)
    write_folder(out, index, timing, work)


def build_in_memory(
    examples: TrainingSet,
    path: Path,
    options: IndexOptions,
    tune: Tune | None,
    *,
    start: float,
    work: Work | None = None,
) -> tuple[Index, Timing]:
    """Build the index of a training set; nothing is written but its work.

    Args:
        examples: what to store.
        path: where the index will be, or what messages call it.
        options: what kind of index to build.
        tune: finds what is known of the index's answers.
        start: `time.perf_counter()` when the reading of examples began.
        work: as `build` has it.

    Returns:
        The index, and what its build took.

    Raises:
        KnnvoteError: it cannot be built.
    """
    read = time.perf_counter()
    x = examples.vectors
    with limit_threads(options.threads):
        built = build_faiss(
            x, kind=options.kind, metric=options.metric, factory=options.factory, seed=options.seed, work=work
        )
    labels = examples.provenance["label"].combine_chunks()
    manifest = describe(examples, labels, built, kind=options.kind, metric=options.metric, seed=options.seed)
    index = Index(
        *(path, manifest, built.index, x, labels, examples.provenance, built.inverted_file),
        steps=examples.steps,
        stored_images=examples.images,
    )
    untuned = time.perf_counter()
    if tune is not None:
        with limit_threads(options.threads):
            index = tune(index)
    held = held_vectors(built.index, x.dtype)
    if held is not None and np.array_equal(held, x):
        index = replace(index, vectors=held)  # in memory once
    return index, timing_since(start, read, untuned)


def renew_labels(index: Index, labels: pa.Array, tune: Tune, threads: int | None, *, start: float) -> None:
    """Commit an index anew with other labels, in its place. All that does not depend on labels is kept as it is.

    Args:
        index: an opened one, whose lock the caller holds.
        labels: (n,) of a type that an index may have.
        tune: finds what is known of the index's answers, for that may be of labels.
        threads: that tune it.
        start: `time.perf_counter()` when the labels began to be read.

    Raises:
        KnnvoteError: it cannot be written; the index is not changed.
    """
    read = time.perf_counter()
    rows = index.provenance().set_column(0, "label", labels)
    manifest = replace(
        index.manifest,
        **of_labels(labels, is_regression=index.is_regression),
        relabelled_from=(*index.manifest.relabelled_from, index.fingerprint)[-_REMEMBERED:],
        data_sha256=read_through(index.vectors, labels, weights_of(rows))[1],
    )
    values = {field.name: getattr(index, field.name) for field in fields(Index)}
    renewed = Index(**{**values, "manifest": unmeasured(manifest), "labels": labels, "rows": rows})
    untuned = time.perf_counter()
    with limit_threads(threads):
        renewed = tune(renewed)
    write_folder(index.path, renewed, timing_since(start, read, untuned))


def timing_since(start: float, read: float, untuned: float) -> Timing:
    """What a build that ends now took, by the moments when it began, had read all, and began to tune."""
    end = time.perf_counter()
    read_seconds, build_seconds, tune_seconds = (round(span, 3) for span in (read - start, end - read, end - untuned))
    return Timing(read_seconds=read_seconds, build_seconds=build_seconds, tune_seconds=tune_seconds)


def write_index(index: Index, timing: Timing, out: Path, *, overwrite: bool = False) -> None:
    """Commit an index in memory at `out`.

    Raises:
        KnnvoteError: `out` cannot be written or is in use; nothing there is changed.
    """
    with _claimed(out, overwrite=overwrite, asked="overwrite=True"):
        write_folder(out, index, timing)

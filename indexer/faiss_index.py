"""FAISS indexes: built for each kind, written, opened mapped, and read for the vectors that they hold without loss."""

import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError, OptionError, param, stack_level
from knnvote.data.locations import describe_os_error
from knnvote.data.progress import stage
from knnvote.data.reading import rows_within_budget
from knnvote.data.text import first_line

from .apart import run_apart
from .building.work import Work
from .codes.inverted_file import InvertedFile, build_inverted_file, fit_codes, training_rows
from .codes.projection import Projection
from .manifest import AdaptiveSettings, ProposingSettings, ScanSettings, SearchSettings
from .metric import METRICS, Euclidean, FaissMetric, Metric
from .names import Kind, MetricName
from .rungs import Rung
from .threads import limit_threads

# Of FAISS, whose codes are the numbers of a type as they are, and their names in a factory string.
_QUANTIZERS: dict[np.dtype[Any], tuple[int, str]] = {
    np.dtype(np.uint8): (faiss.ScalarQuantizer.QT_8bit_direct, "SQ8_direct"),
    np.dtype(np.float16): (faiss.ScalarQuantizer.QT_fp16, "SQfp16"),
}
_ASKED = 500  # stored vectors, for the unlike ones of which an index of the kind HNSW is asked
_FOUND = 0.9  # of them, without which that is told
_CAREFUL = 16  # lists that a careful search looks through at least; of many an eighth
_PROPOSED = 2  # candidates for each neighbour, of an index that FAISS alone describes
_BLOCK = 16_384  # rows converted to floats at a time, at most
_FACTORY_ROOM = 32  # bytes that an index and its building may take for each byte of the floats
_FACTORY_SECONDS = 1e-4  # of one processor that they may take for each: a hundred times what slow kinds do


@dataclass(frozen=True)
class Built:
    """What stored vectors are searched by.

    Attributes:
        index: of FAISS; None where it proposes no candidates, and codes are searched or it cannot hold the vectors.
        factory: its FAISS factory string; "" without an index.
        search: settings of its search.
        inverted_file: codes of the vectors, with which a search need not look at every one.
    """

    index: faiss.Index | None
    factory: str
    search: SearchSettings
    inverted_file: InvertedFile | None = None


def build_faiss(
    x: NDArray[np.generic],
    *,
    kind: Kind,
    metric: MetricName,
    factory: str | None,
    seed: int,
    work: Work | None = None,
) -> Built:
    """Build the FAISS index of a kind over stored vectors x (n, d), or what else they are searched by.

    Args:
        x: stored vectors, which may be mapped.
        kind: of the index.
        metric: of its search.
        factory: string of FAISS, of the kind ``factory``.
        seed: of everything random.
        work: where codes are kept slice by slice, with what a killed build of the same made; None for memory alone.

    Raises:
        OptionError: FAISS does not know the metric, or cannot build the factory string for these vectors.
    """
    work = work or Work()
    if kind not in ("exact", "adaptive"):
        with stage(f"building {factory or kind}"):
            return _from_factory(x, faiss_metric(metric), factory)
    space = METRICS[metric] if kind == "exact" else faiss_metric(metric)
    if kind == "exact" and not isinstance(space, Euclidean):
        return Built(*_lossless_holder(x), ScanSettings())
    rows = np.random.default_rng(seed).permutation(len(x)) if kind == "exact" else training_rows(len(x), seed)
    projection, pays = _fit(x, rows, space, seed, work)
    if kind == "exact" and not pays:
        return Built(*_lossless_holder(x), ScanSettings())
    by_codes = build_inverted_file(x, projection, rows, space, seed, work=work)
    careful = Rung(nprobe=min(by_codes.nlist, max(_CAREFUL, by_codes.nlist // 8)), candidates_per_neighbor=8)
    exact, adaptive = ScanSettings(projection.grid), AdaptiveSettings(projection.grid, careful)
    return Built(None, "", exact if kind == "exact" else adaptive, by_codes)


def _fit(
    x: NDArray[np.generic], rows: NDArray[np.int64], space: Metric, seed: int, work: Work
) -> tuple[Projection, bool]:
    """What `fit_codes` gives, unless it was kept."""

    def fit() -> dict[str, NDArray[Any]]:
        projection, pays = fit_codes(x, rows, space, seed)
        said = {"grid": np.array(projection.grid), "pays": np.array(pays)}
        return {"centre": projection.centre, "axes": projection.axes, **said}

    with stage("finding axes"):
        made = work.once("axes", fit)
    return Projection(centre=made["centre"], grid=float(made["grid"]), axes=made["axes"]), bool(made["pays"])


def faiss_metric(name: MetricName) -> FaissMetric:
    """A metric of an index that is not exact.

    Raises:
        OptionError: FAISS does not know it.
    """
    metric = METRICS[name]
    if not isinstance(metric, FaissMetric):
        raise OptionError(f"{param('metric')} is {name!r}, which FAISS does not know: give {param('kind')} exact")
    return metric


def _lossless_holder(x: NDArray[np.generic]) -> tuple[faiss.Index | None, str]:
    """A flat FAISS index that holds x in its own type, where FAISS has one."""
    d = x.shape[1]
    if x.dtype in _QUANTIZERS:
        code, name = _QUANTIZERS[x.dtype]
        holder = faiss.IndexScalarQuantizer(d, code, faiss.METRIC_L2)
    elif x.dtype == np.float32:
        holder, name = faiss.IndexFlatL2(d), "Flat"
    else:
        return None, ""
    for block in _blocks(x):
        holder.add(np.ascontiguousarray(block, dtype=np.float32))
    return holder, name


def _blocks(x: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    """Stored vectors x (n, d), as many at a time as may be floats at once."""
    step = rows_within_budget(x.shape[1], _BLOCK)
    return (x[start : start + step] for start in range(0, len(x), step))


def _chain(transforms: list[faiss.VectorTransform], index: faiss.Index) -> faiss.IndexPreTransform:
    """Transforms in front of an index that is already filled with transformed vectors."""
    chained = faiss.IndexPreTransform(index)
    for transform in reversed(transforms):
        chained.prepend_transform(transform)
    chained.ntotal = index.ntotal
    return chained


def _from_factory(x: NDArray[np.generic], metric: FaissMetric, factory: str | None) -> Built:
    """Any FAISS index, HNSW if none is named: over vectors as they are where FAISS so holds them, else centred."""
    d = x.shape[1]
    keeps_type = x.dtype in _QUANTIZERS if factory is None else x.dtype == np.uint8
    as_stored = keeps_type and metric.keeps_values
    mean = metric.space(next(_blocks(x))).mean(axis=0)
    centre = np.zeros(d) if as_stored else mean.astype(np.float32).astype(np.float64)
    blocks = ((metric.space(block) - centre).astype(np.float32) for block in _blocks(x))
    if factory is None:
        is_held = as_stored and metric.faiss_type == faiss.METRIC_L2
        factory = f"HNSW32,{_QUANTIZERS[x.dtype][1] if is_held else 'Flat'}"
        index = fill_index(np.concatenate(list(blocks)), factory, metric.faiss_type)
    else:
        index = _build_apart(blocks, x.shape, factory, metric)
    if "HNSW" in factory:
        asked = np.unique(x[np.random.default_rng(0).choice(len(x), min(len(x), _ASKED), replace=False)], axis=0)
        found = index.search((metric.space(asked) - centre).astype(np.float32), 1)[1][:, 0]
        _tell_of_lost(metric.are_equal(metric.final(metric.reduced(asked, x[found][:, None])[:, 0])), factory)
    if as_stored:
        return Built(index, factory, ProposingSettings(_PROPOSED, is_centred=False))
    centring = faiss.CenteringTransform(d)
    faiss.copy_array_to_vector(centre.astype(np.float32), centring.mean)
    centring.is_trained = True
    return Built(_chain([centring], index), factory, ProposingSettings(_PROPOSED, is_centred=True))


def _tell_of_lost(found: NDArray[np.bool_], factory: str) -> None:
    """Warn when an HNSW index does not find many of some stored vectors when it is asked for them.

    Its graph has parts then to which hardly anything leads, as where equal vectors have each other for all neighbours.
    """
    if found.mean() < _FOUND:
        warnings.warn(
            f"{factory} finds only {found.mean():.0%} of {len(found):,} unlike stored images when asked for them, and "
            "few neighbours of others too: where many images are equal, build the kind adaptive or exact",
            stacklevel=stack_level(),
        )


def fill_index(floats: NDArray[np.float32], factory: str, metric_type: int) -> faiss.Index:
    """The index that a factory string describes, trained on floats (n, d) and holding them.

    HNSW is built by one thread: with more, the graph depends on which thread comes first.
    """
    index = faiss.index_factory(floats.shape[1], factory, metric_type)
    with limit_threads(1) if "HNSW" in factory else nullcontext():
        index.train(floats)
        index.add(floats)
    return index


def _build_apart(
    blocks: Iterator[NDArray[np.float32]], shape: tuple[int, ...], factory: str, metric: FaissMetric
) -> faiss.Index:
    """What `fill_index` gives, built and tried in a process of its own, which some strings end.

    The floats (n, d) go there by a file, so that they are in memory once, and the index comes back by another.
    """
    n, d = shape
    try:
        with tempfile.TemporaryDirectory(prefix="knnvote-") as folder:
            floats, built = Path(folder) / "floats.npy", Path(folder) / "index"
            with floats.open("wb") as stream:
                np.lib.format.write_array_header_1_0(
                    stream, {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
                )
                for block in blocks:
                    stream.write(block.data)
            threads = faiss.omp_get_max_threads()
            arguments = (floats, built, factory, metric.faiss_type, threads)
            size = floats.stat().st_size
            talk = run_apart(
                "knnvote.indexer.trial.factory",
                *map(str, arguments),
                memory=_FACTORY_ROOM * size,
                seconds=_FACTORY_SECONDS * size,
            )
            for line in dict.fromkeys(talk):
                warnings.warn(f"FAISS says: {line.removeprefix('WARNING ')}", stacklevel=stack_level())
            return read_faiss(built)
    except KnnvoteError as error:
        raise OptionError(
            f"FAISS cannot build {param('factory')} {factory!r} over {n:,} vectors of {d} dimensions with "
            f"metric {metric.name}: {error.marked}; try {param('kind')} adaptive, or another factory string"
        ) from error
    except OSError as error:
        raise KnnvoteError(
            f"cannot write {n:,} vectors to a temporary file: {describe_os_error(error)}; "
            "set TMPDIR to a folder that has room"
        ) from error


def faiss_reason(error: Exception) -> str:
    """The sentence in a FAISS exception, without the C++ function and file around it."""
    sentence = first_line(re.split(r"\.(?:cpp|h):\d+: ", str(error))[-1])
    return re.sub(r"^(Error: )?('.*' failed: )?", "", sentence).strip()


def write_faiss(index: faiss.Index, path: Path) -> None:
    """Write the index file."""
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:
        raise KnnvoteError(f"cannot write {path}: {faiss_reason(error)}") from error


def read_faiss(path: Path) -> faiss.Index:
    """Open an index file mapped, so that jobs share its memory."""
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise KnnvoteError(f"FAISS cannot read {path}: {faiss_reason(error)}") from error


def holds_type(holder: Any, dtype: np.dtype[Any]) -> bool:
    """Whether the codes of a FAISS index are numbers of a type as they are."""
    if dtype in _QUANTIZERS:
        return isinstance(holder, faiss.IndexScalarQuantizer) and holder.sq.qtype == _QUANTIZERS[dtype][0]
    return isinstance(holder, faiss.IndexFlat) and dtype == np.float32


def quantized_type(factory: str) -> np.dtype[Any] | None:
    """The type that a factory string says to be held as it is by a quantizer, if it says so."""
    return next((dtype for dtype, (_, name) in _QUANTIZERS.items() if factory.endswith(name)), None)


def held_vectors(index: faiss.Index | None, dtype: np.dtype[Any]) -> NDArray[np.generic] | None:
    """The stored vectors (n, d) as a view into a FAISS index that holds them without loss, else None."""
    if index is None:
        return None
    holder = faiss.downcast_index(index)
    if isinstance(holder, faiss.IndexHNSW):
        holder = faiss.downcast_index(holder.storage)
    if not holds_type(holder, dtype):
        return None
    codes = np.asarray(_OwnedMemory(index, faiss.rev_swig_ptr(holder.codes.data(), holder.codes.size())))
    vectors: NDArray[np.generic] = codes.view(dtype).reshape(holder.ntotal, holder.d)
    return vectors


def holds(index: faiss.Index | None, vectors: NDArray[np.generic]) -> bool:
    """Whether vectors are a view into a FAISS index, as `held_vectors` gives it."""
    held = held_vectors(index, vectors.dtype)
    return held is not None and np.may_share_memory(held, vectors)


class _OwnedMemory:
    """Memory of a FAISS index as NumPy takes it: an array of it keeps the index from being freed."""

    def __init__(self, owner: faiss.Index, memory: NDArray[np.uint8]) -> None:
        self.owner = owner
        self.__array_interface__ = memory.__array_interface__

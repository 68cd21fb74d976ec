"""What an opened FAISS index must be made of, so that no search of it can read memory that is not its own.

FAISS believes its files. Each part of a FAISS index is checked for being of the class that the manifest's kind
implies, of the size that its shape implies, and for pointing nowhere but into itself.
"""

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np

from knnvote.data.errors import KnnvoteError
from knnvote.indexer.faiss_index import faiss_metric, holds_type, quantized_type
from knnvote.indexer.groups.record import Groups
from knnvote.indexer.index import PROVENANCE, Index
from knnvote.indexer.manifest import ProposingSettings
from knnvote.indexer.records.weights import WEIGHT, SampleWeight

_MOST_CANDIDATES = 4096  # that HNSW keeps by its own setting, as many as are asked for beside


def expect(holds: bool, what: str) -> None:
    """Refuse an index of which this does not hold.

    Raises:
        KnnvoteError: saying what is wrong.
    """
    if not holds:
        raise KnnvoteError(what)


def check_labels(index: Index) -> None:
    """Check each row's label and origin.

    Raises:
        KnnvoteError: saying what is wrong.
    """
    types = dict(zip(PROVENANCE, (index.manifest.label_type, "string", "string", "int64"), strict=True))
    types |= {name: "double" if name == WEIGHT else "string" for name in index.columns[len(PROVENANCE) :]}
    schema = index.rows.schema_arrow
    found = dict(zip(schema.names, map(str, schema.types), strict=True))
    expect(found == types and len(schema.names) == len(types), f"its labels file has columns {found}, not {types}")
    table, manifest = index.provenance(), index.manifest
    expect(len(table) == index.n, f"its labels file has {len(table):,} rows for {index.n:,} vectors")
    table.validate(full=True)  # of text that is not UTF-8 no file tells
    expect(not any(table[name].null_count for name in {*types} & {*PROVENANCE, WEIGHT}), "its labels file has nulls")
    expect(Groups.of(table, manifest.group_column) == manifest.groups, "its groups are not those of its manifest")
    told = SampleWeight.of(table, manifest.weight_column)
    expect(told == manifest.sample_weight, "its weights are not those of its manifest")
    if index.is_regression:
        expect(bool(np.isfinite(index.targets).all()), "it has labels that are not finite")
        return
    labels = table["label"].unique().to_pylist()
    expect(set(labels) == set(index.manifest.classes), "its labels are not the classes of its manifest")


def check_structure(index: Index) -> None:
    """Check the FAISS index of an opened folder against its manifest.

    Raises:
        KnnvoteError: saying what is wrong.
    """
    root, search = index.faiss_index, index.manifest.search
    if root is None:
        expect(not isinstance(search, ProposingSettings), "it lacks its FAISS index")
        return
    _check_size(root, index.d, index.n)
    if isinstance(search, ProposingSettings):
        _check_proposer(index, search)
    else:
        _check_holder(root, index.vectors.dtype)


def _check_proposer(index: Index, search: ProposingSettings) -> None:
    """Check what proposes candidates by a FAISS string: HNSW for its kind, anything for kind ``factory``."""
    root, metric = index.faiss_index, faiss_metric(index.metric).faiss_type
    if search.is_centred:
        _expect_class(root, faiss.IndexPreTransform)
        expect(root.chain.size() >= 1, "its FAISS index is not centred")
        _check_centring(faiss.downcast_VectorTransform(root.chain.at(0)), index.d)
        root = faiss.downcast_index(root.index)
        _check_size(root, root.d, index.n)
    expect(root.metric_type == metric, f"its FAISS index is not of metric {index.metric}")
    if index.kind == "hnsw":
        held = quantized_type(index.manifest.factory)
        _expect_class(root, faiss.IndexHNSWFlat if held is None else faiss.IndexHNSWSQ)
        _check_holder(faiss.downcast_index(root.storage), held or np.dtype(np.float32), metric)
    for part in _parts(root):
        _check_part(part)


def _parts(index: Any) -> Iterator[Any]:
    """An index and all indexes that it is made of."""
    yield index
    for name in ("index", "base_index", "refine_index", "quantizer", "storage"):
        part = getattr(index, name, None)
        if isinstance(part, faiss.Index):
            yield from _parts(faiss.downcast_index(part))


def _check_part(part: Any) -> None:
    """Check any index as far as its class is known here; FAISS checks on reading, and the search, are all the rest."""
    if isinstance(part, faiss.IndexPreTransform):
        _check_chain(part)
    if isinstance(part, faiss.IndexFlatCodes):
        _check_codes(part)
    if isinstance(part, faiss.IndexIVF):
        _check_ivf(part)
    if isinstance(part, faiss.IndexHNSW):
        _check_hnsw(part)


def _expect_class(part: Any, expected: type) -> None:
    expect(type(part) is expected, f"its FAISS index has a {type(part).__name__} where {expected.__name__} is expected")


def _check_size(part: Any, d: int, n: int) -> None:
    expect(
        (part.d, part.ntotal) == (d, n) and part.is_trained,
        f"its FAISS index has a {type(part).__name__} of {part.ntotal:,} vectors of {part.d} dimensions where "
        f"{n:,} of {d} are expected",
    )


def _check_centring(transform: Any, d: int) -> None:
    _expect_class(transform, faiss.CenteringTransform)
    expect(
        (transform.d_in, transform.d_out, transform.mean.size()) == (d, d, d)
        and bool(np.isfinite(faiss.vector_to_array(transform.mean)).all()),
        f"its centre is not {d} finite numbers",
    )


def _check_chain(part: faiss.IndexPreTransform) -> None:
    """Check that each transform takes what the one before gives."""
    d = part.d
    for i in range(part.chain.size()):
        transform = faiss.downcast_VectorTransform(part.chain.at(i))
        expect(transform.d_in == d and transform.d_out > 0, "its transforms do not fit each other")
        if isinstance(transform, faiss.LinearTransform):
            sizes = (transform.A.size(), transform.b.size() if transform.have_bias else transform.d_out)
            expect(sizes == (d * transform.d_out, transform.d_out), "a transform is not of its dimensions")
        if isinstance(transform, faiss.CenteringTransform):
            _check_centring(transform, d)
        d = transform.d_out
    expect(part.index.d == d and part.index.ntotal == part.ntotal, "its transforms do not fit its index")


def _check_holder(holder: Any, dtype: np.dtype[Any], metric: int = faiss.METRIC_L2) -> None:
    """Check an index that holds the stored vectors in their own type."""
    expect(holds_type(holder, dtype), f"a {type(holder).__name__} does not hold {dtype} as they are")
    if isinstance(holder, faiss.IndexScalarQuantizer):
        _expect_class(holder, faiss.IndexScalarQuantizer)
        expect(holder.sq.d == holder.d, "its scalar quantizer is of other dimensions")
    expect(holder.metric_type == metric, "what holds its vectors is of another metric")
    expect(holder.code_size == holder.d * dtype.itemsize, "codes of its vectors have another length")
    _check_codes(holder)


def _check_codes(part: faiss.IndexFlatCodes) -> None:
    expect(
        part.code_size > 0 and part.codes.size() == part.ntotal * part.code_size,
        f"its FAISS index has {part.codes.size():,} bytes of codes for {part.ntotal:,} of {part.code_size}",
    )
    if isinstance(part, faiss.IndexFlat):
        expect(part.code_size == 4 * part.d, "codes of its floats have another length")


def _check_ivf(ivf: faiss.IndexIVF) -> None:
    """Check that the lists hold each row once, and that each list has a centroid."""
    lists = faiss.downcast_InvertedLists(ivf.invlists)
    quantizer = faiss.downcast_index(ivf.quantizer)
    expect(
        1 <= ivf.nlist == lists.nlist == quantizer.ntotal and quantizer.d == ivf.d and lists.code_size == ivf.code_size,
        "its inverted lists do not fit each other",
    )
    if type(ivf) is faiss.IndexIVFFlat:
        expect(ivf.code_size == 4 * ivf.d, "codes of its inverted lists have another length")
        _expect_class(lists, faiss.ArrayInvertedLists)
    if isinstance(quantizer, faiss.IndexFlat):
        _check_codes(quantizer)
    sizes = [lists.list_size(number) for number in range(ivf.nlist)]
    expect(sum(sizes) == ivf.ntotal, f"its inverted lists hold {sum(sizes):,} rows of {ivf.ntotal:,}")
    rows = [faiss.rev_swig_ptr(lists.get_ids(number), size) for number, size in enumerate(sizes) if size]
    held = np.sort(np.concatenate(rows)) if rows else np.empty(0, dtype=np.int64)
    expect(bool(np.array_equal(held, np.arange(ivf.ntotal))), "its inverted lists do not hold each row once")


def _check_hnsw(part: faiss.IndexHNSW) -> None:
    """Check that each node's neighbours are nodes, on a level that they have."""
    n, graph = part.ntotal, part.hnsw
    wrong = "its graph does not fit its vectors"
    expect(part.storage is not None and (part.storage.d, part.storage.ntotal) == (part.d, n), wrong)
    levels, offsets, firsts = map(faiss.vector_to_array, (graph.levels, graph.offsets, graph.cum_nneighbor_per_level))
    expect(len(levels) == n and len(offsets) == n + 1 and offsets[0] == 0, wrong)
    expect(bool((levels >= 1).all() and levels.max() < len(firsts)), wrong)
    room = firsts.astype(np.int64)
    expect(bool(room[0] == 0 and (np.diff(room) >= 0).all()), wrong)
    expect(bool(np.array_equal(np.diff(offsets.astype(np.int64)), room[levels])), wrong)
    expect(graph.neighbors.size() == offsets[-1], wrong)
    neighbors = faiss.rev_swig_ptr(graph.neighbors.data(), graph.neighbors.size())
    expect(bool(((neighbors >= -1) & (neighbors < n)).all()), "its graph has neighbours that are no nodes")
    place = np.arange(len(neighbors)) - np.repeat(offsets[:-1].astype(np.int64), room[levels])
    level = np.searchsorted(room, place, side="right") - 1
    expect(
        bool((level < levels[neighbors])[neighbors >= 0].all()), "its graph has neighbours on a level that they lack"
    )
    expect(0 <= graph.entry_point < n and graph.max_level == levels[graph.entry_point] - 1, wrong)
    expect(1 <= graph.efSearch <= _MOST_CANDIDATES, f"its graph keeps {graph.efSearch:,} candidates")

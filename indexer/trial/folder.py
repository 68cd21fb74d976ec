"""An index folder tried in a process that may end of it, by ``python -m knnvote.indexer.trial.folder``."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from knnvote.data.errors import KnnvoteError
from knnvote.indexer.apart import answer
from knnvote.indexer.codes.steps import scan
from knnvote.indexer.faiss_index import faiss_reason
from knnvote.indexer.folder.open import load_index
from knnvote.indexer.index import Index
from knnvote.indexer.manifest import ProposingSettings, read_manifest
from knnvote.indexer.metric import METRICS, Euclidean

from .codes import check_codes, check_vectors
from .structure import check_labels, check_structure

_TRIED = 16  # stored vectors that are searched for, as queries
_NEIGHBORS = 16
_UNTOUCHED = np.iinfo(np.int64).max  # where a search leaves what was there

# What FAISS, its Python classes, NumPy and Arrow raise about content that they cannot use.
_MISFITS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    pa.ArrowException,
)


def try_folder(path: str) -> None:
    """Open an index folder, check that it is built as its manifest says, and search it.

    Raises:
        KnnvoteError: saying what is wrong.
    """
    folder = Path(path)
    try:
        index = load_index(folder, read_manifest(folder))
        check_labels(index)
        check_structure(index)
        check_vectors(index)
        check_codes(index)
        _search(index)
    except _MISFITS as error:
        raise KnnvoteError(f"its content does not fit together ({faiss_reason(error)})") from error


def _search(index: Index) -> None:
    """Search the index as classify/search does: by codes in nearly all lists and in all, others query by query."""
    metric, tried = METRICS[index.metric], index.vectors[:_TRIED]
    k = min(_NEIGHBORS, index.n)
    search = index.manifest.search
    if isinstance(search, ProposingSettings):
        with np.errstate(over="ignore"):  # a query infinitely far out gets some candidates
            queries = metric.space(tried).astype(np.float32)
        for query in queries:
            I = np.full((1, k), _UNTOUCHED)
            index.faiss_index.search(query[None], k, I=I)
            if not ((I >= -1) & (index.n > I)).all():
                raise KnnvoteError("its search finds rows that it does not have")
    elif index.inverted_file is not None:
        by_codes = index.inverted_file
        coded = by_codes.projection.encode(metric.projectable(tried))
        by_codes.probe(coded.codes, k, max(1, by_codes.nlist - 1))
        if isinstance(metric, Euclidean):
            first, unit = np.empty((len(tried), 0), dtype=np.int64), by_codes.projection.unit
            scan(by_codes.table, coded, first, tried, index.vectors, k=k, metric=metric, unit=unit)


if __name__ == "__main__":
    answer(try_folder)

"""What the index of an approximate kind proposes for a query: rows whose distances are then settled."""

import faiss
import numpy as np
from numpy.typing import NDArray

from knnvote.data.errors import KnnvoteError, param
from knnvote.indexer.codes.projection import Coded
from knnvote.indexer.index import Index
from knnvote.indexer.manifest import ProposingSettings
from knnvote.indexer.metric import METRICS
from knnvote.indexer.rungs import Rung


def encode(index: Index, xq: NDArray[np.generic]) -> Coded:
    """Codes of queries (nq, d), as the inverted file of an index takes them."""
    return index.ivf.projection.encode(METRICS[index.metric].projectable(xq))


def propose_by(index: Index, codes: NDArray[np.int8], rung: Rung, k: int) -> NDArray[np.int64]:
    """What a rung of an adaptive index finds for queries by their codes: (nq, m) rows, m at least k; -1 for none."""
    return index.ivf.probe(codes, rung.candidates(k, index.n), rung.nprobe or index.ivf.nlist)


def propose(index: Index, xq: NDArray[np.generic], k: int) -> NDArray[np.int64]:
    """What the FAISS index of a kind without rungs finds for each query: (nq, m) rows, m at least k; -1 for none."""
    settings = index.manifest.search
    if not isinstance(settings, ProposingSettings):
        raise TypeError(f"{index.path} has no FAISS index that proposes candidates")
    m = min(index.n, k * settings.candidates_per_neighbor)
    queries = METRICS[index.metric].space(xq)
    inner = index.faiss_index
    if settings.is_centred:
        centring = faiss.downcast_VectorTransform(inner.chain.at(0))
        queries = queries - faiss.vector_to_array(centring.mean).astype(np.float64)
        inner = faiss.downcast_index(inner.index)
    with np.errstate(over="ignore"):  # a query infinitely far out gets some candidates or, from exact search, all
        floats = queries.astype(np.float32)
    # HNSW takes each query by itself. Other indexes may hand a batch to BLAS, which rounds by batch: one query a call
    # has one way through the code.
    nq = max(1, len(floats))
    step = nq if isinstance(inner, faiss.IndexHNSW) else 1
    I = np.concatenate([inner.search(floats[i : i + step], m)[1] for i in range(0, nq, step)])
    if I.size and not (I.min() >= -1 and I.max() < index.n):  # of a factory that gives rows ids of their own
        raise KnnvoteError(
            f"{index.path} finds rows that it does not have: build it again with another {param('factory')}"
        )
    return I

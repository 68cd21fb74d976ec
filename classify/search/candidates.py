"""What the index of an approximate kind proposes for a query: rows whose distances are then settled."""

import faiss
import numpy as np
from numpy.typing import NDArray

from knnvote.indexer.index import Index
from knnvote.indexer.manifest import ProposingSettings
from knnvote.indexer.metric import METRICS
from knnvote.indexer.rungs import Rung


def project(index: Index, xq: NDArray[np.generic]) -> NDArray[np.float32]:
    """Queries (nq, d) as the inverted file of an index takes them, (nq, p)."""
    return index.ivf[1](METRICS[index.metric].projectable(xq))


def probe(
    index: Index, projected: NDArray[np.float32], m: int, nprobe: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The m nearest by their projections in the nprobe nearest lists, nearest first.

    Returns:
        D (nq, m): squared distances of the projections, infinite for none. I (nq, m): rows; -1 for none.
    """
    D, I = index.ivf[0].search(projected, m, params=faiss.SearchParametersIVF(nprobe=nprobe))
    return D, I


def propose_by(index: Index, xq: NDArray[np.generic], rung: Rung, k: int) -> NDArray[np.int64]:
    """What a rung of an adaptive index finds for each query: (nq, m) rows, m at least k; -1 for none."""
    nprobe = rung.nprobe or index.ivf[0].nlist
    return probe(index, project(index, xq), rung.candidates(k, index.n), nprobe)[1]


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
    return np.concatenate([inner.search(floats[i : i + step], m)[1] for i in range(0, nq, step)])

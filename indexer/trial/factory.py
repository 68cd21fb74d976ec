"""A stranger's factory string tried, in a process that may end of it: ``python -m knnvote.indexer.trial.factory``.

Floats come by one file and the index leaves by another.
"""

from pathlib import Path

import numpy as np

from knnvote.data.errors import KnnvoteError
from knnvote.indexer.apart import answer
from knnvote.indexer.faiss_index import faiss_reason, fill_index, read_faiss, write_faiss
from knnvote.indexer.threads import limit_threads

_TRIED = 5  # of the first vectors, each with up to so many neighbours


def build(floats_path: str, index_path: str, factory: str, metric_type: str, threads: str) -> None:
    """Build the index, write it, read it back, and search it: some can be built and not read, or not searched.

    Raises:
        KnnvoteError: with FAISS's reason.
    """
    floats = np.load(floats_path, mmap_mode="r", allow_pickle=False)
    try:
        with limit_threads(int(threads)):
            index = fill_index(floats, factory, int(metric_type))
            write_faiss(index, Path(index_path))
            del index
            opened = read_faiss(Path(index_path))
            for row in range(min(_TRIED, len(floats))):
                opened.search(floats[row : row + 1], min(_TRIED, len(floats)))
    except (RuntimeError, AssertionError, TypeError) as error:  # FAISS's own, and those of its Python classes
        raise KnnvoteError(faiss_reason(error)) from error


if __name__ == "__main__":
    answer(build)

"""The contenders: each stores images in its own index, searches test images in it and votes."""

import pickle
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.vote import Rule, vote
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.names import Kind, MetricName

from .problem import Neighbors

BATCH = 4096  # test images a call
_M, _EF_CONSTRUCTION = 16, 200


class Contender(ABC):
    """An index of stored images.

    Args of making one:
        x: (n, d) stored images.
        codes: (n,) int32 class of each.
        k: neighbours that vote.
        setting: the one to build for.
        folder: for files.
    """

    dtype: type | None = np.float32  # of the test images; None for that of the stored ones

    @abstractmethod
    def __init__(self, x: NDArray[Any], codes: NDArray[np.int32], k: int, setting: float | None, folder: Path) -> None:
        """Build."""

    def configure(self, setting: float | None) -> None:  # noqa: B027  # most have but one setting
        """Search by another setting from now on."""

    @abstractmethod
    def answer(self, xq: NDArray[Any]) -> Neighbors:
        """Search, final distances and vote for test images (nq, d)."""

    @abstractmethod
    def saved_bytes(self) -> int:
        """Size of the index as written to a file."""


class _PlainVote(Contender):
    """A library's search in float32, and a plain vote over what it finds."""

    def __init__(self, x: NDArray[Any], codes: NDArray[np.int32], k: int, setting: float | None, folder: Path) -> None:  # noqa: ARG002  # as for all contenders
        self._codes, self._k = codes, k
        self._index = self.build(np.ascontiguousarray(x, dtype=np.float32))
        self.configure(setting)

    @abstractmethod
    def build(self, x: NDArray[np.float32]) -> Any:
        """The library's own index of x (n, d)."""

    @abstractmethod
    def search(self, xq: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        """D (nq, k) Euclidean distances, not squared, and I (nq, k)."""

    def answer(self, xq: NDArray[Any]) -> Neighbors:
        D, I = self.search(xq)
        codes, _ = vote(self._codes[I], D.astype(np.float64), Rule(k=self._k))
        return Neighbors(codes, I.astype(np.int64))

    def saved_bytes(self) -> int:
        counter = _Counter()
        pickle.dump(self._index, counter, protocol=5)
        return counter.bytes


class _Counter:
    """A file that only counts what is written."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.bytes += size
        return size


class FlatL2(_PlainVote):
    """FAISS's brute force."""

    def build(self, x: NDArray[np.float32]) -> Any:
        index = faiss.IndexFlatL2(x.shape[1])
        index.add(x)
        return index

    def search(self, xq: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        D, I = self._index.search(xq, self._k)
        return _root(D), I

    def saved_bytes(self) -> int:
        counter = _Counter()
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(counter.write))
        return counter.bytes


class FaissHnsw(FlatL2):
    """FAISS's HNSW; the setting is efSearch."""

    def build(self, x: NDArray[np.float32]) -> Any:
        index = faiss.IndexHNSWFlat(x.shape[1], _M)
        index.hnsw.efConstruction = _EF_CONSTRUCTION
        index.add(x)
        return index

    def configure(self, setting: float | None) -> None:
        self._index.hnsw.efSearch = max(self._k, int(setting or 0))


class ScikitLearn(_PlainVote):
    """scikit-learn's NearestNeighbors with one of its algorithms."""

    def __init__(self, *stored: Any, algorithm: str) -> None:
        """Build with an algorithm: `stored` is what every contender takes."""
        self._algorithm = algorithm
        super().__init__(*stored)

    def build(self, x: NDArray[np.float32]) -> Any:
        from sklearn.neighbors import NearestNeighbors

        return NearestNeighbors(n_neighbors=self._k, algorithm=self._algorithm, n_jobs=1).fit(x)

    def search(self, xq: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        D, I = self._index.kneighbors(xq)
        return D, I


class ScikitLearnIntelex(ScikitLearn):
    """The same of the Extension for Scikit-learn."""

    def build(self, x: NDArray[np.float32]) -> Any:
        from sklearnex.neighbors import NearestNeighbors

        return NearestNeighbors(n_neighbors=self._k, algorithm=self._algorithm, n_jobs=1).fit(x)


class Hnswlib(_PlainVote):
    """hnswlib; the setting is ef."""

    def build(self, x: NDArray[np.float32]) -> Any:
        import hnswlib

        index = hnswlib.Index(space="l2", dim=x.shape[1])
        index.init_index(max_elements=len(x), ef_construction=_EF_CONSTRUCTION, M=_M, random_seed=0)
        index.set_num_threads(1)
        index.add_items(x)
        return index

    def configure(self, setting: float | None) -> None:
        self._index.set_ef(max(self._k, int(setting or 0)))

    def search(self, xq: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        I, D = self._index.knn_query(xq, self._k)
        return _root(D), I

    def saved_bytes(self) -> int:
        return int(self._index.index_file_size())


class Usearch(_PlainVote):
    """USearch; the setting is expansion_search."""

    def build(self, x: NDArray[np.float32]) -> Any:
        from usearch.index import Index

        index = Index(ndim=x.shape[1], metric="l2sq", dtype="f32", connectivity=_M, expansion_add=_EF_CONSTRUCTION)
        index.add(np.arange(len(x)), x, threads=1)
        return index

    def configure(self, setting: float | None) -> None:
        self._index.expansion_search = max(self._k, int(setting or 0))

    def search(self, xq: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        found = self._index.search(xq, self._k, threads=1)
        return _root(np.atleast_2d(found.distances)), np.atleast_2d(found.keys)

    def saved_bytes(self) -> int:
        return int(self._index.serialized_length)


class PyNNDescent(_PlainVote):
    """PyNNDescent; the setting is epsilon."""

    def build(self, x: NDArray[np.float32]) -> Any:
        from pynndescent import NNDescent

        index = NNDescent(x, n_neighbors=min(30, len(x) - 1), random_state=0, n_jobs=1)
        index.prepare()
        return index

    def configure(self, setting: float | None) -> None:
        self._epsilon = setting

    def search(self, xq: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        I, D = self._index.query(xq, k=self._k, epsilon=self._epsilon)
        return D, I


class Knnvote(Contender):
    """Ours; the setting of an adaptive index is the agreement that it is tuned for."""

    dtype = None

    def __init__(
        self,
        x: NDArray[Any],
        codes: NDArray[np.int32],
        k: int,
        setting: float | None,
        folder: Path,
        *,
        kind: Kind,
        metric: MetricName = "l2",
    ) -> None:
        """Build an index folder of a kind, tuned if there is a setting."""
        options = IndexOptions(kind=kind, metric=metric, threads=1, overwrite=True)
        tune = None if setting is None else Tuning(k=k, target_agreement=setting)
        index_arrays(x, codes, folder / "knn", options=options, tune=tune)
        self._classifier = Classifier.open(folder / "knn", Rule(k=k))

    def answer(self, xq: NDArray[Any]) -> Neighbors:
        answer = self._classifier.answer(xq, {})
        return Neighbors(answer.prediction.to_numpy(zero_copy_only=False).astype(np.int32), answer.I)

    def saved_bytes(self) -> int:
        return self._classifier.index.manifest.folder_bytes


def _root(D: NDArray[Any]) -> NDArray[Any]:
    """Distances from squared ones, which rounding may have made negative."""
    roots: NDArray[Any] = np.sqrt(np.maximum(D, 0))
    return roots


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A contender as it is measured.

    Attributes:
        make: builds it; as `Contender`.
        package: that it needs beside what knnvote needs.
        setting: what its settings are called.
        settings: that it is measured at; None for the only one.
        growth: the setting that it grows with.
        is_built_for_setting: each setting takes an index of its own.
        least: test images of a timed call: a full batch, where the speed depends on it.
        is_for_length_1: it takes part where it is named, as for vectors of length 1 alone it has l2's neighbours.
    """

    make: Any
    package: str | None = None
    setting: str = ""
    settings: tuple[float | None, ...] = (None,)
    growth: float | None = None
    is_built_for_setting: bool = False
    least: int = 1
    is_for_length_1: bool = False

    @property
    def is_installed(self) -> bool:
        """Its package can be imported from here."""
        return self.package is None or package_version(self.package) is not None

    def named(self, setting: float | None) -> str:
        """A setting for people."""
        return "" if setting is None else f"{self.setting} {setting:g}"


def package_version(package: str) -> str | None:
    """The version of an installed package; None for one that is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


FLAT = "IndexFlatL2"
_EFS = (20, 40, 80, 160)
_FULL = 1024
CONTENDERS = {
    FLAT: Entry(make=FlatL2, least=_FULL),
    "brute": Entry(make=partial(ScikitLearn, algorithm="brute"), least=_FULL),
    "kd_tree": Entry(make=partial(ScikitLearn, algorithm="kd_tree")),
    "ball_tree": Entry(make=partial(ScikitLearn, algorithm="ball_tree")),
    "sklearnex": Entry(
        make=partial(ScikitLearnIntelex, algorithm="brute"), package="scikit-learn-intelex", least=_FULL
    ),
    "hnswlib": Entry(make=Hnswlib, package="hnswlib", setting="ef", settings=_EFS, growth=80),
    "usearch": Entry(make=Usearch, package="usearch", setting="ef", settings=_EFS, growth=80),
    "pynndescent": Entry(
        make=PyNNDescent, package="pynndescent", setting="epsilon", settings=(0.1, 0.2, 0.3, 0.4), growth=0.2
    ),
    "faiss-hnsw": Entry(make=FaissHnsw, setting="efSearch", settings=_EFS, growth=80),
    "knnvote-exact": Entry(make=partial(Knnvote, kind="exact"), least=_FULL),
    "knnvote-exact-cosine": Entry(
        make=partial(Knnvote, kind="exact", metric="cosine"), least=_FULL, is_for_length_1=True
    ),
    "knnvote-adaptive": Entry(
        make=partial(Knnvote, kind="adaptive"),
        setting="target",
        settings=(0.99, 0.999, 0.9995),
        growth=0.999,
        is_built_for_setting=True,
        least=_FULL,
    ),
}

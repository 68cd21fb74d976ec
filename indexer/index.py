"""An index that searches: stored vectors with their labels, and what makes looking through them fast."""

from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.data.containers.images import is_image_name
from knnvote.data.errors import KnnvoteError, check
from knnvote.data.layout import is_picture, show_shape
from knnvote.data.steps.chain import Steps
from knnvote.data.vectors import Numbers, Reasons

from .building.provenance import ARRAY
from .codes.inverted_file import InvertedFile, training_rows
from .faiss_index import held_vectors, holds
from .groups.record import GROUP, number_groups
from .manifest import AdaptiveSettings, Manifest
from .metric import METRICS
from .names import ClassWeight, Kind, MetricName
from .records.kept import stored_as
from .records.weights import WEIGHT, rounded, scaled
from .rungs import EXACT, Rung, Tuned, VoteDefaults, class_weight_of_classes
from .shown.stored import index_html

_LEAST_CANDIDATES = 64


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds that each step of a build took."""

    read_seconds: float
    build_seconds: float
    tune_seconds: float

    def to_json(self) -> dict[str, float]:
        """As it stands in its file."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Index:
    """Stored vectors with their labels, in memory or opened from a folder.

    Attributes:
        path: the folder, or what messages call it.
        manifest: everything that is known of it.
        faiss_index: that is searched or holds the vectors, mapped if it was opened; None where codes are searched.
        vectors: (n, d) the stored vectors in their own type, mapped if they were opened.
        labels: (n,) Arrow array of labels in their own type.
        rows: columns label, id, file and row of each vector, group and weight where its images have such, and what
            is kept, as a table or as a Parquet file that is read when asked.
        inverted_file: codes of the stored vectors, by which it is searched; None where it is searched without.
        steps: what makes vectors of images, of the stored ones as of queries.
        stored_images: (n, pixels) of which steps made the vectors, mapped likewise; None where these are the images.
        written: when its folder was last written, in UTC; None while it is in memory alone, or where that is not known.

    Example:
        >>> from knnvote import open_index
        >>> index = open_index("digits.knn")
        >>> index.n, index.d, index.shape, index.kind
        (1347, 64, (8, 8), 'exact')
        >>> index.vectors.dtype, index.labels[:3].to_pylist(), index.ids[0].as_py()
        (dtype('uint8'), [2, 8, 9], 'train.parquet#0')
        >>> index
        <Index digits.knn: 1,347 images of 8 x 8, uint8, 10 classes, exact search by l2>
    """

    path: Path
    manifest: Manifest
    faiss_index: Any
    vectors: NDArray[np.generic]
    labels: pa.Array
    rows: Any
    inverted_file: InvertedFile | None
    steps: Steps = field(default_factory=Steps)
    stored_images: NDArray[np.generic] | None = None
    written: datetime | None = None

    def __repr__(self) -> str:
        """What it stores, and how it is searched."""
        labels = "a number each" if self.is_regression else f"{len(self.manifest.classes):,} classes"
        images = f"{self.n:,} images of {show_shape(self.shape)}, {self.images.dtype}"
        steps = f", steps {self.steps}" if self.steps else ""
        return f"<Index {self.path}: {images}{steps}, {labels}, {self.kind} search by {self.metric}>"

    def _repr_html_(self) -> str:
        """The same for a notebook, with what it promises and some of its images."""
        return index_html(f"Index {self.path}", self.manifest, self.labels, self.images)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without what it computed from the rest, and with its vectors once."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return _restored, ({**values, "vectors": None} if holds(self.faiss_index, self.vectors) else values,)

    def __copy__(self) -> Self:
        """Itself: nothing of it changes."""
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        """Itself, likewise."""
        return self

    @property
    def n(self) -> int:
        """Stored vectors."""
        return self.manifest.n

    @property
    def d(self) -> int:
        """Dimensions."""
        return self.manifest.d

    @property
    def kind(self) -> Kind:
        """``exact``, ``adaptive``, ``hnsw`` or ``factory``."""
        return self.manifest.kind

    @property
    def metric(self) -> MetricName:
        """``l2``, ``cosine`` or ``l1``."""
        return self.manifest.metric

    @property
    def is_regression(self) -> bool:
        """Labels are numbers to be averaged, not classes."""
        return self.manifest.is_regression

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        return self.manifest.shape

    @property
    def images(self) -> NDArray[np.generic]:
        """(n, pixels) the stored images, in their own type."""
        return self.vectors if self.stored_images is None else self.stored_images

    @property
    def image_range(self) -> tuple[float, float]:
        """The least and the greatest number of the stored images."""
        return self.manifest.image_range

    def queries(self, images: Numbers) -> tuple[Numbers, Reasons]:
        """Images as they are compared with stored vectors.

        Args:
            images: (nq, pixels) as `convert_queries` gives them for the type of the stored images.

        Returns:
            (nq, d) queries, and the reason for each row that steps make none of.
        """
        xq, bad = self.steps(images, self.shape)
        return (xq if xq.dtype.kind == "u" or not self.steps else xq.astype(np.float64)), bad

    def picture(self, row: int, shape: tuple[int, ...] | None = None) -> NDArray[np.generic] | None:
        """The image (height, width), or (height, width, 3), that is stored in a row.

        Args:
            row: of the index.
            shape: of the image, where it is not that of the index's images but of as many pixels.

        Returns:
            A view of what is stored; None where it is no picture.
        """
        shape = self.shape if shape is None else shape
        return self.images[row].reshape(shape) if is_picture(shape) else None

    @property
    def has_pictures(self) -> bool:
        """Whether its images are pictures."""
        return self.manifest.has_pictures

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that can shape an answer; an index built again from the same input has the same.

        Raises:
            KnnvoteError: it is in memory alone.
        """
        if not self.manifest.files:
            raise KnnvoteError(f"{self.path} is in memory alone: write it to a folder first")
        return self.manifest.fingerprint

    @property
    def ivf(self) -> InvertedFile:
        """The inverted file of an index that has one."""
        if self.inverted_file is None:
            raise TypeError(f"{self.path} has no inverted file")
        return self.inverted_file

    @property
    def fitted_rows(self) -> NDArray[np.int64]:
        """Rows that axes and centroids of an adaptive index were fitted to; the others are as new to it as a query."""
        fitted = self.ivf.fitted
        return training_rows(self.n, self.manifest.seed) if fitted is None else fitted

    @property
    def vote(self) -> VoteDefaults:
        """The vote that it was made for, else the usual one."""
        return self.own_vote or VoteDefaults()

    @cached_property
    def own_vote(self) -> VoteDefaults | None:
        """The vote that it was made for, as is recorded or was tuned for; None where nothing was said.

        Weights and confidences of classes that no stored image has, which earlier versions kept, are left out.
        """
        vote, tuned = self.manifest.vote, self.tuned
        if vote is not None:
            return vote if self.is_regression else vote.of_classes(frozenset(self.manifest.classes))
        if tuned is None:
            return None
        return VoteDefaults(k=tuned.k, weights=tuned.weights, ties=tuned.ties, class_weight=tuned.class_weight)

    @cached_property
    def tuned(self) -> Tuned | None:
        """What tuning found for an adaptive index that was tuned, with class weights as `own_vote` has them."""
        search = self.manifest.search
        if not isinstance(search, AdaptiveSettings) or search.tuned is None:
            return None
        found, classes = search.tuned, frozenset(self.manifest.classes)
        return replace(found, class_weight=class_weight_of_classes(found.class_weight, classes))

    def careful(self, k: int) -> Rung:
        """The rung that searches an adaptive index for k neighbours where no others were tuned.

        Exact search, if tuning found that nothing else does; otherwise the most careful one, with candidates to spare
        however few neighbours are wanted.
        """
        search = self.manifest.search
        if not isinstance(search, AdaptiveSettings):
            raise TypeError(f"{self.path} is not searched in rungs")
        if search.tuned is not None and search.tuned.label.ladder == (EXACT,):
            return EXACT
        least = max(search.careful.candidates_per_neighbor or 1, -(-_LEAST_CANDIDATES // k))
        return replace(search.careful, candidates_per_neighbor=least)

    @cached_property
    def tree(self) -> Any:
        """A k-d tree of the stored vectors in the metric's space, for few dimensions, as SciPy has it."""
        from scipy.spatial import KDTree  # noqa: PLC0415  # its import takes longer than most commands

        # Split in the middle of space, not at the median: of many equal vectors that has an end.
        return KDTree(METRICS[self.metric].space(self.vectors), balanced_tree=False, compact_nodes=False)

    @cached_property
    def classes(self) -> pa.Array:
        """The distinct labels, sorted; empty for regression."""
        return pa.array(self.manifest.classes, self.labels.type)

    @cached_property
    def class_codes(self) -> NDArray[np.int32]:
        """(n,) each row's place in `classes`."""
        codes = self.labels.dictionary_encode()
        order = {value: place for place, value in enumerate(self.manifest.classes)}
        places = np.array([order[value.as_py()] for value in codes.dictionary], dtype=np.int32)
        result: NDArray[np.int32] = places[codes.indices.to_numpy(zero_copy_only=False)]
        return result

    def class_weights(self, class_weight: ClassWeight) -> NDArray[np.float64] | None:
        """What each class's votes are multiplied by (classes,), at most 1; None where classes have no weights.

        Balanced weights are n / (classes * rows of the class), as scikit-learn's ``compute_class_weight`` has them;
        where images have weights, their sums are taken in place of rows. All are scaled as `scaled` does.
        """
        if class_weight is None:
            return None
        if class_weight not in self._class_weights:
            classes = self.manifest.classes
            if class_weight == "balanced":
                counts = np.bincount(self.class_codes, self.sample_weight, minlength=len(classes))
                weights = counts.sum() / (len(classes) * counts)
            else:
                given = dict(class_weight)
                weights = np.array([given.get(label, 1) for label in classes], np.float64)
            self._class_weights[class_weight] = scaled(weights)
        return self._class_weights[class_weight]

    @cached_property
    def _class_weights(self) -> dict[ClassWeight, NDArray[np.float64]]:
        """Those that were asked for."""
        return {}

    @cached_property
    def sample_weight(self) -> NDArray[np.float64] | None:
        """(n,) what the vote of each stored image is multiplied by; None where all count the same."""
        if self.manifest.sample_weight is None:
            return None
        weights: NDArray[np.float64] = self.provenance(WEIGHT)[WEIGHT].to_numpy()
        return weights

    @cached_property
    def _scaled_weight(self) -> NDArray[np.float64] | None:
        return None if self.sample_weight is None else scaled(self.sample_weight)

    def vote_factors(self, class_weight: ClassWeight, I: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """What the votes of neighbours I (nq, k) are multiplied by: the weight of the class, and the image's own.

        None where all count the same.
        """
        of_class, of_image = self.class_weights(class_weight), self._scaled_weight
        if of_class is None:
            return None if of_image is None else of_image[I]
        factors: NDArray[np.float64] = of_class[self.class_codes[I]]
        return factors if of_image is None else rounded(factors * of_image[I])

    @cached_property
    def targets(self) -> NDArray[np.float64]:
        """(n,) labels of a regression as float64."""
        values: NDArray[np.float64] = self.labels.to_numpy(zero_copy_only=False).astype(np.float64)
        return values

    @cached_property
    def ids(self) -> pa.Array:
        """(n,) each row's id, a string."""
        return self.provenance("id")["id"].combine_chunks()

    @cached_property
    def groups(self) -> NDArray[np.int64] | None:
        """(n,) a number for each row's group, from 0, which images of one group share; None without groups."""
        return None if self.manifest.groups is None else number_groups(self.provenance(GROUP)[GROUP])

    @property
    def columns(self) -> tuple[str, ...]:
        """What `provenance` has of each vector."""
        groups = () if self.manifest.groups is None else (GROUP,)
        weights = () if self.manifest.sample_weight is None else (WEIGHT,)
        return (*PROVENANCE, *groups, *weights, *map(stored_as, self.manifest.keep))

    @cached_property
    def kept(self) -> pa.Table | None:
        """(n rows) the columns that are kept for people to read, as strings by their own names; None where none are."""
        keep = self.manifest.keep
        return self.provenance(*map(stored_as, keep)).rename_columns([*keep]) if keep else None

    def provenance(self, *columns: str) -> pa.Table:
        """Some of `columns`, which are label, id, file, row and what else is known of each vector; all if none."""
        columns = columns or self.columns
        return self.rows.select(columns) if isinstance(self.rows, pa.Table) else self.rows.read([*columns])

    def places(self, rows: NDArray[np.int64]) -> pa.Table:
        """Where stored images (m,) came from: columns file and row, from 0, of which an image file has one.

        What was read is stored by the name of what is made of it; ids of files of images and of tar files tell it.
        """
        held = self.provenance("id", "file", "row").take(pa.array(rows)).combine_chunks()
        if self.manifest.id_column is not None:
            return held.select(["file", "row"])
        is_array = pc.equal(held["file"], ARRAY)
        ids = pc.if_else(is_array, pa.scalar(None, pa.string()), held["id"]).combine_chunks()  # which tell no file
        is_image = pa.array([name is not None and is_image_name(name) for name in ids.to_pylist()], pa.bool_())
        shard = pc.struct_field(pc.extract_regex(ids, r"^(?P<file>.*?\.tar)#"), "file")
        file = pc.coalesce(shard, pc.if_else(is_image, ids, held["file"].combine_chunks()))
        return pa.table({"file": file, "row": pc.if_else(is_image, 0, held["row"].combine_chunks())})


def _restored(values: dict[str, Any]) -> Index:
    """The index that was pickled as these values of its fields."""
    if values["vectors"] is None:
        values["vectors"] = held_vectors(values["faiss_index"], np.dtype(values["manifest"].dtype))
    return Index(**values)


PROVENANCE = ("label", "id", "file", "row")


def in_memory(index: Index) -> Index:
    """The same index known to no folder: it is pickled with all that it holds, and written anew."""
    manifest = replace(index.manifest, generation=0, files={}, checksum="")
    values = {field.name: getattr(index, field.name) for field in fields(Index)}
    return Index(**{**values, "manifest": manifest, "rows": index.provenance()})


def check_index(index: object, name: str = "index") -> None:
    """Refuse what is no opened index, such as its path.

    Args:
        index: what was given.
        name: of the parameter.

    Raises:
        OptionError: it is none.
    """
    call = f"open_index({str(index)!r})" if isinstance(index, str | PurePath) else "open_index(path)"
    check(name, index, isinstance(index, Index), f"give an opened index, as {call} gives it")

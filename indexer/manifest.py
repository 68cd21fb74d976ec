"""The manifest of an index folder: everything that is known of an index, as a record and as JSON."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from knnvote.data.codecs.names import Background
from knnvote.data.errors import KnnvoteError
from knnvote.data.layout import is_picture
from knnvote.data.locations import Location, locate

from .fields import wrong_fields
from .groups.record import Groups
from .leftovers import refuse_unfinished
from .names import Kind, MetricName
from .records.earlier import build_again
from .records.growth import Growth
from .records.weights import SampleWeight
from .rungs import Rung, Tuned, VoteDefaults
from .sealed import read_sealed

# An entry or a kind of file more or less is another format: 3 has vectors in a raw file beside codes, which 2 has not,
# and is read; 1 had other bounds, and is read where an index has none.
FORMAT = 3
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file that images came from.

    Attributes:
        path: relative to the argument that named it.
        size: bytes.
        sha256: of its content; None for a file on an object store.
        etag: the tag of its store; None for a file on a disk.
        dtype: that its own images need; None for a file without a row.
    """

    path: str
    size: int
    sha256: str | None = None
    etag: str | None = None
    dtype: str | None = None

    @property
    def mark(self) -> str | None:
        """What tells its content from any other."""
        return self.sha256 if self.sha256 is not None else self.etag

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest, with the mark that it has."""
        marks = {name: value for name, value in (("sha256", self.sha256), ("etag", self.etag)) if value is not None}
        return {"path": self.path, "size": self.size, **marks, "dtype": self.dtype}


@dataclass(frozen=True)
class ScanSettings:
    """Of exact search.

    Attributes:
        grid: the unit of the projection that gives bounds of distances; None where every stored vector is scanned.
    """

    grid: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        return {} if self.grid is None else {"grid": self.grid}


@dataclass(frozen=True)
class AdaptiveSettings:
    """Of search in rungs.

    Attributes:
        grid: the unit of the projection that leads to the inverted file.
        careful: the rung that searches where none were tuned.
        tuned: what tuning found; None where it was not done.
    """

    grid: float
    careful: Rung
    tuned: Tuned | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        tuned = None if self.tuned is None else self.tuned.to_json()
        return {"grid": self.grid, "careful": self.careful.to_json(), "tuned": tuned}


@dataclass(frozen=True)
class ProposingSettings:
    """Of a FAISS index that proposes candidates, whose distances are then settled.

    Attributes:
        candidates_per_neighbor: that it is asked for.
        is_centred: whether the vectors were centred first.
    """

    candidates_per_neighbor: int
    is_centred: bool

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        return asdict(self)


SearchSettings = ScanSettings | AdaptiveSettings | ProposingSettings


@dataclass(frozen=True)
class StoredFile:
    """A file of an index folder: its name there, its bytes, and the SHA-256 of its content."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that is known of an index.

    Attributes:
        kind: ``exact``, ``adaptive``, ``hnsw`` or ``factory``.
        factory: its FAISS factory string, as far as one can describe it; "" without a FAISS index.
        metric: ``l2``, ``cosine`` or ``l1``.
        n: stored vectors.
        d: dimensions.
        shape: of one image.
        dtype: of the stored vectors.
        range: the least and the greatest stored number.
        steps: between an image and its vector, as text; ``pixels`` for none.
        grayscale: the formula by which colour images were converted; None where they were not.
        background: on which transparent pixels were laid; None where they were refused.
        is_regression: labels are numbers to be averaged, not classes.
        classes: the distinct labels, sorted; none for regression.
        class_names: names that a Hugging Face data set gives its integer classes.
        label_type: Arrow's name of it.
        image_column: where the first file held its images; None for arrays.
        label_column: where it held the labels; None for arrays.
        id_column: where ids were looked for; None where they are ``file#row``.
        sources: files that images came from.
        skipped: rows left out as bad.
        search: settings of its search.
        seed: of everything random.
        data_sha256: of what is stored, whatever the kind: indexes that share it can share exact results.
        versions: of the libraries that shape its answers.
        generation: of the files in its folder; 0 while it is in memory alone.
        files: of its folder, by role; none while it is in memory alone.
        checksum: of the manifest as it was read; "" while it is in memory alone.
        feature_names: of each value of a vector, where it came from a table with a column a value; None elsewhere.
        estimator: parameters by which the estimator that saved it answered, where they are not those that an estimator
            has that is opened without them.
        vote: that it was made for, where its tuning does not say the same; None where it does, or nothing was said.
        images: where steps make vectors of them, ``dtype`` and ``range`` of the stored images.
        part: ``limit`` or ``sample`` with the rows that were taken, where the index was built of a part of its sources.
        groups: of its images; None where none were named.
        growth: what came and went since it was built; None where nothing did, or where each change builds it again.
        sample_weight: of images that have each a weight of its vote; None where all count the same.
        keep: columns of its sources that are stored for people to read.
        relabelled_from: fingerprints of what it was, the last of all, since when labels alone have changed.
        format: of its folder.
    """

    kind: Kind
    factory: str
    metric: MetricName
    n: int
    d: int
    shape: tuple[int, ...]
    dtype: str
    range: tuple[float, float]
    steps: str
    grayscale: str | None
    background: Background | None
    is_regression: bool
    classes: tuple[Any, ...]
    class_names: list[str] | None
    label_type: str
    image_column: str | None
    label_column: str | None
    id_column: str | None
    sources: tuple[Source, ...]
    skipped: int
    search: SearchSettings
    seed: int
    data_sha256: str
    versions: dict[str, str]
    generation: int = 0
    files: dict[str, StoredFile] = field(default_factory=dict)
    checksum: str = ""
    feature_names: tuple[str, ...] | None = None
    estimator: dict[str, Any] = field(default_factory=dict)
    vote: VoteDefaults | None = None
    images: dict[str, Any] = field(default_factory=dict)
    part: dict[str, int] = field(default_factory=dict)
    groups: Groups | None = None
    growth: Growth | None = None
    sample_weight: SampleWeight | None = None
    keep: tuple[str, ...] = ()
    relabelled_from: tuple[str, ...] = ()
    format: int = FORMAT

    @property
    def task(self) -> str:
        """``classification`` or ``regression``."""
        return "regression" if self.is_regression else "classification"

    @property
    def has_pictures(self) -> bool:
        """Whether its images are pictures."""
        return is_picture(self.shape)

    @property
    def image_range(self) -> tuple[float, float]:
        """The least and the greatest number of the stored images."""
        low, high = self.images.get("range", self.range)
        return low, high

    @property
    def group_column(self) -> str | None:
        """Where groups were looked for; None where there are none, and for arrays."""
        return None if self.groups is None else self.groups.column

    @property
    def weight_column(self) -> str | None:
        """Where weights of images were found; None where there are none, and for arrays."""
        return None if self.sample_weight is None else self.sample_weight.column

    @property
    def other_columns(self) -> tuple[str | None, ...]:
        """The columns that held what is known of images beside themselves."""
        return self.label_column, self.id_column, self.group_column, self.weight_column, *self.keep

    @property
    def folder_bytes(self) -> int:
        """Bytes of the files of its folder."""
        return sum(file.size for file in self.files.values())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all but what says when, after what and as which generation the folder was written."""
        files = {role: file.sha256 for role, file in self.files.items()}
        return hashlib.sha256(json.dumps([{"format": self.format, **self._facts()}, files]).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """What is written to a folder: all but the checksum."""
        files = {role: asdict(file) for role, file in self.files.items()}
        before = {"relabelled_from": list(self.relabelled_from)} if self.relabelled_from else {}
        return {"format": self.format, "generation": self.generation, **self._facts(), "files": files, **before}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Manifest":
        """What `to_json` gave, with its checksum.

        Raises:
            ValueError: naming the entries that are missing or unusable.
        """
        wrong = wrong_fields(record)
        if wrong:
            raise ValueError(", ".join(wrong))
        facts = {name: record[name] for name in _AS_THEY_STAND}
        return cls(
            **facts,
            shape=tuple(record["shape"]),
            range=tuple(record["range"]),
            steps=record["vector"]["step"],
            grayscale=record["vector"]["grayscale"],
            background=record["vector"].get("background"),
            is_regression=record["task"] == "regression",
            classes=tuple(record["classes"]),
            sources=tuple(Source(**source) for source in record["sources"]),
            search=search_from_json(record["kind"], record["search"]),
            files={role: StoredFile(**entry) for role, entry in record["files"].items()},
            feature_names=tuple(record["feature_names"]) if "feature_names" in record else None,
            estimator=record.get("estimator", {}),
            vote=VoteDefaults.from_json(record["vote"]) if "vote" in record else None,
            images=record.get("images", {}),
            part=record.get("part", {}),
            groups=Groups(**record["groups"]) if "groups" in record else None,
            growth=Growth(**record["growth"]) if "growth" in record else None,
            sample_weight=SampleWeight(**record["sample_weight"]) if "sample_weight" in record else None,
            keep=tuple(record.get("keep", ())),
            relabelled_from=tuple(record.get("relabelled_from", ())),
        )

    def _facts(self) -> dict[str, Any]:
        """What lasts through generations, in the order in which it is written."""
        return {
            "kind": self.kind,
            "factory": self.factory,
            "metric": self.metric,
            "n": self.n,
            "d": self.d,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "range": list(self.range),
            "vector": {
                "step": self.steps,
                "grayscale": self.grayscale,
                **({} if self.background is None else {"background": self.background}),
            },
            "task": self.task,
            "classes": list(self.classes),
            "class_names": self.class_names,
            "label_type": self.label_type,
            "image_column": self.image_column,
            "label_column": self.label_column,
            "id_column": self.id_column,
            "sources": [source.to_json() for source in self.sources],
            "skipped": self.skipped,
            "search": self.search.to_json(),
            "seed": self.seed,
            "data_sha256": self.data_sha256,
            "versions": self.versions,
            **({} if self.feature_names is None else {"feature_names": list(self.feature_names)}),
            **({"estimator": self.estimator} if self.estimator else {}),
            **({} if self.vote is None else {"vote": self.vote.to_json()}),
            **({"images": self.images} if self.images else {}),
            **({"part": self.part} if self.part else {}),
            **({} if self.groups is None else {"groups": asdict(self.groups)}),
            **({} if self.growth is None else {"growth": asdict(self.growth)}),
            **({} if self.sample_weight is None else {"sample_weight": asdict(self.sample_weight)}),
            **({"keep": list(self.keep)} if self.keep else {}),
        }


# Entries of the JSON that are attributes of the same name and form.
_AS_THEY_STAND = (
    *("kind", "factory", "metric", "n", "d", "dtype", "class_names", "label_type"),
    *("image_column", "label_column", "id_column", "skipped", "seed", "data_sha256", "versions"),
    *("format", "generation", "checksum"),
)


def search_from_json(kind: str, record: dict[str, Any]) -> SearchSettings:
    """What the settings of an index of a kind gave with `to_json`."""
    if kind == "exact":
        return ScanSettings(record.get("grid"))
    if kind == "adaptive":
        tuned = None if record["tuned"] is None else Tuned.from_json(record["tuned"])
        return AdaptiveSettings(record["grid"], Rung.from_json(record["careful"]), tuned)
    return ProposingSettings(record["candidates_per_neighbor"], record["is_centred"])


def is_index_folder(path: Path | Location) -> bool:
    """Whether there is a manifest at path."""
    return (locate(path) / MANIFEST).is_file


def read_manifest(path: Path | Location) -> Manifest:
    """The manifest of an index folder, checked against its own checksum.

    Raises:
        KnnvoteError: there is none, the build is unfinished, it is of a newer format, or it was changed.
    """
    folder = locate(path)
    if not is_index_folder(folder):
        refuse_unfinished(path)
        if folder.is_folder or folder.is_file:
            raise KnnvoteError(f"{path} is not an index folder: it has no {MANIFEST}; give one that knnvote index made")
        raise KnnvoteError(f"{path} does not exist: give an index folder that knnvote index made")
    record = read_sealed(folder / MANIFEST)
    if type(record.get("format")) is int and record["format"] > FORMAT:
        raise KnnvoteError(
            f"{path} has index format {record['format']}, and this knnvote reads up to {FORMAT}: "
            "upgrade with pip install --upgrade knnvote"
        )
    if record.get("format") == 1 and isinstance(record.get("search"), dict) and "grid" in record["search"]:
        raise KnnvoteError(f"{path} has index format 1, of an earlier knnvote: {build_again(path, record)}")
    try:
        return Manifest.from_json(record)
    except ValueError as error:
        raise KnnvoteError(
            f"{folder / MANIFEST} is not one that knnvote writes: missing or unusable are {error}; "
            "build the index again"
        ) from error

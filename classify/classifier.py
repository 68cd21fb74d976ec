"""An opened index and a rule, called with images: the Python API, and what the batch job runs for each batch."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.data.errors import (
    ImageFileError,
    KnnvoteError,
    OptionError,
    check,
    check_instance,
    check_one_of,
    param,
    spelled_reasons,
    stack_level,
)
from knnvote.data.layout import ImageOptions, Layout
from knnvote.data.reading import DecodedRows, decode_rows
from knnvote.data.recognition import StoredImages, numbered_like
from knnvote.data.tables import SupportsArrow, SupportsDLPack, array_of, column_of, image_table, table_of
from knnvote.data.vectors import convert_queries
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.index import Index, check_index
from knnvote.indexer.metric import METRICS

from .answer import Answer
from .decision import decide
from .scale import Scale
from .search.distance_limit import with_limit
from .search.ladder import PROMISES, Promise
from .search.search import Found, check_k, find, finds_the_same, promises_differ
from .vote import Rule, mean_target, runner_up, vote

Images = NDArray[Any] | SupportsArrow | SupportsDLPack | Sequence[Any] | bytes  # what `Classifier` takes
_OF_INDEX = Rule()  # stands for the one that the index was made for, until it is asked


@dataclass(frozen=True)
class Classifier:
    """An opened index with the rule by which its neighbours vote.

    Attributes:
        index: in memory or opened.
        rule: of the vote; by default the one that the index was made for (`Rule.of`).
        promise: what of an adaptive index's answers agrees with exact search's as often as it was tuned for: the
            ``label`` alone, which is faster, or ``confidence`` and label, as is asked of one that abstains by its
            confidence; `find` has more.

    Raises:
        OptionError: the rule asks for more neighbours than there are images, a regression for its confidence, or for
            weights without a temperature that the metric does not tell, or of a class that there is not.

    Example:
        >>> import numpy as np
        >>> from knnvote import Classifier, Rule
        >>> classify = Classifier.open("digits.knn", Rule(k=3))
        >>> one = np.zeros((8, 8))
        >>> one[1:7, 3:5] = 16
        >>> classify(one).prediction.to_pylist()
        [1]
    """

    index: Index
    rule: Rule = _OF_INDEX
    promise: Promise = field(default="label", kw_only=True)

    def __post_init__(self) -> None:
        """Check the rule against the index."""
        check_index(self.index)
        if self.rule is _OF_INDEX or self.rule is None:
            object.__setattr__(self, "rule", _own_rule(self.index))
        check_instance("rule", self.rule, Rule)
        object.__setattr__(self, "rule", self.rule.of_index(self.index))
        check_k(self.index, self.rule.k)
        check_one_of("promise", self.promise, PROMISES)
        if self.index.is_regression and self.rule.min_confidence is not None:
            raise OptionError(
                f"{self.index.path} was built for regression, which has no confidence: "
                f"leave out {param('min_confidence')}"
            )
        object.__setattr__(self, "rule", with_limit(self.index, self.rule))

    @classmethod
    def open(cls, path: Path | str, rule: Rule | None = None) -> "Classifier":
        """Open an index folder, by its path or by its URI on an object store.

        Raises:
            KnnvoteError: it is no index folder, of a newer format, or damaged.
        """
        index = open_index(path)
        return cls(index, rule or _own_rule(index))

    def __call__(self, images: Images) -> Answer:
        """Classify images.

        Args:
            images: (nq, *shape) or (nq, pixels) of any number type, as an array, a tensor that lies in memory or nested
                lists; a single image of the index's shape or flat; an Arrow table or record batch or a pandas or Polars
                DataFrame in any layout that Parquet files may have, whose columns are taken by name; one such column, a
                Series or an Arrow array of lists, tensors or bytes; or the bytes of one encoded image or a list of
                those.

        Raises:
            KnnvoteError: images as a whole do not fit the index; single ones that do not are answered ``bad_image``.
        """
        return self.classify_table(*self._recognised(images))

    def stream(self, batches: Iterable[Images]) -> Iterator[Answer]:
        """Classify batch after batch; memory does not grow with their number.

        Args:
            batches: each of them images as a call takes them: a generator of arrays, a `pyarrow.RecordBatchReader`,
                `pyarrow.parquet.ParquetFile(path).iter_batches()`.

        Returns:
            The answer to each batch, given before the next is asked for. Tables with the columns of the one before have
            their images where that has them.

        Raises:
            OptionError: batches are one table or array.
            KnnvoteError: as of a call, when the batch is reached.
        """
        is_one = isinstance(batches, str | bytes) or hasattr(type(batches), "ndim") or table_of(batches) is not None
        check("batches", type(batches).__name__, not is_one, "call the classifier with it, or give several, as [batch]")
        return self._stream(batches)

    def _stream(self, batches: Iterable[Images]) -> Iterator[Answer]:
        known: tuple[pa.Schema, Layout] | None = None
        for batch in batches:
            table, layout = self._recognised(batch, known)
            known = (table.schema, layout) if table.num_rows else None
            yield self.classify_table(table, layout)

    def _recognised(self, images: Images, known: tuple[pa.Schema, Layout] | None = None) -> tuple[pa.Table, Layout]:
        """Images of whatever form as a table, and how it holds them; columns that are known hold them as before."""
        several = [images] if isinstance(images, bytes) else images
        if isinstance(several, list) and several and all(isinstance(image, bytes) for image in several):
            table = pa.table({"image": pa.array(several, pa.large_binary())})
            # By no row at all: bytes are taken for encoded images of the index's shape, and each that is none is bad.
            return table, self.recognise(table[:0], ImageOptions(image_column="image"))
        named = table_of(images)
        table = column_of(images) if named is None else named
        if table is None:
            table = image_table(self._several(array_of(images, "images")))
        if known is not None and table.schema == known[0]:
            return table, known[1]
        try:
            return table, self.recognise(table, ImageOptions())
        except ImageFileError as error:
            if named is None:
                raise
            raise ImageFileError(
                f"{error.marked} (a table's columns are taken by name, an array's, as its to_numpy() gives, in order)"
            ) from error

    def _several(self, images: NDArray[Any]) -> NDArray[Any]:
        """An array of several images, be it of one."""
        if images.shape in (self.index.shape, (math.prod(self.index.shape),)):
            images = images[None]
        if images.ndim < 2:
            raise KnnvoteError(f"images have shape {images.shape}: give (n, ...) images of {self.index.shape}")
        return images

    def recognise(self, head: pa.Table, options: ImageOptions) -> Layout:
        """How a table whose first rows these are holds its images.

        Raises:
            ImageFileError: it holds none, or of another shape than the index's.
        """
        return self.stored_images.recognise(head, options)

    @property
    def stored_images(self) -> StoredImages:
        """What the index says of its images."""
        manifest = self.index.manifest
        return StoredImages(
            shape=self.index.shape,
            column=manifest.image_column,
            grayscale=manifest.grayscale is not None,
            others=numbered_like(manifest.image_column, manifest.other_columns),
            background=manifest.background,
            feature_names=manifest.feature_names,
        )

    def classify_table(self, table: pa.Table | pa.RecordBatch, layout: Layout) -> Answer:
        """Classify the images that a table holds in a known layout; images of another scale are warned of."""
        rows = decode_rows(table, layout)
        xq, bad = self.queries(rows)
        unlike = Scale.of(self.index, rows.pixels, bad).unlike(self.index)
        if unlike is not None:
            warnings.warn(unlike, stacklevel=stack_level())
        return self.answer(xq, spelled_reasons(bad, str))

    def queries(self, rows: DecodedRows) -> tuple[NDArray[np.generic], dict[int, str]]:
        """Decoded images as queries (nq, d), and the rows that cannot be, each with the reason.

        Parameters in a reason are marked, for each face to spell.
        """
        images, unconvertible = convert_queries(rows.pixels, self.index.images.dtype)
        xq, unusable = self.index.queries(images)
        return xq, {**METRICS[self.index.metric].unusable_rows(xq), **unusable, **unconvertible, **rows.bad}

    def answer(self, xq: NDArray[np.generic], bad: dict[int, str]) -> Answer:
        """Search and vote.

        Args:
            xq: (nq, d) queries as `queries` gives them.
            bad: rows that are no image, each with the reason.
        """
        D, I, rung = self._find(xq, bad, self.asked)
        answer = self.answer_neighbors(D, I, bad, rung)
        if self.asked == "label" and promises_differ(self.index, self.rule):
            surer = replace(self, promise="confidence")
            return replace(answer, again=partial(surer.answer, xq, bad))
        return answer

    @property
    def asked(self) -> Promise:
        """What is asked of the search: who abstains by confidence needs it to be as good as the label."""
        return "confidence" if self.promise == "label" and self.rule.min_confidence is not None else self.promise

    def finds_the_same(self, rule: Rule) -> bool:
        """Whether every image has the same neighbours by another rule, of as many neighbours with the same weights."""
        other = replace(self, rule=rule)
        return finds_the_same(self.index, (self.rule, self.asked), (other.rule, other.asked))

    def _find(self, xq: NDArray[np.generic], bad: dict[int, str], promise: Promise) -> Found:
        """The neighbours of queries, with NaN, -1 and rung 0 where one is bad."""
        if not bad:
            return find(self.index, xq, self.rule, promise)
        good = np.setdiff1d(np.arange(len(xq)), list(bad))
        D, I = np.full((len(xq), self.rule.k), np.nan), np.full((len(xq), self.rule.k), -1)
        D[good], I[good], found_rung = find(self.index, xq[good], self.rule, promise)
        if found_rung is None:
            return Found(D, I, None)
        rung = np.zeros(len(xq), dtype=np.int8)
        rung[good] = found_rung
        return Found(D, I, rung)

    def answer_neighbors(
        self,
        D: NDArray[np.float64],
        I: NDArray[np.int64],
        bad: dict[int, str] | None = None,
        rung: NDArray[np.int8] | None = None,
    ) -> Answer:
        """Vote alone, of neighbours that a search found.

        Args:
            D: (nq, k) distances in the index's metric, ascending.
            I: (nq, k) rows of the index; -1 where the row is bad.
            bad: rows that are no image, each with the reason.
            rung: (nq,) which rung settled them, for an adaptive index.
        """
        is_image = I[:, 0] >= 0
        best, second, confidence, margin = self._vote(D, I, is_image)
        distance = np.where(is_image, D[:, 0], np.nan)
        prediction, status, reason = decide(self.rule, best, distance, confidence, bad or {})
        return Answer(self.index, self.rule, prediction, confidence, best, second, margin, D, I, status, reason, rung)

    def _vote(
        self, D: NDArray[np.float64], I: NDArray[np.int64], is_image: NDArray[np.bool_]
    ) -> tuple[pa.Array, pa.Array, NDArray[np.float64], NDArray[np.float64]]:
        """The first class, the second, the first one's share and its margin, each (nq,); of a regression the mean."""
        nq, index = len(I), self.index
        confidence, margin = np.full(nq, np.nan), np.full(nq, np.nan)
        D, I = D[is_image], I[is_image]
        factors = self.rule.factors(index, I)
        if index.is_regression:
            mean = np.full(nq, np.nan)
            mean[is_image] = mean_target(index.targets[I], D, self.rule.weights, factors)
            return pa.array(mean, mask=~is_image), pa.nulls(nq, pa.float64()), confidence, margin
        first, second = np.zeros(nq, np.int32), np.full(nq, -1, np.int32)
        codes, names = index.class_codes[I], index.classes
        first[is_image], confidence[is_image] = vote(codes, D, self.rule, factors)
        second[is_image], share = runner_up(codes, D, self.rule, first[is_image], factors)
        margin[is_image] = confidence[is_image] - share
        return (
            names.take(pa.array(first, mask=~is_image)),
            names.take(pa.array(second, mask=second < 0)),
            confidence,
            margin,
        )


def _own_rule(index: Index) -> Rule:
    """The one that an index was made for.

    Raises:
        OptionError: it accepts answers from a confidence on that there is not.
    """
    rule = Rule.of(index)
    rule.refuse_unreached(index)
    return rule

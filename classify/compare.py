"""What an approximate index costs in accuracy and buys in speed, beside exact search over the same stored images."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.types as pt
from numpy.typing import NDArray

from classify.accuracy import Judgement, has_label, judge
from classify.classifier import Answer, Classifier
from classify.interval import Interval, share_interval
from classify.search import exact_search, finds_equal
from classify.sklearn_search import Algorithm, SklearnSearch
from classify.vote import Rule, vote
from data.errors import ImageFileError, KnnvoteError
from data.inputs import InputFile
from data.layout import ImageOptions, Layout
from data.parquet import open_parquet, read_batches, read_head, rows_within_budget
from indexer.faiss_index import FAISS_METRIC
from indexer.labels import find_label
from indexer.manifest import folder_bytes, read_timing
from indexer.space import metric_space
from indexer.store import Index
from indexer.threads import limit_threads

_BATCH = 4096
_SPEED_QUERIES = (200, 2000)  # at least and at most: a full batch, and no more than a steady figure takes
_SPEED_DISTANCES = 120_000_000
_SLOW_QUERIES = 200  # at least, of a search that is slow
_SLOW_DISTANCES = 12_000_000  # that it computes for all of them, if it computes all
_TURNS = 3
_LEAST_SECONDS = 0.2  # of processor time in a turn: below it the clock's own steps show


@dataclass(frozen=True)
class TestImages:
    """Test images as one index takes them.

    Attributes:
        xq: (nq, d) queries.
        truth: (nq,) true labels, if there are any; None for an image without one.
        rows: (nq,) place of each among all rows of the inputs.
        bad: rows that could not be read, by reason.
    """

    xq: NDArray[np.generic]
    truth: list[Any] | None
    rows: NDArray[np.int64]
    bad: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Share of the true k neighbours that were found, over queries.

    Attributes:
        mean: of the shares.
        p5: their 5th percentile.
        min: the least.
        found: k + 1 numbers of queries, of which none, one and so on up to all of the k were found.
    """

    mean: float
    p5: float
    min: float
    found: list[int]


@dataclass(frozen=True, kw_only=True)
class Flip:
    """An image that gets another label than exact search gives it; `row` counts from 0 through all inputs."""

    row: int
    exact: Any
    label: Any
    truth: Any


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """How one index does.

    Attributes:
        path: the index folder, or what another search is called.
        kind: of index, or the algorithm of another search.
        judged: images that it was asked for: all, or a sample of them for searches that are slow.
        recall: of the true neighbours.
        agreement: share of images that get the label exact search gives them.
        accuracy: against true labels; for regression the coefficient of determination; None without labels.
        judgement: of predicted classes by true ones; None without labels and for regression.
        relative_speed: search and vote, in queries per processor-second over those of FAISS's flat index and a plain
        vote.
        bytes: of the index folder.
        build_seconds: reading excluded.
        stored: test images that are themselves stored in the index.
        flips: images whose label differs from exact search's.
    """

    path: str
    kind: str
    judged: int
    recall: Recall
    agreement: Interval
    accuracy: float | None
    judgement: Judgement | None
    relative_speed: float
    bytes: int
    build_seconds: float
    stored: int
    flips: list[Flip]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` found: `to_json` gives the object of ``compare --json``."""

    queries: int
    k: int
    bad_images: dict[str, int]
    indexes: list[IndexReport]

    def to_json(self) -> dict[str, Any]:
        """As plain objects."""
        return asdict(self)


def compare(
    inputs: Sequence[InputFile],
    indexes: Sequence[Index],
    rule: Rule,
    *,
    images: ImageOptions | None = None,
    label_column: str | None = None,
    algorithms: Sequence[Algorithm] = (),
    threads: int | None = None,
    progress: Callable[[str], None] = lambda _step: None,
) -> Comparison:
    """Compare indexes on the same test images with exact search.

    Exact search is run once for all indexes that store the same images under the same metric. Searches of scikit-learn
    over the images of the first index may follow, which are asked for an even sample of the test images.

    Raises:
        KnnvoteError: an input or index does not fit, or there is no image to compare on.
        OptionError: k is larger than an index.
    """
    reports: list[IndexReport] = []
    queries = 0
    truths: dict[tuple[str, str], tuple[TestImages, Answer]] = {}
    with limit_threads(threads):
        for index in indexes:
            classifier = Classifier(index, rule)
            progress(f"reading test images for {index.path}")
            tests = read_test_images(inputs, classifier, images or ImageOptions(), label_column)
            if index is indexes[0]:
                sample = _sample(tests, index.n)
            shared = (index.manifest["data_sha256"], index.metric)
            if shared not in truths or not np.array_equal(truths[shared][0].xq, tests.xq):
                progress(f"exact search over {index.path}")
                truths[shared] = (tests, exact_answer(classifier, tests.xq))
            if reports and len(tests.xq) != queries:
                raise KnnvoteError(
                    f"{index.path} reads {len(tests.xq):,} of the test images and {indexes[0].path} {queries:,}: "
                    "compare them one by one, or leave out the rows that only one reads"
                )
            queries = len(tests.xq)
            progress(f"searching {index.path}")
            reports.append(_report(_IndexSearch(classifier), tests, truths[shared][1]))
        if algorithms:
            classifier = Classifier(indexes[0], rule)
            truth = exact_answer(classifier, sample.xq)
        for algorithm in algorithms:
            progress(f"searching by scikit-learn {algorithm}")
            reports.append(_report(SklearnSearch(classifier, algorithm), sample, truth))
    return Comparison(queries=queries, k=rule.k, bad_images=tests.bad, indexes=reports)


def read_test_images(
    inputs: Sequence[InputFile], classifier: Classifier, images: ImageOptions, label_column: str | None
) -> TestImages:
    """All readable images of the inputs as queries, with their labels if every file has them.

    Raises:
        KnnvoteError: a file does not fit the index, or no image is left.
    """
    blocks: list[NDArray[np.generic]] = []
    labels: list[Any] = []
    numbers: list[NDArray[np.int64]] = []
    reasons: dict[str, int] = {}
    first = 0
    for source in inputs:
        with open_parquet(source) as file:
            head = read_head(source, file)
            try:
                layout = classifier.recognise(head, images)
            except ImageFileError as error:
                raise ImageFileError(f"{source.shown}: {error}") from error
            label = _label_column(source, head.schema, layout, classifier.index, label_column)
            columns = [*layout.columns, *([label] if label else [])]
            for batch in read_batches(source, file, columns=columns, batch_size=rows_within_budget(layout.d, _BATCH)):
                xq, bad = classifier.vectors(batch, layout)
                good = np.setdiff1d(np.arange(len(xq)), list(bad))
                blocks.append(xq[good])
                numbers.append(first + good)
                if label:
                    labels += batch.column(batch.schema.get_field_index(label)).take(good).to_pylist()
                for reason in bad.values():
                    reasons[reason] = reasons.get(reason, 0) + 1
                first += len(xq)
    if not sum(map(len, blocks)):
        raise KnnvoteError(f"no readable image in {', '.join(source.shown for source in inputs)} to compare on")
    truth = labels if len(labels) == sum(map(len, blocks)) else None
    return TestImages(np.concatenate(blocks), truth, np.concatenate(numbers), reasons)


def _label_column(source: InputFile, schema: pa.Schema, layout: Layout, index: Index, named: str | None) -> str | None:
    """The column of true labels, if there is one; its labels must be of the index's kind."""
    if named is not None and named not in schema.names:
        raise ImageFileError(
            f"{source.shown}: no column {named!r} for --label-column; there are {', '.join(schema.names)}"
        )
    found = find_label(schema, layout.columns, named or index.manifest["label_column"])
    if found is None:
        return None
    kind = schema.field(found).type
    kind = kind.value_type if pt.is_dictionary(kind) else kind
    fits = (
        pt.is_integer(kind) or pt.is_floating(kind)
        if index.is_regression or pt.is_integer(index.labels.type)
        else pt.is_boolean(kind) == pt.is_boolean(index.labels.type) and not pt.is_integer(kind)
    )
    if not fits:
        raise ImageFileError(
            f"{source.shown}: labels in column {found!r} are {kind}, those of {index.path} {index.labels.type}: "
            "name the right column with --label-column"
        )
    return found


def exact_answer(classifier: Classifier, xq: NDArray[np.generic]) -> Answer:
    """What exact search answers, whatever the kind of the index."""
    return classifier.answer_neighbors(*exact_search(classifier.index, xq, classifier.rule.k))


class _Search(Protocol):
    """What finds neighbours in the images of an index, and has them vote."""

    classifier: Classifier
    path: str
    kind: str
    bytes: int
    build_seconds: float

    def answer(self, xq: NDArray[np.generic]) -> Answer: ...


class _IndexSearch:
    """An index's own search."""

    def __init__(self, classifier: Classifier) -> None:
        index = classifier.index
        self.classifier = classifier
        self.path = str(index.path)
        self.kind = index.kind
        self.bytes = folder_bytes(index.manifest)
        self.build_seconds = read_timing(index.path, index.manifest)["build_seconds"]

    def answer(self, xq: NDArray[np.generic]) -> Answer:
        return self.classifier.answer(xq, {})


def _sample(tests: TestImages, n: int) -> TestImages:
    """An even sample of the test images, for searches that compare each with most of n stored ones, slowly."""
    nq = len(tests.xq)
    places = np.linspace(0, nq - 1, min(nq, max(_SLOW_QUERIES, _SLOW_DISTANCES // n))).astype(int)
    truth = None if tests.truth is None else [tests.truth[place] for place in places]
    return TestImages(tests.xq[places], truth, tests.rows[places], tests.bad)


def _report(search: _Search, tests: TestImages, truth: Answer) -> IndexReport:
    classifier = search.classifier
    index = classifier.index
    answer = truth if search.kind == "exact" else search.answer(tests.xq)
    found = (answer.I[:, :, None] == truth.I[:, None, :]).any(axis=1).sum(axis=1)
    k = classifier.rule.k
    labels, exact_labels = answer.prediction.to_pylist(), truth.prediction.to_pylist()
    different = [row for row, pair in enumerate(zip(labels, exact_labels, strict=True)) if pair[0] != pair[1]]
    true_labels = tests.truth if tests.truth is not None else [None] * len(labels)
    return IndexReport(
        path=search.path,
        kind=search.kind,
        judged=len(labels),
        recall=Recall(
            mean=float((found / k).mean()),
            p5=float(np.percentile(found / k, 5)),
            min=float((found / k).min()),
            found=np.bincount(found, minlength=k + 1).tolist(),
        ),
        agreement=share_interval(len(labels) - len(different), len(labels)),
        accuracy=_accuracy(index, labels, true_labels),
        judgement=None
        if index.is_regression
        else judge(labels, true_labels, answer.confidence, index.classes.to_pylist()),
        relative_speed=_relative_speed(search, tests.xq),
        bytes=search.bytes,
        build_seconds=search.build_seconds,
        stored=int(finds_equal(index, tests.xq, truth.D, truth.I).sum()),
        flips=[
            Flip(row=int(tests.rows[i]), exact=exact_labels[i], label=labels[i], truth=true_labels[i])
            for i in different
        ],
    )


def _accuracy(index: Index, labels: list[Any], truth: list[Any]) -> float | None:
    """Over the images that have a true label; None if none has one."""
    pairs = [(label, true) for label, true in zip(labels, truth, strict=True) if has_label(true)]
    if not pairs:
        return None
    if index.is_regression:
        from sklearn.metrics import r2_score  # noqa: PLC0415  # slow to import, and only this needs it

        predicted, measured = zip(*pairs, strict=True)
        return float(r2_score(measured, predicted)) if len(pairs) > 1 else None
    return float(np.mean([label == true for label, true in pairs]))


def _relative_speed(search: _Search, xq: NDArray[np.generic]) -> float:
    """Processor time of FAISS's flat index and a plain vote over a search's, in turns; the median."""
    index, rule = search.classifier.index, search.classifier.rule
    queries = int(np.clip(_SPEED_DISTANCES // index.n, *_SPEED_QUERIES))
    sample = xq[np.linspace(0, len(xq) - 1, min(len(xq), queries)).astype(int)]
    flat = faiss.IndexFlat(index.d, FAISS_METRIC[index.metric])
    for start in range(0, index.n, _BATCH):
        flat.add(metric_space(index.vectors[start : start + _BATCH], index.metric).astype(np.float32))
    floats = metric_space(sample, index.metric).astype(np.float32)

    def plain() -> None:
        D, I = flat.search(floats, rule.k)
        if not index.is_regression:
            vote(index.class_codes[I], np.sqrt(np.maximum(D, 0)).astype(np.float64), rule)

    ratios = [_processor_seconds(plain) / _processor_seconds(lambda: search.answer(sample)) for _ in range(_TURNS)]
    return float(np.median(ratios))


def _processor_seconds(work: Callable[[], object]) -> float:
    """Processor time of one call, over as many calls as make it measurable."""
    start = time.process_time()
    calls = 0
    while calls == 0 or time.process_time() - start < _LEAST_SECONDS:
        work()
        calls += 1
    return (time.process_time() - start) / calls

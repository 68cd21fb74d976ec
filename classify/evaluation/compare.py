"""What an approximate index costs in accuracy and buys in speed, beside exact search over the same stored images."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from knnvote.classify.answer import Answer
from knnvote.classify.classifier import Classifier
from knnvote.classify.interval import share_interval
from knnvote.classify.scale import Scale
from knnvote.classify.search.kinds import SEARCHERS
from knnvote.classify.search.ladder import answer_tolerance
from knnvote.classify.search.sampling import sample_rows
from knnvote.classify.search.search import exact_search
from knnvote.classify.vote import Rule, vote
from knnvote.data.errors import KnnvoteError, OptionError, check_instance
from knnvote.data.inputs import Inputs, find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.data.progress import stage
from knnvote.data.reading import Part
from knnvote.indexer.folder.generations import read_timing
from knnvote.indexer.index import Index, check_index
from knnvote.indexer.metric import METRICS, FaissMetric
from knnvote.indexer.threads import limit_threads

from .accuracy import right_predictions, score_classes, score_numbers
from .comparison import Comparison, Flip, IndexReport, Recall, Vote
from .mcnemar import Difference, mcnemar
from .near_copies import near_copies_of_tests
from .sklearn_search import ALGORITHMS, Algorithm, SklearnSearch
from .testset import TestSet, read_test_set

_BATCH = 4096
_SPEED_QUERIES = (200, 2000)  # at least and at most: a full batch, and no more than a steady figure takes
_SPEED_DISTANCES = 120_000_000
_SLOW_QUERIES = 200  # at least, of a search that is slow
_SLOW_DISTANCES = 12_000_000  # that it computes for all of them, if it computes all
_TURNS = 3
_LEAST_SECONDS = 0.2  # of processor time in a turn: below it the clock's own steps show
_MILLION, _HOUR = 1_000_000, 3600
_EXACT = "exact search"


def compare(
    inputs: Inputs,
    indexes: Sequence[Index] | Index,
    rule: Rule | Sequence[Rule] | None = None,
    *,
    images: ImageOptions | None = None,
    label_column: str | None = None,
    limit: int | None = None,
    sample: int | None = None,
    algorithms: Sequence[Algorithm] = (),
    threads: int | None = None,
) -> Comparison:
    """Compare indexes on the same test images with exact search.

    Exact search is run once for all indexes that store the same images under the same metric and vote alike. Searches
    of scikit-learn over the images of the first index may follow, which are asked for a random sample of the test
    images.

    Args:
        inputs: test images in Parquet files, folders of them, globs or URIs: one or several.
        indexes: opened ones of any kind, or one.
        rule: of the vote, one for all or one for each index; by default for each the one that it was made for. All
            answers are judged, accepted or not.
        images: overrides of how images are recognised.
        label_column: of the true labels; by default as the index was built.
        limit: of all files together take so many rows, the first.
        sample: of all files together take so many rows, drawn at random: the same ones each time.
        algorithms: searches of scikit-learn: ``brute``, ``kd_tree``, ``ball_tree``.
        threads: of the search; None for as many as there are processors.

    Raises:
        KnnvoteError: no index, one that an input does not fit or that is smaller than k, or no image to compare on.

    Example:
        >>> from knnvote import Rule, compare, open_index
        >>> found = compare("digits/test.parquet", [open_index("digits.knn")], Rule(k=3))
        >>> found.queries, found.indexes[0].kind, found.indexes[0].agreement.value, round(found.indexes[0].accuracy, 4)
        (450, 'exact', 1.0, 0.9889)
    """
    indexes = _opened(indexes)
    rules, images = rules_of(rule, indexes), images or ImageOptions()
    check_instance("images", images, ImageOptions)
    read = _reader(inputs, images, label_column, Part(limit=limit, sample=sample))
    with limit_threads(threads) as used:
        classifiers = [Classifier(index, own) for index, own in zip(indexes, rules, strict=True)]
        first, outcomes = _judge_indexes(classifiers, read)
        outcomes += _judge_algorithms(algorithms, classifiers[0], first) if algorithms else []
    return _comparison(indexes[0], used, first, outcomes)


def rules_of(rule: Rule | Sequence[Rule] | None, indexes: Sequence[Index]) -> list[Rule]:
    """How the neighbours of each index vote, of all whose answers are accepted.

    Raises:
        OptionError: there is another number of rules, or something else.
    """
    if rule is None:
        rules: Sequence[Any] = [Rule.of(index) for index in indexes]
    else:
        rules = rule if isinstance(rule, list | tuple) else [rule] * len(indexes)
    if len(rules) != len(indexes):
        raise OptionError(f"{len(rules):,} rules are given for {len(indexes):,} indexes: give one, or one for each")
    for own in rules:
        check_instance("rule", own, Rule)
    return [own.accepting(None) for own in rules]


def _reader(
    inputs: Inputs, images: ImageOptions, label_column: str | None, part: Part
) -> Callable[[Classifier], TestSet]:
    """What reads the test images as a classifier takes them."""
    return partial(read_test_set, find_inputs(inputs), options=images, label_column=label_column, part=part)


def _comparison(index: Index, threads: int, tests: TestSet, outcomes: Sequence["_Outcome"]) -> Comparison:
    """What is found, of the test images as the first index takes them."""
    vote = outcomes[0].report.vote
    return Comparison(
        queries=len(tests.xq),
        k=vote.k,
        weights=vote.weights,
        threads=threads,
        bad_images=tests.bad,
        indexes=[outcome.report for outcome in outcomes],
        differences=[] if index.is_regression else list(_differences(outcomes)),
        class_names=index.manifest.class_names,
        unknown_labels=_unknown_labels(index, tests.truth),
        unlabelled=tests.truth.count(None),
    )


def _unknown_labels(index: Index, truth: list[Any]) -> dict[str, int]:
    """How many test images have each label that no stored image has, the commonest first."""
    known = set(index.classes.to_pylist())
    unknown = Counter(label for label in truth if label is not None and label not in known)
    return {} if index.is_regression else {str(label): rows for label, rows in unknown.most_common()}


def _opened(indexes: Sequence[Index] | Index) -> Sequence[Index]:
    """One or several opened indexes as several."""
    several = [indexes] if isinstance(indexes, Index | str) else indexes
    for index in several:
        check_index(index, "indexes")
    _check_task(several)
    return several


def _check_task(indexes: Sequence[Index]) -> None:
    """Refuse indexes of both tasks, and none at all."""
    if not indexes:
        raise KnnvoteError("no index is given to compare: give one at least")
    for index in indexes:
        if index.is_regression != indexes[0].is_regression:
            raise KnnvoteError(f"of {index.path} and {indexes[0].path} only one is for regression: compare them apart")


def _judge_indexes(
    classifiers: Sequence[Classifier], read: Callable[[Classifier], TestSet]
) -> tuple[TestSet, list["_Outcome"]]:
    """The test images as the first index takes them, and what is found of each index on them."""
    outcomes: list[_Outcome] = []
    truths: dict[tuple[str, str, Rule], tuple[TestSet, Answer]] = {}
    for classifier in classifiers:
        index = classifier.index
        tests = read(classifier)
        if classifier is classifiers[0]:
            first = tests
        shared = (index.manifest.data_sha256, index.metric, classifier.rule)
        if shared not in truths or not np.array_equal(truths[shared][0].xq, tests.xq):
            with stage(f"exact search, {index.path}"):
                truths[shared] = (tests, exact_answer(classifier, tests.xq))
        if not np.array_equal(tests.rows, first.rows):
            odd = np.setxor1d(tests.rows, first.rows)
            raise KnnvoteError(
                f"only one of {classifiers[0].index.path} and {index.path} reads row {odd[0]} of the test images, and "
                f"{len(odd):,} rows are such: leave them out, or compare these indexes one by one"
            )
        with stage(f"searching {index.path}"):
            outcomes.append(_judge(_IndexSearch(classifier), tests, truths[shared][1]))
    return first, outcomes


def _judge_algorithms(algorithms: Sequence[Algorithm], classifier: Classifier, tests: TestSet) -> list["_Outcome"]:
    """What is found of searches of scikit-learn over an index's images, on a sample of the test images."""
    sample = tests.sample(max(_SLOW_QUERIES, _SLOW_DISTANCES // classifier.index.n))
    truth = exact_answer(classifier, sample.xq)
    outcomes: list[_Outcome] = []
    for algorithm in algorithms:
        with stage(f"searching by scikit-learn {algorithm}"):
            outcomes.append(_judge(SklearnSearch(classifier, algorithm), sample, truth))
    return outcomes


def exact_answer(classifier: Classifier, xq: NDArray[np.generic]) -> Answer:
    """What exact search answers, whatever the kind of the index."""
    return classifier.answer_neighbors(*exact_search(classifier.index, xq, classifier.rule.k))


class _Search(Protocol):
    """What finds neighbours in the images of an index, and has them vote."""

    classifier: Classifier
    path: str
    kind: str
    is_exact: bool
    bytes: int
    build_seconds: float

    def answer(self, xq: NDArray[np.generic]) -> Answer: ...


class _IndexSearch:
    """An index's own search."""

    def __init__(self, classifier: Classifier) -> None:
        index = classifier.index
        self.classifier = classifier
        self.path = str(index.path)
        self.kind: str = index.kind
        self.is_exact = SEARCHERS[index.kind].is_always_exact
        self.bytes = index.manifest.folder_bytes
        self.build_seconds = read_timing(index.path, index.manifest.generation).build_seconds

    def answer(self, xq: NDArray[np.generic]) -> Answer:
        return self.classifier.answer(xq, {})


class _Outcome(NamedTuple):
    """What is found of a search, and on which of the labelled test images it is right.

    Attributes:
        report: on all images that it was asked for.
        rows: (m,) of these images that have a true label, ascending.
        right: (m,) whether it gives that.
        exact_right: (m,) whether exact search over the same stored images does.
    """

    report: IndexReport
    rows: NDArray[np.int64]
    right: NDArray[np.bool_]
    exact_right: NDArray[np.bool_]


def _judge(search: _Search, tests: TestSet, truth: Answer) -> _Outcome:
    answer = truth if search.is_exact else search.answer(tests.xq)
    is_labelled = np.array([true is not None for true in tests.truth])
    right = right_predictions(answer, tests.truth)
    return _Outcome(
        _report(search, tests, answer, truth),
        tests.rows[is_labelled],
        right[is_labelled],
        right_predictions(truth, tests.truth)[is_labelled],
    )


def _differences(outcomes: Sequence[_Outcome]) -> Iterator[Difference]:
    """In accuracy, of each from the first one, and from exact search where the first does not answer as that does."""
    first = outcomes[0]
    for outcome in outcomes:
        path, right = outcome.report.path, outcome.right
        if not len(right):
            continue
        of_first = first.right[np.isin(first.rows, outcome.rows)]
        if outcome is not first:
            yield mcnemar(path, first.report.path, right, of_first)
        if outcome.report.kind != "exact" and (outcome is first or not np.array_equal(of_first, outcome.exact_right)):
            yield mcnemar(path, _EXACT, right, outcome.exact_right)


def _report(search: _Search, tests: TestSet, answer: Answer, truth: Answer) -> IndexReport:
    index = search.classifier.index
    labels, exact_labels = answer.prediction.to_pylist(), truth.prediction.to_pylist()
    tolerance = answer_tolerance(index)
    different = [row for row, pair in enumerate(zip(labels, exact_labels, strict=True)) if not _agree(*pair, tolerance)]
    near_copies = None if search.kind in ALGORITHMS else near_copies_of_tests(index, tests.xq, answer.rule)
    names = tests.names([int(tests.rows[i]) for i in different])
    with stage("measuring speed"):
        speed = _measure_speed(search, tests.xq)
    return IndexReport(
        path=search.path,
        kind=search.kind,
        vote=Vote.of(answer.rule),
        judged=len(labels),
        recall=_recall(answer, truth),
        tolerance=tolerance,
        agreement=share_interval(len(labels) - len(different), len(labels)),
        **(score_numbers if index.is_regression else score_classes)(answer, tests.truth),
        relative_speed=speed.relative,
        images_per_second=speed.images_per_second,
        hours_per_million=_MILLION / speed.images_per_second / _HOUR,
        bytes=search.bytes,
        build_seconds=search.build_seconds,
        stored=int(np.count_nonzero(truth.is_stored)),
        flips=[
            Flip(row=int(tests.rows[i]), name=name, exact=exact_labels[i], label=labels[i], truth=tests.truth[i])
            for i, name in zip(different, names, strict=True)
        ],
        near_copies=near_copies,
        unlike_stored=Scale.of(index, tests.images).unlike(index),
    )


def _recall(answer: Answer, truth: Answer) -> Recall:
    found = (answer.I[:, :, None] == truth.I[:, None, :]).any(axis=1).sum(axis=1)
    k = truth.rule.k
    return Recall(
        mean=float((found / k).mean()),
        p5=float(np.percentile(found / k, 5)),
        min=float((found / k).min()),
        found=np.bincount(found, minlength=k + 1).tolist(),
    )


def _agree(label: Any, exact: Any, tolerance: float | None) -> bool:
    """Whether two labels are the same, or those of a regression near enough."""
    return bool(label == exact if tolerance is None else abs(label - exact) <= tolerance)


class _Speed(NamedTuple):
    """Of search and vote: how many times that of FAISS's flat index by processor time, and images a second."""

    relative: float
    images_per_second: float


def _measure_speed(search: _Search, xq: NDArray[np.generic]) -> _Speed:
    """Time FAISS's flat index with a plain vote and a search in turns; the medians."""
    index, rule = search.classifier.index, search.classifier.rule
    queries = int(np.clip(_SPEED_DISTANCES // index.n, *_SPEED_QUERIES))
    sample = xq[sample_rows(len(xq), queries)]
    metric = METRICS[index.metric]  # l2 is the measure of speed for one that FAISS does not know
    flat = faiss.IndexFlat(index.d, metric.faiss_type if isinstance(metric, FaissMetric) else faiss.METRIC_L2)
    for start in range(0, index.n, _BATCH):
        flat.add(metric.space(index.vectors[start : start + _BATCH]).astype(np.float32))
    floats = metric.space(sample).astype(np.float32)

    def plain() -> None:
        D, I = flat.search(floats, rule.k)
        if not index.is_regression:
            vote(index.class_codes[I], np.sqrt(np.maximum(D, 0)).astype(np.float64), rule)

    turns = [(_time(plain), _time(lambda: search.answer(sample))) for _ in range(_TURNS)]
    return _Speed(
        float(np.median([flat.processor / ours.processor for flat, ours in turns])),
        float(np.median([len(sample) / ours.passed for _, ours in turns])),
    )


class _Seconds(NamedTuple):
    """Of one call: of processors together, and by the clock."""

    processor: float
    passed: float


def _time(work: Callable[[], object]) -> _Seconds:
    """Time one call, over as many calls as make its processor time measurable."""
    start, begun = time.process_time(), time.perf_counter()
    calls = 0
    while calls == 0 or time.process_time() - start < _LEAST_SECONDS:
        work()
        calls += 1
    return _Seconds((time.process_time() - start) / calls, (time.perf_counter() - begun) / calls)

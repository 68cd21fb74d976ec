"""Tuning: the fastest rungs among those shown to agree with exact search as often as promised.

Stored images are the queries, each left out (`trials`), because what finds itself flatters every search. A ladder is up
to three rungs of rising nprobe, each passing on the queries that it does not settle.

1. Try every rung on a first part of the queries: is it sure, and is its answer exact search's? From this alone follow
   risk and cost of every ladder. Keep those that no other beats in both (the Pareto front).
2. Test these on the other queries, from the safest to the fastest: the lower end of the 95% interval of agreement must
   reach the target. The last to pass before the second failure is kept, or exact search alone if none passes. With each
   test at level 0.025, and a sequence that was fixed on other queries, a ladder below the target is kept with
   probability 0.05 at most, however many were looked at: it would have to be the first or the second such in the
   sequence. (Angelopoulos, Bates, Candes, Jordan and Lei 2021, Learn then Test; Laufer-Goldshtein, Fisch, Barzilay and
   Jaakkola 2023, Efficiently Controlling Multiple Risks with Pareto Testing.) That holds for labels and for confidences
   each. Outcomes of queries are taken as independent, and new images as drawn like the stored ones.

Costs are counted, not timed, so that the same images, options and seed give the same rungs.
"""

import itertools
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from knnvote.classify.evaluation.threshold import check_target_accuracy, choose_threshold
from knnvote.classify.interval import share_interval
from knnvote.classify.search.distance_limit import FALSE_ALARMS, check_share, kept_distance
from knnvote.classify.search.ladder import answer_tolerance
from knnvote.classify.search.left_out import most_left
from knnvote.classify.vote import MaxDistance, Rule, is_auto
from knnvote.classify.weighting import check_weights, plain_class_weight, read_weighting
from knnvote.data.errors import OptionError, check, is_number, param, plain, warn
from knnvote.data.progress import stage
from knnvote.indexer.codes.components import COMPONENT, ROW, SETTLED
from knnvote.indexer.codes.inverted_file import training_count
from knnvote.indexer.index import Index
from knnvote.indexer.manifest import AdaptiveSettings
from knnvote.indexer.metric import METRICS, Euclidean
from knnvote.indexer.names import ClassWeight, Ties, Weights
from knnvote.indexer.rungs import EXACT, Interval, Ladder, MeasuredLadder, MeasuredRung, Rung, Tuned, VoteDefaults

from .trials import ANSWERS, Answers, Queries, Trials, ask, copy_groups, try_rungs

# Candidates for each neighbour: of a rung that is sure when all agree, of one that is when the vote is, of the last.
_FIRST, _MIDDLE, _LAST = (2, 3, 4, 8), (2, 4, 8), (4, 8)
_CONFIDENCES = (1.0, 0.75)
_FIRST_NPROBES = 6  # of the powers of two
_STEP = 0.92  # of the cost: a ladder that saves less is not tested after the one before it
_FAILURES = 2
_WORTH = 2  # times the cheapest rung: exact search that costs no more is not given up
_ERROR = 10  # risk of a wrong answer
_HOPE = 3  # times the errors that the target allows: a ladder with more risk is not tested
_FIRST_PART = 10_000  # queries that choose the ladders to test
MOST_ASKED = 40_000
_TOO_MANY = 1_000_000_000
_TESTED = (6000, MOST_ASKED)  # queries that test them, at least and at most


_EXACT_ALONE = MeasuredLadder(
    rungs=(MeasuredRung(EXACT, settled=1.0, agreement=1.0),),
    agreement=Interval(value=1.0, low=1.0, high=1.0),
    reached=True,
)
_UNREACHED = replace(_EXACT_ALONE, reached=False)


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What an index is made for; called with it while it is built.

    Attributes:
        k: neighbours that vote.
        weights: of the vote.
        ties: what breaks ties of the vote, as `Rule` has it.
        class_weight: of the vote, likewise.
        target_agreement: of an adaptive index with exact search, that the lower end of its 95% interval must reach; 1
            asks for exact search.
        target_accuracy: of accepted answers, that the lower end of its 95% interval must reach: the index keeps the
            least confidence that does (`choose_threshold`); None accepts all answers.
        by_class: choose one for each class too, where enough of the answers that name it show one.
        max_distance: abstain where the nearest neighbour is farther, as `Rule` has it: the index keeps the number, or
            the one that it finds for ``auto``.
        false_alarms: the share of images of the stored kind that ``auto`` lets abstain.

    Example:
        >>> import numpy as np
        >>> from knnvote import IndexOptions, Tuning, index_arrays, open_index
        >>> x = np.random.default_rng(0).integers(0, 256, (600, 16), dtype=np.uint8)
        >>> index_arrays(x, x[:, 0] > 127, "x.knn", options=IndexOptions(kind="adaptive"), tune=Tuning(k=3))
        >>> open_index("x.knn").tuned.k
        3
    """

    k: int = 5
    weights: Weights = "uniform"
    ties: Ties = "nearest"
    class_weight: ClassWeight = None
    target_agreement: float = 0.999
    target_accuracy: float | None = None
    by_class: bool = False
    max_distance: MaxDistance = None
    false_alarms: float = FALSE_ALARMS

    def __post_init__(self) -> None:
        """Refuse values without a meaning.

        Raises:
            OptionError: naming the value.
        """
        check_weights(self.weights)
        rule = Rule(k=self.k, ties=self.ties, max_distance=self.max_distance)
        object.__setattr__(self, "max_distance", rule.max_distance)
        is_share = is_number(self.target_agreement) and 0 < self.target_agreement <= 1
        check("target_agreement", self.target_agreement, is_share, "give a share above 0, at most 1")
        check_target_accuracy(self.target_accuracy)
        if self.by_class and self.target_accuracy is None:
            raise OptionError(f"{param('by_class')} is of {param('target_accuracy')}: give that too")
        if self.false_alarms != FALSE_ALARMS and not is_auto(self.max_distance):
            raise OptionError(f"{param('false_alarms')} is of {param('max_distance')} 'auto': give that too")
        check_share(self.false_alarms)
        object.__setattr__(self, "weights", read_weighting(self.weights).text)
        object.__setattr__(self, "class_weight", plain_class_weight(self.class_weight))
        for name in ("k", "target_agreement", "target_accuracy", "false_alarms"):
            object.__setattr__(self, name, plain(getattr(self, name)))

    def __call__(self, index: Index) -> Index:
        """An index, which need not be on disk yet, with what is found of it: rungs, if it is adaptive, and its vote.

        A `target_accuracy` that is not reached is warned of.

        Raises:
            OptionError: weights lack a temperature that the metric does not tell, or are of a class that there is not.
        """
        rule = self.rule.of_index(index)
        if rule != self.rule:
            return replace(self, weights=rule.stored_weights, class_weight=rule.class_weight)(index)
        manifest = index.manifest
        if isinstance(manifest.search, AdaptiveSettings):
            manifest = replace(manifest, search=replace(manifest.search, tuned=self._rungs(index)))
            index = replace(index, manifest=manifest)
        return replace(index, manifest=replace(manifest, vote=self._vote(index)))

    @property
    def rule(self) -> Rule:
        """Of the vote."""
        return Rule(k=self.k, weights=self.weights, ties=self.ties, class_weight=self.class_weight)

    def _vote(self, index: Index) -> VoteDefaults | None:
        """The vote that it is made for; None where that is said without."""
        acceptance = None
        if self.target_accuracy is not None:
            found = choose_threshold(index, self.rule, self.target_accuracy)
            acceptance = found.acceptance_by_class if self.by_class else found.acceptance
            if found.chosen is None:
                warn(f"{found.why_none}; until then classify asks for {param('min_confidence')}")
        vote = VoteDefaults(
            k=self.k,
            weights=self.weights,
            ties=self.ties,
            class_weight=self.class_weight,
            acceptance=acceptance,
            max_distance=kept_distance(index, replace(self.rule, max_distance=self.max_distance), self.false_alarms),
        )
        return None if vote == index.vote else vote

    def _rungs(self, index: Index) -> Tuned:
        """For labels and for labels with confidences the rungs that an adaptive index is to be searched by.

        Exact search alone where that is cheaper or, with ``reached`` false, where nothing else reached the target.
        """
        tolerance = answer_tolerance(index)
        found = partial(
            Tuned,
            k=self.k,
            weights=self.weights,
            ties=self.ties,
            class_weight=self.class_weight,
            target_agreement=self.target_agreement,
            tolerance=tolerance,
        )
        firsts, middles, lasts = _rungs(index, self.k)
        is_exact_cheapest = self.k >= index.n or _cost(index, EXACT, self.k) <= _WORTH * min(firsts.values())
        if self.target_agreement == 1 or is_exact_cheapest:
            return found(queries=0, label=_EXACT_ALONE, confidence=_EXACT_ALONE)
        if self.k > most_left(index):  # of some groups
            return found(queries=0, label=_UNREACHED, confidence=_UNREACHED)
        first_rows, other_rows = _draw(index, self.target_agreement)
        at_best = _at_best(copy_groups(index, other_rows))
        if at_best is None or at_best.low < self.target_agreement:
            unreached = replace(_UNREACHED, shown=at_best)
            return found(queries=len(other_rows), label=unreached, confidence=unreached)
        with stage("exact search, each image left out"):
            first, other = (ask(index, rows, self.rule, tolerance) for rows in (first_rows, other_rows))
        tried = try_rungs(first, [*firsts], [*middles, *lasts])
        most_risk = _HOPE * _ERROR * (1 - self.target_agreement) * len(first.rows)
        ladders = {answers: _to_test(tried, answers, [firsts, middles, lasts], most_risk) for answers in ANSWERS}
        tested = _try_ladders(other, [ladder for to_test in ladders.values() for ladder in to_test])
        label, confidence = (_choose(tested, ladders[name], name, self.target_agreement) for name in ANSWERS)
        return found(queries=len(other_rows), label=label, confidence=confidence)


def _rungs(index: Index, k: int) -> tuple[dict[Rung, float], ...]:
    """Rungs to stand first, in the middle and last in a ladder, each with its cost."""
    careful = index.careful(k).nprobe or 1
    nprobes = [2**i for i in range(careful.bit_length())]
    rungs = (
        itertools.product(nprobes[:_FIRST_NPROBES], _FIRST, [None]),
        itertools.product(nprobes, _MIDDLE, [] if index.is_regression else _CONFIDENCES),
        [*itertools.product([*nprobes, 2 * careful], _LAST, [0.0]), (None, None, 0.0)],
    )
    return tuple({Rung(*setting): _cost(index, Rung(*setting), k) for setting in settings} for settings in rungs)


def _cost(index: Index, rung: Rung, k: int) -> float:
    """About microseconds a query on one core of 2023."""
    metric, n, ivf = METRICS[index.metric], index.n, index.ivf
    settled = SETTLED + metric.settling_cost(index.vectors.dtype) * index.d
    coded = 0.0002 + 0.000012 * ivf.p  # of a query alone; a scan of all shares what it reads among queries
    to_lists = 0.2 + ivf.nlist * (0.00012 + 0.000006 * ivf.p)
    if rung.nprobe is None and not isinstance(metric, Euclidean):
        return metric.scan_cost * n * index.d + k * settled
    if rung.nprobe is None:
        return to_lists + (ROW + COMPONENT * ivf.p) * n + (4 * k + n // 60) * settled
    kept = rung.candidates(k, n)
    return to_lists + rung.nprobe * (0.05 + n / ivf.nlist * coded) + kept * (0.05 + settled)


def _draw(index: Index, target: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of stored images to ask first and to test: of these, enough to show the target with a few errors.

    None that the index was fitted to: its lists lie so that these are found more easily than a new image is.
    """
    seed = index.manifest.seed
    is_unseen = np.ones(index.n, dtype=np.bool_)
    is_unseen[index.fitted_rows] = False
    rows = np.random.default_rng([seed, 1]).permutation(np.flatnonzero(is_unseen))
    first, tested = _split(len(rows), target)
    return rows[:first], rows[first : first + tested]


def _split(unseen: int, target: float) -> tuple[int, int]:
    """Of so many images that the index was not fitted to, how many are asked first and how many test."""
    tested = int(np.clip(round(20 / (1 - target)), *_TESTED))
    first = int(np.clip(unseen - tested, unseen // 10, min(_FIRST_PART, unseen // 3)))
    return first, min(tested, unseen - first)


def asked_to_show(shown: Interval, target: float) -> int | None:
    """About how many images have to be asked to show a target by rungs that agree as these do; None if too many."""
    asked = 1.0
    while asked < _TOO_MANY and share_interval(shown.value * asked, asked).low < target:
        asked *= 1.02
    return round(asked) if asked < _TOO_MANY else None


def stored_to_ask(asked: int, target: float) -> int | None:
    """About how many stored images so many are asked of; None where so many are not asked, whatever is stored."""
    if asked > MOST_ASKED:
        return None
    n = asked
    while _split(n - training_count(n), target)[1] < asked:
        n += max(1, n // 50)
    return n


def _at_best(copies: NDArray[np.int64]) -> Interval | None:
    """What images in such groups of copies would show if all of them agreed; None if there are none."""
    return _agreement(np.ones(len(copies)), copies) if len(copies) else None


def _agreement(agreed: NDArray[np.generic], copies: NDArray[np.int64]) -> Interval:
    """The share of images that agree, with its interval.

    Copies fare alike, and are no independent trials: they count for as many as would tell as much (Kish 1965, Survey
    Sampling, the effective sample size).
    """
    sizes = np.bincount(copies).astype(np.float64)
    trials = len(copies) ** 2 / float(np.square(sizes).sum())
    right = float(agreed.sum())
    return replace(share_interval(right * (trials / len(copies)), trials), value=right / len(copies))


def _try_ladders(queries: Queries, ladders: list[Ladder]) -> Trials:
    """The rungs of some ladders, those that stand first in any of them on every query."""
    firsts = dict.fromkeys(ladder[0] for ladder in ladders)
    others = dict.fromkeys(rung for ladder in ladders for rung in ladder[1:])
    return try_rungs(queries, list(firsts), [rung for rung in others if rung not in firsts])


def _to_test(tried: Trials, answers: Answers, positions: list[dict[Rung, float]], most_risk: float) -> list[Ladder]:
    """Ladders that no other beats in both risk and cost, from the safest to the fastest of those with a hope."""
    ladders = _all_ladders(tried, answers, positions)
    by_cost = np.lexsort((ladders.risk, ladders.cost))
    fewest_before = np.minimum.accumulate(np.append(np.inf, ladders.risk[by_cost]))[:-1]
    front = by_cost[ladders.risk[by_cost] < fewest_before][::-1]
    kept, cost = [], positions[-1][EXACT] * tried.sure.shape[1]
    for place in front:
        if ladders.risk[place] <= most_risk and ladders.cost[place] <= _STEP * cost:
            kept.append(ladders.rungs[place])
            cost = ladders.cost[place]
    return kept


@dataclass(frozen=True)
class _Ladders:
    """Ladders that are begun or complete, l of them.

    Attributes:
        rungs: of each.
        risk: (l,) of all queries together, as `_risk` has it.
        cost: (l,) of all queries together.
        passed_on: (l, nq) float32, 1 for a query of which no rung was sure, else 0; of no use in complete ones.
    """

    rungs: list[Ladder]
    risk: NDArray[np.float64]
    cost: NDArray[np.float64]
    passed_on: NDArray[np.float32]


def _all_ladders(tried: Trials, answers: Answers, positions: list[dict[Rung, float]]) -> _Ladders:
    """Every ladder of a last rung, with a first one before it or none, and one in the middle or none."""
    firsts, middles, lasts = positions
    nq = tried.sure.shape[1]
    begun = _Ladders([()], np.zeros(1), np.zeros(1), np.ones((1, nq), dtype=np.float32))
    complete = [_extend(begun, lasts, tried, answers, is_last=True)]
    for position in (firsts, middles):
        begun = _extend(begun, position, tried, answers, is_last=False)
        complete.append(_extend(begun, lasts, tried, answers, is_last=True))
    return _Ladders(
        [rungs for ladders in complete for rungs in ladders.rungs],
        np.concatenate([ladders.risk for ladders in complete]),
        np.concatenate([ladders.cost for ladders in complete]),
        begun.passed_on[:0],
    )


def _extend(
    begun: _Ladders, position: dict[Rung, float], tried: Trials, answers: Answers, *, is_last: bool
) -> _Ladders:
    """Every ladder with every rung after it that looks farther; a rung settles the queries of which it is sure.

    All sums are of whole numbers, so that a matrix product in float32 adds them without rounding.
    """
    rungs, costs = list(position), np.array(list(position.values()))
    places = [tried.place[rung] for rung in rungs]
    sure, risk = tried.sure[places], _risk(tried, answers)[places]
    reach = np.array([(ladder[-1].nprobe or 0) if ladder else 0 for ladder in begun.rungs])
    before, after = np.nonzero(np.array([rung.nprobe or np.inf for rung in rungs]) > reach[:, None])
    settled_risk = begun.passed_on @ (sure * risk).T
    return _Ladders(
        [(*begun.rungs[i], rungs[j]) for i, j in zip(before, after, strict=True)],
        begun.risk[before] + settled_risk[before, after],
        begun.cost[before] + begun.passed_on.sum(axis=1)[before] * costs[after],
        begun.passed_on[:0] if is_last else begun.passed_on[before] * ~sure[after],
    )


def _risk(tried: Trials, answers: Answers) -> NDArray[np.float32]:
    """What each rung's answer to each query counts against it (s, nq): 10 if wrong, and 1 if its confidence is.

    Wrong confidences come with wrong labels but are many times as frequent, and so tell apart ladders of which few
    queries show any wrong label.
    """
    wrong, wrong_confidence = ~tried.right[answers], ~tried.right["confidence"]
    return (_ERROR * wrong + wrong_confidence).astype(np.float32)


def _choose(tested: Trials, ladders: list[Ladder], answers: Answers, target: float) -> MeasuredLadder:
    """The last ladder to pass before the second one fails; else exact search alone, with the best that failed."""
    kept, failures = _UNREACHED, 0
    for ladder in ladders:
        measured = _measure(tested, ladder, answers)
        if measured.agreement.low >= target:
            kept = replace(measured, reached=True)
        else:
            failures += 1
            if not kept.reached and (kept.shown is None or measured.agreement.low > kept.shown.low):
                kept = replace(kept, shown=measured.agreement)
        if failures == _FAILURES:
            break
    return kept


def _measure(tested: Trials, ladder: Ladder, answers: Answers) -> MeasuredLadder:
    """What a ladder does with the queries that test it."""
    places = [tested.place[rung] for rung in ladder]
    settled_by = tested.sure[places].argmax(axis=0)
    agreed = tested.right[answers][places][settled_by, np.arange(len(settled_by))]
    rungs = []
    for number, rung in enumerate(ladder):
        settled = agreed[settled_by == number]
        agreement = float(settled.mean()) if len(settled) else None
        rungs.append(MeasuredRung(rung, len(settled) / len(agreed), agreement))
    by_image = np.ones(tested.image.max() + 1, dtype=np.bool_)
    np.logical_and.at(by_image, tested.image, agreed)
    return MeasuredLadder(rungs=tuple(rungs), agreement=_agreement(by_image, tested.copies), reached=False)

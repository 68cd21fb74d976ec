"""Which rows of a job's outputs a person should look at: kinds of doubt, and in each the pairs of labels in turn."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from knnvote.classify.answer import ABSTAINED, BAD_IMAGE, OK
from knnvote.classify.decision import least_confidences
from knnvote.classify.job.finished import FinishedJob
from knnvote.classify.job.output import COLUMNS
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError

CLOSE, UNSURE, FAR, BAD = range(4)
KINDS = ("close votes", "abstained by the vote", "others, the farthest first", "bad images")
ANSWERS = ("best", "second", "confidence", "distance", "margin", "status", "reason")


@dataclass
class Doubts:
    """The first rows of each kind of doubt, whatever the number of rows that were seen.

    Within a kind the pairs of best and second label take turns, of bad images the reasons: the first row of each, then
    the second of each, and within a turn the more doubtful one first.

    Attributes:
        most: rows of a kind that are kept.
        rows: those that were seen, by kind.
        stored: rows that equal a stored image, of no kind, by their status.
        kept: columns of `ANSWERS`, file, row, kind, and when each was seen; of each kind in order.
    """

    most: int
    rows: Counter[int] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)
    kept: pa.Table | None = None

    def add(self, answers: pa.Table, rule: Rule) -> None:
        """See more rows, behind those before."""
        kinds = _kinds(answers, rule)
        seen = pa.array(np.arange(len(kinds)) + self.rows.total())
        self.rows.update(dict(enumerate(np.bincount(kinds, minlength=len(KINDS)).tolist())))
        answers = answers.append_column("kind", pa.array(kinds)).append_column("seen", seen)
        held = answers if self.kept is None else pa.concat_tables([self.kept, answers])
        kinds, keys = held["kind"].to_numpy(), _urgency(held, rule)
        turns = _places_within(np.stack([kinds, _groups(held, kinds)]), keys)
        places = _places_within(kinds[None], [turns, *keys])
        wanted = np.flatnonzero(places < self.most)
        order = wanted[np.lexsort([places[wanted], kinds[wanted]])]
        self.kept = held.take(pa.array(order)).combine_chunks()

    def in_turn(self) -> list[dict[str, Any]]:
        """What was kept, one row of each kind after the other, bad images last."""
        if self.kept is None:
            return []
        kinds = self.kept["kind"].to_numpy()
        places = _places_within(kinds[None], [])
        rows: list[dict[str, Any]] = self.kept.take(pa.array(np.lexsort([kinds, places, kinds == BAD]))).to_pylist()
        return rows


def find_doubts(job: FinishedJob, most: int) -> Doubts:
    """See all outputs of a job, batch by batch.

    Rows that equal a stored image are counted alone: what a person says of them was said before.

    Args:
        job: that has run.
        most: rows of a kind that are kept.

    Raises:
        KnnvoteError: an output cannot be read, or is of a version that wrote no best guess.
    """
    if job.record.options.get("columns") != COLUMNS:
        raise KnnvoteError(
            f"{job.out} was written by an older version of knnvote, without best, second and margin: "
            "classify into a new folder"
        )
    doubts = Doubts(most)
    for answers in job.every_answer(*ANSWERS):
        is_stored = job.equal_stored(answers["distance"])
        doubts.stored.update(answers.filter(pa.array(is_stored))["status"].to_pylist())
        doubts.add(answers.filter(pa.array(~is_stored)), job.record.rule)
    return doubts


def _kinds(answers: pa.Table, rule: Rule) -> NDArray[np.int64]:
    """(n,) the kind of doubt of each row; where all neighbours agree the distance alone tells."""
    is_bad, is_abstained, is_ok = (
        pc.equal(answers["status"], status).to_numpy() for status in (BAD_IMAGE, ABSTAINED, OK)
    )
    limit = np.inf if rule.limit is None else rule.limit
    is_unsure = is_abstained & ~(_numbers(answers, "distance") > limit)
    is_close = is_ok & (_numbers(answers, "margin") < 1)
    return np.select([is_bad, is_unsure, is_close], [BAD, UNSURE, CLOSE], FAR)


def _urgency(answers: pa.Table, rule: Rule) -> list[NDArray[np.float64]]:
    """Keys (n,), the first the most important, by which the more doubtful row of a kind comes first.

    Votes by how far the confidence is from the job's threshold, then by margin, then the farther first; the rest by its
    distance. By file and row last, so that batches leave no trace.
    """
    kinds = answers["kind"].to_numpy()
    confidence, margin, distance = (_numbers(answers, name) for name in ("confidence", "margin", "distance"))
    is_vote = (kinds == CLOSE) | (kinds == UNSURE)
    least = least_confidences(rule, answers["best"].combine_chunks())
    first = margin if least is None else np.abs(confidence - least)
    by_distance = np.where(kinds == BAD, 0, -distance)
    return [*(np.where(is_vote, key, 0) for key in (first, margin)), by_distance, _numbers(answers, "seen")]


def _groups(answers: pa.Table, kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the same number for rows with the same best and second label, of bad images with the same reason.

    Of a regression all rows are of one group.
    """
    if pa.types.is_floating(answers.schema.field("best").type):
        texts = [pa.nulls(len(answers), pa.string())] * 2
    else:
        texts = [answers[name].cast(pa.string()) for name in ("best", "second")]
    reason = pc.if_else(pa.array(kinds == BAD), answers["reason"], pa.scalar(None, pa.string()))
    joined = pc.binary_join_element_wise(*texts, reason, "\0", null_handling="replace")
    codes: NDArray[np.int64] = joined.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def _places_within(groups: NDArray[np.int64], keys: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """(n,) the place of each row among those of its group (m, n), by keys and then as they stand, from 0."""
    order = np.lexsort([*keys[::-1], *groups[::-1]])  # which is stable
    in_order = groups[:, order]
    n = len(order)
    is_first = np.ones(n, np.bool_)
    is_first[1:] = (in_order[:, 1:] != in_order[:, :-1]).any(axis=0)
    starts = np.maximum.accumulate(np.where(is_first, np.arange(n), 0))
    places = np.empty(n, np.int64)
    places[order] = np.arange(n) - starts
    return places


def _numbers(answers: pa.Table, name: str) -> NDArray[np.float64]:
    """(n,) a column with NaN for null."""
    numbers: NDArray[np.float64] = answers[name].to_numpy().astype(np.float64)
    return numbers

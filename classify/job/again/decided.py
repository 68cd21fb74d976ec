"""The rows of an output as another job would write them that needs no search: what is there decides, or votes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.classify.answer import BAD_IMAGE, answer_schema
from knnvote.classify.classifier import Classifier
from knnvote.classify.decision import Decision, decide
from knnvote.classify.job.receipt import Receipt
from knnvote.classify.job.work import Work
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.data.locations import Location
from knnvote.data.reading import ImageFile

from .beside import beside_input, names_of
from .follows import is_same_vote

_VOTERS = pa.list_(pa.struct([("row", pa.int64()), ("distance", pa.float64())]))


class AnsweredAgain(NamedTuple):
    """Some rows of an output as another job writes them: all their columns, and of each row its status and reason."""

    arrays: list[pa.Array]
    status: NDArray[np.object_]
    reason: NDArray[np.object_]


def answered_again(
    classifier: Classifier, work: Work, images: ImageFile, columns: Sequence[str], earlier: tuple[Location, Receipt]
) -> Iterator[AnsweredAgain]:
    """The rows of an output as a job would write them whose answers follow from it.

    The input's own columns are read from the input, as any job does, so that the bytes are those of a job anew.

    Args:
        classifier: the job's.
        work: the job.
        images: the input, open.
        columns: of it that go on.
        earlier: the output that was made of it, and its receipt.

    Raises:
        KnnvoteError: the output cannot be read.
    """
    output, receipt = earlier
    if is_same_vote(work.made_from, receipt.made_from):
        added = answer_schema(classifier.index, **work.options.output.of_answers)
        for of_input, batch in beside_input(images, columns, output, added):
            values, decision = _decided(classifier.rule, dict(zip(names_of(added), batch, strict=True)))
            yield AnsweredAgain([*of_input, *values], decision.status, decision.reason)
        return
    prefix = work.options.output.prefix
    read = pa.schema(
        [(f"{prefix}neighbors", _VOTERS), *((prefix + name, pa.string()) for name in ("status", "reason"))]
    )
    for of_input, (voters, status, reason) in beside_input(images, columns, output, read):
        D, I = _first_voters(voters, classifier, output)
        answer = classifier.answer_neighbors(D, I, _bad(status, reason))
        yield AnsweredAgain(
            [*of_input, *answer.to_table(**work.options.output.of_answers).columns], answer.status, answer.reason
        )


def _decided(rule: Rule, values: dict[str, pa.Array]) -> tuple[list[pa.Array], Decision]:
    """All that an output added to some rows, and what a rule decides of them."""
    distance, confidence = (
        values[name].to_numpy(zero_copy_only=False).astype(np.float64) for name in ("distance", "confidence")
    )
    decision = decide(rule, values["best"], distance, confidence, _bad(values["status"], values["reason"]))
    decided = {
        "prediction": decision.prediction,
        "status": pa.array(decision.status, pa.string()),
        "reason": pa.array(decision.reason, pa.string()),
    }
    return [*(values | decided).values()], decision


def _bad(status: pa.Array, reason: pa.Array) -> dict[int, str]:
    """The rows that are no image, each with the reason."""
    rows = np.flatnonzero(status.to_numpy(zero_copy_only=False) == BAD_IMAGE)
    return dict(zip(rows.tolist(), reason.take(pa.array(rows)).to_pylist(), strict=True))


def _first_voters(
    voters: pa.ListArray, classifier: Classifier, output: Location
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """D and I (nq, k) of the first neighbours that an output holds, as many as vote; NaN and -1 where it holds none."""
    k, n = classifier.rule.k, classifier.index.n
    is_image = voters.is_valid().to_numpy(zero_copy_only=False)
    held = voters.flatten()
    I, D = np.full((len(voters), k), -1), np.full((len(voters), k), np.nan)
    if not is_image.any():
        return D, I
    lengths = np.diff(voters.offsets)[is_image]
    rows, distances = (held.field(name) for name in ("row", "distance"))
    if rows.null_count or distances.null_count or (lengths != lengths[0]).any() or lengths[0] < k:
        raise _unusable(output)
    I[is_image] = rows.to_numpy().reshape(-1, lengths[0])[:, :k]
    D[is_image] = distances.to_numpy().reshape(-1, lengths[0])[:, :k]
    if not (I[is_image].min() >= 0 and I.max() < n and np.isfinite(D[is_image]).all()):
        raise _unusable(output)
    return D, I


def _unusable(output: Location) -> KnnvoteError:
    return KnnvoteError(f"{output} holds other neighbours than its receipt says: remove it and run the job again")

"""What a job keeps of the outputs that are there, where it is told to answer only the rows that abstained."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.classify.answer import ABSTAINED
from knnvote.classify.job.output import read_answers
from knnvote.classify.job.receipt import Kept, Receipt, read_receipt
from knnvote.classify.job.record import differences
from knnvote.data.errors import KnnvoteError
from knnvote.data.locations import Location
from knnvote.data.reading import ImageFile

from .beside import beside_input, names_of


class ChangedError(KnnvoteError):
    """An output was replaced by another run while a job read what it keeps of it: what is there now decides."""


def kept_from(earlier: Receipt, made_from: dict[str, Any]) -> tuple[Kept, ...]:
    """Of the rows that a job keeps of an output, those that it would not itself have answered so, by earlier job."""
    jobs = [*earlier.kept]
    own = earlier.counts.ok - sum(job.rows for job in jobs)
    jobs.append(Kept(earlier.index, _without_only(earlier.options), own))
    now = {**made_from, "options": _without_only(made_from["options"])}
    return tuple(job for job in join_kept(jobs) if job.rows and job.made_from != now)


def refuse_changed(output: Location, receipt: Receipt) -> None:
    """Refuse to go on with an output that is no longer the one of this receipt, whose seal tells it from any other.

    Raises:
        ChangedError: it was replaced, or is gone.
    """
    if read_receipt(output) != receipt:
        raise _changed(output)


def _changed(output: Location) -> ChangedError:
    return ChangedError(f"{output} was changed while it was read: run the job again")


def of_unchanged(arrays: Iterator[list[pa.Array]], output: Location, receipt: Receipt) -> Iterator[list[pa.Array]]:
    """What is made of an output, as long as nobody replaces it: it is read more than once.

    Raises:
        ChangedError: it is no longer the one of this receipt when all is read, or reading failed.
    """
    try:
        yield from arrays
    except KnnvoteError:
        refuse_changed(output, receipt)
        raise
    refuse_changed(output, receipt)


def join_kept(jobs: Sequence[Kept]) -> list[Kept]:
    """Rows kept of the same job together, in the order of their first."""
    found: list[Kept] = []
    for job in jobs:
        place = next((place for place, other in enumerate(found) if other.made_from == job.made_from), None)
        if place is None:
            found.append(job)
        else:
            found[place] = replace(job, rows=job.rows + found[place].rows)
    return found


def tell_kept(jobs: Sequence[Kept], made_from: dict[str, Any], ok: int) -> list[str]:
    """A sentence, with parameters marked, for each earlier job of whose answers a job keeps some.

    Args:
        jobs: those.
        made_from: what all receipts of the job share.
        ok: answers of the job, with those.
    """
    now = {**made_from, "options": _without_only(made_from["options"])}
    return [
        f"{job.rows:,} of {ok:,} answers are kept of an earlier job: {'; '.join(differences(job.made_from, now))}"
        for job in jobs
    ]


def _without_only(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "only"}


def abstained_rows(output: Location, prefix: str) -> NDArray[np.int64]:
    """The rows of an output that abstained, ascending."""
    found, first = [np.empty(0, np.int64)], 0
    for (status,) in read_answers(output, prefix, "status"):
        found.append(first + np.flatnonzero(status.to_numpy(zero_copy_only=False) == ABSTAINED))
        first += len(status)
    return np.concatenate(found)


def with_kept(
    images: ImageFile, columns: Sequence[str], earlier: Location, added: pa.Schema, fresh: Iterator[pa.Table]
) -> Iterator[tuple[list[pa.Array], NDArray[np.object_], NDArray[np.object_]]]:
    """The rows of an output as they stand, but for those that abstained.

    Args:
        images: the input, open.
        columns: of it that go on.
        earlier: the output that was made of it.
        added: the columns that follow.
        fresh: those columns of the rows that abstained, some rows at a time.

    Yields:
        All columns of some rows, their status, and the reasons.

    Raises:
        KnnvoteError: the output cannot be read.
        ChangedError: other rows of it abstained than there are answers for.
    """
    held = added.empty_table()
    status, reason = (names_of(added).index(name) for name in ("status", "reason"))
    for of_input, batch in beside_input(images, columns, earlier, added):
        wanted = np.flatnonzero(batch[status].to_numpy(zero_copy_only=False) == ABSTAINED)
        while len(held) < len(wanted):
            more = next(fresh, None)
            if more is None:
                raise _changed(earlier)
            held = pa.concat_tables([held, more])
        now, held = held[: len(wanted)], held[len(wanted) :]
        places = np.arange(len(batch[status]))
        places[wanted] = len(places) + np.arange(len(wanted))
        answers = [
            pa.concat_arrays([before, *column.chunks]).take(pa.array(places))
            for before, column in zip(batch, now.columns, strict=True)
        ]
        told = (answers[place].to_numpy(zero_copy_only=False) for place in (status, reason))
        yield [*of_input, *answers], *told
    if len(held) or next(fresh, None) is not None:
        raise _changed(earlier)

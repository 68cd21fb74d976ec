"""Sums over the outputs of a finished job: rows by status, by label, and by the reason for having none."""

from collections import Counter
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from knnvote.classify.answer import ABSTAINED, BAD_IMAGE
from knnvote.classify.reasons import ReasonCounts
from knnvote.data.locations import Location

from .finished import FinishedJob
from .output import count_values, read_answers
from .parts.left import Rest
from .parts.plan import read_plan
from .receipt import Counts
from .record import read_failures


def sum_up(job: FinishedJob) -> dict[str, Any]:
    """Sums over all outputs of a job: rows by status, by label, and by the reason for having none."""
    counts, record = Counts(), job.record
    labels: Counter[Any] = Counter()
    reasons = {ABSTAINED: ReasonCounts(), BAD_IMAGE: ReasonCounts()}
    plan = read_plan(job.out)
    rest = None if plan is None else Rest.of(job.out, plan)
    for name, receipt in job.receipts.items():
        counts += receipt.counts
        _tally(job.out / name, record.prefix, labels, reasons)
    return {
        "index": record.index,
        "options": record.options,
        "files": len(job.receipts),
        "inputs": len(record.inputs.keys() | job.receipts.keys()),
        "left_out": job.left_out,
        "kept": [vars(kept) for kept in job.kept],
        **asdict(counts),
        "labels": dict(sorted(labels.items(), key=lambda pair: (isinstance(pair[0], str), pair[0]))),
        "abstained_because": reasons[ABSTAINED].most_common(),
        "bad_because": reasons[BAD_IMAGE].most_common(),
        "failures": read_failures(job.out) | ({} if rest is None else rest.failed),
        "parts": None if rest is None else rest.to_json(),
    }


def _tally(output: Location, prefix: str, labels: Counter[Any], reasons: dict[str, ReasonCounts]) -> None:
    """Count the labels of an output file (of a regression, none) and, by status, its reasons."""
    for prediction, status, reason in read_answers(output, prefix, "prediction", "status", "reason"):
        if not pa.types.is_floating(prediction.type):
            labels.update(count_values(prediction.drop_null()))
        for name, counted in reasons.items():
            for text, times in count_values(reason.filter(pc.equal(status, name))).items():
                counted.add(str(text), times)

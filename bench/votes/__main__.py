"""The votes that people use on embeddings, on the same vectors: `python -m bench.votes TRAIN.parquet TEST.parquet`.

Each vote takes the k nearest by cosine similarity, at the same k and T: knnvote's, scikit-learn's, faissknn's and
DINOv2's. Their labels, accuracy and speed stand side by side. Then some classes are left out of the index, and what
thresholds refuse of their rows stands beside what they let pass of the others.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from bench.problem import Problem, read_problem
from bench.table import new_table, print_legend, print_table
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, OptionError
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.threads import limit_threads

from .rules import Contender, Stored, contenders
from .scope import LIMITS, Draw, draws, mean

_TOP = 5
_LEGEND = (
    "differ: rows with another label than knnvote's vote with the same weights and ties; top-5: the true class is "
    "among the five with the largest shares; speed: rows a processor-second, search and vote, over faissknn's in the "
    "same turn"
)
_SCOPE_LEGEND = (
    "AUROC: how probably a row in scope has a higher confidence, or a nearer neighbour, than one out of scope; "
    "refused: rows out of scope without an answer (least and most of the draws); answered: rows in scope with one; "
    "right: of these; right of all: of all answers, those to rows out of scope too"
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A vote on the test rows.

    Attributes:
        contender: whose.
        labels: (nq,) classes.
        accuracy: share of right ones.
        balanced: mean of these shares over the true classes.
        top5: share of rows whose true class is among the five with the largest shares of the vote.
        rates: rows a processor-second, for each turn.
    """

    contender: Contender
    labels: NDArray[np.int64]
    accuracy: float
    balanced: float
    top5: float
    rates: list[float]


def measure(problem: Problem, stored: Stored, k: int, temperature: float, turns: int) -> list[Measured]:
    """All votes of k neighbours, timed in turns."""
    xq = np.ascontiguousarray(problem.xq, dtype=np.float32)
    made = [(contender, contender.make(stored, contender.rule)) for contender in contenders(k, temperature)]
    found = [_judge(contender, vote.predict(xq), vote.shares(xq), problem.truth) for contender, vote in made]
    for _ in range(turns):
        for (_, vote), measured in zip(made, found, strict=True):
            start = time.process_time()
            vote.predict(xq)
            measured.rates.append(len(xq) / (time.process_time() - start))
    return found


def _judge(
    contender: Contender, labels: NDArray[np.int64], shares: NDArray[np.float64], truth: NDArray[np.int32]
) -> Measured:
    right = labels == truth
    images = np.bincount(truth)
    by_class = np.bincount(truth, weights=right)[images > 0] / images[images > 0]
    best = np.argsort(-shares, axis=1, kind="stable")[:, :_TOP]
    has_votes = np.take_along_axis(shares, best, axis=1) > 0
    return Measured(
        contender=contender,
        labels=labels,
        accuracy=float(right.mean()),
        balanced=float(by_class.mean()),
        top5=float(((best == truth[:, None]) & has_votes).any(axis=1).mean()),
        rates=[],
    )


def print_votes(found: Sequence[Measured], title: str) -> None:
    """The table of one k."""
    table = new_table(title, "vote", "weights", "accuracy", "balanced", "top-5", "differ", "rows/s", "speed")
    ours = {each.contender.rule: each.labels for each in found if each.contender.name.startswith("knnvote")}
    for each in found:
        differ = int((each.labels != ours[each.contender.rule]).sum())
        ratios = [rate / first for rate, first in zip(each.rates, found[0].rates, strict=True)]
        table.add_row(
            each.contender.name,
            each.contender.rule.stored_weights,
            *(f"{share:.4f}" for share in (each.accuracy, each.balanced, each.top5)),
            str(differ),
            f"{statistics.median(each.rates):,.0f}",
            f"{statistics.median(ratios):.2f} x",
        )
    print_table(table)


def print_scope(rules: Sequence[Rule], found: Sequence[Sequence[Draw]], title: str) -> None:
    """A table of how confidence and distance tell rows apart, and one of what limits refuse, for each rule."""
    apart = new_table(title, "k", "weights", "accuracy in scope", "AUROC of confidence", "AUROC of distance")
    limited = new_table("", "k", "weights", "limits", "refused", "", "answered", "right", "right of all", left=3)
    for place, rule in enumerate(rules):
        drawn = [draw[place] for draw in found]
        named = (str(rule.k), rule.stored_weights)
        shares = ([getattr(draw, name) for draw in drawn] for name in ("accuracy", "by_confidence", "by_distance"))
        apart.add_row(*named, *(f"{statistics.fmean(of_draws):.4f}" for of_draws in shares))
        for limits in LIMITS:
            reached = [each for draw in drawn if (each := draw.refusals[limits]) is not None]
            if len(reached) < len(drawn):
                limited.add_row(*named, limits.shown, "", "not reached")
                continue
            of_all, refused = mean(reached), [each.refused for each in reached]
            cells = (of_all.answered, of_all.right, of_all.right_of_all)
            spread = f"{min(refused):.1%}-{max(refused):.1%}"
            limited.add_row(*named, limits.shown, f"{of_all.refused:.1%}", spread, *(f"{cell:.1%}" for cell in cells))
    print_table(apart)
    print_table(limited)


def _read(train: str, test: str, folder: Path) -> tuple[Problem, Stored]:
    problem = read_problem(train, test, folder)
    if (problem.truth < 0).any():
        raise KnnvoteError(f"{test} has rows without a label: give labelled ones, for votes are judged by them")
    x = np.asarray(problem.x, dtype=np.float32)
    if not all(np.allclose(np.square(v.astype(np.float64)).sum(axis=1), 1, atol=1e-3) for v in (x, problem.xq)):
        raise KnnvoteError(f"{train} and {test} hold vectors of other lengths than 1: divide each by its length")
    path = folder / "cosine.knn"
    index_arrays(x, problem.codes, path, options=IndexOptions(metric="cosine", threads=1))
    return problem, Stored(open_index(path), x, problem.codes)


@click.command()
@click.argument("train")
@click.argument("test")
@click.option("--k", "ks", type=click.IntRange(min=1), multiple=True, default=(5, 20), show_default=True)
@click.option("--temperature", type=float, default=0.07, show_default=True, help="T of softmax.")
@click.option("--turns", type=click.IntRange(min=1), default=5, show_default=True, help="Of timing.")
@click.option("--left-out", type=click.IntRange(min=1), default=15, show_default=True, help="Classes out of scope.")
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Draws of these classes.")
def main(train: str, test: str, *, ks: tuple[int, ...], temperature: float, turns: int, **of_draws: int) -> None:
    """Set votes over the nearest by cosine side by side, and show what thresholds refuse.

    TRAIN is a Parquet file of labelled vectors of length 1 to store, TEST one of others with labels. One thread.

    Example: python -m bench.votes train.parquet test.parquet --k 10
    """
    try:
        with limit_threads(1), tempfile.TemporaryDirectory(prefix="votes-") as scratch:
            problem, stored = _read(train, test, Path(scratch))
            rows = f"{len(problem.x):,} stored and {len(problem.xq):,} test rows"
            for k in ks:
                click.echo(f"votes of {k}", err=True)
                found = measure(problem, stored, k, temperature, turns)
                print_votes(found, f"{rows}, k = {k}, one thread, medians of {turns} turns")
            print_legend(_LEGEND)
            weights = ("uniform", f"softmax[{temperature!r}]")
            _show_scope(problem, [Rule(k=k, weights=each) for k in ks for each in weights], Path(scratch), **of_draws)
    except KnnvoteError as error:
        raise click.ClickException(str(error)) from error


def _show_scope(problem: Problem, rules: Sequence[Rule], folder: Path, *, left_out: int, seeds: int) -> None:
    """Leave classes out, and print what becomes of their rows."""
    classes = problem.codes.max() + 1
    if left_out > classes - 2:
        raise OptionError(f"--left-out is {left_out}, of {classes} classes: leave out {classes - 2} at most")
    found = []
    for draw in draws(problem, rules, left_out=left_out, seeds=seeds, folder=folder):
        found.append(draw)
        click.echo(f"draw {len(found)} of {seeds}", err=True)
    print_scope(rules, found, f"{left_out} of {classes} classes left out, means of {seeds} draws")
    print_legend(_SCOPE_LEGEND)


if __name__ == "__main__":
    sys.exit(main(prog_name="python -m bench.votes"))

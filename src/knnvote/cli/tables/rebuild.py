"""The command that builds an index as another is, with steps or a vote that was found to be better."""

import shlex
from collections.abc import Sequence

from knnvote.indexer.labels import is_usual_name
from knnvote.indexer.manifest import Manifest
from knnvote.indexer.names import ClassWeight
from knnvote.indexer.records.growth import lost_told
from knnvote.indexer.rungs import VoteDefaults

from .table import print_line, print_text


def print_index_command(what: str, command: str, manifest: Manifest) -> None:
    """The command on stdout, what it is for, and before it what its index will not have that this one has."""
    if (lost := lost_told(manifest.growth, manifest.relabelled_from)) is not None:
        print_text(f"the index has {lost}")
    joined = "" if manifest.label_column is None else ", with --labels too where its labels had a file of their own"
    print_text(f"{what}{joined}:")
    print_line(command)


def index_command(
    asked: str, manifest: Manifest, *, steps: Sequence[str], k: int, weights: str, class_weight: ClassWeight
) -> str:
    """The command that builds an index like one that was asked, but with these steps, and for this vote."""
    chain = [word for step in steps for word in ("--step", step)]
    label_column = None if is_usual_name(manifest.label_column) else manifest.label_column
    vote = manifest.vote or VoteDefaults()
    limit, acceptance = vote.max_distance, vote.acceptance
    weighed = class_weight if class_weight in {None, "balanced"} else "FILE"
    given = {
        "--kind": None if manifest.kind in {"exact", "factory"} else manifest.kind,
        "--factory": manifest.factory if manifest.kind == "factory" else None,
        "--metric": None if manifest.metric == "l2" else manifest.metric,
        "--task": "regression" if manifest.is_regression else None,
        "--k": k,
        "--weights": weights,
        "--ties": None if vote.ties == "nearest" else vote.ties,
        "--class-weight": weighed,
        "--label-column": label_column,
        "--id-column": manifest.id_column,
        "--group-column": manifest.group_column,
        "--weight-column": manifest.weight_column,
        "--background": manifest.background,
        "--shape": None if len(manifest.shape) < 3 else "x".join(map(str, manifest.shape)),
        "--seed": manifest.seed or None,
        "--max-distance": None if limit is None else "auto" if limit.is_found else f"{limit.limit:.9g}",
        "--false-alarms": None if limit is None else limit.false_alarms,
        "--target-accuracy": None if acceptance is None else acceptance.target_accuracy,
        **{f"--{name}": rows for name, rows in manifest.part.items()},
    }
    options = [word for option, value in given.items() if value is not None for word in (option, str(value))]
    by_class = acceptance is not None and bool(acceptance.by_class)
    flags = {"--by-class": by_class, "--grayscale": manifest.grayscale is not None, "--skip-bad": manifest.skipped > 0}
    keep = [word for name in manifest.keep for word in ("--keep", name)]
    words = [*chain, *options, *keep, *(flag for flag, is_given in flags.items() if is_given)]
    out = (asked.rpartition("/")[2] if "://" in asked else asked).rstrip("/").removesuffix(".knn")
    return f"knnvote index IMAGES... {shlex.join(['--out', f'{out}-best.knn', *words])}"

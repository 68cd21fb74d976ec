"""How to build an index again that an earlier version wrote in a way that is no longer read."""

import shlex
from pathlib import Path
from typing import Any

from knnvote.data.errors import as_recorded
from knnvote.data.locations import Location


def build_again(path: Path | Location, record: dict[str, Any]) -> str:
    """How to build an index again, from the record of one of an earlier format."""
    try:
        files = [source["path"] for source in record["sources"]]
        options = [
            word
            for name, value in _given(record).items()
            if value is not None
            for word in (as_recorded(name), str(value))
        ]
        flags = [as_recorded(flag) for flag, is_given in _flags(record).items() if is_given]
        command = [
            "knnvote",
            "index",
            *files,
            as_recorded("out"),
            str(path),
            *options,
            *flags,
            as_recorded("overwrite"),
        ]
        return f"build it again with {shlex.join(command) if files else 'overwrite, from the arrays it was made of'}"
    except (AttributeError, LookupError, TypeError):  # another program wrote it
        return "build it again from its images"


def _given(record: dict[str, Any]) -> dict[str, Any]:
    """Options of `knnvote index` that a record tells, where they are not what is taken without them."""
    tuned = record["search"].get("tuned") or {}
    told = {
        "kind": (record["kind"], "exact"),
        "metric": (record["metric"], "l2"),
        "task": (record["task"], "classification"),
        "image_column": (None if "feature_names" in record else record["image_column"], "image"),
        "label_column": (record["label_column"], "label"),
        "id_column": (record["id_column"], None),
        "background": (record["vector"].get("background"), None),
        "seed": (record["seed"], 0),
        "k": (tuned.get("k"), 5),
        "weights": (tuned.get("weights"), "uniform"),
        "ties": (tuned.get("ties"), "nearest"),
        "target_agreement": (tuned.get("target_agreement"), 0.999),
    }
    return {option: value for option, (value, default) in told.items() if value != default}


def _flags(record: dict[str, Any]) -> dict[str, bool]:
    return {"grayscale": record["vector"]["grayscale"] is not None, "skip_bad": record["skipped"] > 0}

"""What interrupted writers of index folders leave, known by its names."""

import re
from pathlib import Path

from knnvote.data.errors import KnnvoteError
from knnvote.data.locations import Location, locate

from .fields import CODES, FITTED, IMAGES, STEPS

LOCK = "lock"
WORK = ".building"  # the folder of what a build keeps until it is done
_OF_BEFORE = "bounds"  # a role in a format before
_ROLES = "|".join(("index", "vectors", *CODES, FITTED, IMAGES, STEPS, _OF_BEFORE, "labels", "timing"))
GENERATION_NAME = re.compile(rf"({_ROLES})-(\d{{1,4000}})\.(faiss|raw|npy|parquet|json)")
_UNFINISHED_NAME = re.compile(rf"\.(manifest|({_ROLES})-\d+)\.[a-z]+\.\d+\.tmp")


def is_leftover(name: str) -> bool:
    """Whether a file of this name is one that a writer of index folders made, finished or not."""
    return bool(GENERATION_NAME.fullmatch(name) or _UNFINISHED_NAME.fullmatch(name) or name in {LOCK, WORK})


def refuse_unfinished(path: Path | Location | str) -> None:
    """Say of a folder without a manifest that it is an unfinished build, if it holds what such a one leaves alone.

    Raises:
        KnnvoteError: it is one.
    """
    folder = locate(path)
    names = folder.below(recursive=False) if folder.is_folder else {}
    if names and all(map(is_leftover, names)):
        raise KnnvoteError(
            f"{path} is an unfinished build, without a manifest.json: run its knnvote index command again"
        )

"""Which files of a folder are its inputs, where files of several kinds lie in it."""

import re
import shlex
from collections.abc import Sequence

from knnvote.data.errors import KnnvoteError, warn
from knnvote.data.locations import Location

from .endings import NUMPY_ENDINGS, is_arrow
from .left_out import tell_beside

_TAR = ".tar"
_OF_CACHE = re.compile(r"(^|/)cache-[0-9a-f]+(_\d+_of_\d+)?\.arrow$")  # of what `datasets` has made of others


def inputs_of_folder(
    folder: Location, names: Sequence[str], images: Sequence[str], tables: tuple[str, ...]
) -> list[str]:
    """The files of the first kind that there is: Parquet, tar, images, Arrow, arrays; others are told.

    Args:
        folder: that was named.
        names: of visible files in it.
        images: the image files among these and others.
        tables: endings of Parquet files, and of what else counts as they do.

    Raises:
        KnnvoteError: there are tar files and image files.
    """
    kinds = {
        "Parquet files": [name for name in names if name.endswith(tables)],
        "tar files": [name for name in names if name.endswith(_TAR)],
        "files of images": [*images],
        "Arrow files": _without_caches(folder, [name for name in names if is_arrow(name)]),
        "files of arrays": [name for name in names if name.lower().endswith(NUMPY_ENDINGS)],
    }
    parquet, tars = kinds["Parquet files"], kinds["tar files"]
    if tars and images and not parquet:
        raise KnnvoteError(
            f"{folder} holds tar files and image files, such as {tars[0]} and {images[0]}: give "
            f"{shlex.quote(str(folder / '**/*.tar'))}, or the folder of the images"
        )
    kind = next((kind for kind, found in kinds.items() if found), None)
    if kind is None:
        return []
    tell_beside(folder, kinds[kind], [name for other in kinds if other != kind for name in kinds[other]], kind)
    return kinds[kind]


def _without_caches(folder: Location, names: Sequence[str]) -> list[str]:
    """Files of a data set but for what `datasets` has made of it meanwhile, which is told."""
    found = [name for name in names if not _OF_CACHE.search(name)]
    if not found:
        return [*names]
    if len(found) < len(names):
        left = next(name for name in names if name not in found)
        warn(f"{folder}: {len(names) - len(found):,} file(s) of a cache are left out, the first {left}")
    return found

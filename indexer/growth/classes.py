"""Classes that labels given to images have and an index has not, and those that no image of it has any more."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from knnvote.data.errors import KnnvoteError, param
from knnvote.indexer.index import Index
from knnvote.indexer.labels import like_known, show_class

_SHOWN = 5  # classes in a message


def refuse_new_classes(index: Index, labels: pa.Array, where: Callable[[int], str]) -> None:
    """Refuse labels that people wrote and that an index has no class for, by name or image: most are mistyped.

    Args:
        index: an opened one.
        labels: (m,) of its type or a wider one, null where there is none.
        where: of the place of a label what is given it, and in which line.

    Raises:
        KnnvoteError: naming the first of them, all classes, and what may be meant.
    """
    if index.is_regression or index.manifest.class_names is not None:  # of which none has a number or name else
        return
    given, known = pc.unique(labels.drop_null()), index.labels.unique().cast(labels.type)
    new = given.filter(pc.invert(pc.is_in(given, value_set=known)))
    if not len(new):
        return
    rows = pc.is_in(labels, value_set=new).true_count
    first, shown = f"the label of {where(labels.index(new[0]).as_py())}", _shown(index, new.to_pylist())
    told = f"{index.path} has no class {shown}, {first}"
    if rows > 1:
        classes = "a class" if len(new) == 1 else f"{len(new):,} classes"
        told = f"{rows:,} labels are of {classes} that {index.path} has not: {shown}; the first is {first}"
    raise KnnvoteError(
        f"{told}; nothing was changed: mend the list, or pass {param('new_classes=True')} if "
        f"{'a new class is' if len(new) == 1 else 'new classes are'} meant"
    )


def tell_of_classes(index: Index, labels: pa.Array, tell: Callable[[str], None]) -> None:
    """Tell of classes that are new with the labels (n,) that an index is to have, and of those that no image has then.

    Args:
        index: as it is.
        labels: of its images, as they are to be.
        tell: told.
    """
    if index.is_regression:
        return
    before, after = set(index.manifest.classes), set(labels.unique().to_pylist())
    for told, some in (("new classes of {}", after - before), ("classes of which {} has no image now", before - after)):
        if some:
            tell(f"{told.format(index.path)}: {_shown(index, sorted(some), before - some)}")


def _shown(index: Index, classes: Sequence[Any], known: set[Any] | None = None) -> str:
    """Some classes, and behind each a known one that is meant, if it is mistyped."""
    names = index.manifest.class_names
    like = sorted(set(index.manifest.classes) if known is None else known)
    shown = [f"{show_class(label, names)}{like_known(label, like)}" for label in classes[:_SHOWN]]
    more = f" and {len(classes) - _SHOWN:,} more" if len(classes) > _SHOWN else ""
    return f"{', '.join(shown)}{more}"

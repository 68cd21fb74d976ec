"""The index that answers now, and the next generation of it, taken up when it is written."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import pyarrow as pa

from knnvote.classify.classifier import Classifier
from knnvote.classify.search.ladder import Promise
from knnvote.data.errors import KnnvoteError
from knnvote.data.layout import ImageOptions, Layout
from knnvote.data.locations import Location, locate
from knnvote.data.progress import log
from knnvote.indexer.folder.open import OpenedIndex
from knnvote.indexer.index import Index
from knnvote.indexer.manifest import MANIFEST

from .drawing import Drawings

ENCODED = "image"  # the column of images that come without one
_LOCAL_SECONDS, _REMOTE_SECONDS = 1.0, 60.0  # from one look at the manifest to the next


@dataclass(frozen=True, eq=False)
class Served:
    """One opened generation of the index, with what requests need of it again and again.

    Attributes:
        classifier: with the rule that the service was started with.
        drawings: how pictures are made for it; None where its images are no pictures in grey.
    """

    classifier: Classifier
    drawings: Drawings | None
    _asked: dict[Promise, Classifier] = field(default_factory=dict, repr=False)
    _encoded: dict[ImageOptions, Layout] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, classifier: Classifier) -> "Served":
        """A classifier as it is served: by its index's name, for no client is told where that lies."""
        index = classifier.index
        address = index.address if isinstance(index, OpenedIndex) else ""
        named = replace(index, path=Path(PurePosixPath(address or index.path).name))
        return cls(replace(classifier, index=named), Drawings.of(named))

    @property
    def index(self) -> Index:
        """That answers."""
        return self.classifier.index

    @property
    def version(self) -> str:
        """What tells this content from any other, short enough to be read."""
        return self.index.fingerprint[:12]

    def asked(self, promise: Promise) -> Classifier:
        """The classifier that promises what is asked of the search."""
        if promise not in self._asked:
            self._asked[promise] = replace(self.classifier, promise=promise)
        return self._asked[promise]

    def encoded(self, options: ImageOptions) -> Layout:
        """The layout of encoded images that came without a table.

        Raises:
            ImageFileError: the options name another column, or do not fit the index.
        """
        if options not in self._encoded:
            nothing = pa.table({ENCODED: pa.array([], pa.large_binary())})
            self._encoded[options] = self.classifier.recognise(nothing, options)
        return self._encoded[options]


class Current:
    """What is served now.

    A request goes on with what was current when it came: the mapped files of a generation stay as long as it is used.

    Attributes:
        served: now.
        renewals: how often a newer generation was taken up.
        failures: how often one could not be.
    """

    def __init__(self, open_classifier: Callable[[], Classifier]) -> None:
        """Open the index.

        Args:
            open_classifier: opens it as it is then.

        Raises:
            KnnvoteError: it cannot be opened.
        """
        self._open = open_classifier
        classifier = open_classifier()
        self.served = Served.of(classifier)
        self.renewals = self.failures = 0
        self._manifest = _manifest_of(classifier.index)
        self._seen = self._read()

    @property
    def seconds(self) -> float:
        """From one look at the manifest to the next."""
        return _LOCAL_SECONDS if self._manifest is None or self._manifest.is_local else _REMOTE_SECONDS

    def renew(self) -> None:
        """Open the index anew if its manifest is another one than before; what cannot be opened is told and left.

        Files of a generation are written before the manifest that names them, so that a new one is whole.
        """
        found = self._read()
        if found is None or found == self._seen:
            return
        self._seen = found
        try:
            self.served = Served.of(self._open())
        except Exception as error:  # noqa: BLE001 - whatever it is, the one before answers on
            self.failures += 1
            told = error if isinstance(error, KnnvoteError) else repr(error)
            log.warning("the index was written anew and cannot be served, the one before answers on: %s", told)
        else:
            self.renewals += 1
            log.info("%s: a new generation answers, %s", self.served.index.path, self.served.version)

    def _read(self) -> bytes | None:
        try:
            return None if self._manifest is None else self._manifest.read_if_there()
        except KnnvoteError:  # of a store that does not answer now
            return None


def _manifest_of(index: Index) -> Location | None:
    """The manifest of an index that lies somewhere; None of one in memory."""
    return locate(index.address) / MANIFEST if isinstance(index, OpenedIndex) and index.address else None

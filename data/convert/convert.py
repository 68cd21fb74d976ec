"""Images of other formats, any of them gzipped, to a Parquet file."""

import codecs
from collections.abc import Sequence
from pathlib import Path

from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.data.tables import write_table

from .arrays import IDX_MAGIC, NPY_MAGIC, ZIP_MAGIC, StoredArray, choose_table, read_headers
from .delimited import convert_delimited
from .json_lines import convert_json
from .labels_file import read_labels
from .saved import saved_arrays
from .source import FORMATS, Tell, first_character, open_source, reading

_HEAD = 512
_ARROW = (b"ARROW1", b"\xff\xff\xff\xff")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def convert(
    sources: Sequence[Path],
    destination: Path,
    *,
    images_key: str | None = None,
    labels_key: str | None = None,
    label_column: int | None = None,
    overwrite: bool = False,
    tell: Tell = lambda _note: None,
) -> int:
    """Convert images, and their labels if there are any, to one Parquet file.

    The format is told by content, and so is gzip. From IDX, NPZ and NPY the array of rank 2 or more, (n, *shape) of
    numbers, becomes the column ``image`` and the array (n,) the column ``label``; they may stand in two files, in
    either order, and labels in text, one a line. From CSV (commas, semicolons or tabs) and JSON lines columns are kept
    as they are; of CSV without header they become ``label``, ``pixel0``, ``pixel1``...

    Args:
        sources: one file, or one of images and one of labels.
        destination: the .parquet file to make.
        images_key: the array that holds the images, where an NPZ file has several that could.
        labels_key: likewise the labels; (n, 1) is taken as (n,).
        label_column: which column of a CSV file without header holds the labels, from 1; 0 if none does.
        overwrite: replace a destination that is there.
        tell: called with each note on how the files were taken.

    Returns:
        The number of rows written.

    Raises:
        OptionError: no source, a key that is not there, a destination that is a folder or a source.
        KnnvoteError: a file that is damaged, ambiguous or of another format, or a destination that is there; it stays.
    """
    _check_paths(sources, destination, overwrite=overwrite)
    texts = [path for path in sources if not _holds_arrays(path)]
    if texts and len(sources) == 1:
        if images_key or labels_key:
            raise OptionError(
                f"{texts[0]} is taken as CSV or JSON, not as IDX, NPZ or NPY: convert it "
                f"without {param('images_key')} and {param('labels_key')}"
            )
        return _convert_text(texts[0], destination, label_column, tell)
    if label_column is not None:
        raise OptionError(
            f"{param('label_column')} is of one CSV file without header, and not of {', '.join(map(str, sources))}: "
            f"give a file of the labels beside, or name their array with {param('labels_key')}"
        )
    table = choose_table(_find_arrays(sources, texts), sources, images_key, labels_key, tell)
    write_table(table, destination)
    return int(table.num_rows)


def _find_arrays(sources: Sequence[Path], texts: Sequence[Path]) -> list[StoredArray]:
    """The arrays of several files, of which some are text and hold labels."""
    arrays: list[StoredArray] = []
    for source in sources:
        others = ", ".join(str(other) for other in sources if other != source)
        arrays += [read_labels(source, others)] if source in texts else read_headers(source)
    return arrays


def _convert_text(source: Path, destination: Path, label_column: int | None, tell: Tell) -> int:
    begin = first_character(source)
    if begin in {b"{", b"["} and label_column is not None:
        raise OptionError(
            f"{source} is JSON, whose columns have names: convert it without {param('label_column')}, and name the "
            "label to knnvote index"
        )
    if begin in {b"{", b"["}:
        return convert_json(source, destination, tell, is_array=begin == b"[")
    return convert_delimited(source, destination, label_column, tell)


def _check_paths(sources: Sequence[Path], destination: Path, *, overwrite: bool) -> None:
    if not sources:
        raise OptionError(f"nothing to convert: give {FORMATS} before {destination}")
    if destination.is_dir() or destination.suffix != ".parquet":
        found = "a folder" if destination.is_dir() else "not a .parquet file"
        raise OptionError(f"{destination} is {found}: name a .parquet file to write, such as images.parquet")
    if destination.resolve() in {source.resolve() for source in sources}:
        raise OptionError(f"{destination} is both a source and the destination: name another file to write")
    if destination.exists() and not overwrite:
        raise KnnvoteError(f"{destination} exists: pass {param('overwrite=True')} to replace it, or name another file")


def _holds_arrays(path: Path) -> bool:
    """Whether a file is IDX, NPY or NPZ; else it is text.

    Raises:
        KnnvoteError: it is neither.
    """
    with reading(path), open_source(path) as stream:
        head = stream.read(_HEAD)
    if (told := saved_arrays(str(path), head)) is not None:
        raise KnnvoteError(f"cannot read {path}: {told}")
    if head.startswith((IDX_MAGIC, NPY_MAGIC, ZIP_MAGIC)):
        return True
    if head.startswith(b"PAR1"):
        raise KnnvoteError(f"{path} is Parquet already: it needs no conversion")
    if head.startswith(_ARROW):
        raise KnnvoteError(f"{path} is Arrow, which every command reads as it is: it needs no conversion")
    if head.startswith(_UTF16):
        raise KnnvoteError(f"{path} is text in UTF-16: save it as UTF-8, which iconv -f UTF-16 -t UTF-8 does")
    if b"\0" in head:
        raise KnnvoteError(f"{path} begins with {head[:4]!r}: expected {FORMATS}")
    return False

"""What the ending of a file's name says that it holds, where that is no Parquet, and which names belong together."""

import re

from .partitions import READ_INT96

ARROW_ENDINGS = (".arrow", ".feather", ".ipc", ".arrows")
NUMPY_ENDINGS = (".npy", ".npz")  # of files that a folder is searched for
_TEXT = r"\.(csv|tsv|json|jsonl|ndjson)"
_ARRAYS = r"\.(npy|npz)|[.-]idx\d?([.-]ubyte)?|[.-]ubyte"
_OF_TEXT, _OF_ARRAYS = (re.compile(rf"({kind})(\.gz)?$", re.IGNORECASE) for kind in (_TEXT, _ARRAYS))
_ENDING = re.compile(rf"({_TEXT}|\.(npy|npz|arrow|feather|ipc|arrows))?(\.gz)?$", re.IGNORECASE)
_LABELS = re.compile(r"[-_.]labels?$", re.IGNORECASE)


def is_text(name: str) -> bool:
    """Whether a file's name ends as that of CSV or JSON lines, gzipped or not."""
    return _OF_TEXT.search(name) is not None


def is_array(name: str) -> bool:
    """Whether a file's name ends as that of NumPy's or IDX files, gzipped or not."""
    return _OF_ARRAYS.search(name) is not None


def is_arrow(name: str) -> bool:
    """Whether a file's name ends as that of an Arrow IPC file or stream."""
    return name.lower().endswith(ARROW_ENDINGS)


def has_rows(name: str) -> bool:
    """Whether a file's name ends as that of one with a row an image, but for Parquet and tar files."""
    return is_text(name) or is_array(name) or is_arrow(name)


def parquet_name(name: str) -> str:
    """The name of the Parquet file that stands for one of another format."""
    return f"{_ENDING.sub('', name)}.parquet"


def python_table(path: str) -> str:
    """Python that reads the table of a file, Parquet or Arrow; pyarrow is ``pa`` in it, and its parquet ``pq``."""
    if not is_arrow(path):
        return f"pq.read_table({path!r}, {READ_INT96})"
    kinds = f"pa.ipc.open_file if open({path!r}, 'rb').read(6) == b'ARROW1' else pa.ipc.open_stream"
    return f"({kinds})({path!r}).read_all()"


def stem(name: str) -> str:
    """What is left of a file's name, by which files belong together, without its ending."""
    return parquet_name(name.removesuffix(".parquet")).removesuffix(".parquet")


def labelled_stem(name: str) -> str | None:
    """The stem of the file whose labels a file's name says that it holds, by ``-labels`` behind it; None if none."""
    found, is_so = _LABELS.subn("", stem(name))
    return found if is_so else None


def holds_labels_of(name: str, images: str) -> bool:
    """Whether a file of rows is called as one of the labels of a file of another name is, or of labels of any."""
    is_of_any = stem(name).lower() in {"label", "labels"}
    return may_hold_labels(name, stem(name) if is_of_any else stem(images))


def may_hold_labels(name: str, images: str) -> bool:
    """Whether a file of rows is called as one of the labels of another is, by whose stem that is called."""
    is_of_rows = has_rows(name) or name.lower().endswith(".parquet")
    return is_of_rows and images in {stem(name), labelled_stem(name)}

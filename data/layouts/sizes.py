"""What makes image files of one size of those of several, of which those of one alone are stored, or inverts them."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from knnvote.data.codec import header_shape
from knnvote.data.errors import param
from knnvote.data.layout import Shape, show_shape
from knnvote.data.text import python_command

_UPRIGHT = "ImageOps.exif_transpose(Image.open(file))"


def sizes_told(images: Iterable[bytes | None], names: Iterable[str], folder: str | None) -> str | None:
    """That encoded images are of several sizes, and what to do; None where they are of one, or do not tell.

    Args:
        images: some of them.
        names: of their files.
        folder: in which these, and others, lie; None where they are no files.
    """
    sizes = Counter(size for data in images if data and (size := header_shape(data)))
    if len(sizes) < 2:
        return None
    (size, _), (other, _) = sizes.most_common(2)
    told = (
        f"besides, images are of {len(sizes)} sizes, such as {show_shape(size)} and {show_shape(other)}, and only "
        f"those of one are stored: {param('skip_bad=True')} leaves out the others"
    )
    if folder is None:
        return f"{told}, or write them again in one size"
    return f"{told}, or {resize_command(folder, names, size, grey=True)} makes resized of them, grey and of one size"


def resize_command(folder: str, names: Iterable[str], shape: Shape, *, grey: bool) -> str:
    """Python that writes the image files at and below a folder in one size, in a folder ``resized``.

    Args:
        folder: whose files are taken.
        names: of some files, whose endings are those of all.
        shape: height and width.
        grey: convert them, too.
    """
    height, width = shape
    convert = ".convert('L')" if grey else ""
    return _rewrite_command(folder, names, "resized", f"{_UPRIGHT}{convert}.resize(({width}, {height}))")


def invert_command(folder: str, names: Iterable[str]) -> str:
    """Python that writes the inverse of the image files at and below a folder, grey, in a folder ``inverted``.

    Args:
        folder: whose files are taken.
        names: of some files, whose endings are those of all.
    """
    return _rewrite_command(folder, names, "inverted", f"ImageOps.invert({_UPRIGHT}.convert('L'))")


def _rewrite_command(folder: str, names: Iterable[str], to: str, image: str) -> str:
    """Python that writes an image, as it is made of each ``file``, into a folder as the files lie in theirs."""
    endings = tuple(sorted({PurePosixPath(name).suffix for name in names}))
    return python_command(
        "from pathlib import Path; from PIL import Image, ImageOps; "
        f"[(to := Path({to!r}, file.relative_to({folder!r}))).parent.mkdir(parents=True, exist_ok=True) or "
        f"{image}.save(to) for file in Path({folder!r}).rglob('*') if file.suffix in {endings!r}]"
    )

"""Images of several sizes, of which those of one alone are stored: what is told, and what makes them of one."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from knnvote.data.codec import header_shape
from knnvote.data.errors import param
from knnvote.data.layout import Shape, show_shape
from knnvote.data.text import python_command


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
    endings = tuple(sorted({PurePosixPath(name).suffix for name in names}))
    height, width = shape
    convert = ".convert('L')" if grey else ""
    return python_command(
        "from pathlib import Path; from PIL import Image, ImageOps; "
        f"[(to := Path('resized', file.relative_to({folder!r}))).parent.mkdir(parents=True, exist_ok=True) or "
        f"ImageOps.exif_transpose(Image.open(file)){convert}.resize(({width}, {height})).save(to) "
        f"for file in Path({folder!r}).rglob('*') if file.suffix in {endings!r}]"
    )

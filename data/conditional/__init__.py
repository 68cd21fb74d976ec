"""Small files that processes of several hosts write at once: made if they are new, replaced if they are as before.

PyArrow has no such puts; obstore has them for stores of the S3 protocol.
"""

import itertools
from pathlib import Path
from typing import Any

from pyarrow import fs as pafs

from knnvote.data.errors import KnnvoteError
from knnvote.data.files import TakenError, VanishedError, atomic_write
from knnvote.data.locations import Location
from knnvote.data.text import describe_error

_ATTEMPTS = 10
_MISSING = "several parts of a job write to an object store with obstore, which is not installed: pip install {extra}"
_EXTRA = "'knnvote[parts]'"


def put_whole(target: Location, content: bytes, *, scratch: Path, is_new: bool = False) -> None:
    """Make or replace a file, as `atomic_write`, again where what is unfinished was removed by who has ended the job.

    Raises:
        TakenError: it is to be new, and is not.
        KnnvoteError: it cannot be written.
    """
    for attempt in itertools.count():
        try:
            with atomic_write(target, scratch=scratch, is_new=is_new) as stream:
                stream.write(content)
        except VanishedError:
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def put_if_new(target: Location, content: bytes, *, scratch: Path) -> bool:
    """Make a file whole, unless one is there: then it stays, and the answer is no.

    Args:
        target: the file.
        content: of it.
        scratch: a folder for the unfinished file, of a target on a disk.

    Raises:
        KnnvoteError: it cannot be written.
    """
    if not target.is_local:
        return _put(target, content, "create")
    try:
        put_whole(target, content, scratch=scratch, is_new=True)
    except TakenError:
        return False
    return True


def put_if_same(target: Location, content: bytes, tag: str | None, *, scratch: Path) -> bool:
    """Replace a file whose tag in its store is this one; of another, or of None as of one that is gone, it is no.

    A disk has no tags, and of two who replace a file at once the last one's stays.

    Raises:
        KnnvoteError: it cannot be written.
    """
    if not target.is_local:
        return tag is not None and _put(target, content, {"e_tag": tag})
    put_whole(target, content, scratch=scratch)
    return True


def check_store(target: Location) -> None:
    """Refuse an object store where nothing can be put on conditions.

    Raises:
        KnnvoteError: it is of another protocol than S3, or obstore is not installed.
    """
    if not target.is_local:
        _store(target)


def _put(target: Location, content: bytes, mode: Any) -> bool:
    store, key = _store(target)
    from obstore import put  # noqa: PLC0415  # of the extra `parts`, which need not be installed
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError  # noqa: PLC0415

    try:
        put(store, key, content, mode=mode, use_multipart=False)
    except (AlreadyExistsError, PreconditionError):
        return False
    except BaseError as error:
        raise KnnvoteError(f"cannot write {target}: {describe_error(error)}; run the same command again") from error
    return True


def _store(target: Location) -> tuple[Any, str]:
    """The store of a file, with the access that PyArrow has to it, and its key there."""
    if not isinstance(target.filesystem, pafs.S3FileSystem):
        raise KnnvoteError(
            f"several parts cannot write to {target}: of object stores those of the S3 protocol can be given, s3://..."
        )
    try:
        from obstore.store import S3Store  # noqa: PLC0415  # of the extra `parts`, which need not be installed
    except ImportError as error:
        raise KnnvoteError(_MISSING.format(extra=_EXTRA)) from error
    given = target.filesystem.__reduce__()[1][0]  # as it pickles itself: it has no other word for it
    bucket, _, key = target.path.partition("/")
    endpoint = given["endpoint_override"]
    if endpoint and "://" not in endpoint:
        endpoint = f"{given['scheme']}://{endpoint}"
    given_access = {
        "aws_access_key_id": given["access_key"],
        "aws_secret_access_key": given["secret_key"],
        "aws_session_token": given["session_token"],
        "aws_endpoint": endpoint,
        "aws_region": target.filesystem.region,
        "aws_skip_signature": "true" if given["anonymous"] else "",
        "aws_virtual_hosted_style_request": "true" if given["force_virtual_addressing"] else "",
    }
    config: Any = {name: value for name, value in given_access.items() if value}  # the environment has the rest
    options: Any = {"allow_http": True} if endpoint.startswith("http://") else None
    return S3Store(bucket, config=config, client_options=options), key

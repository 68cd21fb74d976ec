"""The Open Inference Protocol, version 2, as KServe, Triton and others have it: its paths, tensors and errors."""

import base64
import binascii
import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from knnvote.classify.answer import BAD_IMAGE, answer_schema
from knnvote.classify.job.work import JobOptions
from knnvote.data.errors import KnnvoteError
from knnvote.data.layout import ImageOptions, Layout
from knnvote.data.tables import image_table
from knnvote.data.text import describe_error

from .pieces import Answered
from .served import Served
from .tables import check_claimed, check_rows, encoded_table, note_of, recognise

PLATFORM = "knnvote"
_INPUT = "image"
_NUMBERS = {
    **{f"{sign}INT{bits}": f"{sign}int{bits}".lower() for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
    "BOOL": "bool",
}
_DATATYPES = {dtype: name for name, dtype in _NUMBERS.items()}
_ARROW = {
    **{dtype: name for dtype, name in _DATATYPES.items() if "int" in dtype or dtype == "bool"},
    "double": "FP64",
    "float": "FP32",
    "halffloat": "FP16",
    "string": "BYTES",
    "large_string": "BYTES",
}
_OF_VOTE = {"confidence", "second", "margin"}  # which a regression has none of


def server_metadata() -> dict[str, Any]:
    """What `/v2` tells."""
    return {"name": "knnvote", "version": version("knnvote"), "extensions": []}


def model_metadata(served: Served, name: str) -> dict[str, Any]:
    """What `/v2/models/NAME` tells."""
    dtype = _DATATYPES[served.index.images.dtype.name]
    return {
        "name": name,
        "versions": [served.version],
        "platform": PLATFORM,
        "inputs": [{"name": _INPUT, "datatype": dtype, "shape": [-1, *served.index.shape]}],
        "outputs": [{"name": output, "datatype": kind, "shape": [-1]} for output, kind in _outputs(served).items()],
    }


def _outputs(served: Served) -> dict[str, str]:
    """Names and types of the tensors of an answer."""
    return {
        field.name: _ARROW[str(field.type)]
        for field in answer_schema(served.index)
        if not (served.index.is_regression and field.name in _OF_VOTE)
    }


def read_infer(body: bytes, served: Served) -> tuple[pa.Table, Layout, dict[str, Any]]:
    """The images of a request, how its table holds them, and the request without them.

    Raises:
        KnnvoteError: it is none of the protocol, or of other tensors than the model takes.
    """
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise KnnvoteError(f"the body is no JSON: {describe_error(error)}") from error
    inputs = asked.get("inputs") if isinstance(asked, dict) else None
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise KnnvoteError(f"give inputs with one tensor, {_INPUT}")
    tensor = inputs[0]
    if tensor.get("name") != _INPUT:
        raise KnnvoteError(f"there is no input {tensor.get('name')!r}: give {_INPUT}")
    shape, datatype = tensor.get("shape"), tensor.get("datatype")
    if (
        not isinstance(shape, list)
        or not shape
        or not all(type(side) is int and 0 <= side <= 1 << 31 for side in shape)
    ):
        raise KnnvoteError(f"shape of {_INPUT} is {shape!r}: give the sides of the tensor as whole numbers")
    data = tensor.get("data")
    if not isinstance(data, list):
        raise KnnvoteError(f"{_INPUT} has no data: give its numbers as a list")
    rest = {**asked, "inputs": None}
    if datatype == "BYTES":
        return _encoded(data, shape), served.encoded(ImageOptions()), rest
    table = _images(data, datatype, shape, served)
    return table, recognise(served, table, JobOptions()), rest


def _images(data: list[Any], datatype: object, shape: list[int], served: Served) -> pa.Table:
    """Numbers of a tensor as images, by its shape."""
    if datatype not in _NUMBERS:
        raise KnnvoteError(f"datatype of {_INPUT} is {datatype!r}: give one of {', '.join(_NUMBERS)}, BYTES")
    if not shape[0]:
        raise KnnvoteError(f"{_INPUT} holds no image: give one at least")
    numbers = _flat(data, np.dtype(_NUMBERS[str(datatype)]))
    size = 1
    for side in shape:
        size *= side
    if numbers.size != size:
        raise KnnvoteError(f"{_INPUT} has {numbers.size:,} numbers, and its shape {shape} is of {size:,}")
    if tuple(shape) == tuple(served.index.shape):
        shape = [1, *shape]
    check_rows(shape[0])
    return image_table(numbers.reshape(shape))


def _flat(data: list[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The numbers of a list, flat or nested, in a type that holds them all."""
    try:
        found = np.asarray(data)
        fits = found.dtype.kind in ("biu" if dtype.kind in "iu" else "b" if dtype.kind == "b" else "biuf")
        with np.errstate(over="ignore", invalid="ignore"):
            numbers = found.astype(dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise KnnvoteError(f"data of {_INPUT} are no {dtype.name}: {describe_error(error)}") from error
    if not fits or (dtype.kind in "iu" and not np.array_equal(numbers, found)):
        raise KnnvoteError(f"data of {_INPUT} are not all {dtype.name}")
    return numbers.ravel()


def _encoded(data: list[Any], shape: list[int]) -> pa.Table:
    """Encoded images, which JSON holds as base64."""
    if not data or shape not in ([len(data)], [len(data), 1]):
        raise KnnvoteError(f"{_INPUT} has {len(data):,} elements of BYTES, and its shape is {shape}")
    check_rows(len(data))
    try:
        images = [base64.b64decode(one, validate=True) for one in data]
    except (TypeError, ValueError, binascii.Error) as error:
        raise KnnvoteError(f"data of {_INPUT} are no images in base64: {describe_error(error)}") from error
    check_claimed(images)
    return encoded_table(images)


def infer_answer(answered: Sequence[Answered], served: Served, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request, whose images could all be read.

    Raises:
        KnnvoteError: one could not; or an output is asked for that there is not.
    """
    answers = pa.concat_tables([one.table for one in answered])
    bad = answers["status"].to_pylist()
    if BAD_IMAGE in bad:
        row = bad.index(BAD_IMAGE)
        raise KnnvoteError(f"image {row}: {answers['reason'][row].as_py()}")
    outputs = _outputs(served)
    wanted = _wanted(asked.get("outputs"), outputs)
    tensors = [
        {"name": output, "datatype": outputs[output], "shape": [len(answers)], "data": answers[output].to_pylist()}
        for output in wanted
    ]
    found: dict[str, Any] = {"model_name": name, "model_version": served.version, "outputs": tensors}
    note = note_of(served, answered)
    if note is not None:
        found["parameters"] = {"note": note}
    return {**found, "id": asked["id"]} if isinstance(asked.get("id"), str) else found


def _wanted(asked: object, outputs: dict[str, str]) -> list[str]:
    """Names of the outputs that a request asks for; all if it names none."""
    if asked is None or asked == []:
        return [*outputs]
    names = [one.get("name") for one in asked if isinstance(one, dict)] if isinstance(asked, list) else [None]
    unknown = [name for name in names if name not in outputs]
    if unknown or not names:
        raise KnnvoteError(f"there is no output {[*unknown, None][0]!r}: give some of {', '.join(outputs)}")
    return [str(name) for name in names]

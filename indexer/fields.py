"""What each entry of a manifest may hold; a seal says that it was not damaged since, not that it was ever right.

Of JSON as it is read, before records are made of it, which then need no checks of their own.
"""

import math
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from knnvote.data.codecs.names import BACKGROUNDS
from knnvote.data.errors import KnnvoteError
from knnvote.data.steps.chain import parse_steps

from .names import KINDS, METRIC_NAMES, TASKS, TIES, WEIGHTS, base_name
from .records.weights import LEAST, MOST
from .rungs import Tuned

_DTYPES = ("uint8", "uint16", "uint32", "int8", "float16", "float32", "float64")
_LABEL_TYPES: dict[str, type] = {
    **{f"{sign}int{bits}": int for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "string": str,
    "bool": bool,
    "double": float,
}
CODES = ("axes", "codes", "lists", "ends")  # roles of the files of an inverted file, which has all or none
FITTED = "fitted"  # of another, which it has besides where vectors came or went
IMAGES, STEPS = "images", "steps"  # where vectors are made by steps: images as they were, what these were fitted to
_SUFFIXES = {
    "index": "faiss",
    "vectors": "(?:raw|npy)",
    **dict.fromkeys((*CODES, FITTED, STEPS), "npy"),
    IMAGES: "raw",
    "labels": "parquet",
}
_MOST = 2**63


def is_raw(name: str) -> bool:
    """Whether a file of this name holds vectors row after row and nothing else, as beside codes it does."""
    return name.endswith(".raw")


def wrong_fields(manifest: dict[str, Any]) -> list[str]:
    """Entries of a manifest that are missing, unknown, of another type, absurd, or that name anything outside."""
    wrong = [key for key, is_right in _FIELDS.items() if key not in manifest or not is_right(manifest[key])]
    known = {**_FIELDS, **_OPTIONAL, "checksum": _is_text}  # which was compared
    wrong += [key for key in manifest if key not in known or (key in _OPTIONAL and not _OPTIONAL[key](manifest[key]))]
    return wrong or [key for key, fits in _TOGETHER.items() if not fits(manifest)]


def is_number(value: Any) -> bool:
    """A finite number, which JSON's NaN and huge ones are not, nor Python's booleans."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf and _is_float(value)


def _is_float(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # of a whole number too large for one
        return False


def _is_count(value: Any, least: int = 0, most: int = _MOST) -> bool:
    return type(value) is int and least <= value < most


def _is_positive(value: Any) -> bool:
    return _is_count(value, 1)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _one_of(*allowed: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in allowed


def _list_of(is_right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_right, value))


def _record_of(**fields: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """An object with these entries and no others."""
    return _record_with({}, **fields)


def _record_with(
    optional: Mapping[str, Callable[[Any], bool]], **fields: Callable[[Any], bool]
) -> Callable[[Any], bool]:
    """An object with these entries, perhaps the optional ones, and no others."""
    known = {**fields, **optional}
    return lambda value: (
        isinstance(value, dict)
        and fields.keys() <= value.keys() <= known.keys()
        and all(known[key](entry) for key, entry in value.items())
    )


def _are_steps(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parse_steps(value)
    except KnnvoteError:
        return False
    return True


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def _is_range(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value)) and value[0] <= value[1]


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def _is_grid(value: Any) -> bool:
    return isinstance(value, float) and is_number(value) and value > 0 and math.frexp(value)[0] == 0.5


def _are_files(value: Any) -> bool:
    is_file = _record_of(name=_is_text, size=_is_count, sha256=_is_hash)
    return isinstance(value, dict) and all(
        role in _SUFFIXES and is_file(entry) and re.fullmatch(rf"{role}-[0-9]+\.{_SUFFIXES[role]}", entry["name"])
        for role, entry in value.items()
    )


def _is_source(value: Any) -> bool:
    """A file with the one mark that its file system gives."""
    fields = {"path": _is_text, "size": _is_count, "dtype": lambda dtype: dtype in (None, *_DTYPES)}
    return _record_of(**fields, sha256=_is_hash)(value) or _record_of(**fields, etag=_is_text)(value)


def _is_class_weight(value: Any) -> bool:
    return value == "balanced" or (isinstance(value, list) and all(map(_is_weight_of_class, value)))


def _is_weight_of_class(value: Any) -> bool:
    is_pair = isinstance(value, list) and len(value) == 2 and isinstance(value[0], int | str)
    return is_pair and is_number(value[1]) and value[1] > 0


def _is_sample_weight(value: Any) -> bool:
    is_record = _record_of(column=_is_text_or_none, least=is_number, most=is_number)(value)
    return is_record and LEAST <= value["least"] <= value["most"] <= MOST


def _is_distance(value: Any) -> bool:
    return is_number(value) and value >= 0


def _is_kept_distance(value: Any) -> bool:
    """As it was given, or as stored images told it."""
    return _record_of(limit=_is_distance)(value) or _is_found_distance(value)


def _is_weights(value: Any) -> bool:
    return isinstance(value, str) and base_name(value) in WEIGHTS


_RUNG: dict[str, Callable[[Any], bool]] = {
    "nprobe": lambda value: value is None or _is_positive(value),
    "candidates_per_neighbor": lambda value: value is None or _is_positive(value),
    "confidence": lambda value: value is None or _is_share(value),
}
_is_rung = _record_of(**_RUNG)
_is_measured_rung = _record_of(**_RUNG, settled=_is_share, agreement=lambda value: value is None or _is_share(value))
_is_interval = _record_of(value=_is_share, low=_is_share, high=_is_share)
_are_answers = _record_with(
    {"shown": _is_interval},
    rungs=_list_of(_is_measured_rung),
    agreement=_is_interval,
    reached=lambda value: isinstance(value, bool),
)
_is_acceptance_of_class = _record_of(
    label=lambda value: isinstance(value, int | str),
    answers=_is_count,
    min_confidence=lambda value: value is None or _is_share(value),
    coverage=lambda value: value is None or _is_share(value),
    accuracy=lambda value: value is None or _is_interval(value),
)
_is_acceptance = _record_with(
    {"by_class": _list_of(_is_acceptance_of_class), "balanced_accuracy": _is_share},
    target_accuracy=_is_share,
    min_confidence=lambda value: value is None or _is_share(value),
    coverage=_is_share,
    accuracy=_is_interval,
    images=_is_count,
)
_is_found_distance = _record_of(limit=_is_distance, false_alarms=_is_share, images=_is_positive)
_is_tuned = _record_with(
    {"ties": _one_of(*TIES), "class_weight": _is_class_weight},
    k=_is_positive,
    weights=_is_weights,
    target_agreement=_is_share,
    tolerance=lambda value: value is None or (is_number(value) and value >= 0),
    queries=_is_count,
    label=_are_answers,
    confidence=_are_answers,
)
_is_proposing = _record_of(candidates_per_neighbor=_is_positive, is_centred=lambda value: isinstance(value, bool))

_FIELDS: dict[str, Callable[[Any], bool]] = {
    "format": _is_positive,
    "generation": _is_positive,
    "kind": _one_of(*KINDS),
    "factory": _is_text,
    "metric": _one_of(*METRIC_NAMES),
    "n": _is_positive,
    "d": _is_positive,
    "shape": _list_of(_is_positive),
    "dtype": _one_of(*_DTYPES),
    "range": _is_range,
    "vector": _record_with({"background": _one_of(*BACKGROUNDS)}, step=_are_steps, grayscale=_is_text_or_none),
    "task": _one_of(*TASKS),
    "classes": _list_of(lambda value: isinstance(value, int | str)),
    "class_names": lambda value: value is None or _list_of(_is_text)(value),
    "label_type": _one_of(*_LABEL_TYPES),
    "image_column": _is_text_or_none,
    "label_column": _is_text_or_none,
    "id_column": _is_text_or_none,
    "sources": _list_of(_is_source),
    "skipped": _is_count,
    "search": lambda value: isinstance(value, dict),
    "seed": lambda value: _is_count(value, most=2**31),
    "data_sha256": _is_hash,
    "versions": lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
    "files": _are_files,
}
_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "feature_names": _list_of(_is_text),
    "estimator": _record_with(
        {
            "n_neighbors": _is_positive,
            "weights": _is_weights,
            "ties": _one_of(*TIES),
            "class_weight": lambda value: value == "none" or _is_class_weight(value),
        }
    ),
    "vote": _record_with(
        {"acceptance": _is_acceptance, "class_weight": _is_class_weight, "max_distance": _is_kept_distance},
        k=_is_positive,
        weights=_is_weights,
        ties=_one_of(*TIES),
    ),
    "growth": _record_of(
        built=_is_positive, added=_is_count, removed=_is_count, measured=_is_positive, changed=_is_count
    ),
    "groups": _record_of(column=_is_text_or_none, count=_is_positive, largest=_is_positive),
    "images": _record_of(dtype=_one_of(*_DTYPES), range=_is_range),
    "sample_weight": _is_sample_weight,
    "keep": lambda value: _list_of(_is_text)(value) and 0 < len({*value}) == len(value),
    "relabelled_from": _list_of(_is_hash),
    "part": lambda value: any(_record_of(**{name: _is_positive})(value) for name in ("limit", "sample")),
}


def _shape_fits(manifest: dict[str, Any]) -> bool:
    """Steps make vectors of so many numbers of images of that shape, which are described beside them."""
    steps, shape = parse_steps(manifest["vector"]["step"]), tuple(manifest["shape"])
    try:
        return len(shape) > 0 and steps.d(shape) == manifest["d"] and bool(steps) == ("images" in manifest)
    except KnnvoteError:
        return False


def _label_type_fits(manifest: dict[str, Any]) -> bool:
    return bool((manifest["label_type"] == "double") == (manifest["task"] == "regression"))


def _classes_fit(manifest: dict[str, Any]) -> bool:
    """Of the labels' type, sorted, each once; none for regression."""
    classes, kind = manifest["classes"], _LABEL_TYPES[manifest["label_type"]]
    if manifest["task"] == "regression":
        return not classes
    return (
        0 < len(classes) <= manifest["n"]
        and all(type(label) is kind for label in classes)
        and all(before < after for before, after in pairwise(classes))
    )


def _search_fits(manifest: dict[str, Any]) -> bool:
    """As the kind of index is searched."""
    search, kind = manifest["search"], manifest["kind"]
    has_grid = _is_grid(search.get("grid"))
    if kind in ("hnsw", "factory"):
        return _is_proposing(search)
    if kind == "exact":
        return (has_grid and search.keys() == {"grid"}) or not search
    is_adaptive = has_grid and search.keys() == {"grid", "careful", "tuned"}
    return is_adaptive and _is_rung(search["careful"]) and _tuned_fits(manifest)


def _tuned_fits(manifest: dict[str, Any]) -> bool:
    tuned = manifest["search"]["tuned"]
    if tuned is None:
        return True
    if not _is_tuned(tuned) or (tuned["tolerance"] is None) == (manifest["task"] == "regression"):
        return False
    try:
        Tuned.from_json(tuned)
    except ValueError:
        return False
    return True


def _feature_names_fit(manifest: dict[str, Any]) -> bool:
    """One for each value of an image, each once."""
    names = manifest.get("feature_names")
    return names is None or (len(names) == len(set(names)) == math.prod(manifest["shape"]))


def _estimator_fits(manifest: dict[str, Any]) -> bool:
    """A mean has neither ties nor classes."""
    return manifest["task"] == "classification" or not {"ties", "class_weight"} & {*manifest.get("estimator", {})}


def _vote_fits(manifest: dict[str, Any]) -> bool:
    """A mean has no confidence."""
    return manifest["task"] == "classification" or "acceptance" not in manifest.get("vote", {})


def _growth_fits(manifest: dict[str, Any]) -> bool:
    """So many came and went that those are left which there are."""
    growth = manifest.get("growth")
    return growth is None or (
        "codes" in manifest["files"] and growth["built"] + growth["added"] - growth["removed"] == manifest["n"]
    )


def _groups_fit(manifest: dict[str, Any]) -> bool:
    """Each image is of one."""
    groups = manifest.get("groups")
    return groups is None or (
        groups["count"] - 1 <= manifest["n"] - groups["largest"] <= (groups["count"] - 1) * groups["largest"]
    )


def _files_fit(manifest: dict[str, Any]) -> bool:
    """Labels and vectors are there, what the kind searches by, and all have room for what they are to hold."""
    files, has_codes = manifest["files"], manifest["kind"] == "adaptive" or "grid" in manifest["search"]
    needs_index = manifest["kind"] in ("hnsw", "factory")
    values, item = manifest["n"] * manifest["d"], np.dtype(manifest["dtype"]).itemsize
    holder = files.get("vectors") or files.get("index")
    return (
        "labels" in files
        and ("index" in files or not needs_index)
        and all((role in files) == has_codes for role in CODES)
        and (FITTED not in files or manifest["kind"] == "adaptive")
        and holder is not None
        and holder["size"] >= values
        and (not is_raw(holder["name"]) or (has_codes and holder["size"] == values * item))
        and _images_fit(manifest)
    )


def _images_fit(manifest: dict[str, Any]) -> bool:
    """Images lie beside vectors that steps made of them."""
    stored, described = manifest["files"].get(IMAGES), manifest.get("images")
    if stored is None or described is None:
        return stored is None and described is None and STEPS not in manifest["files"]
    values = manifest["n"] * math.prod(manifest["shape"])
    return bool(stored["size"] == values * np.dtype(described["dtype"]).itemsize)


_TOGETHER: dict[str, Callable[[dict[str, Any]], bool]] = {
    "shape": _shape_fits,
    "label_type": _label_type_fits,
    "classes": _classes_fit,
    "search": _search_fits,
    "files": _files_fit,
    "feature_names": _feature_names_fit,
    "estimator": _estimator_fits,
    "vote": _vote_fits,
    "growth": _growth_fits,
    "groups": _groups_fit,
}

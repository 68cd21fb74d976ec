"""The tables of ``inspect`` of files of images: how each holds them, and what a check of all rows found."""

from collections.abc import Sequence
from typing import Any

from knnvote.data.containers.images import is_image_name

from .table import add_row, new_list, new_table, print_table

_ALL = 20  # files, classes, or reasons, that are told one by one
_ENDS = 8  # classes at either end, of more


def print_images(facts: dict[str, Any]) -> None:
    """What ``inspect`` found of files of images, on stdout."""
    table = new_table(facts["path"], "file", "rows", "images", "label column", text=("images", "label column"))
    alike = [file for file in facts["files"] if "error" not in file][_ALL:]
    for file in facts["files"]:
        if any(file is other for other in alike):
            continue
        if "error" in file:
            add_row(table, file["path"], "", file["error"], "")
        else:
            add_row(table, file["path"], f"{file['rows']:,}", file["images"], file["label_column"] or "none")
    if alike:
        rows = sum(file["rows"] for file in alike)
        add_row(table, f"{len(alike):,} more", f"{rows:,}", _kinds(alike), "--json tells")
    print_table(table)
    if facts["check"] is not None:
        checked = new_list("")
        why_none = next((file["no_label"] for file in facts["files"] if "no_label" in file), "")
        for name, value in _check_rows(facts["check"], why_none):
            add_row(checked, name, value)
        print_table(checked)


def _kinds(files: Sequence[dict[str, Any]]) -> str:
    """How files hold images, if they do so alike."""
    kinds = {file["images"] for file in files}
    return kinds.pop() if len(kinds) == 1 else f"in {len(kinds)} ways"


def _check_rows(check: dict[str, Any], why_no_labels: str) -> list[tuple[str, str]]:
    copies, unlike, unlabelled = check["copies"], check["unlike_copies"], check["unlabelled"]
    rows = [("readable", f"{check['images']:,} of {check['rows']:,} rows"), *_label_rows(check, why_no_labels)]
    if check["labels_alike"]:
        rows.append(("", check["labels_alike"]))
    if unlabelled["rows"] and check["classes"]:
        rows.append(("no label", f"{unlabelled['rows']:,}, the first {_place(unlabelled['first'])}"))
    rows += _bad_rows(check["bad"])
    rows.append(("copies", f"{copies['rows']:,}, the first {_pair(copies['first'])}" if copies["rows"] else "none"))
    if unlike["rows"] and not check["labels_look_like_ids"]:
        rows.append(("", f"{unlike['rows']:,} with another label, the first {_pair(unlike['first'])}"))
    return rows + _shared_rows(check)


def _label_rows(check: dict[str, Any], why_none: str) -> list[tuple[str, str]]:
    """Classes with their rows: all of few, else the largest and the smallest."""
    classes = check["classes"]
    if not classes:
        return [("classes", f"none: {why_none or 'no row has a label'}")]
    if check["task"] == "regression":
        low, high = (end([entry["label"] for entry in classes]) for end in (min, max))
        return [("labels", f"numbers from {low:g} to {high:g}, for --task regression")]
    if check["labels_look_like_ids"]:
        told = "labels are nearly all unlike each other, so they look like ids: --label-column names another column"
        return [(f"{len(classes):,} classes", told)]
    if len(classes) <= _ALL:
        return [(f"{len(classes)} classes", _counts(classes))]
    by_size = sorted(classes, key=lambda entry: -entry["rows"])
    ends = ("largest", by_size[:_ENDS]), ("smallest", by_size[: -_ENDS - 1 : -1])
    return [
        (f"{len(classes):,} classes" if i == 0 else "", f"{name} {_counts(some)}")
        for i, (name, some) in enumerate(ends)
    ]


def _counts(classes: list[dict[str, Any]]) -> str:
    return ", ".join(f"{entry['shown']}: {entry['rows']:,}" for entry in classes)


def _bad_rows(bad: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The reasons of bad rows, the commonest first."""
    if not bad:
        return [("bad rows", "none")]
    told = [f"{entry['rows']:,}, the first {_place(entry['first'])}: {entry['first_reason']}" for entry in bad[:_ALL]]
    more = [f"... {len(bad):,} reasons in all"] if len(bad) > _ALL else []
    return [("bad rows" if i == 0 else "", line) for i, line in enumerate(told + more)]


def _shared_rows(check: dict[str, Any]) -> list[tuple[str, str]]:
    """Which rows of one part are among another's, where there are several parts."""
    if len(check["parts"]) < 2:
        return []
    told = [
        f"{entry['rows']:,} of {entry['part']} are also in {entry['among']}, the first {_pair(entry['first'])}"
        for entry in check["shared"]
    ]
    if not told:
        parts = check["parts"]
        shown = " and ".join(parts) if len(parts) <= 3 else f"{len(parts):,} files or folders"
        return [("shared", f"none between {shown}")]
    more = [f"... {len(told):,} pairs in all"] if len(told) > _ALL else []
    return [("shared" if i == 0 else "", line) for i, line in enumerate(told[:_ALL] + more)]


def _place(place: dict[str, Any]) -> str:
    file: str = place["file"]
    return file if is_image_name(file) else f"{file}, row {place['row']}"


def _pair(pair: list[dict[str, Any]]) -> str:
    """A row, which is told last, and one before it that it equals."""
    one, other = map(_place, pair)
    return f"{other}, a copy of {one}"

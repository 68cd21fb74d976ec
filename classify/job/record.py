"""The records that a job keeps beside its outputs: whose they are, and which inputs failed.

While it runs they are JSON in a folder. When it has ended they are the footer of a Parquet file without rows, with the
columns of the outputs: readers that take every file below a folder, whatever its name, read past it.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.classify.classifier import Classifier
from knnvote.classify.search.ladder import Promise
from knnvote.classify.vote import Rule
from knnvote.data.codecs.names import BACKGROUNDS
from knnvote.data.errors import KnnvoteError, OptionError, param
from knnvote.data.files import atomic_write
from knnvote.data.input_file import InputFile
from knnvote.data.layout import ImageOptions
from knnvote.data.locations import Location, is_uri, local_state, without_secrets
from knnvote.data.recognition import StoredImages
from knnvote.indexer.labels import is_usual_name
from knnvote.indexer.metric import METRICS
from knnvote.indexer.names import MetricName

from .output import OutputOptions

RECORDS = "_knnvote"
ENDED = ".knnvote.parquet"  # in the folder of the outputs itself: to some readers a folder below it is a partition
JOB = "job.json"
_FAILURES = "failures.json"
_DAMAGED = "is damaged: remove it and run the job again, which keeps the files that fit"
# What JSON has for the options that are used again, as far as they do not check it themselves.
_OPTION_TYPES: dict[str, tuple[type, ...]] = {
    "k": (int,),
    "min_confidence": (int, float, NoneType),
    "max_distance": (int, float, NoneType),
    "image_column": (str, NoneType),
    "grayscale": (bool,),
    "prefix": (str,),
}


@dataclass(frozen=True)
class JobRecord:
    """Whose an output folder is.

    Attributes:
        index: fingerprint of the index.
        options: everything that shapes the answers.
        stored_images: what the index says of its images, without which inputs are not recognised as the job did.
        inputs: by the relative path of each output file, the address of its input.
        metric: of the index.
        label_column: where its labels were, if labels usually have another name; None otherwise.
    """

    index: str
    options: dict[str, Any]
    stored_images: StoredImages
    inputs: dict[str, str]
    metric: MetricName = "l2"
    label_column: str | None = None

    @classmethod
    def of(cls, classifier: Classifier, made_from: dict[str, Any]) -> "JobRecord":
        """That of a job without inputs yet, of what its receipts share."""
        index = classifier.index
        column = index.manifest.label_column
        return cls(
            **made_from,
            stored_images=classifier.stored_images,
            inputs={},
            metric=index.metric,
            label_column=None if is_usual_name(column) else column,
        )

    @property
    def rule(self) -> Rule:
        """How the job's neighbours voted."""
        given = {
            "class_weight": None,
            "min_confidence_by_class": None,
            **self.options,
        }  # for which jobs of before had no word
        return Rule(**{field.name: given[field.name] for field in fields(Rule)})

    @property
    def promise(self) -> Promise:
        """What the job asked of the search."""
        return self.output.promise

    @property
    def output(self) -> OutputOptions:
        """What its answers hold; older jobs had no word for some."""
        given: dict[str, Any] = {
            name: bool(self.options.get(name)) for name in ("neighbors", "probabilities", "source")
        }
        return OutputOptions(**given, top=self.options.get("top"), prefix=self.prefix)

    @property
    def image_options(self) -> ImageOptions:
        """What the user said about the images."""
        shape = self.options["shape"]
        return ImageOptions(
            image_column=self.options["image_column"],
            shape=None if shape is None else _to_shape(shape),
            grayscale=self.options["grayscale"],
            background=self.options.get("background"),
        )

    @property
    def prefix(self) -> str:
        """Before the names of the columns that the job added."""
        prefix: str = self.options["prefix"]
        return prefix

    @property
    def id_column(self) -> str | None:
        """The column that names rows, if the job was told one."""
        name = self.options.get("id_column")
        return name if isinstance(name, str) else None

    @property
    def made_from(self) -> dict[str, Any]:
        """The part of every receipt of the job that all its files share."""
        return {"index": self.index, "options": self.options}

    def differences(self, made_from: dict[str, Any]) -> list[str]:
        """What another job's `made_from` has otherwise, in words for people."""
        return differences(self.made_from, made_from)

    def input(self, name: str) -> InputFile | None:
        """The input of an output's relative path, if it is known and still there."""
        if name not in self.inputs:
            return None
        return InputFile.again(self.inputs[name], name)


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What of what one job was made from another has otherwise, in words for people."""
    found = []
    if before["index"] != now["index"]:
        found.append(f"the index was {before['index'][:12]}... and is {now['index'][:12]}...")
    options, others = before["options"], now["options"]
    for name in {**options, **others}:
        value, other = options.get(name), others.get(name)
        if name == "columns" and value != other:
            found.append("another version of knnvote wrote it, with other columns")
        elif value != other:
            told = "thresholds by class" if name == "min_confidence_by_class" else param(name)  # which no option gives
            found.append(f"{told} was {_shown(value)} and is {_shown(other)}")
    return found


def _shown(value: Any) -> str:
    if value is None or value is False or value == "":
        return "not given"
    if value is True:  # which a 1 equals
        return "given"
    return json.dumps(value, ensure_ascii=False)


def read_job_record(out: Location) -> JobRecord | None:
    """Whose an output folder is, if it is a job's.

    Raises:
        KnnvoteError: the record is damaged.
    """
    raw = _read_json(out, JOB)
    if raw is None:
        return None
    try:
        return _to_record(raw)
    except (OptionError, ValueError, LookupError, TypeError) as error:
        raise damaged(out) from error


def write_job_record(out: Location, record: JobRecord) -> None:
    """Write down whose an output folder is."""
    _write_json(out / RECORDS / JOB, to_content(record))


def to_content(record: JobRecord) -> dict[str, Any]:
    """What the file of a job's record holds."""
    content = asdict(record)
    for part, of_part in ((record.stored_images, content["stored_images"]), (record, content)):
        for field in fields(part):  # what few indexes have is not in the records of others
            if getattr(part, field.name) == field.default:
                del of_part[field.name]
    return content


def has_records(out: Location) -> bool:
    """Whether a folder is, by what lies in it, the output folder of a job."""
    return (out / RECORDS).is_folder or (out / ENDED).is_file


def remove_records(out: Location) -> None:
    """Leave an output folder to any other job."""
    for file in (out / RECORDS / _FAILURES, out / RECORDS / JOB, out / ENDED):
        file.remove()


def record_tag(out: Location) -> str | None:
    """What the record of a job has while it stays as it is, in a store or on a disk; None where nothing tells."""
    file = _place(out, JOB)
    if not file.is_local:
        return file.tag()
    with suppress(FileNotFoundError):
        return str(local_state(Path(file.path).stat()))
    return None


def damaged(out: Location, name: str = JOB) -> KnnvoteError:
    """The error of a folder's record that is not as it was written."""
    return KnnvoteError(f"{_place(out, name)} {_DAMAGED}")


def _to_record(raw: Any) -> JobRecord:
    """A job's record from JSON.

    Raises:
        OptionError, ValueError, LookupError, TypeError: it is none that a job writes.
    """
    stored = _to_stored_images(raw["stored_images"])
    of_few = {name: raw[name] for name in ("metric", "label_column") if name in raw}
    record = JobRecord(raw["index"], dict(raw["options"]), stored, dict(raw["inputs"]), **of_few)
    wrong = [name for name, types in _OPTION_TYPES.items() if type(record.options[name]) not in types]
    texts = (record.index, stored.column or "", record.label_column or "", *stored.others, *record.inputs.values())
    if stored.background not in {None, *BACKGROUNDS} or record.metric not in METRICS:
        raise ValueError
    if wrong or type(stored.grayscale) is not bool or not all(isinstance(text, str) for text in texts):
        raise TypeError
    # A stranger's address could name a server of its own, to which a request would carry the user's access.
    if any(is_uri(address) and address != without_secrets(address) for address in record.inputs.values()):
        raise ValueError
    _ = record.rule, record.image_options, record.output  # which say what is wrong with them
    return record


def _to_stored_images(raw: Any) -> StoredImages:
    if not isinstance(raw, dict):
        raise TypeError
    names = raw.get("feature_names")
    if names is not None and not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise TypeError
    others = tuple(raw.get("others", ()))
    shape = _to_shape(raw["shape"])
    return StoredImages(**{**raw, "shape": shape, "feature_names": names and tuple(names), "others": others})


def _to_shape(sides: Any) -> tuple[int, ...]:
    if not isinstance(sides, list) or not sides or not all(type(side) is int and side > 0 for side in sides):
        raise TypeError
    return tuple(sides)


def read_failures(out: Location) -> dict[str, str]:
    """The reason of each input that failed when the job last ran.

    Raises:
        KnnvoteError: the record is damaged.
    """
    failed = _read_json(out, _FAILURES) or {}
    if not isinstance(failed, dict) or not all(isinstance(text, str) for text in failed.values()):
        raise damaged(out, _FAILURES)
    return failed


def end_records(out: Location, failed: dict[str, str], output: Location | None) -> None:
    """Write down which inputs failed, and lay the records of a job that has ended where they are in no reader's way.

    Args:
        out: the output folder.
        failed: the reason of each input that failed.
        output: one of the outputs, whose columns the file of records gets; None where there is none yet.
    """
    schema = None if output is None else _columns(output)
    if schema is None:
        _write_json(out / RECORDS / _FAILURES, failed)
        return
    records = {JOB: to_json(_read_json(out, JOB)), **({_FAILURES: to_json(failed)} if failed else {})}
    if _read_ended(out) != records:
        scratch = Path(out.path) / RECORDS if out.is_local else None
        with atomic_write(out / ENDED, scratch=scratch) as stream:
            pq.write_table(pa.Table.from_batches([], schema.with_metadata(records)), stream)  # of any type
    for name in (_FAILURES, JOB):
        (out / RECORDS / name).remove()
    if not out.is_local:  # where the folder holds the lock until the end
        (out / RECORDS).remove_folder()


def _columns(output: Location) -> pa.Schema | None:
    try:
        with output.open() as stream:
            return pq.read_schema(stream)
    except (pa.ArrowException, OSError):  # it is damaged, and the job failed to make it anew
        return None


def _place(out: Location, name: str) -> Location:
    """The file that a record is in: of a job at work, or of an earlier version, one of its own."""
    file = out / RECORDS / name
    return file if file.is_file or not (out / ENDED).is_file else out / ENDED


def _read_json(out: Location, name: str) -> Any:
    """What a record of this folder holds, None without one."""
    raw = (out / RECORDS / name).read_if_there()
    raw = _read_ended(out).get(name) if raw is None else raw
    try:
        return None if raw is None else json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise damaged(out, name) from error


def _read_ended(out: Location) -> dict[str, bytes]:
    """The records of a job that has ended, by their names."""
    file = out / ENDED
    content = file.read_if_there()
    if content is None:
        return {}
    try:
        metadata = pq.read_metadata(pa.BufferReader(content)).metadata or {}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise KnnvoteError(f"{file} {_DAMAGED}") from error
    return {name: metadata[name.encode()] for name in (JOB, _FAILURES) if name.encode() in metadata}


def to_json(content: Any) -> bytes:
    """What a file of records holds."""
    return json.dumps(content, indent=1, ensure_ascii=False).encode()


def _write_json(file: Location, content: Any) -> None:
    with atomic_write(file) as stream:
        stream.write(to_json(content))

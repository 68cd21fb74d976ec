"""Hostile files put through all that reads files: `python tests/tools/fuzz_files.py --cases 20000 --seed 0`.

Cases run in forked children whose memory is limited, so that a crash, a hang or a blow-up is seen and told by seed and
number; `--only N --keep FILE` runs one case here, with its traceback, and keeps the file.
"""

import argparse
import os
import pickle
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hostile_files
import numpy as np

from knnvote.classify.classifier import Classifier
from knnvote.classify.evaluation.testset import read_test_set
from knnvote.classify.inspection import inspect_images
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.data.errors import KnnvoteError
from knnvote.data.inputs import find_inputs
from knnvote.data.layout import ImageOptions
from knnvote.indexer.build import index_arrays
from knnvote.indexer.training import TrainingOptions, read_training_set

_SHARE = 250  # cases a child runs before another takes its place
_SECONDS = 60
_ADDRESS_SPACE = 4 << 30
_GROWTH = 5 << 29  # resident bytes that a case may add: PyArrow takes what a page's header claims, up to 2 GiB


@dataclass(frozen=True)
class Outcome:
    """Of one case: ok, told, traceback, crash, memory or hang, and what is known of it."""

    number: int
    what: str
    outcome: str
    detail: str = ""

    @property
    def is_failure(self) -> bool:
        return self.outcome not in ("ok", "told")


def fuzz(seed: int, numbers: range, index: Path, scratch: Path) -> Iterator[Outcome]:
    """Run cases, the ones after a crash in another child."""
    first = numbers.start
    while first < numbers.stop:
        share = range(first, min(first + _SHARE, numbers.stop))
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            try:
                _serve(seed, share, index, scratch, writer)
            except BaseException:  # noqa: BLE001 - a child must never return to what its parent is doing
                traceback.print_exc()
            os._exit(1)
        os.close(writer)
        ended = "start"
        with os.fdopen(reader, "rb") as results:
            while True:
                try:
                    started, result = pickle.load(results)  # noqa: S301 - of our own child
                except (EOFError, pickle.UnpicklingError):
                    break
                if result is None:
                    ended = started
                else:
                    first += 1
                    yield result
        _, status = os.waitpid(child, 0)
        if status:
            code = os.waitstatus_to_exitcode(status)
            outcome = "hang" if -code in (signal.SIGALRM, signal.SIGXCPU) else "crash"
            yield Outcome(first, ended, outcome, signal.Signals(-code).name if code < 0 else f"exit code {code}")
            first += 1


def _serve(seed: int, share: range, index: Path, scratch: Path, writer: int) -> None:
    """The child: limits itself, runs cases and ends without a return."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _ADDRESS_SPACE, -1))
    classifier = Classifier.open(index)
    with os.fdopen(writer, "wb", buffering=0) as results:
        for number in share:
            what, file = hostile_files.case(seed, number)
            results.write(pickle.dumps((what, None)))
            signal.alarm(_SECONDS)
            outcome, detail = run_case(what, file, classifier, scratch / str(os.getpid()))
            signal.alarm(0)
            results.write(pickle.dumps((what, Outcome(number, what, outcome, detail))))
    os._exit(0)


def run_case(what: str, file: bytes, classifier: Classifier, folder: Path) -> tuple[str, str]:
    """The outcome and detail of a file that is classified, indexed, inspected and compared."""
    folder.mkdir()
    path = folder / f"x.{what if what in ('tar', 'arrow', 'npy') else 'parquet'}"
    path.write_bytes(file)
    before = _reset_peak()
    steps = {"classify": _classify, "index": _index, "inspect": _inspect, "compare": _compare}
    told, failures = 0, []
    for name, step in steps.items():
        try:
            told += step(path, classifier)
        except KnnvoteError as error:
            told += 1
            if not str(error).isprintable():
                failures.append(("traceback", f"{name}: unprintable {str(error)!r}"))
        except MemoryError:
            failures.append(("memory", f"{name}: {traceback.format_exc()}"))
        except Exception:  # noqa: BLE001 - whatever comes is what we look for
            failures.append(("traceback", f"{name}: {traceback.format_exc()}"))
    grown = _peak() - before
    if grown > _GROWTH:
        failures.append(("memory", f"{grown >> 20} MiB more"))
    shutil.rmtree(folder)
    return failures[0] if failures else ("told" if told else "ok", "")


def _classify(path: Path, classifier: Classifier) -> bool:
    summary = run_job(classifier, find_inputs([str(path)]), path.parent / "out", JobOptions(), threads=1)
    return bool(summary.failed)


def _index(path: Path, _: Classifier) -> bool:
    read_training_set(find_inputs([str(path)]), TrainingOptions(skip_bad=True))
    return False


def _inspect(path: Path, _: Classifier) -> bool:
    return "error" in inspect_images([str(path)], find_inputs([str(path)]), quick=True)["files"][0]


def _compare(path: Path, classifier: Classifier) -> bool:
    read_test_set(find_inputs([str(path)]), classifier, ImageOptions(grayscale=True), None)
    return False


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def make_index(folder: Path) -> Path:
    """An index of 8 x 8 images, made in a child: threads do not outlive a fork."""
    child = os.fork()
    if not child:
        pixels = np.random.default_rng(1).integers(0, 17, (200, hostile_files.SIDE, hostile_files.SIDE), dtype=np.uint8)
        index_arrays(pixels, np.arange(200) % 5, folder / "fuzz.knn")
        os._exit(0)
    os.waitpid(child, 0)
    return folder / "fuzz.knn"


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    memory = Path("/dev/shm")  # noqa: S108 - each case makes files and syncs them
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        index = make_index(Path(scratch))
        if options.only is not None:
            what, file = hostile_files.case(options.seed, options.only)
            if options.keep:
                options.keep.write_bytes(file)
            print(what, *run_case(what, file, Classifier.open(index), Path(scratch) / "case"))
            return 0
        counts: Counter[str] = Counter()
        for outcome in fuzz(options.seed, range(options.first, options.first + options.cases), index, Path(scratch)):
            counts[outcome.outcome] += 1
            if not counts.total() % 100:
                print(dict(counts), flush=True)
            if outcome.is_failure:
                print(f"seed {options.seed} case {outcome.number}, {outcome.what}: {outcome.outcome}", flush=True)
                print(outcome.detail, flush=True)
    print(dict(counts))
    return int(any(counts.keys() - {"ok", "told"}))


if __name__ == "__main__":
    sys.exit(_main())

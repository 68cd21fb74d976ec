"""Hostile index folders by the thousand: ``python tests/tools/fuzz_index.py --cases 20000 --seed 0``.

Each case changes a small index folder, mostly so that sizes, hashes and seals fit again, and opens, classifies with,
verifies and inspects it. All may succeed or end in a KnnvoteError; nothing may crash, hang, grow or raise anything
else. Cases run in forks of a process that has imported everything and run no thread, one after the other; so does
the trial, which outside of tests is a process of its own (``--real`` runs that, slowly).
"""

import argparse
import gc
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import asdict
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.classifier import Classifier
from knnvote.classify.inspection import inspect_made
from knnvote.classify.search.search import exact_search
from knnvote.classify.vote import Rule
from knnvote.cli.tables.inspection import print_inspection
from knnvote.data.errors import KnnvoteError
from knnvote.indexer import apart, faiss_index
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.indexer.codes import library
from knnvote.indexer.codes.inverted_file import fit_codes
from knnvote.indexer.codes.projection import Projection
from knnvote.indexer.fields import CODES
from knnvote.indexer.folder import verify
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.folder.write import describe_file
from knnvote.indexer.grow import remove_ids
from knnvote.indexer.manifest import MANIFEST
from knnvote.indexer.sealed import seal
from knnvote.indexer.threads import limit_threads
from knnvote.indexer.trial.factory import build
from knnvote.indexer.trial.folder import try_folder

N, D = 300, 16
SECONDS = 20  # of a case or a trial, after which it hangs
KINDS = {
    "exact": {},
    "exact-floats": {"dtype": "float64"},
    "exact-halves": {"dtype": "float16"},
    "exact-codes": {"codes": True},
    "exact-codes-floats": {"codes": True, "dtype": "float64", "metric": "cosine"},
    "adaptive": {"kind": "adaptive", "tune": Tuning(k=3, target_agreement=0.3)},
    "adaptive-floats": {"kind": "adaptive", "dtype": "float64", "tune": Tuning(k=3, target_agreement=0.3)},
    "adaptive-regression": {"kind": "adaptive", "dtype": "float32", "metric": "cosine", "is_regression": True},
    "adaptive-shrunk": {"kind": "adaptive", "removed": ["array#3", "array#200"]},
    "hnsw": {"kind": "hnsw"},
    "hnsw-floats": {"kind": "hnsw", "dtype": "float64", "metric": "l1"},
    "hnsw-halves": {"kind": "hnsw", "dtype": "float16"},
} | {
    name: {"factory": name}
    for name in (
        *("Flat", "SQ8", "PQ4x4", "PQ4x4fs", "LSH", "RQ2x4", "NSG8,Flat", "HNSW8,SQ8", "PCA4,IVF4,SQ8"),
        *("IVF4,Flat", "IVF4_HNSW4,Flat", "IVF4,PQ4x4fs,RFlat", "OPQ4,IVF4,PQ4x4", "IVF4,RaBitQ", "ITQ8,LSH"),
    )
}
EXTREMES = (0, 1, 2, 3, -1, -2, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1)
WILD = (*EXTREMES, N, N - 1, 16, 15, 1e300, -1e300, 1e38, 1e-300, -0.5, float("nan"), float("inf"), -float("inf"))
JUNK = (
    *(None, True, False, *EXTREMES, 10**30, -(10**30), 0.5, 1e308, float("nan"), float("inf"), -0.0, 5e-324),
    *("", "x", "../x", "a\0b", "[/b]", "uint8", "l1", "exact", "hnsw", "factory", "regression", "string", "\x1b[31m"),
    *([], {}, [[]], [0], [1, "a"], {"x": {}}, [None], [[1], [2]], [3, 2, 1], [1, 1]),
)

_tried: dict[tuple[str, ...], str | None] = {}


def build_seeds(folder: Path) -> None:
    """A small index folder of each of KINDS."""
    faiss_index.run_apart = run_forked
    rng = np.random.default_rng(0)
    labels = np.sort(np.arange(N) % 3)
    images = (rng.integers(0, 100, (N, 4, 4)) + 70 * labels[:, None, None]).astype(np.uint8)
    for name, made in KINDS.items():
        x = images if "dtype" not in made else (images / 7).astype(made["dtype"])
        is_regression = made.get("is_regression", False)
        y = labels / 3 if is_regression else labels if len(name) % 2 else np.array(["cat", "naïve", "텐"])[labels]
        kind = "factory" if "factory" in made else made.get("kind", "exact")
        options = IndexOptions(kind=kind, factory=made.get("factory"), metric=made.get("metric", "l2"), threads=1)
        faiss_index.fit_codes = _always_coded if "codes" in made else fit_codes
        index_arrays(x, y, folder / name, is_regression=is_regression, options=options, tune=made.get("tune"))
        if "removed" in made:
            remove_ids(folder / name, made["removed"], threads=1)


def _always_coded(*arguments: Any) -> tuple[Projection, bool]:
    """Codes of so few vectors, which an exact index has where they pay."""
    return fit_codes(*arguments)[0], True


def damage(folder: Path, seeds: Path, rng: random.Random) -> str:
    """Change the copy of an index folder in one way or several; say how."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        ways = (damage_manifest, damage_manifest, damage_file, damage_file, damage_file, damage_table, swap_file)
        with suppress(RecursionError, ValueError, TokenError):  # an earlier change left no JSON or array to change
            done.append(rng.choice(ways)(folder, rng, seeds))
    return "; ".join(done)


def damage_manifest(folder: Path, rng: random.Random, _seeds: Path) -> str:
    """Change values of one of the JSON files, and seal it again, mostly."""
    file = rng.choice([folder / MANIFEST] * 6 + sorted(folder.glob("timing-*.json")))
    if rng.random() < 0.05:
        return damage_bytes(file, rng)
    record = json.loads(file.read_bytes())
    places = list(_places(record))
    parent, key = rng.choice(places)
    way = rng.choice(("replace", "replace", "replace", "remove", "swap", "nest", "add", "bury"))
    if way == "replace":
        parent[key] = rng.choice(JUNK)
    elif way == "remove":
        del parent[key]
    elif way == "swap":
        other, other_key = rng.choice(places)
        parent[key], other[other_key] = json.loads(json.dumps([other[other_key], parent[key]]))
    elif way == "nest":
        parent[key] = rng.choice(([parent[key]], {"x": parent[key]}, [parent[key]] * 2))
    elif way == "add" and isinstance(parent, dict):
        parent[rng.choice(("x", "grid", "tuned", "index", "vectors", *CODES))] = rng.choice(JUNK)
    else:
        for _ in range(rng.choice((20, 400, 900))):
            parent[key] = [parent[key]]
    try:
        file.write_bytes(seal(record))
    except (ValueError, RecursionError):
        file.write_bytes(b"{}")
    return f"{file.name}: {way} {key}"


def _places(value: object) -> "list[tuple[object, object]]":
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *_places(value[key]))]


def damage_file(folder: Path, rng: random.Random, _seeds: Path) -> str:
    """Change the bytes of one of the files that the manifest names."""
    return adopt(folder, rng, lambda file: damage_bytes(file, rng))


def adopt(folder: Path, rng: random.Random, change: Callable[[Path], str]) -> str:
    """Change one of the manifest's files and, mostly, have the manifest say what it is now."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        files = {role: folder / entry["name"] for role, entry in manifest["files"].items()}
        role = rng.choice(sorted(files))
        done = f"{files[role].name}: {change(files[role])}"
        if rng.random() < 0.97:
            manifest["files"][role] = asdict(describe_file(files[role]))
            (folder / MANIFEST).write_bytes(seal(manifest))
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError):
        return "nothing more"  # the manifest is too far gone
    return done


def damage_bytes(file: Path, rng: random.Random) -> str:
    """Flip, cut, insert or overwrite, at a place where it is likely to matter or at any."""
    content = bytearray(file.read_bytes())
    way = rng.choice(("flip", "cut", "insert", "overwrite", "overwrite", "overwrite", "fill"))
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = _position(content, rng)
        width = rng.choice((1, 4, 8))
        if way == "flip" and content:
            content[at] ^= 1 << rng.randrange(8)
        elif way == "cut":
            del content[at : at + rng.choice((1, 8, len(content)))]
        elif way == "insert":
            content[at:at] = rng.randbytes(rng.choice((1, 4, 8, 100)))
        elif way == "overwrite":
            content[at : at + width] = struct.pack("<q", rng.choice(EXTREMES))[:width]
        else:
            content[at : at + 8] = struct.pack("<d", rng.choice((float("nan"), float("inf"), -1.0, 1e300, 0.0)))
    file.write_bytes(content)
    return f"{way} near {at}"


def _position(content: bytearray, rng: random.Random) -> int:
    """A byte: of a small whole number, as counts and sizes are, of the beginning, or any."""
    at = rng.randrange(max(1, len(content)))
    if rng.random() < 0.3:
        return at % 400 % max(1, len(content))
    if rng.random() < 0.7:
        for place in range(at, max(at, len(content) - 8)):
            if 0 < int.from_bytes(content[place : place + 8], "little") < 2**24:
                return place
    return at


def damage_table(folder: Path, rng: random.Random, _seeds: Path) -> str:
    """Write the labels, or an array, anew with other columns, types, shapes or values."""

    def change(file: Path) -> str:
        if file.suffix == ".npy":
            return _damage_array(file, rng)
        if file.suffix != ".parquet":
            return damage_bytes(file, rng)
        table = pq.read_table(file)
        name = rng.choice(table.column_names)
        column = table[name].combine_chunks()
        ways = {
            "drop": lambda: table.drop([name]),
            "repeat": lambda: table.append_column(name, column),
            "cut": lambda: table.slice(rng.randrange(N)),
            "double": lambda: pa.concat_tables([table, table]),
            "null": lambda: _put(table, name, pa.array([None, *column.to_pylist()[1:]], column.type)),
            "nulls": lambda: _put(table, name, pa.nulls(len(table))),
            "list": lambda: _put(table, name, pa.array([[value] for value in column.to_pylist()])),
            "text": lambda: _put(table, name, column.cast(pa.string())),
            "binary": lambda: _put(table, name, pa.array([b"\xff\xfe"] * len(table))),
            "small": lambda: _put(table, name, pa.array(np.arange(len(table), dtype=np.int8))),
            "codes": lambda: _put(table, name, column.dictionary_encode()),
            "huge": lambda: _put(table, name, pa.array([2**63 - 1] * len(table))),
            "wild": lambda: _put(table, name, pa.array([float("nan")] * len(table))),
        }
        way = rng.choice(sorted(ways))
        pq.write_table(ways[way](), file, compression="zstd")
        return f"{way} {name}"

    return adopt(folder, rng, change)


def _put(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def _damage_array(file: Path, rng: random.Random) -> str:
    return rng.choice((_damage_header, _damage_values, _damage_values))(file, rng)


def _damage_values(file: Path, rng: random.Random) -> str:
    """Other values where the file stays an array of the same type and shape, or of others."""
    array = np.array(np.load(file, mmap_mode="r", allow_pickle=False))
    values = array if array.dtype.names is None else array[rng.choice(array.dtype.names)]
    kind = values.dtype.kind
    ways = (array[::-1], array[:-1], np.concatenate([array, array[:1]]), np.sort(array) if kind != "V" else array)
    way = rng.choice(("put", "put", "put", "put all", "shape"))
    if way == "shape":
        array = rng.choice(ways)
    elif values.size:
        some = rng.choices(WILD, k=rng.choice((1, 2, 5)))
        with np.errstate(all="ignore"):
            wild = np.array(some).astype(values.dtype) if kind == "f" else np.array([to_whole(v) for v in some])
            places = [rng.randrange(values.size) for _ in some] if way == "put" else slice(None)
            values.flat[places] = wild.astype(values.dtype) if way == "put" else wild[0].astype(values.dtype)
    np.save(file, array, allow_pickle=False)
    return f"values {way}"


def to_whole(value: float) -> int:
    """What is no number, or a large one, as the least of 64 bits."""
    return int(value) if abs(value) < 2**63 else -(2**63)


def _damage_header(file: Path, rng: random.Random) -> str:
    with file.open("rb") as stream:
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        content = stream.read()
    shape = rng.choice(((10**18, 10**18), (2**40,), (2**62, 4), (), (-1, 16), (*shape, 1), shape[::-1], (0, 0), shape))
    header = {
        "descr": rng.choice((dtype.str, dtype.str, "|O", ">f8", "<U9", "<f2", "|V1000000", "nonsense")),
        "fortran_order": rng.random() < 0.3,
        "shape": shape,
    }
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(content)
    return f"header {header}"


def swap_file(folder: Path, rng: random.Random, seeds: Path) -> str:
    """Put a file of another index in place of one, or one of the index's own in place of another."""

    def change(file: Path) -> str:
        others = sorted([*seeds.glob(f"*/{file.name}"), *folder.glob("*-1.*")])
        other = rng.choice([other for other in others if other != file])
        shutil.copyfile(other, file)
        return f"now {other.parent.name}/{other.name}"

    return adopt(folder, rng, change)


def use(folder: Path) -> list[str]:
    """All that users do with an index folder; each refusal."""
    return [str(refused) for work in (_classify, _verify, _inspect) if (refused := _refusal(work, folder)) is not None]


def _refusal(work: Callable[[Path], None], folder: Path) -> KnnvoteError | None:
    try:
        work(folder)
    except KnnvoteError as error:
        return error
    return None


def _classify(folder: Path) -> None:
    for name in ("", library.NONE):
        os.environ[library.ENVIRONMENT] = name
        _classify_by_kernel(folder)


def _classify_by_kernel(folder: Path) -> None:
    index = open_index(folder)
    rng = np.random.default_rng(1)
    low, high = index.manifest.range
    images = rng.uniform(low, high, (6, *index.shape)).astype(index.vectors.dtype)
    images[1] = np.asarray(index.vectors[0]).reshape(index.shape)
    tuned = index.tuned
    for k in {min(3, index.n), min(tuned.k if tuned else 1, index.n)}:
        answer = Classifier(index, Rule(k=k))(images)
        answer.prediction.validate(full=True)
        answer.neighbors().validate(full=True)
        if not index.is_regression:
            answer.probabilities()
        exact_search(index, images.reshape(len(images), -1), k)


def _verify(folder: Path) -> None:
    problems = verify.verify_folder(folder)
    if problems:
        raise KnnvoteError(problems[0])


def _inspect(folder: Path) -> None:
    facts = inspect_made(str(folder))
    if facts is None:
        raise KnnvoteError("it is no index folder")
    json.dumps(facts, ensure_ascii=False)
    with redirect_stdout(io.StringIO()):
        print_inspection(facts)


def in_fork(work: Callable[[], str | None], seconds: int) -> str | None:
    """Work in a fork: None or what it gives; "crash", "hang" or "raise" first where it ended otherwise."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            signal.alarm(seconds)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            outcome = json.dumps(work())
        except BaseException:  # noqa: BLE001  # that is what is looked for
            outcome = json.dumps(f"raise: {' '.join(traceback.format_exc().splitlines()[-9:])}")
        os.write(writer, outcome.encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        outcome = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        return "hang" if code == -signal.SIGALRM else f"crash: {signal.Signals(-code).name}"
    return json.loads(outcome)


def run_forked(module: str, *arguments: str, memory: int, seconds: float) -> list[str]:
    """What stands for `apart.run_apart`: the same work in a fork."""

    def work() -> str | None:
        apart.limit_resources(memory, int(seconds))
        return apart.refusal(
            {"knnvote.indexer.trial.folder": try_folder, "knnvote.indexer.trial.factory": build}[module], *arguments
        )

    if arguments not in _tried:  # by the same case, of which each has a process of its own
        _tried[arguments] = in_fork(work, SECONDS)
    refused = _tried[arguments]
    if refused is not None:
        is_wrong = refused.startswith(("hang", "raise"))  # a crash is what it is there for
        raise RuntimeError(f"in the trial: {refused}") if is_wrong else KnnvoteError(refused)
    return []


def run_case(number: int, seed: int, seeds: Path, *, is_real: bool = False) -> tuple[str, str]:
    """One case: its outcome ("opened", "refused" or what went wrong), and how it came to it."""
    rng = random.Random(f"{seed}-{number}")  # noqa: S311  # of cases, not of secrets
    name = rng.choice(sorted(KINDS))
    with tempfile.TemporaryDirectory(dir=seeds.parent) as temporary:
        folder = Path(temporary) / "x.knn"
        shutil.copytree(seeds / name, folder)
        done = damage(folder, seeds, rng)

        def work() -> str:
            if not is_real:
                verify.run_apart = run_forked
            limit = apart._BASE + 2 * (1 << 30)
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
            warnings.simplefilter("error")
            with limit_threads(1):
                refused = use(folder)
            return f"refused: {refused[0]}" if refused else "opened"

        outcome = in_fork(work, SECONDS * 4) or ""
    what, _, why = outcome.partition(": ")
    return what, f"case {number}: {name}: {done}: {why.replace(temporary, '')}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="try folders in processes of their own")
    parser.add_argument("--log", type=Path, help="a file for the outcome of each case")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["XDG_CACHE_HOME"] = f"{temporary}/cache"
        seeds = Path(temporary) / "seeds"
        built = in_fork(lambda: build_seeds(seeds), 600)
        if built is not None:
            sys.stdout.write(f"no seeds: {built}\n")
            return 1
        gc.freeze()  # forks copy fewer pages
        for number in range(options.first, options.first + options.cases):
            outcome, story = run_case(number, options.seed, seeds, is_real=options.real)
            counts[outcome] += 1
            line = f"{outcome}: {story}\n"
            if options.log:
                with options.log.open("a") as stream:
                    stream.write(line)
            if outcome not in ("opened", "refused"):
                sys.stdout.write(line)
                sys.stdout.flush()
    sys.stdout.write(f"{json.dumps(counts)}\n")
    return int(not counts.keys() <= {"opened", "refused"})


if __name__ == "__main__":
    sys.exit(main())

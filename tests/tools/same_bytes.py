"""Every kind of index and job on small data, and the SHA-256 of each file that they leave.

``python tests/tools/same_bytes.py FOLDER [COMMAND]`` prints them as JSON, made by the command at that path (``knnvote``
by default), so that two versions of the code can be compared. With ``--keep`` it prints what tests/kept/same_bytes.json
holds, to which tests/test_same_bytes.py compares: what made the files, what of them holds on any machine, and hashes.
Bytes that are to change are kept anew with the changelog's line on it, by the Python that has the command installed.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.linalg  # noqa: F401  # loads its BLAS
from threadpoolctl import threadpool_info

CLASSES = 6
INDEXES = {
    "digits-exact": ["digits/train.parquet"],
    "digits-adaptive": ["digits/train.parquet", "--kind", "adaptive", "--k", "3"],
    "digits-hnsw": ["digits/train.parquet", "--kind", "hnsw"],
    "digits-factory": ["digits/train.parquet", "--factory", "IVF8,Flat"],
    "digits-l1": ["digits/train.parquet", "--metric", "l1"],
    "pictures-exact": ["pictures/train.parquet"],
    "pictures-adaptive": ["pictures/train.parquet", "--kind", "adaptive", "--target-agreement", "0.9"],
    "floats-exact": ["floats/train.parquet", "--id-column", "name"],
    "floats-adaptive": ["floats/train.parquet", "--kind", "adaptive", "--target-agreement", "0.9"],
    "floats-hnsw": ["floats/train.parquet", "--kind", "hnsw", "--metric", "cosine"],
    "floats-factory": ["floats/train.parquet", "--factory", "IVF8,Flat", "--metric", "l1"],
    "floats-cosine": ["floats/train.parquet", "--metric", "cosine", "--kind", "adaptive"],
    "regression": ["floats/train.parquet", "--label-column", "size", "--task", "regression", "--kind", "adaptive"],
}
EVERY_COLUMN = ["--neighbors", "--probabilities"]
JOBS = {
    **{name: [name, *EVERY_COLUMN] for name in INDEXES if name != "regression"},
    "digits-rule": ["digits-adaptive", "--weights", "distance", "--ties", "first-class", "--min-confidence", "0.8"],
    "pictures-rule": ["pictures-adaptive", "--min-confidence", "0.9", "--max-distance", "300", "--prefix", "knn_"],
    "floats-rule": ["floats-adaptive", "--max-distance", "auto", "--false-alarms", "0.05", "--keep", "name"],
    "regression": ["regression", "--neighbors", "--weights", "distance"],
}
EXACT = ("digits-exact", "digits-l1", "pictures-exact", "floats-exact")  # jobs whose neighbours are no machine's choice
LIBRARIES = ("knnvote", "faiss-cpu", "numpy", "scipy", "scikit-learn", "pyarrow", "imagecodecs")


def make_all(folder, run):
    """Make the data, every index and every job in a folder, by commands that `run` is given as lists of text."""
    run(["sample", "digits", "digits"])
    _write_sets(folder)
    for name, arguments in INDEXES.items():
        run(["index", *arguments, "--out", f"{name}.knn", "--threads", "2"])
    for name, (index, *options) in JOBS.items():
        images = "floats" if index == "regression" else index.split("-")[0]
        run(["classify", f"{index}.knn", f"{images}/test.parquet", "--out", f"job-{name}", *options])
    run(["add", "digits-l1.knn", "digits/test.parquet"])
    run(["remove", "digits-l1.knn", "train.parquet#3", "test.parquet#5"])
    run(["add", "pictures-adaptive.knn", "pictures/more.parquet"])


def hashes(folder):
    """SHA-256 of every file below but what builds took, by relative path; a job's record less where the folder is."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("timing-"):
            content = path.read_bytes()
            if path.name == ".knnvote.parquet":
                content = pq.read_metadata(path).metadata[b"job.json"]
                content = content.replace(str(folder.resolve()).encode(), b"FOLDER")
            found[path.relative_to(folder).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def made_by():
    """All that the bytes depend on beside the code: libraries, and the instructions that they use here."""
    blas = [info for info in threadpool_info() if info["internal_api"] == "openblas"]
    return {
        **{library: version(library) for library in LIBRARIES},
        "machine": platform.machine(),
        "processor": _processor(),
        "FAISS": faiss.SIMDConfig.get_level_name(),
        **{f"OpenBLAS {info['version']}": info["architecture"] for info in blas},
    }


def _processor():
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def manifest_keys(folder):
    """The keys of every manifest in their order, by the index's name."""
    found = {}
    for path in sorted(folder.glob("*.knn/manifest.json")):
        found[path.parent.name] = " ".join(_keys(json.loads(path.read_text())))
    return found


def _keys(value, above=""):
    if isinstance(value, list):
        value = value[0] if value and isinstance(value[0], dict) else None
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield f"{above}{key}"
        yield from _keys(inner, f"{above}{key}.")


def answers(folder):
    """SHA-256 of what exact search answers, less what is rounded: labels, reasons and which images are neighbours."""
    found = {}
    for job in EXACT:
        rows = pq.read_table(folder / f"job-{job}" / "test.parquet").to_pylist()
        rounded = ("confidence", "distance", "margin", "probabilities")
        for row in rows:
            row["neighbors"] = [neighbor["id"] for neighbor in row["neighbors"] or ()]
        kept = [{key: value for key, value in row.items() if key not in rounded} for row in rows]
        found[job] = hashlib.sha256(json.dumps(kept).encode()).hexdigest()
    return found


def record(folder):
    """All that is kept of the files in a folder."""
    return {
        "made by": made_by(),
        "manifest keys": manifest_keys(folder),
        "answers": answers(folder),
        "sha256": hashes(folder),
    }


def _write_sets(folder):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, 16))
    _write_floats(folder / "floats" / "train.parquet", centres, 3000, rng)
    _write_floats(folder / "floats" / "test.parquet", centres, 300, rng)
    strokes = rng.integers(0, 256, size=(CLASSES, 144)) * (rng.random((CLASSES, 144)) < 0.3)
    for name, rows in (("train", 5000), ("test", 300), ("more", 40)):
        _write_pictures(folder / "pictures" / f"{name}.parquet", strokes, rows, rng)


def _write_floats(path, centres, rows, rng):
    """Embeddings with a class, a number and a name each; of a test set some rows are no vectors."""
    codes = rng.integers(0, CLASSES, rows)
    values = (centres[codes] + 0.9 * rng.normal(size=(rows, 16))).astype(np.float32)
    vectors = values.tolist()
    if path.stem == "test":
        vectors[3], vectors[7], vectors[11] = None, [float("nan")] * 16, [0.0] * 16
    columns = {
        "vector": pa.array(vectors, pa.list_(pa.float32())),
        "label": pa.array([f"class {code}" for code in codes]),
        "size": pa.array(values[:, 0].astype(np.float64)),
        "name": pa.array([f"{path.stem}-{row}" for row in range(rows)]),
    }
    _write(path, columns)


def _write_pictures(path, strokes, rows, rng):
    """Sparse pictures of 12 x 12 bytes, with copies and ties among them."""
    codes = rng.integers(0, CLASSES, rows)
    noise = rng.integers(-40, 41, size=(rows, 144)) * (rng.random((rows, 144)) < 0.5)
    pixels = np.clip(strokes[codes] + noise, 0, 255).astype(np.uint8)
    pixels[1::50] = pixels[0]
    _write(path, {"image": pa.array([row.tobytes() for row in pixels]), "label": pa.array(codes)})


def _write(path, columns):
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("command", nargs="?", default="knnvote")
    parser.add_argument("--keep", action="store_true", help="print all that is kept")
    options = parser.parse_args()
    folder = options.folder
    folder.mkdir(parents=True)
    program = str(Path(shutil.which(options.command)).resolve())
    env = {**os.environ, "XDG_CACHE_HOME": str(folder.resolve().parent / f"{folder.name}-cache")}

    def run(arguments):
        subprocess.run([program, *arguments], cwd=folder, env=env, check=True, capture_output=True, text=True)

    make_all(folder, run)
    print(json.dumps(record(folder) if options.keep else hashes(folder), indent=1))


if __name__ == "__main__":
    main()

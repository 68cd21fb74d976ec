"""Contenders side by side in one run: `python -m bench TRAIN.parquet TEST.parquet`."""

import json
import platform
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from .measure import Result
    from .problem import Problem

_INSTALL = "pip install 'knnvote[bench]'"
_LIBRARIES = (
    "knnvote",
    "faiss-cpu",
    "numpy",
    "scipy",
    "scikit-learn",
    "scikit-learn-intelex",
    "hnswlib",
    "usearch",
    "pynndescent",
    "numba",
    "pyarrow",
)


def _parse_names(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str]:
    """Names of contenders; all without any."""
    from .contenders import CONTENDERS

    usual = [name for name, entry in CONTENDERS.items() if not entry.is_for_length_1]
    names = usual if value is None else [name.strip() for name in value.split(",")]
    for name in names:
        if name not in CONTENDERS:
            raise click.BadParameter(f"no contender {name!r}: give some of {', '.join(CONTENDERS)}")
    return names


def _parse_sizes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[int]:
    """Numbers of stored images."""
    try:
        sizes = [int(size) for size in value.split(",")] if value else []
    except ValueError:
        sizes = [0]
    if any(size < 1 for size in sizes):
        raise click.BadParameter(f"{value!r} holds no numbers of images: give some such as 15000,60000")
    return sizes


@click.command()
@click.argument("train")
@click.argument("test")
@click.option("--out", type=click.Path(path_type=Path), default=Path("bench-out"), show_default=True, help="Folder.")
@click.option("--contenders", callback=_parse_names, help="Names with commas between; all that fit any images.")
@click.option("--k", type=click.IntRange(min=1), default=5, show_default=True, help="Neighbours that vote.")
@click.option("--turns", type=click.IntRange(min=1), default=5, show_default=True, help="Of timing.")
@click.option("--seconds", type=float, default=1.5, show_default=True, help="Of a turn of one setting, about.")
@click.option("--growth", callback=_parse_sizes, help="Numbers of stored images: shows how cost grows with them.")
@click.option(
    "--growth-contenders",
    callback=_parse_names,
    default="IndexFlatL2,knnvote-exact,knnvote-adaptive,hnswlib",
    show_default=True,
    help="Which of them to measure at each of these.",
)
def main(train: str, test: str, **options: Any) -> None:
    """Measure nearest-neighbour libraries and knnvote side by side.

    TRAIN is a Parquet file of labelled images to store, TEST one of images to classify. Each contender has a process
    and one thread of its own and is asked in turns; speeds are ratios to IndexFlatL2 in the same turn. Prints tables,
    and writes bench.json and a picture of agreement against speed.

    Example: python -m bench train.parquet test.parquet --out bench-out --growth 15000,60000
    """
    from knnvote.data.errors import KnnvoteError

    try:
        _run(train, test, **options)
    except KnnvoteError as error:
        raise click.ClickException(str(error)) from error


def _run(
    train: str,
    test: str,
    *,
    out: Path,
    contenders: list[str],
    k: int,
    turns: int,
    seconds: float,
    growth: list[int],
    growth_contenders: list[str],
) -> None:
    from knnvote.data.errors import OptionError

    from .growth import exponents, grow
    from .measure import choices, measure
    from .problem import exact_neighbors, read_problem
    from .table import print_growth, print_legend, print_results

    timing: dict[str, Any] = {"k": k, "turns": turns, "seconds": seconds, "talk": _talk}
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        _talk("reading")
        problem = read_problem(train, test, Path(scratch))
        smallest = min(len(problem.x), *growth) if growth else len(problem.x)
        if k >= smallest:
            raise OptionError(f"k is {k}, and {smallest:,} images are stored at the least: give a smaller --k")
        problem.save(Path(scratch))
        _talk("exact search")
        exact = exact_neighbors(problem, k)
        installed, left_out = _installed(contenders)
        results = measure(problem, exact, choices(installed), Path(scratch), **timing)
    report = _report(problem, results, left_out, k, turns)
    _write(report, out)
    print_results(results, test_images=len(problem.xq), k=k, turns=turns)
    _plot(results, out, len(problem.x), k)
    if growth:
        installed, _ = _installed(growth_contenders)
        grown = grow(problem, growth, choices(installed, growing=True), **timing)
        powers = exponents(grown)
        report["growth"] = {"results": [result.to_json() for result in grown], "exponents": powers}
        _write(report, out)
        print_growth(grown, powers)
    print_legend()


def _installed(names: list[str]) -> tuple[list[str], dict[str, str]]:
    """Names of those that can take part, and what to do for the others, which is told too."""
    from .contenders import CONTENDERS

    missing = {
        name: f"{name} is left out: {CONTENDERS[name].package} is not installed; {_INSTALL}"
        for name in names
        if not CONTENDERS[name].is_installed
    }
    for reason in missing.values():
        _talk(reason)
    return [name for name in names if name not in missing], missing


def _report(
    problem: "Problem", results: "list[Result]", left_out: dict[str, str], k: int, turns: int
) -> dict[str, Any]:
    from knnvote.indexer.codes.library import kernel_name

    from .contenders import package_version

    versions = {name: package_version(name) for name in _LIBRARIES} | {"kernel": kernel_name()}
    return {
        "stored_images": len(problem.x),
        "test_images": len(problem.xq),
        "d": problem.x.shape[1],
        "dtype": str(problem.x.dtype),
        "k": k,
        "turns": turns,
        "machine": platform.machine(),
        "versions": {"python": platform.python_version(), **{name: v for name, v in versions.items() if v}},
        "left_out": left_out,
        "results": [result.to_json() for result in results],
    }


def _write(report: dict[str, Any], out: Path) -> None:
    from knnvote.data.files import atomic_write

    with atomic_write(out / "bench.json") as stream:
        stream.write(json.dumps(report, indent=2).encode() + b"\n")


def _plot(results: "list[Result]", out: Path, n: int, k: int) -> None:
    from .plot import plot

    if find_spec("matplotlib") is None:
        _talk(f"no picture: matplotlib is not installed; {_INSTALL}")
        return
    for path in plot(results, out, f"{n:,} stored images, k = {k}, one thread"):
        _talk(str(path))


def _talk(message: str) -> None:
    click.echo(message, err=True)


if __name__ == "__main__":
    sys.exit(main(prog_name="python -m bench"))

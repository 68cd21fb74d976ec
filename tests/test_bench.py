"""The benchmark's figures that are no times, and what it says where something is missing."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _find_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(_ROOT)])  # bench is no part of the wheel


def _invoke(command: click.Command, *arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments)])


def _run_module(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.long
def test_contenders_are_judged_beside_exact_search_and_growth_gives_exponents(
    digits_folder: Path, tmp_path: Path
) -> None:
    names = ("knnvote-exact", "knnvote-adaptive")
    done = _run_module(
        "bench",
        *(digits_folder / "train.parquet", digits_folder / "test.parquet", "--out", tmp_path, "--turns", 1),
        *("--seconds", 0.02, "--contenders", ",".join(names)),
        *("--growth", "300,2000", "--growth-contenders", "IndexFlatL2"),
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    report = json.loads((tmp_path / "bench.json").read_text())
    assert (report["stored_images"], report["test_images"], report["k"], report["turns"]) == (1347, 450, 5, 1)
    assert {"faiss-cpu", "scikit-learn", "knnvote", "kernel"} <= report["versions"].keys()
    results = report["results"]
    assert {result["contender"] for result in results} == {"IndexFlatL2", *names}
    for result in results:
        assert result["contender"] in done.stdout
        assert result["build"]["bytes"] > 1347 * 64 / 2
        assert result["queries_per_second"] > 0
        quality = result["quality"]
        assert quality["images"] == 450
        assert quality["accuracy"] > 0.95
        if result["contender"] == "knnvote-adaptive":
            assert quality["agreement"] >= 0.98
        else:
            assert quality["agreement"] >= (1 if result["contender"] == "knnvote-exact" else 0.99)  # but for ties
            assert quality["recall"] >= (1 if result["contender"] == "knnvote-exact" else 0.999)
    assert [result["ratio"] for result in results if result["contender"] == "IndexFlatL2"] == [1]
    growth = report["growth"]
    assert {(result["contender"], result["n"]) for result in growth["results"]} == {
        ("IndexFlatL2", n) for n in (300, 2000)
    }
    assert growth["exponents"].keys() == {"IndexFlatL2"}
    if find_spec("matplotlib") is None:
        assert "no picture: matplotlib is not installed; pip install 'knnvote[bench]'" in done.stderr
    else:
        assert (tmp_path / "agreement-speed.png").stat().st_size
        assert (tmp_path / "agreement-speed.svg").stat().st_size


def test_an_unknown_contender_is_wrong_usage_and_the_message_names_all(digits_folder: Path) -> None:
    from bench.__main__ import main

    done = _invoke(main, digits_folder / "train.parquet", digits_folder / "test.parquet", "--contenders", "annoy")
    assert done.exit_code == 2
    assert "'annoy'" in done.output
    assert "IndexFlatL2, brute, kd_tree" in done.output
    assert "knnvote-adaptive" in done.output


def test_a_file_that_is_not_there_is_told_in_a_line(tmp_path: Path) -> None:
    from bench.__main__ import main

    done = _invoke(main, tmp_path / "none.parquet", tmp_path / "none.parquet", "--out", tmp_path)
    assert isinstance(done.exception, SystemExit)
    assert done.exit_code == 1
    assert "none.parquet" in done.output


def test_a_contender_that_is_not_installed_is_left_out_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench import __main__, contenders

    monkeypatch.setattr(contenders, "package_version", lambda _package: None)
    installed, left_out = __main__._installed(["hnswlib", "brute"])
    assert installed == ["brute"]
    assert left_out.keys() == {"hnswlib"}
    line = "hnswlib is left out: hnswlib is not installed; pip install 'knnvote[bench]'\n"
    assert capsys.readouterr().err == line


def test_stored_sets_of_every_size_are_made_alike_and_smaller_ones_begin_larger_ones() -> None:
    from bench.growth import resized
    from bench.problem import Problem

    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, size=(90, 64), dtype=np.uint8)
    codes = np.arange(90, dtype=np.int32)
    problem = Problem(images, codes, images[:3], codes[:3], (8, 8))
    small, large = resized(problem, 40, 7), resized(problem, 500, 7)
    assert large.x.dtype == np.uint8
    np.testing.assert_array_equal(small.x, large.x[:40])
    np.testing.assert_array_equal(large.x, resized(problem, 500, 7).x)
    np.testing.assert_array_equal(large.x[:90], images[large.codes[:90]])
    assert (large.x[90:] != images[large.codes[90:]]).any(axis=1).all()


def test_a_shift_of_whole_pixels_moves_the_image() -> None:
    from bench.growth import distorted

    image = np.zeros((1, 5, 5), dtype=np.uint8)
    image[0, 2, 2] = 200
    moved = distorted(image, 1.0, np.array([1.0, -2.0]))
    assert np.argwhere(moved).tolist() == [[0, 3, 0]]
    assert moved.max() == 200


def test_the_exponent_is_the_slope_of_cost_against_stored_images() -> None:
    from bench.growth import exponents

    results = [
        SimpleNamespace(contender=name, n=n, queries_per_second=1e6 / n**power)
        for name, power in (("linear", 1.0), ("root", 0.5))
        for n in (1000, 4000, 16000)
    ]
    assert exponents(results) == pytest.approx({"linear": 1.0, "root": 0.5})
    assert exponents(results[:1]) == {}


def test_quality_counts_neighbours_labels_and_truths() -> None:
    from bench.measure import judge
    from bench.problem import Neighbors

    exact = Neighbors(np.array([9, 0, 1]), np.array([[9, 9], [1, 2], [3, 4]]))
    found = Neighbors(np.array([0, 0]), np.array([[2, 1], [3, 7]]))
    quality = judge(found, exact, np.array([9, 0, -1]), np.array([1, 2]))
    assert (quality.images, quality.recall, quality.agreement, quality.accuracy) == (2, 0.75, 0.5, 1.0)


def test_what_tuning_promises_is_set_beside_exact_search_on_other_images(tmp_path: Path) -> None:
    from bench.promise.__main__ import main

    sets = ("strokes", "spots, regression")
    chosen = [argument for name in sets for argument in ("--set", name)]
    size = ("--seeds", 1, "--stored", 4500, "--test", 300, "--target", 0.98)
    done = _invoke(main, *chosen, *size, "--json", tmp_path / "promise.json")
    assert done.exit_code == 0, done.output
    assert "labels: of 2 runs " in done.stdout
    report = json.loads((tmp_path / "promise.json").read_text())
    assert [run["name"] for run in report["runs"]] == list(sets)
    for run in report["runs"]:
        assert run["name"] in done.stdout
        assert run["promises"]["label"]["low"] >= 0.98
        for promise in run["promises"].values():
            assert sum(promise["settled"]) == pytest.approx(1)
            assert promise["test"]["value"] >= 0.98
    assert [[outcome["min_confidence"] for outcome in run["outcomes"]] for run in report["runs"]] == [[1.0, 0.8], []]


def test_a_promise_that_test_images_belie_is_counted_and_marked(capsys: pytest.CaptureFixture[str]) -> None:
    from bench.promise.__main__ import Promise, Run, Size, print_runs, summary
    from knnvote.classify.adaptive.tune import Tuning
    from knnvote.classify.interval import share_interval

    def run(right: int, *, is_reached: bool) -> Run:
        promise = Promise(
            low=0.99, is_reached=is_reached, test=share_interval(right, 1000), settled=[1.0], rungs=[{"nprobe": 1}]
        )
        return Run(
            name="made",
            seed=0,
            tune_queries=9,
            promises={"label": promise},
            outcomes=[],
            unanimous=0.5,
            speed=1,
            build_seconds=1,
        )

    runs = [run(999, is_reached=True), run(989, is_reached=True), run(900, is_reached=True), run(1, is_reached=False)]
    assert summary(runs, 0.99).startswith(
        "labels: of 4 runs 3 reached the target 0.99, and 0 have exact search alone; "
        "on test images 2 of the 3 are below it, 1 significantly"
    )
    print_runs(runs, Size(10, 1000), Tuning(target_agreement=0.99))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("made")]
    assert [line.count("*") for line in lines] == [0, 1, 2, 2]


_MOUNTED = {
    "31 23 0:27 / /cg/memory rw - cgroup cgroup rw,memory": ("/cg/memory", "memory.limit_in_bytes"),
    "31 23 0:27 / /cg rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate": ("/cg", "memory.max"),
    "31 23 0:27 / /cg/cpu rw - cgroup cgroup rw,cpu": None,
}


@pytest.mark.parametrize(("line", "expected"), _MOUNTED.items())
def test_groups_that_limit_memory_are_found_where_they_are_mounted(
    line: str, expected: tuple[str, str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench import limited

    (tmp_path / "mounts").write_text(f"22 1 0:20 / /proc rw - proc proc rw\n{line}\n")
    monkeypatch.setattr(limited, "_MOUNTS", tmp_path / "mounts")
    found = limited._mounted()
    assert (None if found is None else (str(found[0]), found[1].limit)) == expected


def test_without_a_group_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import limited

    (tmp_path / "mounts").write_text(f"31 23 0:27 / {tmp_path}/none rw - cgroup2 cgroup2 rw\n")
    monkeypatch.setattr(limited, "_MOUNTS", tmp_path / "mounts")
    with pytest.raises(click.ClickException, match=r"cannot make .*No such file or directory; run this as root"):
        limited.open_group().__enter__()
    (tmp_path / "mounts").write_text("")
    with pytest.raises(click.ClickException, match="no cgroup that limits memory is mounted here"):
        limited.open_group().__enter__()


@pytest.mark.long
def test_an_index_larger_than_memory_gives_the_same_answers(invoke: Callable[..., Any], digits_folder: Path) -> None:
    assert invoke("index", digits_folder / "train.parquet", "--out", "x.knn").code == 0
    done = _run_module("bench.limited", Path.cwd() / "x.knn", digits_folder / "test.parquet")
    if "run this as root" in done.stderr or "cgroup" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert "all answers are the same" in done.stdout
    assert [line.split()[-1] for line in done.stdout.splitlines() if line.startswith(("all,", "33%"))] == ["0"] * 3

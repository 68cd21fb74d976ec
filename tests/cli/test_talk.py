"""What commands say of their work while it lasts: lines in logs, stages by name, more or less of it."""

import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from knnvote.cli import talk
from knnvote.cli.log_lines import ProgressLines, progress_line
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import IndexOptions, index_files

RNG = np.random.default_rng(0)
N = 60


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_a_line_of_progress_names_what_is_done_how_fast_and_what_is_left():
    line = progress_line("classifying", 1_200_000, 5_000_000, "rows", 41_000)
    assert line == "classifying: 1,200,000 of 5,000,000 rows, 24%, 41,000 rows/s, 1 min 33 s left"
    assert progress_line("tuning", 3, 90, "rungs", 0.25) == "tuning: 3 of 90 rungs, 3%, 0.25 rungs/s, 5 min 48 s left"
    assert progress_line("reading", 10, 80_000, "rows", 10.0).endswith("10 rows/s, 2 h 13 min left")
    assert progress_line("reading", 80_000, 80_000, "rows", 12.0).endswith("100%, 12 rows/s, 0 s left")
    assert progress_line("reading", 5_000, None, "rows", 20.0) == "reading: 5,000 rows, 20 rows/s"
    assert progress_line("reading", 0, 10, "rows", 0.0) == "reading: 0 of 10 rows, 0%, 0 rows/s"


def test_lines_come_every_30_seconds_at_most_and_not_at_all_before():
    clock, said = Clock(), []
    lines = ProgressLines(said.append, clock)
    with lines("reading", 100, "rows") as advance:
        for _ in range(29):
            clock.now += 1
            advance(1)
        assert said == []
        clock.now += 1
        advance(1)
        assert said == ["reading: 30 of 100 rows, 30%, 1 rows/s, 1 min 10 s left"]
        clock.now += 29.5
        advance(10)
        clock.now += 0.5
        advance(20)
    assert said[1:] == ["reading: 60 of 100 rows, 60%, 1 rows/s, 40 s left"]


def test_stages_that_count_nothing_are_named_when_a_line_is_due():
    clock, said = Clock(), []
    lines = ProgressLines(said.append, clock)
    with lines("finding axes", None, "rows"):
        clock.now += 45
    with lines("building lists", None, "rows"):
        clock.now += 10
    with lines("writing", None, "rows"):
        clock.now += 20
    with lines("reading", lambda: pytest.fail("it was asked"), "rows") as advance:
        advance(4)
    assert said == ["building lists, 45 s after the beginning", "reading, 1 min 15 s after the beginning"]


def test_the_speed_is_that_since_the_last_line_so_that_rows_done_before_do_not_count():
    clock, said = Clock(), []
    with ProgressLines(said.append, clock)("classifying", 10_000, "rows") as advance:
        advance(5_000)  # found done
        for _ in range(2):
            clock.now += 30
            advance(300)
    assert said[1] == "classifying: 5,600 of 10,000 rows, 56%, 10 rows/s, 7 min 20 s left"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Images of three classes, floats, an exact and an adaptive index, and a label by its id."""
    monkeypatch.chdir(tmp_path)
    labels = np.arange(N) % 3
    images = RNG.integers(0, 60, (N, 4, 4)).astype(np.uint8) + 60 * labels[:, None, None].astype(np.uint8)
    write_table(image_table(images, labels), Path("good.parquet"))
    write_table(image_table((images / 7).astype(np.float32), labels), Path("floats.parquet"))
    write_table(image_table(images[::-1] + np.uint8(1), labels), Path("more.parquet"))
    index_files("good.parquet", "x.knn")
    index_files("good.parquet", "a.knn", options=IndexOptions(kind="adaptive"))
    Path("fixes.csv").write_text("id,label\ngood.parquet#0,1\n")


@pytest.fixture
def stages(monkeypatch):
    """The stages that a command tells of: name, total, unit and how many were done."""
    seen = []

    class Seen:
        def __init__(self, _say):
            pass

        @contextmanager
        def __call__(self, name, total, unit):
            done = []
            yield done.append
            seen.append((name, total() if callable(total) else total, unit, sum(done)))

    monkeypatch.setattr(talk, "ProgressLines", Seen)
    return seen


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("index good.parquet --out n.knn", [("reading", N, "rows", N), ("writing", None, "rows", 0)]),
        ("index floats.parquet --out n.knn --limit 20", [("reading", 20, "rows", 20)]),
        ("index good.parquet --out n.knn --kind hnsw", [("building hnsw", None, "rows", 0)]),
        (
            "index good.parquet --out n.knn --kind adaptive --target-accuracy 0.5",
            [("finding axes", None, "rows", 0), ("coding", N, "images", N), ("leaving one out", N, "images", N)],
        ),
        ("add x.knn more.parquet", [("checking the index", None, "rows", 0), ("reading", N, "rows", N)]),
        ("remove x.knn good.parquet#0", [("checking the index", None, "rows", 0), ("writing", None, "rows", 0)]),
        ("relabel x.knn fixes.csv", [("checking the index", None, "rows", 0), ("writing", None, "rows", 0)]),
        ("classify x.knn good.parquet --out o", [("classifying", N, "rows", N)]),
        ("suspects x.knn", [("leaving one out", N, "images", N)]),
        ("choose-k a.knn", [("leaving one out", N, "images", N)]),
        ("choose-step x.knn --steps unit", [("leaving one out", N, "images", N), ("comparing steps", 1, "chains", 1)]),
        ("choose-threshold x.knn", [("leaving one out", N, "images", N)]),
        ("choose-threshold x.knn more.parquet", [("reading test images", N, "rows", N)]),
        (
            "compare good.parquet --index a.knn --sample 50",
            [
                *(("reading test images", 50, "rows", 50), ("exact search, a.knn", None, "rows", 0)),
                *(("measuring speed", None, "rows", 0), ("searching a.knn", None, "rows", 0)),
            ],
        ),
        ("inspect good.parquet", [("checking", N, "rows", N)]),
        ("map x.knn", [("finding components", None, "rows", 0)]),
    ],
)
def test_commands_tell_what_they_are_doing(invoke, stages, command, told):
    done = invoke(*command.split())
    assert done.code == 0, done.stderr
    assert [stage for stage in stages if stage in told] == told


def test_tuning_counts_every_rung_that_it_tries(invoke, stages):
    images = np.random.default_rng(1).integers(0, 256, (3000, 4, 4), dtype=np.uint8)
    write_table(image_table(images, images[:, 0, 0] > 127), Path("many.parquet"))
    told = invoke("index", "many.parquet", "--out", "n.knn", "--kind", "adaptive", "--target-agreement", "0.8")
    assert told.code == 0
    tuned = [stage for stage in stages if stage[0] == "tuning"]
    assert tuned
    for _, total, unit, done in tuned:
        assert (unit, done) == ("rungs", total)


@pytest.mark.usefixtures("files")
def test_quiet_says_nothing_but_errors(invoke):
    done = invoke("index", "good.parquet", "--out", "q.knn", "--target-agreement", "0.9", "--quiet")
    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    assert invoke("classify", "q.knn", "good.parquet", "--out", "o", "-q").stderr == ""
    done = invoke("classify", "q.knn", "nothing.parquet", "--out", "o2", "--quiet")
    assert (done.code, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: nothing.parquet does not exist")
    Path("o/good.parquet").write_text("damaged")
    assert "o/good.parquet" in invoke("verify", "o", "--quiet").stderr
    assert "images" in invoke("inspect", "q.knn", "--quiet").stdout  # which was asked for
    assert "60 rows" in invoke("classify", "q.knn", "good.parquet", "--out", "o3").stderr


@pytest.mark.usefixtures("files")
def test_verbose_says_what_is_recognised_what_works_and_what_each_stage_took(invoke):
    told = invoke("index", "good.parquet", "floats.parquet", "--out", "v.knn", "--threads", "1", "--verbose").stderr
    lines = told.splitlines()
    assert re.fullmatch(r"knnvote \S+, kernel .+, threads 1", lines[0])
    assert "good.parquet: 60 rows, tensors, 4 x 4, in column 'image'" in told
    assert "floats.parquet: 60 rows" in told
    for stage in ("reading", "writing"):
        assert re.search(rf"^{stage}: \d+\.\d s$", told, re.MULTILINE), stage
    assert "writing" not in invoke("index", "good.parquet", "--out", "w.knn").stderr


@pytest.mark.usefixtures("files")
def test_quiet_and_verbose_together_are_refused(invoke):
    done = invoke("inspect", "x.knn", "--quiet", "--verbose")
    assert done.code == 2
    assert "--quiet and --verbose contradict each other: give one of them" in done.stderr

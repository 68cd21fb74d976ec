"""A job by Ray leaves what one by this process leaves, whoever dies meanwhile, and says what stands in its way."""

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from job_inputs import IMAGES, write_inputs
from ray_nodes import cluster_of, deadly, slow

from knnvote.classify.classifier import Classifier
from knnvote.classify.cluster import engine
from knnvote.classify.cluster.connection import connected
from knnvote.classify.cluster.engine import RayEngine
from knnvote.classify.job.output import OutputOptions
from knnvote.classify.job.receipt import read_receipt
from knnvote.classify.job.run import run_job
from knnvote.classify.job.work import JobOptions
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError, Note, OptionError, warn
from knnvote.data.inputs import find_inputs
from knnvote.data.locations import locate
from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'knnvote[ray]'")

# Of files that Ray's own cluster for tests leaves open.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)

OPTIONS = JobOptions(output=OutputOptions(neighbors=True, probabilities=True, prefix="knn_"))


@pytest.fixture(scope="module")
def cluster():
    """Two nodes."""
    with cluster_of(2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def joined(cluster):
    """This process is of the cluster, for as long as the tests last: each job would take a second to join it."""
    with connected(cluster.address):
        yield RayEngine(cluster.address)


@pytest.fixture
def classifier(tmp_path, monkeypatch):
    """An index and inputs in the working folder: files with bad rows, of another type, one that fails, an empty one."""
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        write_table(image_table(np.roll(IMAGES, number, axis=0)), Path(f"in/more/{number}.parquet"))
    return write_inputs()


def files(folder):
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).digest() for p in folder.rglob("*.*")}


def run(classifier, inputs, out, by=None, **of):
    """What a job told and left: its summary, the rows and files that were told, and its files' bytes."""
    rows, done = [], []
    summary = run_job(
        classifier,
        inputs,
        Path(out),
        OPTIONS,
        engine=by,
        progress=rows.append,
        tell_done=lambda *told: done.append(told),
        **of,
    )
    return replace(summary, seconds=0), sum(rows), max(done, default=None), files(Path(out))


def test_ray_leaves_and_tells_what_this_process_does_and_a_job_goes_on_by_either(classifier, joined):
    here, by_ray = (run(classifier, find_inputs(["in"]), name, by) for name, by in (("here", None), ("ray", joined)))
    assert by_ray == here
    assert (here[0].written, here[0].counts.rows, [*here[0].failed]) == (11, 510, ["in/b/broken.parquet"])
    assert here[0].bad_example == "in/a.parquet, row 5: value 0 is NaN"
    again = run(classifier, find_inputs(["in"]), "here", joined)
    assert (again[0].skipped, again[3]) == (11, here[3])
    run(classifier, find_inputs(["in/more"]), "mixed")
    mixed = run(classifier, find_inputs(["in/more", "in/a.parquet"]), "mixed", joined)
    assert (mixed[0].skipped, mixed[0].written) == (8, 1)


def test_a_poison_file_is_given_up_and_takes_no_other_with_it(classifier, joined, tmp_path):
    (tmp_path / "deaths").mkdir()
    sources = find_inputs(["in"])
    poisoned = [
        deadly(source, tmp_path / "deaths", 99) if source.relative == "more/3.parquet" else source for source in sources
    ]
    summary, _, _, left = run(classifier, poisoned, "out", joined)
    assert [*summary.failed] == ["in/b/broken.parquet", "in/more/3.parquet"]
    told = summary.failed["in/more/3.parquet"]
    assert "in/more/3.parquet was given up: 3 workers ended while each was at it alone; the last: " in told
    assert len([*(tmp_path / "deaths").iterdir()]) == 4  # once among others
    expected = run(classifier, [source for source in sources if source.relative != "more/3.parquet"], "here")[3]
    del left[".knnvote.parquet"], expected[".knnvote.parquet"]
    assert left == expected


def test_what_a_worker_made_before_it_died_is_told_as_if_it_lived(classifier, joined, tmp_path):
    (tmp_path / "deaths").mkdir()
    sources = find_inputs(["in"])
    expected = run(classifier, sources, "here")
    sources[-1] = deadly(sources[-1], tmp_path / "deaths", 2)
    assert run(classifier, sources, "out", joined) == expected


def test_answers_that_are_kept_outlive_a_worker_that_died_when_it_had_written_them(classifier, joined, tmp_path):
    (tmp_path / "deaths").mkdir()
    sources, told = find_inputs(["in/more", "in/a.parquet"]), []
    for out, by in (("here", None), ("out", joined)):
        run_job(replace(classifier, rule=Rule(min_confidence=0.7)), sources, Path(out), OPTIONS)
        if by:
            sources[2] = deadly(sources[2], tmp_path / "deaths", 2)  # the last of those that go together at first
        told.append(run_job(classifier, sources, Path(out), replace(OPTIONS, only="abstained"), engine=by))
    assert replace(told[1], seconds=0, unlike_stored=None, stored=0) == replace(
        told[0], seconds=0, unlike_stored=None, stored=0
    )
    assert (told[0].written, len([*(tmp_path / "deaths").iterdir()])) == (9, 2)
    assert all(read_receipt(locate(f"out/{number}.parquet")).kept for number in range(8))
    assert files(Path("out")) == files(Path("here"))


def test_a_node_that_dies_takes_nothing_with_it_and_one_that_joins_works(classifier, joined, cluster, tmp_path):
    (tmp_path / "begun").mkdir()
    sources = find_inputs(["in"])
    expected = run(classifier, sources, "here")
    node = cluster.add_node(num_cpus=1)

    def kill():
        while not [*(tmp_path / "begun").iterdir()]:
            time.sleep(0.01)
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    slowed = [slow(source, 0.3, tmp_path / "begun") for source in sources]
    assert run(classifier, slowed, "out", joined) == expected
    killer.join()


def test_a_large_file_is_spread_over_the_nodes(joined, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(1).integers(0, 256, (300_000, 2, 2), dtype=np.uint8)
    index_arrays(images[:30], np.arange(30) % 3, Path("small.knn"))
    write_table(image_table(images), Path("large/one.parquet"))
    small, nodes, done = Classifier.open("small.knn"), [], engine._Crew._done
    monkeypatch.setattr(
        engine._Crew,
        "_done",
        lambda crew, group, member, report: nodes.append(member.node) or done(crew, group, member, report),
    )
    here, by_ray = (run(small, find_inputs(["large"]), name, by) for name, by in (("here", None), ("ray", joined)))
    assert by_ray == here
    assert len({*nodes}) == 2


def test_notes_of_workers_are_told(classifier, joined):
    sources = find_inputs(["in/a.parquet"])

    def noted(source):
        class Noted(type(source)):
            def open_rows(self):
                warn("one more thing")
                return super().open_rows()

        return Noted(**vars(source))

    with pytest.warns(Note, match="^one more thing$"):
        run(classifier, [noted(sources[0])], "out", joined)


def test_workers_that_die_before_they_do_anything_end_the_job(classifier, joined, monkeypatch):
    whole = engine.shell_class

    def dying():
        class Shell(whole()):
            def open(self, _work):
                os.kill(os.getpid(), signal.SIGKILL)

        return Shell

    monkeypatch.setattr(engine, "shell_class", dying)
    with pytest.raises(
        KnnvoteError, match=r"^workers on the node .* ended 3 times before they did any file; the last: "
    ):
        run(classifier, find_inputs(["in"]), "out", joined)


def test_processors_that_other_work_has_are_waited_for(classifier, joined, monkeypatch):
    told, holder = [], ray.remote(num_cpus=1)(type("Holder", (), {}))
    held = [holder.remote() for _ in range(2)]
    ray.get([actor.__ray_ready__.remote() for actor in held])

    def tell(note):
        told.append(note)
        while held:
            ray.kill(held.pop())

    monkeypatch.setattr(engine, "_tell", tell)
    monkeypatch.setattr(engine, "_PATIENCE", 0.5)
    assert run(classifier, find_inputs(["in/more"]), "out", joined)[0].written == 8
    assert re.match(
        r"waiting for the processors of \S+ \(\S+\), \S+ \(\S+\), which other work on Ray may have$", told[0]
    )


def test_a_cluster_without_processors_is_told(classifier, joined, monkeypatch):
    monkeypatch.setattr(ray, "nodes", list)
    monkeypatch.setattr(engine, "_PATIENCE", 0.5)
    with pytest.raises(KnnvoteError, match=r"^no node of the Ray cluster has processors to work with: see ray status"):
        run(classifier, find_inputs(["in"]), "out", joined)


def test_fail_fast_ends_the_job(classifier, joined):
    with pytest.raises(KnnvoteError, match=r"^cannot read in/b/broken\.parquet as Parquet"):
        run(classifier, find_inputs(["in/b"]), "out", joined, fail_fast=True)


def test_files_that_a_node_does_not_see_are_told(classifier, joined, tmp_path):
    here = Path("/proc/self/cwd")  # which is another folder in each process
    with pytest.raises(
        KnnvoteError, match=r"^the node \S+ \(\S+\) does not see /proc/self/cwd/in/a\.parquet, which is"
    ):
        run(classifier, find_inputs([str(here / "in/a.parquet")]), "out", joined)
    with pytest.raises(
        KnnvoteError,
        match=r"^the node .* says: /proc/self/cwd/out2 is not the output folder of .*all nodes have to see",
    ):
        run(classifier, find_inputs(["in/a.parquet"]), here / "out2", joined)
    Path("x.knn").rename("moved.knn")
    with pytest.raises(KnnvoteError, match=r"^the node .* says: .*x\.knn does not exist: .*\(all nodes have to see"):
        run(classifier, find_inputs(["in/a.parquet"]), "out3", joined)
    assert not [*tmp_path.glob("out*/*")]


def test_an_index_that_was_built_anew_meanwhile_is_refused(classifier, joined):
    shutil.rmtree("x.knn")
    index_arrays(IMAGES[:20], np.arange(20) % 3, Path("x.knn"))
    with pytest.raises(KnnvoteError, match=r"x\.knn is another index than when the job began: run the same"):
        run(classifier, find_inputs(["in/a.parquet"]), "out", joined)


@pytest.mark.parametrize(
    ("package", "theirs", "told"),
    [
        ("knnvote", "0.0.9", r"has knnvote 0\.0\.9, and this machine \S+: pip install 'knnvote==\S+' there$"),
        ("pyarrow", None, r"has no pyarrow, and this machine \S+: pip install 'pyarrow==\S+' there$"),
        ("Python", "3.9.1", r"has Python 3\.9\.1, and this machine \S+: install Python \S+ there$"),
    ],
)
def test_a_node_with_other_versions_is_refused_before_any_work(package, theirs, told):
    ours = {"Python": "3.11.7", "knnvote": "0.1.0", "pyarrow": "26.0"}
    assert engine._difference(ours, ours) is None
    with pytest.raises(KnnvoteError, match=told):
        raise KnnvoteError(f"has {engine._difference(ours, {**ours, package: theirs})}")


def test_a_node_where_another_knnvote_is_installed_is_refused(classifier, joined, cluster, tmp_path, monkeypatch):
    info = tmp_path / "site/knnvote-0.0.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: knnvote\nVersion: 0.0.9\n")
    path = os.pathsep.join([str(info.parent), os.environ.get("PYTHONPATH", "")])
    node = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": path})
    try:
        with pytest.raises(KnnvoteError, match=r"^the node .* has knnvote 0\.0\.9, and this machine"):
            run(classifier, find_inputs(["in"]), "out", joined)
        assert not Path("out/a.parquet").exists()
        recruit = engine._Crew._recruit
        monkeypatch.setattr(engine._Crew, "_recruit", lambda crew, **_of: recruit(crew))  # as if all had joined later
        with pytest.warns(Note, match=r"^the node .* is left out: it has knnvote 0\.0\.9, and this machine"):
            assert run(classifier, find_inputs(["in/more"]), "out", joined)[0].written == 8
    finally:
        cluster.remove_node(node, allow_graceful=False)


PROGRAM = "from knnvote.cli.main import main; main()"


def command(*arguments):
    return [sys.executable, "-c", PROGRAM, *arguments]


@pytest.mark.usefixtures("classifier")
def test_the_command_says_the_same_with_the_same_exit_codes(cluster):
    told = []
    for out, by in (("local", ()), ("by-ray", ("--engine", "ray", "--address", cluster.address))):
        done = subprocess.run(
            command("classify", "x.knn", "in", "--out", out, "--json", *by), capture_output=True, text=True, check=False
        )
        summary = json.loads(done.stdout)
        assert done.returncode == 3
        told.append((summary["files"], summary["failures"], done.stderr.replace(out, "OUT").rpartition(";")[0]))
    assert told[0] == told[1]
    assert files(Path("local")) == files(Path("by-ray"))


@pytest.mark.usefixtures("classifier")
def test_ctrl_c_ends_the_command_and_its_workers_and_the_next_goes_on(cluster):
    slowly = (
        "import time, sys; from knnvote.classify.cluster.engine import _Crew; hand = _Crew._hand_out; "
        "_Crew._hand_out = lambda crew: (hand(crew), print('begun', file=sys.stderr, flush=True), time.sleep(9)); "
    )
    arguments = ["classify", "x.knn", "in", "--out", "out", "--engine", "ray", "--address", cluster.address]
    with subprocess.Popen(
        [sys.executable, "-c", slowly + PROGRAM, *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert "interrupted: 0 of 12 files are done and kept; run the same command" in process.stderr.read()
    assert process.returncode == 130
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert "files: " in done.stderr
    assert not Path("out/_knnvote").exists()


@pytest.mark.usefixtures("classifier")
def test_an_address_where_nobody_answers_is_told_at_once(invoke, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # as other tests of this process may have left it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        done = invoke("classify", "x.knn", "in", "--out", "out", "--engine", "ray", "--address", address)
    assert (done.code, done.stdout) == (1, "")
    assert f"error: Ray does not answer at {address} (Connection refused): ray start --head starts one" in done.stderr
    assert not [*Path("out").iterdir()]


def test_where_ray_answers_as_recorded_it_is_joined(cluster, tmp_path, monkeypatch):
    joined = []
    for name, stand_in in (("is_initialized", bool), ("shutdown", bool)):  # as other tests of this process may be in
        monkeypatch.setattr(ray, name, stand_in)
    monkeypatch.setattr(ray, "init", lambda address, **_: joined.append(address))
    monkeypatch.setattr(ray._private.services, "find_gcs_addresses", frozenset)  # beside other tests, others run here
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray/ray_current_cluster").write_text(cluster.address)
    for address in (None, "auto"):
        with connected(address):
            pass
    assert joined == [None, "auto"]


@pytest.mark.parametrize("address", ["ray://10.0.0.1:10001", "10.0.0.1", "here:there"])
def test_what_is_no_address_is_told(address):
    with pytest.raises(OptionError, match=r"^address is '.*': give HOST:PORT as ray start --head tells it"):
        RayEngine(address)


@pytest.mark.usefixtures("classifier")
def test_another_version_of_ray_is_told(cluster):
    program = (
        "import ray; ray.__version__ = '1.0'; from knnvote import *; "
        f"run_job(Classifier.open('x.knn'), 'in', 'out', engine=RayEngine('{cluster.address}'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert f"KnnvoteError: cannot join Ray at {cluster.address}: Version mismatch" in done.stderr
    assert "install the same Python and Ray on all machines" in done.stderr

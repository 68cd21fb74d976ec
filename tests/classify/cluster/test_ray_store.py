"""A job by Ray on an object store: each node fetches the index once, and the outputs are those of one process."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from object_store import BUCKET, serve
from ray_nodes import NODE, cluster_of

from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays

pytest.importorskip("ray", reason="Ray is not installed: pip install 'knnvote[ray]'")
# Of files that Ray's own cluster for tests leaves open.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)


def test_each_node_fetches_the_index_once_and_leaves_what_one_process_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (80, 4, 4), dtype=np.uint8)
    index_arrays(images[:30], np.arange(30) % 3, Path("x.knn"))
    for number in range(5):
        write_table(image_table(images[number * 10 :]), Path(f"in/{number}.parquet"))
    with serve() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        for path in [*Path("x.knn").iterdir(), *Path("in").iterdir()]:
            store.client.put_object(Bucket=BUCKET, Key=str(path), Body=path.read_bytes())
        head, other = ({**NODE, "env_vars": {"XDG_CACHE_HOME": str(tmp_path / name)}} for name in ("head", "other"))
        with cluster_of(1, head=head) as cluster:
            cluster.add_node(**other)
            classify("here")
            before = len(store.requests)
            classify("ray", "--engine", "ray", "--address", cluster.address)
        outputs = [store.objects(f"{name}/") for name in ("here", "ray")]
        assert [name.partition("/")[2] for name in outputs[0]] == [name.partition("/")[2] for name in outputs[1]]
        assert [*outputs[0].values()] == [*outputs[1].values()]
        fetched = Counter(line for line in store.requests[before:] if line.startswith(f"GET /{BUCKET}/x.knn/"))
        large = {name: times for name, times in fetched.items() if "manifest" not in name}
        assert len(large) >= 2
        assert {*large.values()} == {2}


def classify(out, *by):
    program = "from knnvote.cli.main import main; main()"
    command = [sys.executable, "-c", program, "classify", f"s3://{BUCKET}/x.knn", f"s3://{BUCKET}/in"]
    done = subprocess.run(
        [*command, "--out", f"s3://{BUCKET}/{out}", *by],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(Path("driver").resolve())},
    )
    assert done.returncode == 0, done.stderr

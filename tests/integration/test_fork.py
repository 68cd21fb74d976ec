"""A process that was forked from one that has searched: multiprocessing, gunicorn and joblib make such."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are spawned")

_SCRIPT = """
import os, signal, sys, threading
import numpy as np
from knnvote import Classifier, IndexOptions, KNNVoteClassifier, index_arrays, open_index

rng = np.random.default_rng(0)
x, y = rng.integers(0, 256, (1200, 64), dtype=np.uint8), np.arange(1200) % 7
floats = rng.normal(size=(1200, 32)).astype(np.float32)

def work(name):
    answers = []
    for kind, stored in (("exact", x), ("exact", floats), ("adaptive", floats), ("hnsw", x)):
        index_arrays(stored, y, f"{name}.knn", options=IndexOptions(kind=kind, threads=2, overwrite=True))
        classifier = Classifier(open_index(f"{name}.knn"))
        for count in (1, 50, 1200):
            answers.append(classifier.answer(stored[:count], {}).prediction.to_numpy())
    estimator = KNNVoteClassifier(n_jobs=2).fit(floats, y)
    in_thread = []
    thread = threading.Thread(target=lambda: in_thread.append(estimator.predict(floats[:70])))
    thread.start()
    thread.join()
    return np.concatenate([*answers, estimator.predict(floats), *in_thread])

expected = work("parent")
child = os.fork()
if child == 0:
    signal.alarm(50)  # one that hangs is ended
    os._exit(0 if np.array_equal(work("child"), expected) else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(code, np.array_equal(work("parent"), expected))
"""


@pytest.mark.long
def test_a_forked_child_searches_builds_and_fits_as_its_parent_does(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _SCRIPT],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0 True\n"

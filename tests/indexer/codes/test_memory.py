"""The kernel where memory ends: an error of Python's, and no crash."""

import subprocess
import sys

import pytest

from knnvote.indexer.codes import library

SHORT_OF_MEMORY = """
import resource
import numpy as np
from knnvote.indexer.codes import steps
from knnvote.indexer.codes.projection import Coded
from knnvote.indexer.codes.table import pack, records
from knnvote.indexer.metric import METRICS

n, p, nq = 64, 512, 50_000
rng = np.random.default_rng(0)
x = rng.integers(0, 9, (n, p), dtype=np.uint8)
def coded(codes):
    return Coded(codes, (codes.astype(np.float64) ** 2).sum(axis=1), *np.zeros((2, len(codes))))
table = pack(records(coded(x.astype(np.int8))), np.arange(n))
queries, first = coded(np.zeros((nq, p), np.int8)), np.zeros((nq, 1), np.int64)
xq = np.zeros((nq, p), np.uint8)
steps.scan(table, queries, first, xq, x, k=1, metric=METRICS["l2"], unit=1.0)  # with enough
with open("/proc/self/statm") as status:
    held = int(status.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (16 << 20), resource.RLIM_INFINITY))
try:
    steps.scan(table, queries, first, xq, x, k=1, metric=METRICS["l2"], unit=1.0)
except MemoryError as error:
    print(error)
"""


@pytest.mark.skipif(library.kernel_name() == library.NONE, reason="there is no compiled kernel here")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process so")
def test_too_little_memory_is_an_error_of_python():
    done = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "the kernel of the search found no memory for its queries\n"

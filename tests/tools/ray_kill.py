"""Kill actors, nodes and drivers of jobs by Ray at random moments, and prove that nothing is lost.

``python tests/tools/ray_kill.py --times 50`` starts a cluster of three nodes on this machine, one of them without
processors for the drivers. Each job is one fresh command, killed once or twice. Whatever died, in the end the folder
holds the bytes that a job by one process leaves, and nothing else; and where the driver lived, it told the same.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from ray_nodes import NODE, cluster_of

from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_arrays

PROGRAM = "from knnvote.cli.main import main; main()"
DRAW = random.Random(0)  # noqa: S311  # moments, not secrets
VARIES = ("seconds", "rows_per_second")


def command(*arguments):
    return [sys.executable, "-c", PROGRAM, "classify", "x.knn", "in", "--json", "--quiet", *arguments]


def make_inputs():
    """Many small files and one that is done in ranges."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300_000, 2, 2), dtype=np.uint8)
    index_arrays(images[:50], np.arange(50) % 3, Path("x.knn"))
    write_table(image_table(images), Path("in/large.parquet"))
    for number in range(60):
        write_table(image_table(images[number * 500 : (number + 1) * 500]), Path(f"in/{number % 3}/{number}.parquet"))


def left(folder):
    """All that is below a folder, by its name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for path in Path(folder).rglob("*")
    }


def told(text):
    """What a command told, but for its times."""
    return {name: value for name, value in json.loads(text).items() if name not in VARIES}


class Job:
    """A command at work on the cluster."""

    def __init__(self, cluster, out):
        self.cluster = cluster
        self.process = subprocess.Popen(
            command("--out", out, "--engine", "ray", "--address", cluster.address), stdout=subprocess.PIPE, text=True
        )

    def kill(self, what):
        """Kill something of it; whether there was something."""
        if self.process.poll() is not None:
            return False
        if what == "driver":
            self.process.kill()
            return True
        if what == "node":
            self.cluster.remove_node(DRAW.choice([*self.cluster.worker_nodes]), allow_graceful=False)
            self.cluster.add_node(num_cpus=1)
            return True
        while not (actors := [pid for node in self.cluster.worker_nodes for pid in actors_of(node)]):
            if self.process.poll() is not None:
                return False
            time.sleep(0.1)
        try:
            os.kill(DRAW.choice(actors), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


def actors_of(node):
    """The process numbers of the actors that a node's raylet has started."""
    raylet = node.all_processes["raylet"][0].process.pid
    children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    found = []
    for pid in children:
        try:
            if b"ray::Shell" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
        except OSError:
            continue
    return found


def once(cluster, out, span, expected, killed):
    """One job, killed and checked; what it took."""
    start = time.monotonic()
    job, has_driver = Job(cluster, out), True
    for _ in range(DRAW.choice([1, 2, 3])):
        time.sleep(DRAW.uniform(0, span))
        what = DRAW.choice(["actor", "actor", "node", "driver"])
        if job.kill(what):
            killed[what] += 1
            if what == "driver":
                has_driver = False
                job.process.communicate()
                job = Job(cluster, out)
    text, _ = job.process.communicate(timeout=300)
    assert job.process.returncode == 0, job.process.returncode
    assert left(out) == expected[0], left(out).items() ^ expected[0].items()
    if has_driver:
        assert told(text) == expected[1], text
    return time.monotonic() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50, help="things that are killed")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    DRAW.seed(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_inputs()
        done = subprocess.run(command("--out", "here"), stdout=subprocess.PIPE, text=True, check=True)
        expected, killed, jobs = (left("here"), told(done.stdout)), Counter(), 0
        with cluster_of(3, head={**NODE, "num_cpus": 0}) as cluster:
            start = time.monotonic()
            subprocess.run(
                command("--out", "by-ray", "--engine", "ray", "--address", cluster.address),
                stdout=subprocess.DEVNULL,
                check=True,
            )
            span = time.monotonic() - start
            assert left("by-ray") == expected[0]
            print(f"a job takes {span:.1f} s", flush=True)
            while killed.total() < given.times:
                jobs += 1
                span = min(span, once(cluster, f"out-{jobs}", span, expected, killed))
                print(f"{jobs} jobs, killed {dict(killed)}: equal", flush=True)
        os.chdir("/")


if __name__ == "__main__":
    main()

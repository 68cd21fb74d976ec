"""A Ray cluster of several nodes on this machine, and inputs that kill the worker that reads them."""

import logging
import os
import signal
import time
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

NODE = {"num_cpus": 1, "include_dashboard": False}


@contextmanager
def cluster_of(nodes, head=None):
    """A cluster of so many nodes with a processor each, the first as it is given; what it starts says nothing."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0")  # beside other tests, 15 would mean to wait
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=head or NODE)
    try:
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


def deadly(source, folder, times):
    """An input that kills those who read it, but this process, so many times; the folder holds a file for each.

    Its class is made here, so that Ray sends it as code.
    """
    reader = os.getpid()

    class Deadly(type(source)):
        def state(self):
            if os.getpid() != reader and len([*Path(folder).iterdir()]) < times:
                (Path(folder) / str(time.time_ns())).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().state()

    return _as(Deadly, source)


def slow(source, seconds, folder=None):
    """An input that takes a while to be read, but by this process; the folder gets a file when that begins."""
    reader = os.getpid()

    class Slow(type(source)):
        def open_rows(self):
            if os.getpid() != reader:
                if folder is not None:
                    (Path(folder) / str(time.time_ns())).touch()
                time.sleep(seconds)
            return super().open_rows()

    return _as(Slow, source)


def _as(class_, source):
    return class_(**{field.name: getattr(source, field.name) for field in fields(source)})

"""An engine whose worker shares nothing with the job but what it is given as bytes."""

import pickle
import subprocess
import sys

PROGRAM = """
import pickle, sys
from knnvote.classify.job.worker import Worker

work, tasks = pickle.load(sys.stdin.buffer)
with Worker.open(work) as worker:
    outcomes = [worker.classify_file(task) for task in tasks]
sys.stdout.buffer.write(pickle.dumps(outcomes))
"""


class Apart:
    """Does the files in a process of its own, in another working folder."""

    def run(self, work, tasks, progress):
        command, given = [sys.executable, "-c", PROGRAM], pickle.dumps((work, tasks))
        done = subprocess.run(command, input=given, capture_output=True, check=True, cwd="/")
        for outcome in pickle.loads(done.stdout):  # noqa: S301  # of our own child
            progress(outcome.counts.rows)
            yield outcome

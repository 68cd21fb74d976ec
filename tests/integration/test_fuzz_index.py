"""The harness of hostile index folders, run shortly."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long


def test_hostile_folders_by_the_dozen_end_in_an_answer_or_a_refusal():
    """A short run of the harness, in a process that has run no threads, from which it can fork.

    `python tests/tools/fuzz_index.py --cases 20000` takes over the rest.
    """
    for options in (["--cases", "6", "--seed", "7"], ["--cases", "1", "--seed", "8", "--real"]):
        command = [sys.executable, "-P", str(Path(__file__).parents[1] / "tools" / "fuzz_index.py"), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

"""The kernel under the sanitizers of addresses and of undefined behaviour, in every variant that the processor has.

``python tests/tools/sanitize.py`` compiles it so, into a temporary folder, and runs test_steps.py and test_away.py of
tests/indexer/codes with it. There this module is a plugin of pytest, by which it stands for the installed one.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIBRARY = "SANITIZED_KERNEL"
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -g"


def pytest_configure():
    from knnvote.indexer.codes import library

    library._LIBRARY = Path(os.environ[LIBRARY])
    if not library._usable():
        sys.exit(f"{library._LIBRARY} cannot be loaded")


def run():
    """The exit code."""
    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        print("there is no g++, or this is not Linux: the kernel is not tried under sanitizers")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "kernel.compiled"
        problem = _compile(compiler, compiled)
        if problem is not None:
            print(problem)
            return 1
        return _run_tests(compiler, compiled)


def _compile(compiler, compiled):
    sys.path.insert(0, str(ROOT))
    from hatch_build import compile_kernel

    os.environ["CXX"] = f"{compiler} {FLAGS}"
    return compile_kernel(ROOT / "indexer/codes/kernel.cpp", compiled)


def _run_tests(compiler, compiled):
    runtime = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]
    environment = {
        **os.environ,
        LIBRARY: str(compiled),
        "LD_PRELOAD": runtime.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python leaves its own
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    # What a sanitizer says before it ends the process must not be captured.
    options = ["-p", "sanitize", "-p", "no:cacheprovider", "--capture=no", "-q"]
    tests = [f"tests/indexer/codes/test_{name}.py" for name in ("steps", "away")]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(run())

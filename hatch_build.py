"""Compiles `indexer/codes/kernel.cpp` while a wheel is built; without a compiler the wheel does without it.

The library uses nothing of Python, so that one wheel serves all Pythons of a platform.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FOLDER = Path("indexer/codes")
_FLAGS = (
    *("-std=c++17", "-O3", "-fPIC", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden"),
    *("-ffp-contract=off", "-fwrapv", "-fno-strict-aliasing", "-fno-math-errno"),
)
_X86 = {
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mf16c"),
    "avx2": ("-mavx2", "-mf16c"),
}


class KernelHook(BuildHookInterface[Any]):
    """A compiled library beside its source, in the tree and in the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # editable or not
        """Compile, and tell which wheel that makes."""
        root = Path(self.root)
        library = root / _FOLDER / "kernel.compiled"
        reason = compile_kernel(root / _FOLDER / "kernel.cpp", library)
        if reason is not None:
            with suppress(OSError):  # nor can it be written
                library.unlink()
            self.app.display_warning(f"knnvote is built without its compiled kernel, and is slower: {reason}")
            return
        build_data["artifacts"].append(f"/{_FOLDER}/kernel.compiled")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def compile_kernel(source: Path, library: Path) -> str | None:
    """Compile the kernel, once for each set of instructions; why not, if it cannot be done."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        return "there is no C++ compiler; install one, such as g++, and install knnvote again"
    variants = {"plain": (), **(_X86 if platform.machine().lower() in ("x86_64", "amd64") else {})}
    mark = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    with tempfile.TemporaryDirectory() as folder:
        objects = []
        for name, flags in variants.items():
            objects.append(str(Path(folder) / f"{name}.o"))
            defined = [f"-DVARIANT={name}", *([f'-DMARK="{mark}"'] if name == "plain" else [])]
            problem = _run([*compiler.split(), *_FLAGS, *flags, *defined, "-c", str(source), "-o", objects[-1]])
            if problem is not None and name == "plain":
                return problem
            if problem is not None:  # an older compiler may not know them
                objects.pop()
        built, beside = Path(folder) / library.name, library.with_suffix(".new")
        problem = _run([*compiler.split(), "-shared", "-o", str(built), *objects, "-lm"])
        if problem is not None:
            return problem
        try:
            shutil.copy(built, beside)
            beside.replace(library)  # in one step: a process may have the old one open, or be about to
        except OSError as error:
            return f"{library} cannot be written: {error.strerror}"
        return None


def _run(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # the user's compiler
    except OSError as error:
        return f"{command[0]} does not run: {error}"
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines()
    return f"{command[0]} fails: {next((line for line in said if 'error' in line), f'exit code {done.returncode}')}"

"""How long commands take to end when they are interrupted, phase by phase: ``python tests/tools/interrupt.py``.

Indexes and images are made, as large as MNIST, so that long calls of FAISS and NumPy are hit. Stderr is a terminal with
a bar. Each line tells the signal, how long until the exit, its code, what the terminal shows last if that does not say
so, and where in the code the signal came.
"""

import argparse
import os
import pty
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kill
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# A shell's background jobs ignore SIGINT and hand that on. SIGUSR1 tells where Python is, within long calls too.
PRELUDE = """
import faulthandler, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
place = open(sys.argv.pop(1), "w")
faulthandler.register(signal.SIGUSR1, file=place, all_threads=True)
from knnvote.cli.main import main
main()
"""
SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PATIENCE = 60.0  # seconds until the exit, at most


def write_mnist_like(path: Path, n: int, seed: int) -> None:
    """A file of n labelled 28 x 28 images: ten patterns, moved and noisy."""
    rng = np.random.default_rng(seed)
    patterns = np.kron(np.random.default_rng(0).integers(0, 2, (10, 7, 7)), np.ones((4, 4))) * 160
    labels = rng.integers(0, 10, n)
    images = np.roll(patterns[labels], rng.integers(-2, 3), axis=(1, 2)) + rng.normal(0, 60, (n, 28, 28))
    pixels = pa.py_buffer(np.clip(images, 0, 255).astype(np.uint8).tobytes())
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(784), n, [None, pixels])
    pq.write_table(pa.table({"image": column, "label": labels}), path)


def start(arguments: list[str], place: Path) -> "tuple[subprocess.Popen[bytes], int]":
    """The command, in a process that can tell where it is, and the terminal that it talks to."""
    terminal, stderr = pty.openpty()
    command = [sys.executable, "-c", PRELUDE, str(place), *arguments]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, env=environment)
    os.close(stderr)
    return job, terminal


def read_until(terminal: int, moment: float) -> str:
    """What a terminal is sent until a moment of the clock, or until nobody writes to it any more."""
    sent = b""
    while (left := moment - time.monotonic()) > 0:
        try:
            piece = os.read(terminal, 65536) if select.select([terminal], [], [], left)[0] else b""
        except OSError:  # so a terminal tells that
            break
        sent += piece
    return sent.decode()


def shown(sent: str) -> list[str]:
    """The lines that stay on a terminal: what a bar drew and cleared does not."""
    kept = [re.split(r"\x1b\[2K", line)[-1] for line in sent.replace("\r\n\x1b[1A", "").split("\r\n")]
    lines = [re.sub(r"\x1b\[[\d;?]*[a-zA-Z]|\r", "", line) for line in kept]
    return [line for line in lines if line]


def is_whole(sent: str) -> bool:
    """Whether a terminal shows its cursor as before."""
    return sent.rfind("\x1b[?25h") >= sent.rfind("\x1b[?25l")


def where(told: str) -> str:
    """The innermost function of ours in the main thread, and what it had called, of what faulthandler told."""
    thread = told.rsplit("hread 0x", 1)[-1]  # the main one is the last
    frames = re.findall(r'File "(.*)", line (\d+) in (.*)', thread)
    shown = [f"{'/'.join(Path(path).parts[-2:])}:{line} {name}" for path, line, name in frames]
    ours = [text for text, (path, _, _) in zip(shown, frames, strict=True) if "/knnvote/" in path]
    return f"{ours[0] if ours else 'start-up'} <- {shown[0] if shown else '?'}"


def interrupt(arguments: list[str], moment: float, number: signal.Signals, place: Path) -> tuple[float, str] | None:
    """Interrupt a command at a moment: seconds until its exit, and a line on how it ended; None if it was too late."""
    begun = time.monotonic()
    job, terminal = start(arguments, place)
    with job:
        sent = read_until(terminal, begun + moment)
        was_at_work = time.monotonic() >= begun + moment
        job.send_signal(signal.SIGUSR1)
        time.sleep(0.005)
        job.send_signal(number)
        signalled = time.monotonic()
        sent += read_until(terminal, signalled + _PATIENCE)
        job.wait()
        seconds = time.monotonic() - signalled
        os.close(terminal)
    if not was_at_work:
        return None
    lines = shown(sent)
    last = "" if lines[-1].startswith("interrupted") else f" {lines[-3:]}"
    cursor = "" if is_whole(sent) else ", without a cursor"
    return seconds, f"exit {job.returncode}{last}{cursor}, at {where(place.read_text())}"


def main() -> None:
    """Interrupt each command at random moments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=20, help="a command")
    parser.add_argument("--images", type=int, default=60_000, help="that are indexed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--command", help="only this one")
    given = parser.parse_args()
    rng = random.Random(given.seed)  # noqa: S311  # moments are no secrets
    with tempfile.TemporaryDirectory() as folder:
        train, test, out = (Path(folder, name) for name in ("train.parquet", "test.parquet", "out"))
        write_mnist_like(train, given.images, 1)
        write_mnist_like(test, given.images // 3, 2)
        exact, adaptive = str(Path(folder, "exact.knn")), str(Path(folder, "adaptive.knn"))
        kill.succeed(kill.run_command, ["index", str(train), "--out", exact])
        kill.succeed(kill.run_command, ["index", str(train), "--out", adaptive, "--kind", "adaptive"])
        predictions, page = Path(folder, "predictions"), str(out / "page.html")
        kill.succeed(kill.run_command, ["classify", adaptive, str(test), "--out", str(predictions)])
        commands = {
            "index": ["index", str(train), "--kind", "adaptive", "--out", str(out)],
            "classify": ["classify", exact, str(test), "--out", str(out)],
            "compare": ["compare", str(test), "--index", exact, "--index", adaptive],
            "compare --report": ["compare", str(test), "--index", adaptive, "--report", page],
            "choose-k": ["choose-k", exact],
            "choose-step": ["choose-step", exact],
            "suspects": ["suspects", exact, "--report", page],
            "explain": ["explain", str(predictions), "7", "--index", adaptive, "--report", page],
            "map": ["map", exact, "--out", str(out / "map.png")],
            "report": ["report", str(predictions), "--index", adaptive, "--out", page],
        }
        for name, arguments in commands.items():
            if given.command not in (None, name):
                continue
            shutil.rmtree(out, ignore_errors=True)
            begun = time.monotonic()
            kill.succeed(kill.run_command, arguments)
            length = time.monotonic() - begun
            latencies = []
            for i in range(given.moments):
                shutil.rmtree(out, ignore_errors=True)
                number, moment = SIGNALS[i % 2], length * (i + rng.random()) / given.moments
                ended = interrupt(arguments, moment, number, Path(folder, "place"))
                if ended is not None:
                    latencies.append(ended[0])
                    kill.tell(f"{name} {moment:6.2f} s {number.name}: {ended[0]:.2f} s, {ended[1]}")
                    kill.tell(f"{'':9}left: {sorted(os.listdir(out)) if out.exists() else 'nothing'}")  # noqa: PTH208
            kill.tell(f"{name}: {length:.1f} s; until exit at most {max(latencies):.2f} s")


if __name__ == "__main__":
    main()

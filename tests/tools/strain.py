"""A service under strain, by hand: `python tests/tools/strain.py [--requests 100000]`, some minutes.

The real command serves the digits. Idle, half and slow connections are opened, bodies that are too long or claim too
much are sent, and meanwhile many requests over many connections: none of these may fail. Then memory is watched over
more of them, and the service is killed, started again on its port, and told to stop while it works.
"""

import argparse
import asyncio
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/tools")]

from services import ARROW, PNG, png, stream  # noqa: E402

from bench.serve.client import Load, ask_all, request  # noqa: E402  # found there
from knnvote.data.sample import split_digits  # noqa: E402
from knnvote.data.tables import image_table  # noqa: E402
from knnvote.indexer.build import index_arrays  # noqa: E402

CONNECTIONS = 64
IDLE, HALF, SLOW = 1000, 200, 50
COMMAND = "from knnvote.cli.main import main; main()"
HEAD = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n"


class Service:
    """The command in a process of its own."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Start it, and wait until it answers."""
        self._told = folder / "told"
        with self._told.open("wb") as told:
            command = [sys.executable, "-c", COMMAND, "serve", str(folder / "digits.knn"), "--port", str(port)]
            self.process = subprocess.Popen(command, stderr=told)
        while not (found := re.search(r"http://([\d.]+):(\d+)/", self._told.read_text())):
            assert self.process.poll() is None, self._told.read_text()
            time.sleep(0.01)
        self.place = found[1], int(found[2])

    @property
    def megabytes(self) -> float:
        """That it holds in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1000  # type: ignore[index]  # Linux tells it

    def stop(self) -> str:
        """Have it stop, and tell how long that took."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code, said = self.process.wait(), self._told.read_text().splitlines()[1:]
        return f"exit code {code} after {time.monotonic() - start:.2f} s; it said {said}"


def told(load: Load) -> str:
    """What a load was like."""
    rate = len(load.waits) / load.seconds
    median, p99, longest = (1000 * load.wait(percent) for percent in (50, 99, 100))
    waits = f"median {median:.1f} ms, p99 {p99:.1f} ms, longest {longest:.0f} ms"
    return f"{len(load.waits):,} requests, {rate:,.0f}/s, {waits}, errors {load.errors or 0}"


async def dribble(place: tuple[str, int]) -> bytes:
    """Send a body byte by byte, until it is enough for the service."""
    reader, writer = await asyncio.open_connection(*place)
    writer.write(HEAD % b"image/png" + b"Content-Length: 100000\r\n\r\n")
    answer = asyncio.create_task(reader.read(12))
    while not answer.done():
        writer.write(b"a")
        await asyncio.sleep(0.2)
    return answer.result()


async def endless(place: tuple[str, int]) -> bytes:
    """Send chunks without end, until the service has had enough."""
    reader, writer = await asyncio.open_connection(*place)
    writer.write(HEAD % b"image/png" + b"Transfer-Encoding: chunked\r\n\r\n")
    answer = asyncio.create_task(reader.read(12))
    while not answer.done() and not writer.is_closing():
        writer.write(b"10000\r\n" + b"a" * 0x10000 + b"\r\n")
        try:
            await asyncio.wait_for(writer.drain(), 20)
        except (OSError, TimeoutError):
            break
        await asyncio.sleep(0)
    try:
        return await asyncio.wait_for(answer, 15)
    except (OSError, TimeoutError):
        return b"closed"


async def strain(service: Service, requests: list[bytes], times: int) -> None:
    """All that at once."""
    place = service.place
    opened = [await asyncio.open_connection(*place) for _ in range(IDLE + HALF)]
    for _, writer in opened[IDLE:]:
        writer.write(HEAD % b"image/png" + b"Content-Length: 100\r\n\r\nhalf")
    slow = [asyncio.create_task(dribble(place)) for _ in range(SLOW)]
    long = [asyncio.create_task(endless(place)) for _ in range(4)]
    load = await ask_all(place, requests, times, CONNECTIONS)
    print(f"beside {IDLE:,} idle, {HALF} half, {SLOW} slow and 4 endless ones: {told(load)}")
    print(f"endless bodies were answered {[(await one)[9:] for one in long]}; {service.megabytes:.0f} MB")
    ends = await asyncio.gather(*(reader.read() for reader, _ in opened), return_exceptions=True)
    print(f"idle were closed: {ends[:IDLE].count(b'')}; half were told { ({bytes(end[9:12]) for end in ends[IDLE:]}) }")
    for one in slow:
        one.cancel()


async def stopped_at_work(service: Service, requests: list[bytes]) -> None:
    """Have it stop while it works."""
    asking = asyncio.create_task(ask_all(service.place, requests, 10**9, CONNECTIONS))
    await asyncio.sleep(1)
    print(f"stopped at work: {await asyncio.to_thread(service.stop)}")
    asking.cancel()
    with suppress(asyncio.CancelledError, OSError):
        await asking


def main() -> None:
    """Do all, and tell what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    split = split_digits()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index_arrays(split.train_images, split.train_labels, folder / "digits.knn")
        service = Service(folder)
        requests = [request(service.place, "/classify", png(image), PNG) for image in split.test_images]
        print(f"at rest {service.megabytes:.0f} MB")
        print(f"alone: {told(asyncio.run(ask_all(service.place, requests, 10_000, CONNECTIONS)))}")
        many = [request(service.place, "/classify", stream(image_table(split.test_images)), ARROW)]
        print(f"streams of {len(split.test_images)}: {told(asyncio.run(ask_all(service.place, many, 200, 8)))}")
        asyncio.run(strain(service, requests, 10_000))
        for _ in range(4):
            load = asyncio.run(ask_all(service.place, requests, given.requests // 4, CONNECTIONS))
            print(f"{told(load)}; {service.megabytes:.1f} MB")
        service.process.kill()
        service.process.wait()
        service = Service(folder, service.place[1])
        print(f"killed and started again: {told(asyncio.run(ask_all(service.place, requests, 1000, CONNECTIONS)))}")
        asyncio.run(stopped_at_work(service, requests))


if __name__ == "__main__":
    main()

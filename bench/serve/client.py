"""Many connections to a service at a time, each of which asks again as soon as it is answered."""

import asyncio
from dataclasses import dataclass
from itertools import count
from time import perf_counter

import numpy as np


@dataclass(frozen=True)
class Load:
    """What was measured of some requests.

    Attributes:
        seconds: from the first to the last.
        waits: seconds of each, ascending.
        errors: requests that were not answered with 200, by what they were answered with.
    """

    seconds: float
    waits: list[float]
    errors: dict[str, int]

    def wait(self, percent: float) -> float:
        """Seconds within which so many percent were answered."""
        return float(np.percentile(self.waits, percent))


def request(place: tuple[str, int], path: str, body: bytes, kind: str) -> bytes:
    """A request as it goes over the wire."""
    host = f"{place[0]}:{place[1]}"
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def ask_all(place: tuple[str, int], requests: list[bytes], times: int, connections: int) -> Load:
    """Send requests in turn, so many times in all, over some connections at a time."""
    numbers = count()
    waits: list[float] = []
    errors: dict[str, int] = {}

    async def one() -> None:
        reader, writer = await asyncio.open_connection(*place)
        while (number := next(numbers)) < times:
            start = perf_counter()
            writer.write(requests[number % len(requests)])
            try:
                status = await _read(reader)
            except (OSError, asyncio.IncompleteReadError) as error:
                status = type(error).__name__
            waits.append(perf_counter() - start)
            if status != "200":
                errors[status] = errors.get(status, 0) + 1
                writer.close()
                reader, writer = await asyncio.open_connection(*place)
        writer.close()

    start = perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return Load(perf_counter() - start, sorted(waits), errors)


async def _read(reader: asyncio.StreamReader) -> str:
    """The status of an answer, which is read whole."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
    await reader.readexactly(int(length.split(":")[1]))
    return head.split(" ")[1]

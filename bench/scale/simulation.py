"""A job in parts on machines, simulated: what each process waits for and when the last is done."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a job costs, measured on one core.

    Attributes:
        start: seconds of a process before its first image: imports, listing of inputs, opening of the index.
        unit: seconds of each file or range of a file, whatever its rows.
        image: seconds of each image: read, decoded, searched, voted on and written.
        image_bytes: read and written of each image, over the network where files lie elsewhere.
        index_bytes: of the index, fetched once by each machine.
    """

    start: float
    unit: float
    image: float
    image_bytes: float
    index_bytes: float


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Machines of one kind.

    Attributes:
        machines: how many.
        processes: of each, a core each; each does one part.
        network: bytes a second of one machine.
        store: bytes a second of what all machines read and write.
    """

    machines: int
    processes: int
    network: float
    store: float

    @property
    def parts(self) -> int:
        """Of the job."""
        return self.machines * self.processes


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """How it went.

    Attributes:
        seconds: until the last part ended.
        first_ended: seconds until the first part ended.
        computing: share of the processes' time that was computing.
        fetching: seconds until a machine had the index.
    """

    seconds: float
    first_ended: float
    computing: float
    fetching: float


def simulate(parts: Sequence[Sequence[int]], costs: Costs, cluster: Cluster) -> Simulated:
    """Every process does its units, one after the other; those that compute at a time share the network.

    A unit's bytes move while it is computed, at an equal share of what is left of network and store: it takes the
    longer of the two. Shares are those at its beginning.

    Args:
        parts: rows of each unit of each part, in their order.
        costs: measured on one core.
        cluster: as many processes as there are parts, or more.
    """
    fetching = costs.index_bytes / min(cluster.network, cluster.store / cluster.machines)
    events = [(fetching + costs.start, part, 0) for part in range(len(parts))]
    heapq.heapify(events)
    at_work, computing, ends = len(parts), costs.start * len(parts), []
    while events:
        now, part, unit = heapq.heappop(events)
        if unit == len(parts[part]):
            ends.append(now)
            at_work -= 1
            continue
        rows = parts[part][unit]
        seconds = costs.unit + rows * costs.image
        share = min(cluster.network / cluster.processes, cluster.store / at_work)
        computing += seconds
        heapq.heappush(events, (now + max(seconds, rows * costs.image_bytes / share), part, unit + 1))
    return Simulated(
        seconds=max(ends), first_ended=min(ends), computing=computing / (max(ends) * len(parts)), fetching=fetching
    )

"""The files of a job done by Ray: one actor a node, with all its processors."""

import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from pyarrow import fs as pafs

from knnvote.classify.job.folder import clear_unfinished
from knnvote.classify.job.work import Outcome, Task, Work
from knnvote.data.errors import KnnvoteError, Note, param

from .connection import check_address, connected, refuse_without_ray
from .node import Order, Report
from .queue import ATTEMPTS, Group, Queue
from .ranges import Gathering, cut_large, size_of
from .shell import PACKAGES, shell_class

_LABEL = "ray.io/node-id"
_LOOK = 1.0  # seconds between looks at which nodes there are
_PATIENCE = 60.0  # seconds without any node that can work
_LONG = 300  # characters of a reason
_SETTLE = 10.0  # seconds for all nodes to tell their versions before any begins


@dataclass(frozen=True)
class RayEngine:
    """Does files on the nodes of a Ray cluster; what it leaves is byte for byte what the local engine leaves.

    All nodes need the same versions of knnvote and what it builds on, and see index, inputs and output folder by the
    same paths or URIs.

    Attributes:
        address: HOST:PORT of the cluster, or auto for the one that runs on this machine; None for that of the
            environment's RAY_ADDRESS, else for the one on this machine, else for one that is started here meanwhile.

    Raises:
        KnnvoteError: Ray is not installed.
        OptionError: the address is none.

    Example:
        >>> from knnvote import Classifier, RayEngine, run_job
        >>> run_job(Classifier.open("digits.knn"), "digits", "out", engine=RayEngine()).counts.rows  # doctest: +SKIP
        1797
    """

    does_parts: ClassVar[bool] = False
    address: str | None = None

    def __post_init__(self) -> None:
        """Refuse at once what would be refused when the files' turn comes."""
        refuse_without_ray()
        check_address(self.address)

    def run(self, work: Work, tasks: Sequence[Task], progress: Callable[[int], None]) -> Generator[Outcome, None, None]:
        """What becomes of each file, as soon as it has.

        Raises:
            KnnvoteError: Ray is not reachable, or a node has other versions or does not see a file.
        """
        with connected(self.address) as ray:
            crew = _Crew(ray, work, tasks)
            try:
                yield from crew.outcomes(progress)
            finally:
                crew.dismiss()


Call = tuple["_Member", Callable[["_Member", Any], Iterator[tuple[int, Outcome]]]]  # whose it is, and what follows


@dataclass(eq=False)
class _Member:
    """The actor of a node, and what it is at.

    Attributes:
        node: the node's id.
        name: of the node, for people.
        processors: of the node, all of which it has.
        actor: Ray's handle of it.
        is_first: its node was there when the job began.
        is_like: it told its versions, which are those of this process.
        is_open: it has opened the index.
        groups: of files that it has.
    """

    node: str
    name: str
    processors: int
    actor: Any
    is_first: bool
    is_like: bool = False
    is_open: bool = False
    groups: list[Group] = field(default_factory=list)


class _Crew:
    """The actors of all nodes, and the loop that keeps them busy."""

    def __init__(self, ray: Any, work: Work, tasks: Sequence[Task]) -> None:
        self.ray, self.work, self.tasks = ray, work, tasks
        self.units: Sequence[Task] = ()
        self.queue = Queue([])
        self.actor_class = ray.remote(shell_class())
        self.versions = shell_class()().versions(PACKAGES)
        self.members: dict[str, _Member] = {}
        self.calls: dict[Any, Call] = {}
        self.left_out: set[str] = set()  # nodes
        self.starts: Counter[str] = Counter()  # of each node's actors that ended before they did any file
        self.before = {name: _state(entry) for name, entry in work.out.below().items()}
        self.began = self.worked = time.monotonic()
        self.looked = -_LOOK

    def outcomes(self, progress: Callable[[int], None]) -> Iterator[Outcome]:
        """What becomes of each file."""
        while not self.members:
            self._recruit(is_first=True)
        self.units = cut_large(self.tasks, len(self.members))
        self.queue = Queue([size_of(unit) for unit in self.units])
        gathering, left = Gathering(self.units), len(self.units)
        while left:
            self._recruit()
            self._hand_out()
            for place, outcome in self._await():
                left -= 1
                progress(outcome.counts.rows)
                yield from gathering.add(place, outcome)

    def dismiss(self) -> None:
        """End all actors, and clear away what those that died were at."""
        for member in self.members.values():
            self.ray.kill(member.actor)
        with suppress(KnnvoteError):  # what stands in the way has been told
            clear_unfinished(self.work.out)

    def _recruit(self, *, is_first: bool = False) -> None:
        """Start an actor on every node that has none, and see that some can work."""
        now = time.monotonic()
        if now - self.looked < _LOOK:
            return
        self.looked = now
        for about in self.ray.nodes():
            node, processors = about["NodeID"], int(about["Resources"].get("CPU", 0))
            if about["Alive"] and processors and node not in self.members.keys() | self.left_out:
                options = {"num_cpus": processors, "max_restarts": 0, "label_selector": {_LABEL: node}}
                name = f"{about['NodeManagerHostname']} ({about['NodeManagerAddress']})"
                member = _Member(node, name, processors, self.actor_class.options(**options).remote(), is_first)
                self.members[node] = member
                self.calls[member.actor.versions.remote(PACKAGES)] = member, self._compare
        if any(member.is_open for member in self.members.values()):
            self.worked = now
        elif now - self.worked > _PATIENCE:
            self.worked = now
            self._tell_waiting()
        if not self.members:
            time.sleep(_LOOK)

    def _tell_waiting(self) -> None:
        if not self.members:
            raise KnnvoteError(
                "no node of the Ray cluster has processors to work with: see ray status, and run the same command again"
            )
        names = ", ".join(member.name for member in self.members.values())
        _tell(f"waiting for the processors of {names}, which other work on Ray may have")

    def _compare(self, member: _Member, versions: dict[str, str | None]) -> Iterator[tuple[int, Outcome]]:
        """Go on with a node that has the versions of this machine; one that came later and has not is left out."""
        if (difference := _difference(self.versions, versions)) is None:
            member.is_like = True
            # The lock that this process holds is not known to all file systems, nor to a worker that outlives it.
            work = replace(self.work, threads=self.work.threads or member.processors, is_shared=True)
            self.calls[member.actor.open.remote(work)] = member, self._opened
        elif member.is_first:
            raise KnnvoteError(f"the node {member.name} has {difference}")
        else:
            _tell(f"the node {member.name} is left out: it has {difference}")
            self.left_out.add(member.node)
            self._drop(member)
        return iter(())

    def _opened(self, member: _Member, report: Report) -> Iterator[tuple[int, Outcome]]:
        if report.error is not None:
            raise KnnvoteError(
                f"the node {member.name} says: {report.error.marked} (all nodes have to see index, inputs and "
                f"{param('out')} by the same paths or URIs)"
            )
        member.is_open = True
        return iter(())

    def _hand_out(self) -> None:
        """Give every actor what it is at and what comes next, when the versions of all were compared."""
        is_settled = time.monotonic() - self.began > _SETTLE
        if not is_settled and not all(member.is_like for member in self.members.values()):
            return
        for member in self.members.values():
            while member.is_open and len(member.groups) < 2 and not any(group.is_alone for group in member.groups):
                group = self.queue.take(len(self.members), is_idle=not member.groups)
                if group is None:
                    break
                member.groups.append(group)
                orders = [Order(self.units[place], is_anew=self._is_anew(place)) for place in group.places]
                self.calls[member.actor.classify.remote(orders)] = member, partial(self._done, group)

    def _is_anew(self, place: int) -> bool:
        """Whether a dead worker of this run may have made the output of a file, whose outcome was lost with it."""
        unit = self.units[place]
        if not self.queue.was_lost(place) or unit.piece is not None:
            return self.queue.was_lost(place)
        info = unit.target.info()
        return info.type != pafs.FileType.NotFound and _state(info) != self.before.get(unit.source.relative)

    def _await(self) -> Iterator[tuple[int, Outcome]]:
        """What becomes of the files, by the places of their units, that come back now."""
        if not self.calls:
            return
        ready, rest = self.ray.wait([*self.calls], timeout=_LOOK)
        if ready and rest:
            ready += self.ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        for call in ready:
            if call not in self.calls:  # its actor died in another call
                continue
            member, follow = self.calls.pop(call)
            try:
                found = self.ray.get(call)
            except self.ray.exceptions.RayTaskError:  # a fault of knnvote's own
                raise
            except self.ray.exceptions.RayError as error:
                yield from self._lose(member, error)
            else:
                yield from follow(member, found)

    def _done(self, group: Group, member: _Member, report: Report) -> Iterator[tuple[int, Outcome]]:
        member.groups.remove(group)
        del self.starts[member.node]
        for note in report.notes:
            _tell(note)
        for unseen in report.unseen:
            source = self.units[group.places[unseen]].source
            if source.info().type != pafs.FileType.NotFound:
                raise KnnvoteError(
                    f"the node {member.name} does not see {source}, which is there: give inputs by a path or URI that "
                    "is the same on all nodes"
                )
        yield from zip(group.places, report.outcomes, strict=False)
        if report.error is not None:
            raise report.error

    def _lose(self, member: _Member, error: Exception) -> Iterator[tuple[int, Outcome]]:
        """Go on without an actor that died; the next look at the nodes starts another where the node lives."""
        self._drop(member)
        if member.is_like:  # else it never ran, most likely as its node died, which Ray takes a while to notice
            self.looked = -_LOOK
        if member.is_like and not member.groups:
            self.starts[member.node] += 1
            if self.starts[member.node] == ATTEMPTS:
                raise KnnvoteError(
                    f"workers on the node {member.name} ended {ATTEMPTS} times before they did any file; the last: "
                    f"{_reason(error)}"
                )
        for place in self.queue.lose(member.groups):
            source = self.units[place].source
            told = f"{source} was given up: {ATTEMPTS} workers ended while each was at it alone; the last: "
            yield place, Outcome(source=source.shown, failure=told + _reason(error))

    def _drop(self, member: _Member) -> None:
        """Expect nothing more of an actor."""
        del self.members[member.node]
        self.calls = {call: (who, follow) for call, (who, follow) in self.calls.items() if who is not member}
        self.ray.kill(member.actor)


def _tell(note: str) -> None:
    warnings.warn(Note(note), stacklevel=2)


def _difference(ours: dict[str, str | None], theirs: dict[str, str | None]) -> str | None:
    """What a node has otherwise than this machine, in words."""
    for name, version in ours.items():
        if (other := theirs[name]) != version:
            command = f"install Python {version}" if name == "Python" else f"pip install '{name}=={version}'"
            return f"{f'{name} {other}' if other else f'no {name}'}, and this machine {version}: {command} there"
    return None


def _state(entry: Any) -> tuple[object, ...]:
    """What tells a file from one that replaces it."""
    return entry.type, entry.size, entry.mtime_ns


def _reason(error: Exception) -> str:
    """Why an actor died, in one line, of the many that Ray has for it."""
    text = " ".join(str(error).split()).partition(" Some common causes include")[0]
    for begin in ("Worker exit type: ", "The actor died because ", "The actor is dead because "):
        text = text.rpartition(begin)[2]
    return text[:_LONG]

"""The files of a job done by Ray: one actor a node, with all its processors."""

import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyarrow import fs as pafs

from knnvote.classify.job.folder import clear_unfinished
from knnvote.classify.job.work import Outcome, Task, Work
from knnvote.data.errors import KnnvoteError, Note, param

from .connection import connected, refuse_without_ray
from .node import Order, Report
from .queue import ATTEMPTS, Group, Queue
from .shell import PACKAGES, shell_class

_LOOK = 1.0  # seconds between looks at which nodes there are
_PATIENCE = 60.0  # seconds without any node that can work
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

    Example:
        >>> from knnvote import Classifier, RayEngine, run_job
        >>> run_job(Classifier.open("digits.knn"), "digits", "out", engine=RayEngine()).counts.rows  # doctest: +SKIP
        1797
    """

    address: str | None = None

    def __post_init__(self) -> None:
        """Refuse at once what would be refused when the files' turn comes."""
        refuse_without_ray()

    def run(self, work: Work, tasks: Sequence[Task], progress: Callable[[int], None]) -> Generator[Outcome, None, None]:
        """What becomes of each file, as soon as it has.

        Raises:
            KnnvoteError: Ray is not reachable, or a node has other versions or does not see a file.
        """
        with connected(self.address) as ray:
            crew = _Crew(ray, work, tasks)
            try:
                for outcome in crew.outcomes():
                    progress(outcome.counts.rows)
                    yield outcome
            finally:
                crew.dismiss()


@dataclass(eq=False)
class _Member:
    """The actor of a node, and what it is at.

    Attributes:
        node: the node's id.
        name: of the node, for people.
        actor: Ray's handle of it.
        is_first: its node was there when the job began.
        groups: of files that it has, in the order of its calls.
        is_like: it told its versions, which are those of this process.
        is_open: it has opened the index.
    """

    node: str
    name: str
    actor: Any
    is_first: bool
    groups: list[Group] = field(default_factory=list)
    is_like: bool = False
    is_open: bool = False


class _Crew:
    """The actors of all nodes, and the loop that keeps them busy."""

    def __init__(self, ray: Any, work: Work, tasks: Sequence[Task]) -> None:
        self.ray, self.work, self.tasks = ray, work, tasks
        self.queue = Queue([task.source.size for task in tasks])
        self.class_ = ray.remote(shell_class())
        self.versions = shell_class()().versions(PACKAGES)
        self.members: dict[str, _Member] = {}
        self.calls: dict[Any, tuple[_Member, Callable[[_Member, Any], Iterator[Outcome]]]] = {}
        self.left_out: set[str] = set()
        self.starts: dict[str, int] = {}
        self.before = {name: _state(entry) for name, entry in work.out.below().items()}
        self.looked = -_LOOK
        self.began = self.worked = time.monotonic()
        self.is_begun = False

    def outcomes(self) -> Iterator[Outcome]:
        """What becomes of each file."""
        left = len(self.tasks)
        while left:
            self._recruit()
            self._hand_out()
            for outcome in self._await():
                left -= 1
                yield outcome

    def dismiss(self) -> None:
        """End all actors, and clear away what those that died were at."""
        for member in self.members.values():
            self.ray.kill(member.actor)
        clear_unfinished(self.work.out)

    def _recruit(self) -> None:
        """Start an actor on every node that has none."""
        now = time.monotonic()
        if now - self.looked < _LOOK:
            return
        self.looked = now
        nodes = {node["NodeID"]: node for node in self.ray.nodes() if node["Alive"]}
        for node, about in nodes.items():
            processors = int(about["Resources"].get("CPU", 0))
            if processors and node not in self.members and node not in self.left_out:
                self._start(node, f"{about['NodeManagerHostname']} ({about['NodeManagerAddress']})", processors)
        self.is_begun = self.is_begun or bool(self.members)
        if any(member.is_open for member in self.members.values()):
            self.worked = now
        elif now - self.worked > _PATIENCE:
            self._refuse_idling()

    def _refuse_idling(self) -> None:
        """Say that nothing goes on."""
        if not self.members:
            raise KnnvoteError(
                "no node of the Ray cluster has a processor to work with: see ray status, and run the same command again"
            )
        names = ", ".join(member.name for member in self.members.values())
        warnings.warn(Note(f"waiting for the processors of {names}, which other work on Ray may have"), stacklevel=2)
        self.worked = time.monotonic()

    def _start(self, node: str, name: str, processors: int) -> None:
        options = {"num_cpus": processors, "max_restarts": 0, "label_selector": {"ray.io/node-id": node}}
        member = _Member(node, name, self.class_.options(**options).remote(), is_first=not self.is_begun)
        self.members[node] = member
        work = replace(self.work, threads=self.work.threads or processors)

        def compare(member: _Member, versions: dict[str, str | None]) -> Iterator[Outcome]:
            if (difference := self._difference(versions)) is None:
                member.is_like = True
                self._call(member, member.actor.open.remote(work), self._opened)
            elif member.is_first:
                raise KnnvoteError(f"the node {member.name} has {difference}")
            else:  # what comes when the work is under way does not end it
                warnings.warn(Note(f"the node {member.name} is left out: it has {difference}"), stacklevel=2)
                self.left_out.add(member.node)
                self._drop(member)
            return iter(())

        self._call(member, member.actor.versions.remote(PACKAGES), compare)

    def _difference(self, versions: dict[str, str | None]) -> str | None:
        """What a node has otherwise than this process, in words."""
        for name, ours in self.versions.items():
            if (theirs := versions[name]) != ours:
                command = f"install Python {ours}" if name == "Python" else f"pip install '{name}=={ours}'"
                return f"{f'{name} {theirs}' if theirs else f'no {name}'}, and this machine {ours}: {command} there"
        return None

    def _opened(self, member: _Member, report: Report) -> Iterator[Outcome]:
        if report.error is not None:
            raise KnnvoteError(
                f"the node {member.name} says: {report.error.marked} (all nodes have to see index, inputs and "
                f"{param('out')} by the same paths)"
            )
        member.is_open = True
        return iter(())

    def _call(self, member: _Member, call: Any, then: Callable[[_Member, Any], Iterator[Outcome]]) -> None:
        self.calls[call] = (member, then)

    def _hand_out(self) -> None:
        """Give every actor what it is at and what comes next."""
        if time.monotonic() - self.began < _SETTLE and not all(member.is_like for member in self.members.values()):
            return
        for member in self.members.values():
            while member.is_open and len(member.groups) < 2 and not any(group.is_alone for group in member.groups):
                group = self.queue.take(len(self.members), is_idle=not member.groups)
                if group is None:
                    break
                member.groups.append(group)
                orders = [Order(self.tasks[place], is_anew=self._is_anew(place)) for place in group.places]
                self._call(member, member.actor.classify.remote(orders), self._done)

    def _is_anew(self, place: int) -> bool:
        """Whether a dead worker of this run made the output of a file, whose outcome was lost with it."""
        if not self.queue.was_lost(place):
            return False
        task = self.tasks[place]
        info = task.target.info()
        return info.type != pafs.FileType.NotFound and _state(info) != self.before.get(task.source.relative)

    def _await(self) -> Iterator[Outcome]:
        """What becomes of the files that come back now."""
        if not self.calls:
            time.sleep(_LOOK)
            return
        ready, rest = self.ray.wait([*self.calls], timeout=_LOOK)
        if ready and rest:
            ready += self.ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        for call in ready:
            if call not in self.calls:  # its actor was dropped for another call
                continue
            member, then = self.calls.pop(call)
            try:
                found = self.ray.get(call)
            except self.ray.exceptions.RayTaskError:  # a fault of knnvote's own
                raise
            except self.ray.exceptions.RayError as error:
                yield from self._lose(member, error)
            else:
                yield from then(member, found)

    def _done(self, member: _Member, report: Report) -> Iterator[Outcome]:
        group = member.groups.pop(0)
        self.starts.pop(member.node, None)
        for note in report.notes:
            warnings.warn(Note(note), stacklevel=2)
        for place in report.unseen:
            source = self.tasks[group.places[place]].source
            if source.info().type != pafs.FileType.NotFound:
                raise KnnvoteError(
                    f"the node {member.name} does not see {source}, which is there: give inputs by a path or URI that "
                    "is the same on all nodes"
                )
        yield from report.outcomes
        if report.error is not None:
            raise report.error

    def _lose(self, member: _Member, error: Exception) -> Iterator[Outcome]:
        """Go on without an actor that died; the next look at the nodes starts another where the node lives."""
        groups = member.groups
        self._drop(member)
        if not groups:
            self.starts[member.node] = self.starts.get(member.node, 0) + 1
            if self.starts[member.node] == ATTEMPTS:
                raise KnnvoteError(
                    f"a worker on the node {member.name} ended {ATTEMPTS} times before it did any file: {_reason(error)}"
                )
        for place in self.queue.lose(groups):
            source = self.tasks[place].source
            yield Outcome(
                source=source.shown,
                failure=f"{source} was given up: {ATTEMPTS} workers ended while each was at it alone; the last: "
                f"{_reason(error)}",
            )

    def _drop(self, member: _Member) -> None:
        """Expect nothing more of an actor."""
        del self.members[member.node]
        self.calls = {call: (who, then) for call, (who, then) in self.calls.items() if who is not member}
        self.ray.kill(member.actor)
        self.looked = -_LOOK


def _state(entry: Any) -> tuple[object, ...]:
    """What tells a file from one that replaces it."""
    return entry.type, entry.size, entry.mtime_ns


def _reason(error: Exception) -> str:
    """Why an actor died, in one line, from what Ray tells of it in many."""
    text = " ".join(str(error).split())
    return text.partition("Some common causes include")[0].rpartition("Worker exit type: ")[2].strip() or text

"""To Ray and from it: the one place that imports it, and says what stands in the way."""

import importlib
import importlib.util
import logging
import os
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from knnvote.data.errors import KnnvoteError, check
from knnvote.data.text import first_line

_ANSWER = 10  # seconds for an address to answer
_JOIN = 90  # seconds for Ray to start here, or to let this process in
_NAMES = ("auto", "local")  # of clusters, to Ray
_START = "ray start --head starts one and tells its address"


def refuse_without_ray() -> None:
    """Refuse where Ray is not installed.

    Raises:
        KnnvoteError: with the command that installs it.
    """
    if importlib.util.find_spec("ray") is None:
        raise KnnvoteError("the engine ray needs Ray, which is not installed: pip install 'knnvote[ray]'")


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray's module, connected; what the process has connected before is taken as it is, and left so.

    Args:
        address: HOST:PORT of a cluster, or auto for the one that runs on this machine; None as Ray does without one:
            that of RAY_ADDRESS, else the one on this machine, else one is started here for as long as this lasts.

    Raises:
        KnnvoteError: Ray is not installed, does not answer, or does not let this process in.
        OptionError: the address is none.
    """
    refuse_without_ray()
    ray = importlib.import_module("ray")
    if ray.is_initialized():
        yield ray
        return
    _reach(address)
    with _joined(ray, address):
        yield ray


def check_address(address: str | None) -> None:
    """Refuse what is no address of a cluster.

    Raises:
        OptionError: with what to give.
    """
    host, _, port = (address or "").rpartition(":")
    is_address = "://" not in host and bool(host) and port.isdecimal()
    check(
        "address",
        address,
        is_address or address in (None, *_NAMES),
        "give HOST:PORT as ray start --head tells it, such as 10.0.0.1:6379, on a machine of the cluster; auto finds "
        "the one that runs on this machine",
    )


def _reach(address: str | None) -> None:
    """See that someone answers at an address, for which Ray would wait minutes."""
    given = address if address not in (None, "auto") else os.environ.get("RAY_ADDRESS") or None
    check_address(given)
    if given is None or given in _NAMES:
        return
    host, _, port = given.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER).close()
    except (OSError, OverflowError) as error:
        reason = first_line(getattr(error, "strerror", None) or str(error))
        raise KnnvoteError(f"Ray does not answer at {given} ({reason}): {_START}") from error


@contextmanager
def _joined(ray: Any, address: str | None) -> Iterator[None]:
    """Be of a cluster, by a thread of its own: in the main one, Ray would take the signals for itself.

    The thread stays: what Ray starts on this machine ends with the thread that started it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    has_answer, is_over, failures = threading.Event(), threading.Event(), list[BaseException]()

    def stay() -> None:
        try:
            with warnings.catch_warnings(action="ignore"):  # tips for who writes programs for Ray
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, include_dashboard=False)
        except BaseException as error:  # noqa: BLE001  # which is told by the thread that waits
            failures.append(error)
        has_answer.set()
        is_over.wait()

    threading.Thread(target=stay, daemon=True, name="Ray").start()
    where = address or os.environ.get("RAY_ADDRESS") or "this machine"
    try:
        if not has_answer.wait(_JOIN):
            raise KnnvoteError(f"Ray at {where} has not let this process in for {_JOIN} seconds: see ray status there")
        if failures:
            raise KnnvoteError(f"cannot join Ray at {where}: {_why(failures[0], address)}") from failures[0]
        # It would print on stdout what its nodes report of dead workers; the engine tells what matters.
        ray._private.worker._worker_logs_enabled = False  # noqa: SLF001  # Ray's own debugger does so
        yield
    finally:
        ray.shutdown()
        is_over.set()


def _why(error: BaseException, address: str | None) -> str:
    """Ray's reason in one line, and what to do."""
    reason = " ".join(str(error).split()).removesuffix(".")
    if "ersion mismatch" in reason:
        return f"{reason}: install the same Python and Ray on all machines"
    if isinstance(error, ConnectionError) and address in (None, "auto"):
        return f"{reason}: {_START}"
    return f"{reason}: this machine has to be one of the cluster's, by ray start --address={address}"

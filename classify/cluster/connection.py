"""To Ray and from it: the one place that imports it, and says what stands in the way."""

import importlib
import importlib.util
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from knnvote.data.errors import KnnvoteError, check, warn
from knnvote.data.text import first_line

_ANSWER = 8  # seconds for an address to answer: ten with the start of this process
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
            that of RAY_ADDRESS, else the one on this machine, else (or if that one is dead) one is started here for as
            long as this lasts.

    Raises:
        KnnvoteError: Ray is not installed, does not answer, or does not let this process in.
        OptionError: the address is none.
    """
    refuse_without_ray()
    ray = importlib.import_module("ray")
    if ray.is_initialized():
        yield ray
        return
    with _joined(ray, _reach(ray, address)):
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


def _reach(ray: Any, address: str | None) -> str | None:
    """What to join, where Ray answers: one that does not, it would await for a minute, and abort.

    That of this machine is not told to Ray as HOST:PORT: only one that it finds does it give its token.
    """
    given = address if address not in (None, "auto") else os.environ.get("RAY_ADDRESS") or address
    check_address(given)
    found = _recorded(ray, given) if given in (None, "auto") else given
    if found is None and given is not None:
        raise KnnvoteError(f"no Ray runs on this machine: {_START}")
    if found in (None, "local"):
        return "local"
    silence = _silence(found, is_found=given in (None, "auto") and "RAY_AUTH_MODE" not in os.environ)
    if silence is None:
        return given
    if given is not None:
        raise KnnvoteError(f"{silence}: {_START}")
    warn(f"{silence}, where the last one of this machine was: one is started for this job")
    return "local"


def _recorded(ray: Any, given: str | None) -> str | None:
    """The address of the cluster on this machine as Ray finds it, which may be one of before; None where is none."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # as at joining
    services = ray._private.services  # noqa: SLF001  # nothing public tells it
    with suppress(AttributeError):  # Ray before 2.60 does not keep what it has found
        services.find_gcs_addresses.cache_clear()
    try:
        return services.get_ray_address_from_environment(given, None) or None
    except OSError:  # which no address found is, too
        return None


def _silence(address: str, *, is_found: bool) -> str | None:
    """Why there is no Ray at an address; None if there is.

    Ray's own question is asked by a process of its own: to what is not Ray, it goes on for a minute.

    Args:
        address: HOST:PORT.
        is_found: Ray found it, and will at joining find the token that it asks for.

    Raises:
        KnnvoteError: it asks for a token.
    """
    until = time.monotonic() + _ANSWER
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER).close()
    except (OSError, OverflowError, ValueError) as error:
        reason = first_line(getattr(error, "strerror", None) or str(error))
        return f"Ray does not answer at {address} ({reason})"
    # -P: a foreign ray.py in the working folder does not stand for Ray. Versions are compared at joining.
    command = [sys.executable, "-P", "-m", "ray.scripts.scripts", "health-check", "--skip-version-check"]
    left = max(until - time.monotonic(), 1)
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(  # noqa: S603  # our own interpreter and Ray
            [*command, "--address", address], stdin=subprocess.DEVNULL, capture_output=True, timeout=left, check=False
        )
        if done.returncode == 0 or (is_found and b"AuthenticationError" in done.stderr):
            return None
        if b"AuthenticationError" in done.stderr:
            raise KnnvoteError(
                f"Ray at {address} asks for its token: set RAY_AUTH_MODE=token, with the token of its head node in "
                "~/.ray/auth_token on this machine"
            )
    return f"what listens at {address} is not Ray, or a Ray that hangs"


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
    where = "this machine" if address in (None, *_NAMES) else address
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
    if address in (None, *_NAMES):
        return reason
    return f"{reason}: this machine has to be one of the cluster's, by ray start --address={address}"

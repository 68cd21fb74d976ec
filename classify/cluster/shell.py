"""What Ray is given to run on a node: code that finds out there whether knnvote can run."""

from __future__ import annotations  # in words: the classes that they name are not sent with the code

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from knnvote.classify.job.work import Work

    from .node import NodeWorker, Order, Report

# What must be the same where files are done, beside Python, for equal work to give equal bytes.
PACKAGES = ("knnvote", "pyarrow", "numpy", "faiss-cpu")


def shell_class() -> type[Any]:
    """The class of the actor: made in a function, it is sent as code, and the node needs no knnvote to tell that."""

    class Shell:
        """A `NodeWorker`, once it is known that there can be one."""

        worker: NodeWorker

        def versions(self, packages: Sequence[str]) -> dict[str, str | None]:
            """Of Python and of packages; None of what is not installed."""
            found: dict[str, str | None] = {"Python": platform.python_version()}
            for package in packages:
                try:
                    found[package] = version(package)
                except PackageNotFoundError:
                    found[package] = None
            return found

        def open(self, work: Work) -> Report:
            """As `NodeWorker.open`."""
            from .node import NodeWorker  # noqa: PLC0415  # it may not be there

            self.worker = NodeWorker()
            return self.worker.open(work)

        def classify(self, orders: Sequence[Order]) -> Report:
            """As `NodeWorker.classify`."""
            return self.worker.classify(orders)

    return Shell

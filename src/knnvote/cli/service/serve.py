"""The command that answers over HTTP."""

import ipaddress
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import click

from knnvote.cli.classify import acceptance_options, check_acceptance, open_classifier
from knnvote.cli.command import Command
from knnvote.cli.options import POSITIVE, example, index_argument, threads_option, vote_options
from knnvote.cli.talk import talk, talk_no_promise

_MEGABYTE = 1_000_000
_BODIES_HELD = 8  # of the longest, at a time


@click.command(
    cls=Command,
    short_help="Open a page where one draws, and answer programs.",
    epilog=example("knnvote serve digits.knn"),
)
@index_argument
@vote_options
@acceptance_options
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    default=8000,
    show_default=True,
    help="Its port; 0 for a free one.",
)
@click.option(
    "--allow-host",
    "allow_hosts",
    metavar="NAME",
    multiple=True,
    help="A name by which clients ask, beside localhost and addresses; may be repeated.",
)
@click.option(
    "--max-body", type=POSITIVE, metavar="MB", default=32, show_default=True, help="Megabytes of a request, at most."
)
@click.option(
    "--max-waiting",
    type=POSITIVE,
    metavar="N",
    default=1024,
    show_default=True,
    help="Requests that may wait for a search; more are told to ask again.",
)
@threads_option
def serve(  # noqa: PLR0917  # click passes options by name
    index_folder: str,
    host: str,
    port: int,
    allow_hosts: tuple[str, ...],
    max_body: int,
    max_waiting: int,
    threads: int | None,
    **of_rule: Any,
) -> None:
    """Open a page where one draws an image and sees its label, and answer programs over HTTP."""
    from knnvote.serve.extra import check_serve_extra

    check_acceptance(**of_rule)
    check_serve_extra()
    from knnvote.data.locations import locate
    from knnvote.serve.application import Application
    from knnvote.serve.bodies import Limits
    from knnvote.serve.served import Current
    from knnvote.serve.server import serve as serve_application

    current = Current(partial(open_classifier, index_folder, threads, **of_rule))
    talk_no_promise(current.served.index, current.served.classifier.rule)
    longest = max_body * _MEGABYTE
    application = Application(
        current,
        PurePosixPath(locate(index_folder).address).stem,
        Limits(body=longest, held=_BODIES_HELD * longest, waiting=max_waiting),
        names=frozenset(name.lower() for name in (host, *allow_hosts)),
        threads=threads,
    )
    if not _is_loopback(host):
        talk(f"note: whoever reaches {host} can ask: there is no password and no encryption")
    serve_application(
        application, host, port, threads, lambda page: talk(f"{page} answers: open it to draw; Ctrl-C stops it")
    )
    talk("stopped")


def _is_loopback(host: str) -> bool:
    """Whether nobody else reaches a host: a name may stand for any address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

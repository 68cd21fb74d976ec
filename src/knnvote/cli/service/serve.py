"""The command that answers over HTTP."""

import ipaddress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from knnvote.cli.classify import acceptance_options, check_acceptance, open_classifier
from knnvote.cli.command import Command
from knnvote.cli.interruption import leave_threads
from knnvote.cli.options import (
    POSITIVE,
    Decorator,
    complete_folder,
    example,
    index_argument,
    parse_local,
    threads_option,
    vote_options,
)
from knnvote.cli.talk import talk, talk_no_promise

if TYPE_CHECKING:
    from knnvote.serve.application import Application

_HERE = "127.0.0.1"
_MEGABYTE = 1_000_000
_BODIES_HELD = 8  # of the longest, at a time

port_option = click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    default=8000,
    show_default=True,
    help="Port to listen on; 0 for a free one.",
)


def _parse_folder(ctx: click.Context, param: click.Parameter, value: str | None) -> Path | None:
    return None if value is None else parse_local(ctx, param, value)


def open_option(*, default: bool) -> Decorator[Any]:
    """Whether the page is shown at once."""
    return click.option(
        "--open/--no-open", "opens", default=default, show_default=True, help="Show the page in the browser at once."
    )


@click.command(
    cls=Command,
    short_help="Open a page where one draws, and answer programs.",
    epilog=example("knnvote serve digits.knn"),
)
@index_argument
@vote_options
@acceptance_options
@click.option("--host", metavar="ADDRESS", default=_HERE, show_default=True, help="Where to listen.")
@port_option
@open_option(default=False)
@click.option(
    "--pages",
    metavar="FOLDER",
    callback=_parse_folder,
    shell_complete=complete_folder,
    help="Serve the pages of this folder too, to whoever can ask: those of reports.",
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
    opens: bool,
    pages: Path | None,
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
    from knnvote.serve.pages import PageFolder
    from knnvote.serve.served import Current

    folder = None if pages is None else PageFolder(pages)
    current = Current(partial(open_classifier, index_folder, threads, **of_rule))
    talk_no_promise(current.served.index, current.served.classifier.rule)
    longest = max_body * _MEGABYTE
    application = Application(
        current,
        PurePosixPath(locate(index_folder).address).stem,
        Limits(body=longest, held=_BODIES_HELD * longest, waiting=max_waiting),
        names=frozenset(name.lower() for name in (host, *allow_hosts)),
        threads=threads,
        pages=folder,
    )
    if folder is not None and not folder.found():
        talk(f"note: no page of knnvote is in {pages} yet; what is written there is served at once")
    if not _is_loopback(host):
        read = "" if pages is None else f", and read the pages of {pages}"
        talk(f"note: whoever reaches {host} can ask{read}: there is no password and no encryption")
    _answer(application, host, port, threads, opens=opens)


def _answer(application: "Application", host: str, port: int, threads: int | None, *, opens: bool) -> None:
    """Answer until it is told to stop."""
    from knnvote.serve import server

    from .browser import open_in_browser

    listening = server.listen(host, port)
    page = server.address_of(listening)
    talk(f"{page} answers: open it to draw; Ctrl-C stops it")
    if opens and not open_in_browser(page):
        talk("note: no browser can be opened from here")
    server.run(application, listening, threads)
    talk("stopped")
    leave_threads()  # a search is not waited for whose answer nobody takes


def check_can_serve(port: int) -> None:
    """Refuse, before any work, to serve then on a port of this machine.

    Raises:
        KnnvoteError: a library is not installed, or the port is taken.
    """
    from knnvote.serve.extra import check_serve_extra

    check_serve_extra()
    from knnvote.serve.server import listen

    listen(_HERE, port).close()


def _is_loopback(host: str) -> bool:
    """Whether nobody else reaches a host: a name may stand for any address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

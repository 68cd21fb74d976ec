"""How the pages of a folder lead to each other, and are read for those who have no other way to the folder."""

import html
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

_OURS = re.compile(r'<meta name="knnvote-page" content="([^"]*)">')  # in the head of every page
_HEAD = 1024  # bytes, in which that stands, whatever the title
MOST_LINKS = 20  # to other pages


@dataclass(frozen=True)
class Link:
    """Another page, by its address relative to this one; that itself has none."""

    title: str
    address: str


@dataclass(frozen=True)
class FoundPage:
    """A page of knnvote in a folder: what its file is called, and its title."""

    name: str
    title: str

    def link(self, folder: str = "./") -> Link:
        """A link to it, from where its folder has an address."""
        return Link(self.title, folder + quote(os.fsencode(self.name)))


def links_beside(path: Path, title: str) -> list[Link]:
    """A page that is to be written and those beside it, by their names; none where it is alone."""
    others = [page for page in pages_in(path.parent) if page.name != path.name][:MOST_LINKS]
    return links_among([*others, FoundPage(path.name, title)], path.name) if others else []


def links_among(pages: Iterable[FoundPage], here: str) -> list[Link]:
    """Links to pages of a folder from one of them, which has none to itself."""
    ordered = sorted(pages, key=lambda page: page.name)
    return [Link(page.title, "") if page.name == here else page.link() for page in ordered]


def pages_in(folder: Path, *, follows_links: bool = True) -> list[FoundPage]:
    """The pages of knnvote in a folder, by their names; what is none, or cannot be read, is left out.

    Args:
        folder: of the pages.
        follows_links: whether a link of the file system counts as what it leads to.
    """
    flags = 0 if follows_links else os.O_NOFOLLOW
    found = [(path.name, _OURS.search(_read(path, _HEAD, flags=flags))) for path in sorted(folder.glob("*.html"))]
    return [FoundPage(name, html.unescape(head[1])) for name, head in found if head is not None]


def read_page(folder: Path, name: str) -> str | None:
    """The text of a page of knnvote that lies in a folder; None of any other name.

    What is asked for becomes no path: it is looked for among the names that are there. Nor is a link of the file system
    followed, which might lead out of the folder.

    Args:
        folder: of the page.
        name: of its file.
    """
    for path in folder.glob("*.html"):
        if path.name == name:
            text = _read(path, flags=os.O_NOFOLLOW)
            return text if _OURS.search(text[:_HEAD]) else None
    return None


def _read(path: Path, size: int = -1, *, flags: int) -> str:
    """The first bytes of a file as text, or all; none of what cannot be read, or is no file: a pipe would wait."""

    def opener(name: str, mode: int) -> int:
        return os.open(name, mode | os.O_NONBLOCK | flags)

    try:
        with open(path, "rb", opener=opener) as stream:  # a path's own takes no opener
            body = stream.read(size) if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else b""
    except OSError:
        return ""
    return body.decode(errors="replace")

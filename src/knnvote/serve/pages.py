"""Pages of a folder beside the one where one draws: they lead to each other and back."""

from dataclasses import dataclass
from pathlib import Path

from knnvote.classify.pages.links import MOST_LINKS, FoundPage, Link, links_among, pages_in, read_page
from knnvote.classify.pages.page import with_links
from knnvote.data.errors import OptionError, param

_AT = "pages/"


@dataclass(frozen=True)
class PageFolder:
    """The pages of knnvote in a folder, as they are when they are asked for. Nothing else that lies there is read.

    Attributes:
        folder: of the pages.

    Raises:
        OptionError: there is no such folder.
    """

    folder: Path

    def __post_init__(self) -> None:
        """See that it is there."""
        if not self.folder.is_dir():
            raise OptionError(f"{param('pages')} is {self.folder}, which is no folder: give one that holds pages")

    def links(self, title: str) -> list[Link]:
        """From the page where one draws, of this title, to those of the folder; none where it has none."""
        found = [page.link(_AT) for page in self.found()]
        return [Link(title, ""), *found] if found else []

    def read(self, name: str, title: str) -> str | None:
        """A page of the folder, which leads to the others and to the one where one draws; None where it has none."""
        text = read_page(self.folder, name)
        return None if text is None else with_links(text, [Link(title, "../"), *links_among(self.found(), name)])

    def found(self) -> list[FoundPage]:
        """Its pages, as many as a page leads to."""
        return pages_in(self.folder, follows_links=False)[:MOST_LINKS]

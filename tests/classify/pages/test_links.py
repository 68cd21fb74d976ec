"""What lies in a folder beside a page, and which of it are pages to link."""

import os
from pathlib import Path

from knnvote.classify.pages.links import links_beside, pages_in, read_page


def test_a_page_beside_names_of_any_bytes_and_what_is_no_file_links_what_can_be_read(tmp_path):
    head = '<meta name="knnvote-page" content="Old">'
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.html")).write_text(head)
    (tmp_path / "link.html").symlink_to(tmp_path / "a.html")
    (tmp_path / "folder.html").mkdir()
    os.mkfifo(tmp_path / "pipe.html")
    (tmp_path / "a.html").write_text(head)
    links = links_beside(tmp_path / "new.html", "New")
    assert [link.address for link in links] == ["./a.html", "./link.html", "", "./%FF.html"]
    assert [page.name for page in pages_in(tmp_path, follows_links=False)][:1] == ["a.html"]
    assert read_page(tmp_path, "a.html") == head
    assert read_page(tmp_path, "link.html") is None

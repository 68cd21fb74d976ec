"""Pages of a folder beside the one where one draws, and nothing else of that folder."""

import os
import re

import numpy as np
import pytest

pytest.importorskip("starlette", reason="serving needs the extra serve")

from asgi import with_client
from services import PNG, png, service

from knnvote.indexer.build import index_arrays

HEAD = '<!doctype html><head><meta name="knnvote-page" content="{}"></head>\n<body>\n'
OLD = '<nav class="links"><ul>\n<li><a href="./gone.html">Gone</a></li>\n</ul></nav>\n'


@pytest.fixture
def folder(tmp_path):
    """Two pages, and beside them what is none."""
    place = tmp_path / "pages"
    (place / "below").mkdir(parents=True)
    (place / "a.html").write_text(f"{HEAD.format('A &lt;&amp;&gt; a')}{OLD}<p>of a</p>")
    for path in (place / "b #1.html", place / "below" / "c.html", tmp_path / "above.html"):
        path.write_text(f"{HEAD.format('B')}<p>of b</p>")
    (place / "foreign.html").write_text("<body>\n<p>not ours</p>")
    (place / "secret.txt").write_text(HEAD)
    (place / "link.html").symlink_to(tmp_path / "above.html")
    (place / "folder.html").mkdir()
    os.mkfifo(place / "pipe.html")
    return place


def get(app, *paths):
    async def ask(client):
        return [await client.get(path) for path in paths]

    return with_client(app, ask)


def links(reply):
    (found,) = re.findall(r'<nav class="links".*?</nav>', reply.body.decode(), re.DOTALL)
    here = re.findall(r'<strong aria-current="page">(.*?)</strong>', found)
    return here, re.findall(r'<a href="(.*?)">(.*?)</a>', found)


def test_pages_lead_to_each_other_and_to_the_one_where_one_draws(exact_index, folder):
    drawing, one, other = get(service(exact_index, pages=folder), "/", "/pages/a.html", "/pages/b #1.html")
    title = "A &lt;&amp;&gt; a"
    assert links(drawing) == (["What is this?"], [("pages/a.html", title), ("pages/b%20%231.html", "B")])
    assert links(one) == ([title], [("../", "What is this?"), ("./b%20%231.html", "B")])
    assert one.body.decode().endswith("<p>of a</p>")
    assert "form-action 'none'" in one.headers["content-security-policy"]
    assert links(other) == (["B"], [("../", "What is this?"), ("./a.html", title)])
    (folder / "c.html").write_text(HEAD.format("C"))  # later
    drawing, page = get(service(exact_index, pages=folder), "/", "/pages/c.html")
    assert ("pages/c.html", "C") in links(drawing)[1]
    assert links(page)[0] == ["C"]


@pytest.mark.parametrize(
    "path",
    [
        *("foreign.html", "secret.txt", "link.html", "folder.html", "pipe.html", "", "..", ".", "below"),
        *("c.html", "below/c.html", "../above.html", "..\\above.html", "\0.html", "*.html", "A.HTML", "/etc/passwd"),
    ],
)
def test_what_is_no_page_of_the_folder_is_not_there(exact_index, folder, path):
    (reply,) = get(service(exact_index, pages=folder), f"/pages/{path}")
    assert reply.status == 404
    assert b"of b" not in reply.body


def test_without_a_folder_there_is_no_page_and_no_link(exact_index, folder):
    drawing, page = get(service(exact_index), "/", "/pages/a.html")
    assert b'class="links"' not in drawing.body
    assert (page.status, page.json["error"]) == (404, "no pages are served here: start the service with --pages")
    drawing, page = get(service(exact_index, pages=folder / "below"), "/", "/pages/c.html")
    assert links(page) == (["B"], [("../", "What is this?")])
    (folder / "below" / "c.html").unlink()
    assert b'class="links"' not in get(service(exact_index, pages=folder / "below"), "/")[0].body


def test_no_client_is_told_where_the_index_lies(tmp_path):
    images = np.random.default_rng(2).integers(0, 200, (30, 5, 5), np.uint8)
    index_arrays(images, np.arange(30) / 2, tmp_path / "x.knn", is_regression=True)
    app = service(tmp_path / "x.knn")

    async def ask(client):
        return [await client.get("/"), await client.post("/classify?probabilities=true", png(images[0]), PNG)]

    drawing, refused = with_client(app, ask)
    assert "x.knn: 30 images" in drawing.body.decode()
    assert refused.json["error"].startswith("x.knn was built for regression")
    assert str(tmp_path) not in drawing.body.decode() + refused.body.decode()


def test_a_folder_that_is_not_there_is_told_before_the_index_is_opened(invoke):
    done = invoke("serve", "nothing.knn", "--pages", "none")
    assert done.code == 2
    assert "--pages is none, which is no folder: give one that holds pages" in done.stderr

"""Drawings and dropped pictures, made as the stored ones are and so recognised; and what the page is told."""

import threading

import numpy as np
import pytest

pytest.importorskip("starlette", reason="serving needs the extra serve")

from asgi import with_client
from PIL import Image
from services import PNG, png, service

from knnvote.classify.classifier import Classifier
from knnvote.classify.vote import Rule
from knnvote.data.errors import KnnvoteError
from knnvote.data.sample import drawn_one, split_digits
from knnvote.indexer.build import IndexOptions, index_arrays
from knnvote.serve import application
from knnvote.serve.drawing import Drawings

RNG = np.random.default_rng(11)


@pytest.fixture(scope="module")
def digits():
    return split_digits()


def enlarged(image, times, frame, left, top, *, inked=255, paper=0):
    """An image as one draws it somewhere on a larger frame."""
    large = Image.fromarray(image.astype(np.float32)).resize((image.shape[1] * times,) * 2, Image.Resampling.BILINEAR)
    share = np.zeros((frame, frame), np.float32)
    share[top : top + large.height, left : left + large.width] = np.asarray(large) / image.max()
    return np.rint(paper + share * (inked - float(paper))).astype(np.uint8)


def test_enlarged_moved_and_inverted_digits_are_still_recognised(exact_index, digits):
    classify = Classifier.open(exact_index)
    drawings = Drawings.of(classify.index)
    images, labels = digits.test_images[:80], digits.test_labels[:80]
    alone = np.mean(np.array(classify(images).best.to_pylist()) == labels)
    for frame, times, inked, paper in ((120, 10, 255, 0), (400, 25, 30, 220)):
        fitted = [
            drawings.fit(
                enlarged(image, times, frame, *RNG.integers(0, frame - 8 * times, 2), inked=inked, paper=paper)
            )
            for image in images
        ]
        assert np.stack(fitted).dtype == np.uint8
        assert np.mean(np.array(classify(np.stack(fitted)).best.to_pylist()) == labels) >= alone - 0.05


def test_how_the_digits_are_made_is_measured(exact_index):
    drawings = Drawings.of(Classifier.open(exact_index).index)
    assert (drawings.shape, drawings.paper, drawings.ink, drawings.side) == ((8, 8), 0, 16, 8)
    assert np.allclose(drawings.centre, (4, 4), atol=0.5)
    assert 1 < drawings.pen < 3


def test_where_steps_make_vectors_of_images_drawings_are_made_as_the_images(tmp_path, digits):
    steps = ("centred", "unit")
    index_arrays(digits.train_images[:300], digits.train_labels[:300], tmp_path / "s.knn", steps=steps)
    index_arrays(digits.train_images[:300], digits.train_labels[:300], tmp_path / "x.knn")
    stepped, plain = (Classifier.open(tmp_path / name) for name in ("s.knn", "x.knn"))
    assert stepped.index.vectors.dtype != plain.index.vectors.dtype
    assert Drawings.of(stepped.index) == Drawings.of(plain.index)
    image = enlarged(digits.test_images[3], 20, 200, 10, 30)
    fitted = Drawings.of(stepped.index).fit(image)
    app = service(tmp_path / "s.knn")
    assert "<canvas" in page_of(app)
    answer, of_plain = draw(app, image).json, draw(service(tmp_path / "x.knn"), image).json
    assert answer["best"] == str(stepped(fitted).best[0])
    assert answer["seen"] == of_plain["seen"]
    assert all(neighbor["picture"].startswith("data:image/png") for neighbor in answer["neighbors"])


def drawings_of(folder, pictures):
    index_arrays(pictures, np.arange(len(pictures)) % 2, folder / "x.knn", options=IndexOptions(overwrite=True))
    return Drawings.of(Classifier.open(folder / "x.knn").index)


def test_pictures_that_are_centred_by_mass_are_told_from_those_centred_by_their_box(tmp_path):
    pictures = np.zeros((30, 20, 20), np.uint8)
    for picture in pictures:
        height, width = RNG.integers(8, 13, 2)
        shape = np.zeros((height, width))
        shape[:, :2] = shape[-2:] = 1  # an L, whose centre of mass is not that of its box
        down, right = ((shape.sum(axis=1 - a) * (np.arange(shape.shape[a]) + 0.5)).sum() / shape.sum() for a in (0, 1))
        top, left = round(10 - down), round(10 - right)
        picture[top : top + height, left : left + width] = shape
    drawings = drawings_of(tmp_path, pictures)
    assert drawings.is_of_mass
    assert np.allclose(drawings.centre, 10, atol=0.5)
    for picture in pictures:
        picture[...] = 0
        height, width = RNG.integers(4, 9, 2) * 2
        picture[10 - height // 2 : 10 + height // 2, 10 - width // 2] = 1  # an L again, whose box is in the middle
        picture[10 + height // 2 - 1, 10 - width // 2 : 10 + width // 2] = 1
    assert not drawings_of(tmp_path, pictures).is_of_mass


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_is_drawn_has_the_stored_size_place_paper_and_ink(tmp_path, dtype):
    stored = np.full((40, 12, 16), 200, dtype)
    stored[:, 3:9, 5:9] = 50  # dark on light
    stored[::2, 3:9, 5:8] = 60
    drawings = drawings_of(tmp_path, stored)
    assert (drawings.paper, drawings.ink, drawings.side) == (200, 50, 6)
    picture = np.zeros((300, 100), np.uint8)
    picture[20:200, 60:90] = 255  # light on dark, six times as high as wide
    fitted = drawings.fit(picture)
    assert (fitted.shape, fitted.dtype) == ((12, 16), dtype)
    rows, columns = np.nonzero(fitted < 190)
    assert (rows.min(), rows.max()) == (3, 8)
    assert set(columns) <= {6, 7}
    assert fitted[0, 0] == 200
    with pytest.raises(KnnvoteError, match="nothing is drawn"):
        drawings.fit(np.full((30, 30), 9, np.uint8))


def test_a_picture_as_the_index_stores_them_stays_as_it_is(exact_index, digits):
    drawings = Drawings.of(Classifier.open(exact_index).index)
    for image in (digits.test_images[5], drawn_one()):
        assert np.array_equal(drawings.fit(image), image)


def test_photographs_keep_their_greys_and_fill_their_frame(tmp_path):
    stored = RNG.integers(0, 256, (50, 6, 6), np.uint8)
    drawings = drawings_of(tmp_path, stored)
    assert drawings.side is None
    assert np.array_equal(drawings.fit(stored[3]), stored[3])
    assert np.array_equal(drawings.fit(stored[3].repeat(10, axis=0).repeat(10, axis=1)), stored[3])


def draw(app, image):
    return with_client(app, lambda client: client.post("/drawing", png(image), PNG))


def test_the_page_is_told_label_shares_picture_and_neighbours(exact_index):
    reply = draw(service(exact_index), enlarged(drawn_one(), 20, 200, 10, 30))
    assert reply.status == 200
    answer = reply.json
    assert (answer["label"], answer["told"]) == ("1", "1, with 100% of the vote")
    assert answer["shares"] == [{"label": "1", "share": 1.0}]
    assert [neighbor["label"] for neighbor in answer["neighbors"]] == ["1"] * 5
    assert all(one.startswith("data:image/png") for one in (answer["seen"], answer["neighbors"][0]["picture"]))


def test_pictures_of_an_answer_are_read_where_nobody_waits_for_them(exact_index, monkeypatch):
    drawn_answer, threads = application.drawn_answer, []

    def seen(*given):
        threads.append(threading.current_thread())
        return drawn_answer(*given)

    monkeypatch.setattr(application, "drawn_answer", seen)
    assert draw(service(exact_index), drawn_one() * 15).status == 200
    assert [thread is threading.current_thread() for thread in threads] == [False]


def test_the_page_is_told_of_what_is_none_of_its_kind(exact_index):
    app = service(lambda: Classifier.open(exact_index, Rule(max_distance=5)))
    answer = draw(app, np.tri(200, dtype=np.uint8) * 200).json
    assert answer["label"] is None
    assert answer["told"].startswith("no label: nearest neighbour farther than 5; the best guess is ")


def test_a_regression_has_a_number_and_no_shares(tmp_path, digits):
    index_arrays(digits.train_images[:90], digits.train_labels[:90] / 2, tmp_path / "x.knn", is_regression=True)
    answer = draw(service(tmp_path / "x.knn"), digits.test_images[0]).json
    assert answer["shares"] == []
    assert answer["told"] == answer["label"]
    assert float(answer["label"]) >= 0


def page_of(app):
    return with_client(app, lambda client: client.get("/")).body.decode()


@pytest.mark.parametrize("shape", [(12,), (4, 4, 3)])
def test_an_index_of_vectors_or_colours_has_a_page_that_says_so(tmp_path, shape):
    index_arrays(RNG.normal(size=(30, *shape)), np.arange(30) % 3, tmp_path / "x.knn")
    app = service(tmp_path / "x.knn")
    assert "there is nothing to draw" in page_of(app)
    assert "<canvas" not in page_of(app)
    reply = draw(app, np.eye(20) * 255)
    told = "digits stores no pictures in grey: send what it stores to /classify"
    assert (reply.status, reply.json["error"]) == (422, told)


def test_the_page_may_ask_its_service_alone(exact_index):
    reply = with_client(service(exact_index), lambda client: client.get("/"))
    text = reply.body.decode()
    assert "default-src 'none'; img-src data:; connect-src 'self';" in text
    assert reply.headers["content-security-policy"] == "frame-ancestors 'none'"
    assert "<canvas" in text
    assert "//" not in text.replace('"http://', "").split("<script>")[0].replace("data:,", "")

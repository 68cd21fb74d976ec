"""Batches, one after another: answers are those of all at once, and memory holds few of them."""

import weakref

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote.classify.classifier import Classifier
from knnvote.data.errors import ImageFileError, OptionError
from knnvote.data.sample import split_digits
from knnvote.data.tables import image_table

IMAGES = split_digits().test_images


@pytest.fixture(scope="module")
def classify(exact_index):
    return Classifier.open(exact_index)


def joined(answers):
    answers = list(answers)
    return b"".join(answer.D.tobytes() + answer.I.tobytes() for answer in answers), sum(map(len, answers))


def pieces(images, size):
    return [images[start : start + size] for start in range(0, len(images), size)]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_answers_are_those_of_all_images_at_once_whatever_the_batches(classify, size, digits_folder):
    images = IMAGES[:20]
    whole = classify(images)
    expected = b"".join(each.D.tobytes() + each.I.tobytes() for each in map(classify, pieces(images, size)))
    found, count = joined(classify.stream(iter(pieces(images, size))))
    assert (found, count) == (expected, 20)
    assert np.concatenate([each.I for each in classify.stream(pieces(images, size))]).tobytes() == whole.I.tobytes()
    table = image_table(images)
    for batches in (table.to_batches(size), table.to_reader(size), (batch for batch in table.to_batches(size))):
        assert joined(classify.stream(batches))[0] == expected
    file = pq.ParquetFile(digits_folder / "test.parquet")
    rows = np.concatenate([each.I for each in classify.stream(file.iter_batches(max(size, 50)))])
    assert rows.tobytes() == classify(IMAGES).I.tobytes()


def test_batches_may_be_of_several_kinds_and_an_empty_one_has_an_empty_answer(classify):
    batches = [IMAGES[0], IMAGES[:0], IMAGES[1:3].reshape(2, 64), image_table(IMAGES[3:5]), IMAGES[5:6].tolist()]
    assert [len(each) for each in classify.stream(batches)] == [1, 0, 2, 2, 1]
    assert list(classify.stream([])) == []


def test_a_batch_is_asked_for_when_the_answer_before_it_was_given(classify):
    asked = []

    def batches():
        for number in range(3):
            asked.append(number)
            yield IMAGES[number : number + 1]

    answers = classify.stream(batches())
    assert asked == []
    for number, _ in enumerate(answers):
        assert asked == list(range(number + 1))


def test_memory_holds_few_batches_and_answers(classify):
    held = []

    def batches():
        for number in range(9):
            batch = np.roll(IMAGES[:20], number, axis=1)
            held.append(weakref.ref(batch))
            yield batch

    for answer in classify.stream(batches()):
        held.append(weakref.ref(answer))
        del answer
        assert sum(one() is not None for one in held) <= 3
    assert len(held) == 18


def test_tables_have_their_images_where_the_one_before_has_them(classify):
    good = pa.table({"picture": [image.tobytes() for image in IMAGES[:3]]})
    bad = pa.table({"picture": [b"?", b"", b"no image"]})
    with pytest.raises(ImageFileError):
        classify(bad)  # alone it tells nothing
    first, second = classify.stream([good, bad])
    assert first.status.tolist() == ["ok"] * 3
    assert second.status.tolist() == ["bad_image"] * 3


@pytest.mark.parametrize(
    "one", [IMAGES[:3], image_table(IMAGES[:3]), image_table(IMAGES[:3]).to_batches()[0], "digits/test.parquet", b"png"]
)
def test_what_is_one_batch_is_refused_before_it_is_taken_apart(classify, one):
    with pytest.raises(OptionError, match=rf"^batches is '{type(one).__name__}': call the classifier with it, or give"):
        classify.stream(one)


def test_a_generator_is_no_batch_and_is_told_where_it_goes(classify):
    with pytest.raises(
        OptionError, match=r"^images of type generator cannot be .*: give numbers in memory; Classifier\.stream"
    ):
        classify(batch for batch in [IMAGES[:3]])

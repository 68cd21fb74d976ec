import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from knnvote.data.errors import KnnvoteError
from knnvote.data.sample import digits, drawn_one, split_digits, write_digits


def test_digits_are_scikit_learns_without_loss():
    images, labels = digits()
    assert (images.shape, images.dtype) == ((1797, 8, 8), np.uint8)
    assert (labels.shape, labels.dtype) == ((1797,), np.int64)
    assert np.array_equal(images, load_digits().images)
    assert np.array_equal(labels, load_digits().target)


def test_the_split_is_the_one_that_scikit_learn_users_get():
    sample = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(sample.data, sample.target, test_size=0.25, random_state=0)
    split = split_digits()
    assert np.array_equal(split.train_images.reshape(1347, 64), x_train)
    assert np.array_equal(split.test_images.reshape(450, 64), x_test)
    assert np.array_equal(split.train_labels, y_train)
    assert np.array_equal(split.test_labels, y_test)


def test_written_digits_hold_the_split_bit_by_bit(tmp_path):
    paths = write_digits(tmp_path / "digits")
    assert paths == (tmp_path / "digits" / "train.parquet", tmp_path / "digits" / "test.parquet")
    split = split_digits()
    for path, images, labels in zip(paths, split[::2], split[1::2], strict=True):
        table = pq.read_table(path)
        assert np.array_equal(table.column("image").combine_chunks().to_numpy_ndarray(), images)
        assert table.column("label").to_pylist() == labels.tolist()


def test_written_digits_are_the_same_bytes_every_time(tmp_path):
    first, second = write_digits(tmp_path / "a"), write_digits(tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_another_file_of_the_name_is_not_replaced(tmp_path):
    write_digits(tmp_path)
    write_digits(tmp_path)
    (tmp_path / "test.parquet").write_bytes(b"mine")
    with pytest.raises(KnnvoteError, match=r"test\.parquet exists and holds something else"):
        write_digits(tmp_path)
    assert (tmp_path / "test.parquet").read_bytes() == b"mine"


def test_the_drawn_one_is_a_stroke_with_a_serif_and_not_one_of_the_digits():
    expected = [
        "........",
        "....#...",
        "...##...",
        "....#...",
        "....#...",
        "....#...",
        "....#...",
        "........",
    ]
    assert drawn_one().dtype == np.uint8
    assert ["".join(np.where(row == 16, "#", ".")) for row in drawn_one()] == expected
    assert set(np.unique(drawn_one())) == {0, 16}
    assert not (digits()[0] == drawn_one()).all(axis=(1, 2)).any()


def test_importing_the_module_does_not_wait_for_scikit_learn():
    code = "import sys, knnvote.data.sample; print('sklearn' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"

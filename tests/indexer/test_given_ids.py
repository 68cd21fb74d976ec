"""Ids as programs write them, and ids that several images have."""

import numpy as np
import pytest

from knnvote.data.tables import image_table, write_table
from knnvote.indexer.build import index_files
from knnvote.indexer.folder.open import open_index
from knnvote.indexer.grow import remove_ids
from knnvote.indexer.training import TrainingOptions

_IDS = [3144, 3145, 3146, 3146, 7, 9]


@pytest.fixture
def numbered(tmp_path):
    """An index of six images with whole numbers as ids, one of them twice, and what was told of it."""
    table = image_table(np.arange(24, dtype=np.uint8).reshape(6, 2, 2), np.array(list("ababab")))
    write_table(table.append_column("id", [_IDS]), tmp_path / "a.parquet")
    told = []
    index_files(tmp_path / "a.parquet", tmp_path / "i.knn", training=TrainingOptions(id_column="id"), tell=told.append)
    return tmp_path / "i.knn", told


@pytest.mark.parametrize("written", ["3144.0", "3144.00", "3144,0"])
def test_numbers_with_a_point_are_the_whole_numbers_that_are_stored(numbered, invoke, written):
    (path, _), note = numbered, f"as {written} to 3144"
    path.with_name("fix.csv").write_text(f'id,fix\n"{written}",b\n7,a\n')

    seen = invoke("suspects", "i.knn", "--k", "1", "--reviewed", "fix.csv")
    assert "1 of 2, as" in seen.stderr
    assert note in seen.stderr
    assert "does not store" not in seen.stderr
    assert note in invoke("relabel", "i.knn", "fix.csv").stderr
    assert open_index(path).labels[0].as_py() == "b"
    assert note in invoke("remove", "i.knn", "--ids", "fix.csv", "--id-column", "id").stderr
    assert open_index(path).ids.to_pylist() == ["3145", "3146", "3146", "9"]


def test_separators_of_thousands_are_named_and_nothing_else_is_guessed(numbered, invoke):
    path, _ = numbered
    path.with_name("fix.csv").write_text('id,fix\n"3,144",b\n')
    refused = invoke("relabel", "i.knn", "fix.csv")
    assert "give whole numbers without separators of thousands, as 3144 for 3,144" in refused.stderr
    assert "without separators of thousands" in invoke("suspects", "i.knn", "--k", "1", "--reviewed", "fix.csv").stderr
    for other in ("7.000", "7.5", "70"):
        assert f"the first '{other}'; nothing was removed: give ids as" in invoke("remove", "i.knn", other).stderr


def test_an_id_of_several_images_is_told_when_it_is_stored_and_when_it_goes(numbered):
    path, told = numbered
    assert "1 id is stored several times, '3146', 2 times: remove and relabel take all that have an id" in told
    told.clear()
    assert remove_ids(path, [3146, 7], tell=told.append) == 3
    assert told == ["1 id is stored several times, '3146', 2 times: all that have it are removed"]

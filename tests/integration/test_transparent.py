"""Images whose ink is in alpha alone, from index to answers: never blank unseen, and every refusal names what works."""

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from knnvote import Classifier, Rule, open_index

INK = np.stack([np.tile(np.uint8(255 - 60 * i), (3, 3)) * np.eye(3, dtype=np.uint8) for i in range(4)])


def black_ink(alpha):
    """A black image that is seen by its alpha."""
    return imagecodecs.png_encode(np.stack([np.zeros_like(alpha)] * 3 + [alpha], axis=-1))


@pytest.fixture
def files(tmp_path):
    labels = ["a", "a", "b", "b"]
    pq.write_table(pa.table({"image": [*map(black_ink, INK)], "label": labels}), tmp_path / "alpha.parquet")
    opaque = [imagecodecs.png_encode(255 - image) for image in INK]
    pq.write_table(pa.table({"image": opaque, "label": labels}), tmp_path / "opaque.parquet")


@pytest.mark.usefixtures("files")
def test_an_index_of_transparent_images_takes_the_background_that_its_refusal_names_and_remembers_it(invoke, tmp_path):
    refused = invoke("index", "alpha.parquet", "--out", "x.knn")
    assert refused.code == 1
    assert "nothing tells what shows through them: pass --background white or black" in refused.stderr
    assert invoke("index", "alpha.parquet", "--out", "x.knn", "--background", "white").code == 0
    np.testing.assert_array_equal(open_index(tmp_path / "x.knn").vectors, (255 - INK).reshape(4, 9))
    assert invoke("classify", "x.knn", "alpha.parquet", "--out", "answers", "--k", 1).code == 0
    answers = pq.read_table(tmp_path / "answers" / "alpha.parquet")
    assert answers["distance"].to_pylist() == [0] * 4
    classify = Classifier.open(tmp_path / "x.knn", Rule(k=1))
    assert classify([black_ink(image) for image in INK]).status.tolist() == ["ok"] * 4
    pq.write_table(pa.table({"id": ["alpha.parquet#0"]}), tmp_path / "ids.parquet")
    assert invoke("remove", "x.knn", "--ids", "ids.parquet").code == 0
    assert open_index(tmp_path / "x.knn").manifest.background == "white"


@pytest.mark.usefixtures("files")
def test_transparent_queries_are_bad_until_the_background_is_given(invoke, tmp_path):
    assert invoke("index", "opaque.parquet", "--out", "x.knn").code == 0
    done = invoke("classify", "x.knn", "alpha.parquet", "--out", "bad", "--k", 1)
    assert "0 ok, 0 abstained, 4 bad images" in done.stderr
    assert "pass --background white or black" in done.stderr
    assert invoke("classify", "x.knn", "alpha.parquet", "--out", "good", "--k", 1, "--background", "white").code == 0
    assert pq.read_table(tmp_path / "good" / "alpha.parquet")["distance"].to_pylist() == [0] * 4
    again = invoke("classify", "x.knn", "alpha.parquet", "--out", "good", "--k", 1)
    assert '--background was "white" and is not given' in again.stderr
    refused = invoke("compare", "alpha.parquet", "--index", "x.knn", "--k", 1)
    assert refused.code == 1
    assert "pass --background white or black" in refused.stderr
    compared = invoke("compare", "alpha.parquet", "--index", "x.knn", "--k", 1, "--background", "white", "--json")
    assert '"accuracy": 1.0' in compared.stdout

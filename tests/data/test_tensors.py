"""Tensors of other libraries, by what these have in common: `__array__` and DLPack."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import load_digits

from knnvote.classify.classifier import Classifier
from knnvote.classify.estimator import KNNVoteClassifier, KNNVoteRegressor
from knnvote.classify.vote import Rule
from knnvote.data.errors import OptionError
from knnvote.data.tables import array_of, is_tensor
from knnvote.indexer.build import index_arrays
from knnvote.indexer.folder.open import open_index

X, Y = load_digits(return_X_y=True)


class ByDLPack:
    """A tensor that hands on its numbers by DLPack alone."""

    def __init__(self, values, refusal=None):
        self.values, self.refusal = np.asarray(values), refusal

    def __len__(self):
        return len(self.values)

    def __dlpack__(self, **options):
        if self.refusal is not None:
            raise self.refusal
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class ByArray(ByDLPack):
    """A tensor that hands them on as an array too, as PyTorch's do."""

    def __array__(self, dtype=None, copy=None):
        if self.refusal is not None:
            raise self.refusal
        return np.array(self.values, dtype=dtype, copy=copy)


TENSORS = pytest.mark.parametrize("tensor", [ByDLPack, ByArray])
GRADIENT = RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
REFUSALS = {
    "gradient": (ByArray, GRADIENT),
    "gradient by DLPack": (ByDLPack, BufferError("Can't export tensors that require gradient, use tensor.detach()")),
    "device": (ByArray, TypeError("can't convert cuda:0 device type tensor to numpy.")),
    "bfloat16": (ByArray, TypeError("Got unsupported ScalarType BFloat16")),
}


@TENSORS
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_a_tensor_is_the_array_that_it_holds(tensor, dtype):
    values = np.arange(12, dtype=dtype).reshape(3, 4)
    found = array_of(tensor(values), "images")
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)
    assert is_tensor(tensor(values))
    assert not any(map(is_tensor, (values, values.tolist(), pa.array([1, None]), pa.chunked_array([[1]]))))
    if tensor is ByDLPack:
        assert np.shares_memory(found, values)


@TENSORS
def test_an_index_of_tensors_is_that_of_arrays_and_answers_tensors(tmp_path, tensor):
    index_arrays(X[:300], Y[:300], tmp_path / "arrays.knn")
    index_arrays(tensor(X[:300]), tensor(Y[:300]), tmp_path / "tensors.knn", ids=tensor(np.arange(300)))
    index = open_index(tmp_path / "tensors.knn")
    assert index.vectors.tobytes() == open_index(tmp_path / "arrays.knn").vectors.tobytes()
    assert index.labels.to_pylist() == Y[:300].tolist()
    assert index.ids[:2].to_pylist() == ["0", "1"]
    classify = Classifier(index, Rule(k=3))
    assert classify(tensor(X[:50])).I.tobytes() == classify(X[:50]).I.tobytes()
    assert [len(each) for each in classify.stream(map(tensor, (X[:5], X[5:7])))] == [5, 2]


@TENSORS
@pytest.mark.parametrize("made", [KNNVoteClassifier, KNNVoteRegressor])
def test_estimators_take_tensors(made, tensor):
    fitted, expected = made(3).fit(tensor(X[:300]), tensor(Y[:300])), made(3).fit(X[:300], Y[:300])
    np.testing.assert_array_equal(fitted.predict(tensor(X[300:400])), expected.predict(X[300:400]))
    assert fitted.score(tensor(X[300:400]), Y[300:400]) == expected.score(X[300:400], Y[300:400])


@pytest.mark.parametrize("name", REFUSALS)
def test_a_tensor_that_no_array_can_share_is_refused_with_what_to_do(tmp_path, exact_index, name):
    tensor, refusal = REFUSALS[name]
    given = tensor(X, refusal)
    told = rf"^{{}} of type .*\.{tensor.__name__} cannot be read as an array \(.*\): .*tensor\.detach\(\)\.cpu\(\)"
    for parameter, call in {
        "images": lambda: Classifier.open(exact_index)(given),
        "labels": lambda: index_arrays(X, given, tmp_path / "x.knn"),
        "X": lambda: KNNVoteClassifier().fit(given, Y),
        "y": lambda: KNNVoteClassifier().fit(X, given),
    }.items():
        with pytest.raises(OptionError, match=told.format(parameter)) as refused:
            call()
        assert str(refusal).split(".")[0] in str(refused.value)
    with pytest.raises(OptionError, match=told.format("images")):
        index_arrays(given, Y, tmp_path / "x.knn")
    with pytest.raises(ValueError, match="detach"):  # as scikit-learn's own errors are
        KNNVoteClassifier().fit(X, Y).predict(given)
    assert not (tmp_path / "x.knn").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            csr_array(X),
            r"^images of type scipy\.csr_array cannot be read as an array: give numbers .*, as its toarray\(\) does$",
        ),
        (np.ma.masked_equal(X, 0), "^images has masked values, .*: fill them, or drop the rows$"),
        (
            [[1, 2], [3]],
            r"^images of type list cannot be read as an array \(.*\): give .* each row as long as the first$",
        ),
        ("digits/train.parquet", "^images is 'digits/train.parquet': .*files are for index_files and run_job$"),
        (object(), "^images of type object cannot be read as an array: give numbers in memory$"),
        ({"a": 1}, "^images of type dict cannot be read as an array: give numbers in memory$"),
    ],
    ids=["sparse", "masked", "ragged", "path", "object", "dict"],
)
def test_what_is_no_array_is_refused_in_words(tmp_path, exact_index, given, told):
    with pytest.raises(OptionError, match=told):
        index_arrays(given, Y, tmp_path / "x.knn")
    with pytest.raises(OptionError, match=told):
        Classifier.open(exact_index)(given)


def test_a_masked_array_without_a_masked_value_is_as_any_other(exact_index):
    classify = Classifier.open(exact_index)
    assert classify(np.ma.masked_array(X[:3])).I.tobytes() == classify(X[:3]).I.tobytes()

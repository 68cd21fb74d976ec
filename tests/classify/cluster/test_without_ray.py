"""Where Ray is not installed or not meant, that is told before anything is done."""

import importlib.util

import pytest

from knnvote.classify.cluster.engine import RayEngine
from knnvote.data.errors import KnnvoteError


@pytest.fixture
def _no_ray(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if name == "ray" else find(name, *of))


@pytest.mark.usefixtures("_no_ray")
def test_without_ray_its_pip_command_is_told_before_anything_is_done(invoke):
    done = invoke("classify", "no.knn", "nothing", "--out", "out", "--engine", "ray")
    told = "the engine ray needs Ray, which is not installed: pip install 'knnvote[ray]'"
    assert (done.code, done.stderr) == (1, f"error: {told}\n")
    with pytest.raises(KnnvoteError, match="pip install"):
        RayEngine()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--address", "auto"], "--address is of --engine ray: give that too"),
        (["--engine", "ray", "--part", "1/2"], "--engine ray spreads the files by itself: leave out --part"),
    ],
)
def test_options_that_contradict_each_other_are_told(invoke, given, told):
    done = invoke("classify", "no.knn", "nothing", "--out", "out", *given)
    assert done.code == 2
    assert told in done.stderr

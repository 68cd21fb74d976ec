"""Without the extra, one line names the command that installs it."""

import importlib.util

import pytest

from knnvote.serve import extra


@pytest.mark.parametrize("module", extra._LIBRARIES)
def test_without_a_library_its_pip_command_is_told_before_any_work(monkeypatch, invoke, module):
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name == module else importlib.util.find_spec("json"))
    for command in (("serve", "nothing.knn"), ("demo", "new", "--serve")):
        done = invoke(*command)
        told = f"serve needs {extra._LIBRARIES[module]}, which is not installed: pip install 'knnvote[serve]'"
        assert (done.code, done.stdout, done.stderr) == (1, "", f"error: {told}\n")

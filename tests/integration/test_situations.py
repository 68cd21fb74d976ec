"""Situations whose truth is known: a few; `python tests/tools/situations.py --draws 2000` plays many."""

from dataclasses import replace

import pytest
import situations

WRITERS = ["pyarrow", "pandas", "polars", "duckdb"]


@pytest.mark.parametrize(("first", "draws"), [(3000, 16), pytest.param(3016, 14, marks=pytest.mark.long)])
def test_what_is_drawn_is_stored_and_answered_or_refused_in_a_line(first, draws):
    outcomes = {seed: situations.outcome(seed, WRITERS) for seed in range(first, first + draws)}
    wrong = {seed: what for seed, (_, what) in outcomes.items() if not what.startswith(("right", "refused: "))}
    assert wrong == {}
    assert sum(what == "right" for _, what in outcomes.values()) > draws / 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda drawn: {"x": drawn.x[:, ::-1]}, "stored vectors"),
        (lambda drawn: {"xq": drawn.xq[::-1]}, "predictions"),
        (lambda drawn: {"is_bad": ~drawn.is_bad}, "predictions"),
    ],
)
def test_a_silent_fault_would_be_seen(tmp_path, monkeypatch, change, told):
    """What the files hold is held to something else than was drawn."""
    draws = (situations.draw(seed, ["pyarrow"]) for seed in range(50))
    drawn = next(drawn for drawn in draws if drawn.layout == "tensor")
    play_files = situations._play_files
    monkeypatch.setattr(situations, "_play_files", lambda one, *rest: play_files(replace(one, **change(one)), *rest))
    plain = replace(drawn, label="int64", label_name="label", others=[])
    assert situations.play(plain, tmp_path).startswith(f"WRONG: {told}")

"""Text for people and their terminals."""

import pytest

from knnvote.data.errors import KnnvoteError
from knnvote.data.text import describe_error, first_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ä b 'c' \\ \"d\"", "ä b 'c' \\ \"d\""),
        ("a\nb\tc\x1b[2J", r"a\nb\tc\x1b[2J"),
        ("\u202e\ud800\U000e0001", r"\u202e\ud800\U000e0001"),
    ],
)
def test_what_could_command_a_terminal_is_shown_as_python_writes_it(text, shown):
    assert printable(text) == shown
    assert str(KnnvoteError(text)) == shown


@pytest.mark.parametrize(
    ("error", "told"),
    [(ValueError("first\nsecond"), "first"), (ValueError(), "ValueError"), (KeyError(""), "''"), (OSError("\n"), "")],
)
def test_an_error_is_told_by_its_first_line_or_else_by_its_kind(error, told):
    assert describe_error(error) == told


def test_the_first_line_of_nothing_is_empty():
    assert (first_line(""), first_line("a\r\nb")) == ("", "a")

"""Words of errors: the nearest of what is allowed, and what is allowed."""

import pytest

from gffnet.errors import RunFailed, UserError, first_line, nearest, one_line, unknown

COLORS = ("red", "green", "blue")


@pytest.mark.parametrize(("word", "hint"), [("gren", " Did you mean 'green'?"), ("bleu", " Did you mean 'blue'?")])
def test_the_nearest_word_is_named(word: str, hint: str) -> None:
    assert nearest(word, COLORS) == hint


@pytest.mark.parametrize("word", ["", "xylophone", "1234"])
def test_nothing_is_named_where_nothing_is_near(word: str) -> None:
    assert nearest(word, COLORS) == ""
    assert nearest(word, iter(COLORS)) == ""
    assert nearest("red", []) == ""


def test_an_unknown_value() -> None:
    error = unknown("colour", "gren", iter(COLORS))
    assert isinstance(error, UserError)
    assert str(error) == "colour 'gren' is unknown. Did you mean 'green'? Allowed: blue, green, red."
    assert str(unknown("colour", "x", COLORS)) == "colour 'x' is unknown. Allowed: blue, green, red."


def test_messages_of_errors_in_one_line() -> None:
    error = ValueError(" of the\n  parser\n")
    assert (one_line(error), first_line(error)) == ("of the parser", "of the")
    assert (one_line(MemoryError()), first_line(MemoryError())) == ("MemoryError", "MemoryError")


def test_bad_input_and_failed_work_are_told_apart() -> None:
    assert not issubclass(RunFailed, UserError)
    assert not issubclass(UserError, RunFailed)

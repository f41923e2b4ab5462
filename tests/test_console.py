"""Notices and progress: on standard error, word for word, whatever names of files look like."""

import pytest

from gffnet.console import progress, screen, size_in_bytes, track
from gffnet.errors import UserError

ODD = "/photos [red]/[/b] :smile: [bold]1.png"


def test_notices_are_on_standard_error_and_word_for_word(capsys: pytest.CaptureFixture[str]) -> None:
    screen.print(f"left out: {ODD}", style="yellow")
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"left out: {ODD}\n")


def test_a_long_path_is_not_broken_into_lines(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/folder" * 40 + "/with a space/model"
    screen.print(f"trained: --model {path}")
    assert capsys.readouterr().err == f"trained: --model {path}\n"


def test_track_hands_out_every_item_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track("abc", "letters")) == ["a", "b", "c"]
    assert list(track(iter(range(3)), ODD, total=3)) == [0, 1, 2]
    assert capsys.readouterr().out == ""


def test_track_lets_errors_through() -> None:
    inverses = (1 / item for item in track([1, 0], "dividing"))
    assert next(inverses) == 1
    with pytest.raises(ZeroDivisionError):
        next(inverses)


def test_progress_may_be_called_with_any_counts(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(ODD) as step:
        for done in range(4):
            step(done, 3)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "size"), [("16MB", 16e6), ("1.5 GB", 1.5e9), ("2MiB", 2**21), ("1KB", 1e3), ("3GiB", 3 * 2**30)]
)
def test_sizes_are_read(text: str, size: float) -> None:
    assert size_in_bytes(text, "--memory") == size


@pytest.mark.parametrize("text", ["", "16", "MB", "-1MB", "0MB", "16 mb", "1e3MB", "16TB", "16MB "])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match=r"^--memory '.*' must be a number with KB, MB, .* such as 16MB"):
        size_in_bytes(text, "--memory")

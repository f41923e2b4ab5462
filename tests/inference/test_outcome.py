"""What is said of a run, on the screen, in the list and as JSON."""

from pathlib import Path

import pytest

from gffnet.errors import RunFailed, UserError
from gffnet.inference.batch import SHOWN, Outcome, bar

Captured = pytest.CaptureFixture[str]


def outcome(out: Path, failures: int = 0, **options: object) -> Outcome:
    made = Outcome(out, ("labels", "overlay"), **options)  # type: ignore[arg-type]
    for i in range(failures):
        made.fail(Path(f"in/{i} [x].png"), "it is\ndamaged")
    return made


@pytest.mark.parametrize(
    ("written", "skipped", "said"),
    [
        (180, 0, "180 images written, 0 were there already"),
        (1, 1, "1 image written, 1 was there already"),
        (0, 20, "0 images written, 20 were there already"),
    ],
)
def test_all_went_well(written: int, skipped: int, said: str, capsys: Captured) -> None:
    made = outcome(Path("out [1]"))
    made.written, made.skipped = written, skipped
    made.tell()
    assert capsys.readouterr().err == f"{said}: out [1]/labels, overlay\n"


def test_a_failure_is_told_when_it_comes_and_at_the_end(capsys: Captured) -> None:
    made = outcome(Path("out"), failures=SHOWN + 7)
    made.written = 100
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "left out: in/0 [x].png: it is damaged"
    assert len(lines) == SHOWN + 7
    with pytest.raises(
        RunFailed, match=r"^57 of 157 files failed and were left out; they are listed in out/failed\.txt"
    ):
        made.tell()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "failed: in/0 [x].png: it is damaged"
    assert lines[SHOWN:] == ["and 7 more", "100 images written, 0 were there already: out/labels, overlay"]


def test_a_single_file_speaks_for_itself(capsys: Captured) -> None:
    with pytest.raises(UserError, match=r"^in/0 \[x\]\.png: it is damaged$"):
        outcome(Path("out"), failures=1, alone=True).tell()
    assert capsys.readouterr().err == ""


def test_the_list_of_failures(tmp_path: Path) -> None:
    outcome(tmp_path, failures=2).write_failed()
    assert (tmp_path / "failed.txt").read_text() == "in/0 [x].png: it is damaged\nin/1 [x].png: it is damaged\n"
    outcome(tmp_path, failures=1, shard=(2, 3)).write_failed()
    assert (tmp_path / "failed-2-of-3.txt").read_text().count("\n") == 1
    outcome(tmp_path, shard=(2, 3)).write_failed()
    assert [path.name for path in tmp_path.iterdir()] == ["failed.txt"]
    outcome(tmp_path).write_failed()
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    made = outcome(tmp_path)
    made.fail(Path("a\udcff.png"), "it is empty")
    made.write_failed()
    assert (tmp_path / "failed.txt").read_bytes() == b"a\xff.png: it is empty\n"


def test_as_json() -> None:
    made = outcome(Path("out"), failures=1)
    made.written, made.skipped = 3, 4
    failed = [{"file": "in/0 [x].png", "reason": "it is damaged"}]
    assert made.to_mapping() == {"written": 3, "skipped": 4, "failed": failed, "out": "out"}


def test_a_bar_without_a_terminal_says_nothing(capsys: Captured) -> None:
    with bar("predicting", 3) as progress:
        for _ in range(3):
            progress.advance(progress.task_ids[0])
    assert capsys.readouterr().err == ""

"""Files appear whole or not at all."""

import os
from pathlib import Path

import pytest

from gffnet.errors import UserError
from gffnet.files import write_whole


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_is_made_and_an_old_file_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a/b/file.bin"
    for data in (b"one", b"", b"three"):
        write_whole(path, data)
        assert path.read_bytes() == data
        assert listing(path.parent) == ["file.bin"]


def test_a_reader_never_sees_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the data are on the disk when writing fails: the old file stands, and the half is gone."""
    path = tmp_path / "file.bin"
    write_whole(path, b"old")

    def write_half(self: Path, data: bytes) -> None:
        assert self != path
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", write_half)
        with pytest.raises(UserError, match=rf"cannot write {path}: No space left on device\. Choose a folder"):
            write_whole(path, b"new and long")
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["file.bin"]


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_whole(tmp_path / "file.bin", b"data")
    assert listing(tmp_path) == []


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*taken: Is a directory"):
        write_whole(tmp_path / "taken", b"data")
    assert listing(tmp_path) == ["taken"]


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for inside in ("file/scores.json", "file/deeper/scores.json"):
        with pytest.raises(UserError, match=r"cannot write .*scores\.json: (File exists|Not a directory)\. Choose"):
            write_whole(tmp_path / inside, b"data")


def test_a_name_too_long(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="File name too long"):
        write_whole(tmp_path / ("x" * 300), b"data")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        write_whole(tmp_path / "file.bin", b"data")

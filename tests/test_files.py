"""Atomic writes: a file or folder appears complete, or nothing changes. Text in whatever encoding."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from gffnet.errors import BadName, CannotWrite, UserError
from gffnet.files import as_path, atomic_file, atomic_folder, atomic_write, cannot_write, check_writable, read_text


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("~", "/home"),
        ("~/a b", "/home/a b"),
        ("a/~", "a/~"),
        ("~nobody-of-this-name/x", None),
        ("a", "a"),
    ],
)
def test_home(text: str, path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home")
    assert as_path(text) == as_path(Path(text)) == Path(path or text)


def test_the_folder_is_made_and_an_old_file_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a/b/file.bin"
    for data in (b"one", b"", b"three"):
        atomic_write(path, data)
        assert path.read_bytes() == data
        assert listing(path.parent) == ["file.bin"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("bad"), KeyboardInterrupt()])
@pytest.mark.parametrize("durable", [False, True])
def test_a_reader_never_sees_a_part(tmp_path: Path, error: BaseException, durable: bool) -> None:
    """Half of the data are on the disk when writing fails: the old file stands, and the half is gone."""
    path = tmp_path / "file.bin"
    atomic_write(path, b"old", durable)
    said = (
        rf"cannot write {path}: No space left on device\. Free some space on its disk, or choose"
        if isinstance(error, OSError)
        else None
    )
    wanted = CannotWrite if isinstance(error, OSError) else type(error)
    with pytest.raises(wanted, match=said), atomic_file(path, durable) as file:  # noqa: PT012
        file.write(b"new and l")
        file.flush()
        assert len(listing(tmp_path)) == 2
        assert path.read_bytes() == b"old"
        raise error
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["file.bin"]


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            atomic_write(tmp_path / "file.bin", b"data")
    assert listing(tmp_path) == []


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*taken: Is a directory"):
        atomic_write(tmp_path / "taken", b"data")
    assert listing(tmp_path) == ["taken"]


def test_a_folder_of_that_name_is_seen_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match=r"taken: Is a directory"), atomic_file(tmp_path / "taken"):
        pytest.fail("hours of work")


def test_whether_a_folder_can_be_written_to(tmp_path: Path) -> None:
    check_writable(tmp_path / "new/deeper")
    assert listing(tmp_path / "new/deeper") == []
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match=rf"{tmp_path}/file is a file, not a folder\."):
        check_writable(tmp_path / "file")


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for inside in ("file/scores.json", "file/deeper/scores.json"):
        with pytest.raises(UserError, match=rf"{inside}: {tmp_path}/file is a file, not a folder\. Choose another"):
            atomic_write(tmp_path / inside, b"data")


@pytest.mark.parametrize("inside", ["", "/deeper"])
def test_a_link_or_device_where_the_folder_should_be(inside: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    for place, kind in ((tmp_path / "link", "link to nothing"), (Path(os.devnull), "file")):
        with pytest.raises(UserError, match=rf"json: {place} is a {kind}, not a folder\. Choose another"):
            atomic_write(Path(f"{place}{inside}/scores.json"), b"data")


@pytest.mark.parametrize("name", ["k" * 255, "街" * 85, ("é" * 125) + ".png"])
def test_every_name_that_the_file_system_takes(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    atomic_write(tmp_path / name, b"data")
    assert (tmp_path / name).read_bytes() == b"data"
    with atomic_folder(tmp_path / "deep" / name) as filling:
        (filling / "file").touch()
    assert listing(tmp_path / "deep" / name) == ["file"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("x" * 256, "its longest name has 256 bytes, and file systems take up to 255: give what it is made of"),
        ("街" * 86, "its longest name has 258 bytes"),
        ("y" * 300 + "/a.png", "its longest name has 300 bytes"),
        ("/".join(["z" * 250] * 20), "its longest name has 250 bytes, and its whole path [0-9]{4}"),
    ],
)
def test_a_name_too_long(path: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadName, match=f"(?i)File name too long. {said}"):
        atomic_write(tmp_path / path, b"data")
    with pytest.raises(BadName, match=f"(?i){said}"), atomic_folder(tmp_path / path):
        pass


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "no file of this size"),
        (errno.EACCES, "permissions"),
        (errno.EPERM, "permissions"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "fails: check it"),
        (errno.ESTALE, "mount it again"),
        (errno.ENOENT, "was removed"),
        (errno.ELOOP, "in a circle"),
        (errno.ENOTEMPTY, "folder has this name"),
        (errno.EBUSY, "close that"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENODEV, "choose another folder"),
        (None, "choose another folder"),
    ],
)
def test_the_remedy_fits_the_cause(number: int | None, remedy: str) -> None:
    cause = OSError(number, os.strerror(number)) if number else OSError("strange")
    error = cannot_write(Path("out/a.png"), cause)
    assert str(error).startswith(f"cannot write out/a.png: {os.strerror(number) if number else 'strange'}. ")
    assert remedy in str(error).lower()
    assert "room" not in str(error)
    assert type(error) is CannotWrite, "no other file could be written either"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        atomic_write(tmp_path / "file.bin", b"data")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("bad"), KeyboardInterrupt()])
def test_a_folder_appears_whole(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "deep/folder"
    with atomic_folder(path) as filling:
        (filling / "old").touch()
        left = listing(path.parent)[0]
        assert (left[0], left[-5:]) == (".", ".part")
    wanted = CannotWrite if isinstance(error, OSError) else type(error)
    with pytest.raises(wanted), atomic_folder(path) as filling:  # noqa: PT012
        (filling / "new").touch()
        raise error
    assert (listing(path.parent), listing(path)) == (["folder"], ["old"])
    (path.parent / left).mkdir()
    (path.parent / left / "left").touch()  # by a process that was killed
    with atomic_folder(path) as filling:
        (filling / "new").touch()
    assert (listing(path.parent), listing(path)) == (["folder"], ["new"])


def test_an_old_folder_is_never_there_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder"
    with atomic_folder(path) as filling:
        (filling / "old").touch()
    seen, rmtree = [], shutil.rmtree

    def watching(folder: Path, **options: Any) -> None:
        seen.append(listing(path))
        rmtree(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", watching)
    with atomic_folder(path) as filling:
        (filling / "new").touch()
    assert all(names in (["old"], ["new"]) for names in seen)
    assert listing(tmp_path) == ["folder"]


def test_an_old_folder_outlives_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the moves: the new one cannot take its place, or the process is killed."""
    path = tmp_path / "folder"
    with atomic_folder(path) as filling:
        (filling / "old").touch()
    replace, moved = Path.replace, []

    def failing(self: Path, to: Path) -> Path:
        if to == path and self.suffix == ".part":
            raise OSError(errno.EIO, "Input/output error")
        moved.append(replace(self, to))
        return moved[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", failing)
        with pytest.raises(CannotWrite, match="Input/output error"), atomic_folder(path) as filling:
            (filling / "new").touch()
    assert (listing(tmp_path), listing(path)) == (["folder"], ["old"])
    path.replace(moved[0])  # as a killed process leaves it
    with pytest.raises(KeyboardInterrupt), atomic_folder(path):
        raise KeyboardInterrupt
    assert (listing(tmp_path), listing(path)) == (["folder"], ["old"])


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/deeper"):
        with (
            pytest.raises(CannotWrite, match=rf"cannot write {place}: {tmp_path}/file is a file, not a folder"),
            atomic_folder(place),
        ):
            pass
    assert listing(tmp_path) == ["file"]


# Text files of the user

TEXT = "classes:\n- Stra\u00dfe\n- \u9053\u8def\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_in_unicode(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_text(TEXT, encoding)
    assert read_text(tmp_path / "a.txt", "list") == TEXT


@pytest.mark.parametrize(
    ("word", "encoding", "line"),
    [
        ("\u9053\u8def", "gbk", 2),
        ("\u9053\u8def", "shift_jis", 2),
        ("Stra\u00dfe", "latin-1", 2),
        ("\u0443\u043b\u0438\u0446\u0430", "cp1251", 2),
        ("road", "utf-16-le", 1),
        ("road", "utf-16-be", 1),
    ],
)
def test_text_in_another_encoding(tmp_path: Path, word: str, encoding: str, line: int) -> None:
    (tmp_path / "a.txt").write_text(f"classes:\n- {word}\n", encoding)
    with pytest.raises(UserError) as caught:
        read_text(tmp_path / "a.txt", "list")
    assert str(caught.value) == f"list {tmp_path}/a.txt is not UTF-8 text (line {line}). Save it as UTF-8."


def test_text_is_written_in_utf_8_whatever_it_holds(tmp_path: Path) -> None:
    """Also the name of a file in another encoding, as Python has it."""
    atomic_write(tmp_path / "x.csv", "道路 café " + os.fsdecode(b"\x93\xb9.png"))
    assert (tmp_path / "x.csv").read_text(encoding="utf-8") == r"道路 café \udc93\udcb9.png"

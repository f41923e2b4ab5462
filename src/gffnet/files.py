"""Atomic writes: a file or folder appears complete, or what was there before stays as it is. Text files of the user."""

import codecs
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gffnet.errors import CannotWrite, UserError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Error numbers of a full disk or an exhausted quota."""


def atomic_write(path: Path, data: bytes, durable: bool = False) -> None:
    """Write `data` to the file `path`, as `atomic_file` does."""
    with atomic_file(path, durable) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`, and move it to `path` at the end unless an error is raised.

    Args:
        path: the file to write; its folder is created.
        durable: flush the data to the disk before the move, so that a power cut leaves no incomplete file.

    Raises:
        CannotWrite: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Create a hidden folder beside `path`, and move it to `path` at the end unless an error is raised.

    An existing folder is replaced, and so is a hidden one that a killed process left.

    Raises:
        CannotWrite: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """Return the error for a `path` that the system refuses to write."""
    return CannotWrite(f"cannot write {path}: {error.strerror or error}. Choose a folder with room for it.")


def read_text(path: Path, what: str) -> str:
    """Read a text file that a user wrote: UTF-8 with or without a byte-order mark, or UTF-16 with one.

    Raises:
        UserError: it is in another encoding; `what` names its kind.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf_16 else "utf-8-sig")
        if "\0" not in text:  # as in UTF-16 without a mark
            return text
        line = text[: text.index("\0")].count("\n") + 1
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
    raise UserError(f"{what} {path} is not UTF-8 text (line {line}). Save it as UTF-8.")

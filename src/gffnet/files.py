"""Files and folders that appear whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from gffnet.errors import CannotWrite

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of a full disk or quota."""


def atomic_write(path: Path, data: bytes, durable: bool = False) -> None:
    """Write `data` as the file `path`, whole or not at all; the folder is made. As `atomic_file`."""
    with atomic_file(path, durable) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path, durable: bool = False) -> Iterator[BinaryIO]:
    """A new file beside `path` to write to, which is moved there at the end, unless an error is raised before.

    If `durable`, the data are on the disk before the file is moved, so that a power cut leaves no file in part.

    Raises:
        CannotWrite: the file cannot be written; what was there before is as it was.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("xb") as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from None


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new, hidden folder beside `path` to fill, which takes its place at the end, unless an error is raised before.

    What a killed process left of it is removed when it is begun anew.

    Raises:
        CannotWrite: the folder cannot be written; what was there before is as it was.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        try:
            yield beside
            if path.exists():
                shutil.rmtree(path)
            beside.replace(path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """What is raised where the system refuses to write `path`."""
    return CannotWrite(f"cannot write {path}: {error.strerror or error}. Choose a folder with room for it.")

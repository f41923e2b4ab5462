"""Files that appear whole or not at all."""

import os
import secrets
from pathlib import Path

from gffnet.errors import UserError


def write_whole(path: Path, data: bytes, durable: bool = False) -> None:
    """Write to a new file beside `path`, then move it there; the folder is made.

    If `durable`, the data are on the disk before the file is moved, so that a power cut leaves no file in part.

    Raises:
        UserError: the file cannot be written.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(data)
            if durable:
                with beside.open("rb+") as file:
                    os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}. Choose a folder with room for it.") from None

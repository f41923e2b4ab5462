"""A disk that fills up: files that are written whole stop in their midst."""

from pathlib import Path
from typing import Any

import pytest


def full_after(patch: pytest.MonkeyPatch, writes: int) -> None:
    """Let so many files be written whole; of every further one nine bytes, and then there is no room."""
    real, opened = Path.open, []

    def opening(self: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        file = real(self, mode, *more, **options)
        if mode != "xb":
            return file
        opened.append(self)
        return file if len(opened) <= writes else _Full(file)

    patch.setattr(Path, "open", opening)


class _Full:
    """A file that has room for nine bytes."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> "_Full":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: bytes) -> int:
        self.file.write(data[:9])
        raise OSError(28, "No space left on device")

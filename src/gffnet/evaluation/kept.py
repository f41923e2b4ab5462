"""What an evaluation that was broken off leaves behind, for `--resume`.

Every process keeps what it scored in a file of its own, under a name that nobody else takes, and writes it whole. All
of them hold different images, so that any number of processes can go on where any other number stopped.
"""

import hashlib
import io
import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from gffnet.console import screen
from gffnet.data.base import Dataset
from gffnet.errors import UserError
from gffnet.evaluation.scored import Scored
from gffnet.files import write_whole

FOLDER = "scored"
_TOLD = {"weights_sha256": "another model", "names": "other images"}
"""What to say of parts of the fingerprint whose values tell nobody anything."""


class Kept:
    """The folder of what is scored.

    Args:
        folder: where the files are.
        fingerprint: all that the counts depend on; what has another is not gone on from.
        dataset: whose images are scored.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any], dataset: Dataset) -> None:
        self.folder = folder
        self.dataset = dataset
        self.fingerprint = json.loads(json.dumps(fingerprint))
        self.own = folder / f"{secrets.token_hex(8)}.npz"

    def save(self, scored: Scored) -> None:
        """Keep what this process scored, in place of what it kept before.

        Raises:
            CannotWrite: the file cannot be written.
        """
        file = io.BytesIO()
        about = {"fingerprint": self.fingerprint, "sizes": [[i, self._sizes(i)] for i in scored.images]}
        parts = {"about": json.dumps(about).encode(), "scored": scored.pack()}
        np.savez(file, allow_pickle=False, **{name: np.frombuffer(part, np.uint8) for name, part in parts.items()})
        write_whole(self.own, file.getvalue(), durable=True)

    def load(self, into: Scored) -> None:
        """Add all that is kept. A damaged file is left out, so that its images are scored again.

        Raises:
            UserError: a file is of another model, protocol or data set.
        """
        for path in _files(self.folder):
            try:
                with np.load(path, allow_pickle=False) as stored:
                    about, packed = json.loads(stored["about"].tobytes()), stored["scored"].tobytes()
            except (OSError, ValueError, KeyError, EOFError, BadZipFile):
                screen.print(f"left out: {path} is damaged; its images are scored again", style="yellow")
                path.unlink(missing_ok=True)
                continue
            self._compare(about["fingerprint"], about["sizes"])
            try:
                into.add(packed)
            except ValueError as error:
                screen.print(f"left out: {path}: {error}", style="yellow")
                path.unlink(missing_ok=True)

    def _compare(self, other: Mapping[str, Any], sizes: list[Any]) -> None:
        keys = [key for key in self.fingerprint | dict(other) if self.fingerprint.get(key) != other.get(key)]
        told = [_TOLD.get(key) or f"{key} {other.get(key)} then, {self.fingerprint.get(key)} now" for key in keys]
        if not told:  # an image that could not be read may have been mended since, but none that was scored
            told = [f"the files of {self.dataset.name(i)} have changed" for i, then in sizes if self._sizes(i) != then][
                :1
            ]
        if not told:
            return
        raise UserError(
            f"--resume: what is scored in {self.folder} does not fit: {'; '.join(told)}. Give what was given then, "
            "leave out --resume to start anew, or choose another --out."
        )

    def _sizes(self, index: int) -> list[int]:
        """Bytes of image and label map."""
        return [_size(path) for path in self.dataset.files[index]]


def clear(folder: Path) -> None:
    """Remove what is kept in a folder, and the folder if nothing else is in it."""
    for path in [*_files(folder), *folder.glob(".*.npz.*.part")]:
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def fingerprint(protocol: Mapping[str, Any], dataset: Dataset, details: bool) -> dict[str, Any]:
    """All that the counts of a data set depend on: protocol, model, images; the files may lie elsewhere."""
    told = {key: value for key, value in protocol.items() if key not in {"absent", "absent_source"}}
    told["device"] = str(told["device"]).split(":")[0]  # which of several equal ones does not matter
    names = "\n".join(dataset.name(i) for i in range(len(dataset)))
    return {**told, "details": details, "names": hashlib.sha256(names.encode()).hexdigest()}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.npz") if re.fullmatch("[0-9a-f]{16}", path.stem))


def _size(path: Path) -> int:
    """Bytes; -1 where there is no such file, as where a cache stands in for it."""
    try:
        return path.stat().st_size
    except OSError:
        return -1

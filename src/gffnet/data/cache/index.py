"""What a cache knows of each sample: which files it was made from, and how to tell that they are still the same.

A sample's files are taken for unchanged if size, time of modification and time of the last change of the inode are what
they were. Where one differs, as after a copy, their content decides. The index of a split is one JSON file, which
appears whole or not at all, and begins with the check sum of the rest.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from gffnet.data.dataset import Dataset
from gffnet.errors import UserError
from gffnet.files import atomic_write

_VERSION = 1
"""Of what the entries mean; another number makes every cache a stale one."""


@dataclass(frozen=True)
class Record:
    """What an entry was made from."""

    digest: str
    """See `digest`; the name of the entry."""
    states: list[list[int]]
    """Of the image and the label file."""
    classes: dict[str, int]
    """Pixels of every train id that occurs."""


@dataclass(frozen=True)
class Index:
    """The records of a split by sample: the path of its image below the root."""

    meaning: str
    """Of the labels; see `meaning`."""
    compressed: bool
    records: dict[str, Record]


def state(file: Path) -> list[int]:
    """What tells cheaply whether a file may have changed."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def digest(labels_mean: str, files: tuple[Path, Path]) -> str:
    """The content of an image and its label file, and what the labels mean, as a short text."""
    parts = [hashlib.blake2b(file.read_bytes(), digest_size=16).digest() for file in files]
    return hashlib.blake2b(b"".join([labels_mean.encode(), *parts]), digest_size=16).hexdigest()


def sample_key(dataset: Dataset, root: Path, index: int) -> str:
    """The name of a sample in the index: its image's path below the root of the data set."""
    return dataset.files[index][0].relative_to(root).as_posix()


def meaning(dataset: Dataset) -> str:
    """What makes train ids of stored ids, as a short text: entries of another meaning must not be used."""
    whole = json.dumps([_VERSION, dataset.classes.names, dataset.meaning()])
    return hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()


def read_index(folder: Path, split: str) -> Index | None:
    """The index of a split, or None if there is none.

    Raises:
        UserError: it is damaged.
    """
    path = _path(folder, split)
    try:
        text = path.read_text(encoding="utf-8")
        body = "{" + text[len(_checked("{")) :]
        if text != _checked(body):
            raise ValueError("its check sum is wrong")
        stored = json.loads(body)
        records = {name: Record(**record) for name, record in stored["records"].items()}
        return Index(stored["meaning"], bool(stored["compressed"]), records)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"cache index {path} is damaged ({error}): delete it, and cache the data set again.") from None


def write_index(folder: Path, split: str, index: Index) -> None:
    """Write the index of a split, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    atomic_write(_path(folder, split), _checked(json.dumps(asdict(index))).encode(), durable=True)


def entry_path(folder: Path, record_digest: str, compressed: bool) -> Path:
    """Where the entry of a sample lies."""
    return folder / record_digest[:2] / f"{record_digest}.{'zstd' if compressed else 'flat'}"


def _checked(body: str) -> str:
    """A JSON object with its check sum as first entry."""
    return f'{{"check": "{hashlib.blake2b(body.encode(), digest_size=16).hexdigest()}", {body[1:]}'


def _path(folder: Path, split: str) -> Path:
    return folder / f"index-{split}.json"

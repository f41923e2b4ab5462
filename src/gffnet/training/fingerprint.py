"""What tells one data set from another, cheaply: nothing is read but the sizes of the files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gffnet.data.base import Dataset


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 over the classes, what stored ids mean, and every sample's name and sizes of its files, in order.

    It depends neither on where the data set lies nor on whether it has a cache.
    """
    text = hashlib.sha256(json.dumps([dataset.classes.names, dataset.meaning()]).encode())
    for index, files in enumerate(dataset.files):
        text.update(json.dumps([dataset.name(index), *map(_size, files)]).encode())
    return text.hexdigest()


def describe(name: str, splits: Mapping[str, tuple[str, Dataset]]) -> dict[str, Any]:
    """The data set `name`, as the record of a run holds it.

    Args:
        name: such as `camvid`.
        splits: for each use, such as `train`, the name of the split and its samples.
    """
    found = {
        use: {"split": split, "samples": len(samples), "fingerprint": fingerprint(samples)}
        for use, (split, samples) in splits.items()
    }
    return {"name": name, "splits": found}


def _size(file: Path) -> int | None:
    """In bytes; None where there is no file: whoever reads it will say so."""
    try:
        return file.stat().st_size
    except OSError:
        return None

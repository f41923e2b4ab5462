"""What one sample holds, in numbers: read by many processes, told to one."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gffnet.data.dataset import Dataset, Files, LabelTable
from gffnet.data.io import EXTENSIONS, Header, as_array, read_header, read_image
from gffnet.errors import RunFailed, UserError
from gffnet.parallel import in_processes

_BATCH = 8
"""Samples that a process is given at once."""


class ImageLook(NamedTuple):
    """What an image holds."""

    file: Path
    header: Header | None
    size: tuple[int, int] | None = None
    """Height and width, upright; None if it cannot be read."""
    grey: bool = False
    error: str = ""


@dataclass(frozen=True)
class LabelLook:
    """What a label map holds."""

    file: Path
    header: Header | None
    """None for a file that is no image."""
    size: tuple[int, int] | None = None
    ids: dict[int, int] = field(default_factory=dict)
    """Pixels of every stored id."""
    classes: dict[int, int] = field(default_factory=dict)
    """Pixels of every train id, 255 for those that are ignored."""
    strange: dict[int, int] = field(default_factory=dict)
    """Pixels of every id that may not occur."""
    unknown: tuple[int, int, int] | None = None
    """The first of these, its row and its column."""
    legal: str = ""
    """Which ids may occur."""
    hint: str = ""
    error: str = ""


class Look(NamedTuple):
    """What a sample holds."""

    image: ImageLook
    label: LabelLook


def look_at_all(reader: Dataset, files: Files, workers: int | None) -> Iterator[tuple[int, Look]]:
    """Read all files; yields the number of a sample in `files` and what it holds, as they come.

    Raises:
        RunFailed: a process died.
    """
    batches = [(start, files[start : start + _BATCH]) for start in range(0, len(files), _BATCH)]
    waiting = dict(batches)
    try:
        # Processes are worth their start only where there is much to read.
        for start, looks in in_processes(partial(_look_at_batch, reader), batches, 1 if len(batches) < 2 else workers):
            del waiting[start]
            yield from enumerate(looks, start)
    except RunFailed:
        first = next(iter(waiting.values()))[0][0]
        raise RunFailed(
            f"a process that read the files died at {first} or a file after it: it was killed, or ran out of memory. "
            "Free memory or pass --workers 1, and run the same command again."
        ) from None


def _look_at_batch(reader: Dataset, batch: tuple[int, Files]) -> tuple[int, list[Look]]:
    start, files = batch
    return start, [look_at(reader, image, label) for image, label in files]


def look_at(reader: Dataset, image: Path, label: Path) -> Look:
    """What the sample of two files holds."""
    return Look(_look_at_image(image), _look_at_labels(reader, label))


def _look_at_image(file: Path) -> ImageLook:
    header = read_header(file)
    try:
        pixels = as_array(read_image(file))
    except UserError as error:
        return ImageLook(file, header, error=str(error))
    grey = header is not None and (header.grey or _is_grey(pixels))
    return ImageLook(file, header, (pixels.shape[0], pixels.shape[1]), grey)


def _is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether all channels are the same; most images are told from a few of their pixels."""
    return all(
        np.array_equal(part[..., 0], part[..., 1]) and np.array_equal(part[..., 1], part[..., 2])
        for part in (pixels[::16, ::16], pixels)
    )


def _look_at_labels(reader: Dataset, file: Path) -> LabelLook:
    header = read_header(file) if file.suffix.lower() in EXTENSIONS else None
    try:
        ids, table = reader.read_ids(file)
    except UserError as error:
        return LabelLook(file, header, error=str(error))
    values, counts = _count(ids)
    known = table.known(values)
    classes: dict[int, int] = {}
    if known.any():
        for train_id, count in zip(table(values[known][None], file)[0].tolist(), counts[known].tolist(), strict=True):
            classes[train_id] = classes.get(train_id, 0) + count
    return LabelLook(
        file,
        header,
        (ids.shape[0], ids.shape[1]),
        _as_dict(values, counts),
        classes,
        _as_dict(values[~known], counts[~known]),
        None if known.all() else _first_unknown(ids, table),
        table.legal,
        table.hint,
    )


def _count(ids: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The ids of a map and how many pixels have each."""
    if ids.dtype != np.uint8 and (ids.min() < 0 or ids.max() > np.iinfo(np.uint16).max):
        return np.unique(ids, return_counts=True)
    counts = np.bincount(ids.ravel())
    values = np.flatnonzero(counts)
    return values, counts[values]


def _as_dict(values: NDArray[Any], counts: NDArray[Any]) -> dict[int, int]:
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _first_unknown(ids: NDArray[Any], table: LabelTable) -> tuple[int, int, int]:
    row, column = np.argwhere(~table.known(ids))[0]
    return int(ids[row, column]), int(row), int(column)

"""Makes the cache of a split, with all processors, and mends it where it is there already."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gffnet.data.cache.entry import encode_entry, open_entry
from gffnet.data.cache.index import (
    Index,
    Record,
    digest,
    entry_path,
    meaning,
    read_index,
    sample_key,
    state,
    write_index,
)
from gffnet.data.dataset import Dataset
from gffnet.errors import UserError
from gffnet.files import atomic_write
from gffnet.parallel import in_processes


class Report(NamedTuple):
    """What was done."""

    written: int
    kept: int
    """Samples whose entries were there, and right."""
    left_out: list[str]
    """Why samples could not be read; they are no part of the cache."""
    size: int
    """Bytes of all entries together."""


class _Done(NamedTuple):
    """One sample."""

    name: str
    record: Record | None
    written: bool
    size: int
    error: str


def build_cache(
    dataset: Dataset,
    split: str,
    root: Path,
    folder: Path,
    compressed: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Decode every sample of a split into `folder`; entries that are there and right are kept.

    Any number of processes may do this at once, and training may read meanwhile: files appear whole, and their names
    say what they were made from. If it is broken off, what was done is kept.

    Args:
        dataset: the split.
        split: its name.
        root: the folder of the data set, below which its images are.
        folder: of the cache.
        compressed: in compressed tiles, in about a third of the room, instead of plain.
        workers: processes; None: one a processor.
        progress: is called with (done, total) after every sample.

    Raises:
        UserError: there is no room, or the folder cannot be written to.
        RunFailed: a worker process died.
    """
    index = Index(meaning(dataset), compressed, {})
    before = _before(folder, split)
    written, size, left_out = 0, 0, []
    work = partial(_cache_one, dataset, root, folder, compressed)
    try:
        for count, done in enumerate(in_processes(work, range(len(dataset)), workers), 1):
            if done.record is None:
                left_out.append(done.error)
            else:
                index.records[done.name] = done.record
                size += done.size
                written += done.written
            if written == 1 and done.written:
                _check_room(folder, done.size * (len(dataset) - count))
            if progress:
                progress(count, len(dataset))
    except BaseException:
        _write_what_is_known(folder, split, before, index)
        raise
    write_index(folder, split, index)
    for path in _entries(folder, before) - _entries(folder, index):
        path.unlink(missing_ok=True)
    return Report(written, len(index.records) - written, left_out, size)


def _before(folder: Path, split: str) -> Index | None:
    """The index of an earlier cache; a damaged one is written anew."""
    try:
        return read_index(folder, split)
    except UserError:
        return None


def _write_what_is_known(folder: Path, split: str, before: Index | None, index: Index) -> None:
    """Write the index of a cache that was broken off, with what an earlier one knew."""
    known = before.records if before and replace(before, records={}) == replace(index, records={}) else {}
    with suppress(UserError):  # there may be no room for it; then all entries will be found without
        write_index(folder, split, replace(index, records=known | index.records))


def _entries(folder: Path, index: Index | None) -> set[Path]:
    """The files that an index names."""
    if index is None:
        return set()
    return {entry_path(folder, record.digest, index.compressed) for record in index.records.values()}


def _cache_one(dataset: Dataset, root: Path, folder: Path, compressed: bool, index: int) -> _Done:
    """Make the entry of one sample, unless it is there."""
    files, name = dataset.files[index], sample_key(dataset, root, index)
    try:
        states = [state(file) for file in files]
        content = digest(meaning(dataset), files)
        path = entry_path(folder, content, compressed)
        there = open_entry(path, name, verify=True)
        opened = there or dataset.open(index)
        if states != [state(file) for file in files]:
            return _Done(name, None, False, 0, f"{files[0]} or its label map was changed while it was read")
    except (UserError, OSError) as error:
        return _Done(name, None, False, 0, str(error))
    labels = opened.labels()
    if there is None:
        pixels = opened.window(slice(0, opened.size[0]), slice(0, opened.size[1]))
        atomic_write(path, encode_entry(pixels, compressed), durable=True)
    counts = np.bincount(labels.ravel())
    classes = {str(label): int(counts[label]) for label in np.flatnonzero(counts)}
    return _Done(name, Record(content, states, classes), there is None, path.stat().st_size, "")


def _check_room(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk has no room for."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"cache {folder}: about {needed / 1e9:.1f} GB more are needed, but {free / 1e9:.1f} GB are free. Make "
            "room, name another folder by --out, or take a third of the room by --compress."
        )

"""A cache of decoded samples: plain arrays, mapped into memory, so that a crop reads its own pages only.

    {cache}/{split}/{key}.image.npy     uint8 (H, W, C), or float32 in 0..255 of images deeper than 8 bits
    {cache}/{split}/{key}.labels.npy    uint8 (H, W), train ids

The key is a hash of the paths, sizes and modification times of a sample's two files, of what its labels mean, and of
the channels and the white level of its image, if it is not RGB of 8 bits. When any of them changes there is no entry
of that key, and the sample is read from its files: a cache changes how fast samples are read, never which.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torchvision.tv_tensors import Image, Mask

from gffnet.data.dataset import Dataset, Sample
from gffnet.data.io import as_array, as_tensor
from gffnet.errors import UserError
from gffnet.files import CACHE, atomic_file, utf8
from gffnet.parallel import in_processes

_FORMAT = 3
"""Part of the keys: another number invalidates all caches. 1 was the format of gffnet 0.1.0, in files of its own."""

log = logging.getLogger("gffnet")


class Cache:
    """The cache of a data set's splits.

    Args:
        dataset: the data set.
        folders: one a split.
    """

    def __init__(self, dataset: Dataset, folders: list[Path]) -> None:
        self.folders = folders
        self._meaning = _meaning(dataset)
        self._warned = False

    def read(self, dataset: Dataset, index: int) -> Sample | None:
        """Sample `index`, mapped into memory; None if it is not cached. Writing to it does not change the cache."""
        entry = self._entry(dataset, index)
        if entry is None:
            return None
        image, labels = entry
        return Sample(Image(as_tensor(image)), Mask(torch.from_numpy(labels)), dataset.name(index))

    def read_labels(self, dataset: Dataset, index: int) -> UInt8[np.ndarray, "h w"] | None:
        """The train ids of sample `index`; None if it is not cached."""
        entry = self._entry(dataset, index)
        return None if entry is None else entry[1]

    def _entry(self, dataset: Dataset, index: int) -> tuple[NDArray[Any], NDArray[np.uint8]] | None:
        key = _key(dataset, index, self._meaning)
        found = next((entry for folder in self.folders if (entry := _open(folder, key)) is not None), None)
        if found is None and not self._warned:
            self._warned = True
            log.warning(
                "%s or its label map changed since it was cached, or was never cached: it is read from its files, as "
                "are all others like it. `gffnet data cache` updates the cache.",
                dataset.files[index][0],
            )
        return found


def with_cache(dataset: Dataset, splits: str, folder: Path | None = None) -> Dataset:
    """Let a data set read from its cache in `folder` (None: `gffnet_cache` in its root), if that has one of its splits.

    Raises:
        UserError: there is no cache in `folder`.
    """
    where = folder or dataset.root / CACHE
    named = splits.split("+")
    folders = [where / split for split in named if (where / split).is_dir()]
    if any(split.startswith(("only_", "without_")) for split in named):  # drives: images of the other splits
        folders = sorted({path.parent for path in where.glob("*/*.npy")})
    if not folders and not any(where.glob("*/*.npy")):
        out = f" --out {folder}" if folder else ""
        command = f"`gffnet data cache {dataset.layout.name} --root {dataset.root}{out}`"
        old = any(where.glob("index-*.json"))
        if folder is not None:
            cause = "the cache is of gffnet 0.1.0, which this version does not read" if old else "there is no cache"
            raise UserError(f"--cache {folder}: {cause}. {command} makes it.")
        if old:
            log.warning("cache %s is of gffnet 0.1.0 and is ignored: %s makes it again.", where, command)
    if folders:
        dataset.cache = Cache(dataset, folders)
        log.info("cache %s: splits %s", where, ", ".join(folder.name for folder in folders))
    return dataset


class CacheReport(NamedTuple):
    """What `build_cache` did."""

    written: int
    kept: int
    """Samples that were cached already."""
    left_out: list[str]
    """Why samples could not be read; they are not in the cache."""
    size: int
    """Bytes of all entries together."""


def build_cache(
    dataset: Dataset,
    split: str,
    folder: Path,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CacheReport:
    """Decode every sample of a split into `folder`; valid entries are kept, those of changed samples are replaced.

    Several processes may do this at the same time, and training may read meanwhile. What an interrupted call has
    written is kept.

    Args:
        dataset: the split.
        split: its name.
        folder: of the cache.
        workers: processes; None: one a processor.
        progress: is called with (done, total) after every sample.

    Raises:
        UserError: the disk is too small, or the folder cannot be written to.
        RunFailed: a worker process died.
    """
    target, written, size, left_out, keys = folder / split, 0, 0, [], set()
    work = partial(_cache_sample, dataset, _meaning(dataset), target)
    for count, (key, new, nbytes, error) in enumerate(in_processes(work, range(len(dataset)), workers), 1):
        keys.add(key)
        size += nbytes
        written += new
        if error:
            left_out.append(error)
        if written == 1 and new:
            _check_room(folder, nbytes * (len(dataset) - count))
        if progress:
            progress(count, len(dataset))
    _remove_stale(target, keys)
    return CacheReport(written, len(dataset) - len(left_out) - written, left_out, size)


def _cache_sample(dataset: Dataset, meaning: str, target: Path, index: int) -> tuple[str, bool, int, str]:
    """Write the entry of one sample, unless it is there: its key, whether it was written, its size, and the error."""
    key = _key(dataset, index, meaning)
    if entry := _open(target, key):
        return key, False, sum(part.nbytes for part in entry), ""
    try:
        sample = dataset.read(index)
    except UserError as error:
        return key, False, 0, str(error)
    if _key(dataset, index, meaning) != key:
        return key, False, 0, f"{dataset.files[index][0]} or its label map was changed while it was read"
    labels, image = sample.labels.numpy(), as_array(sample.image)
    for path, array in zip(reversed(_paths(target, key)), (labels, image), strict=True):
        with atomic_file(path, durable=True) as file:
            np.save(file, array)
    return key, True, image.nbytes + labels.nbytes, ""


def _remove_stale(target: Path, keys: set[str]) -> None:
    """Remove the entries of other keys from a split, and no other arrays."""
    for path in target.glob("*.npy"):
        entry = re.fullmatch(r"([0-9a-f]{32})\.(image|labels)\.npy", path.name)
        if entry and entry[1] not in keys:
            path.unlink(missing_ok=True)


def _check_room(folder: Path, needed: int) -> None:
    """Raise `UserError` before the disk is full."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"cache {folder}: about {needed / 1e9:.1f} GB more are needed, but {free / 1e9:.1f} GB are free. Make "
            "room, or name another folder by --out."
        )


def _meaning(dataset: Dataset) -> str:
    """A hash of the classes and the label table."""
    text = json.dumps([_FORMAT, dataset.classes.names, dataset.meaning()])
    return hashlib.sha256(text.encode()).hexdigest()


def _key(dataset: Dataset, index: int, meaning: str) -> str:
    """The key of a sample's entry. Missing files have one as well: reading them says what is wrong."""
    text = [meaning]
    if (dataset.in_channels, dataset.white_level) != (3, None):
        text.append(f"{dataset.in_channels} channels, white level {dataset.white_level}")
    for file in dataset.files[index]:
        try:
            found = file.stat()
            text.append(f"{os.path.relpath(file, dataset.root)} {found.st_size} {found.st_mtime_ns}")
        except OSError:
            text.append(f"{file} missing")
    return hashlib.sha256(utf8("\n".join(text))).hexdigest()[:32]


def _paths(folder: Path, key: str) -> tuple[Path, Path]:
    return folder / f"{key}.image.npy", folder / f"{key}.labels.npy"


def _open(folder: Path, key: str) -> tuple[NDArray[Any], NDArray[np.uint8]] | None:
    """Image and labels of an entry, mapped; None if it is missing, truncated or damaged, but for its pixels."""
    image, labels = map(_map, _paths(folder, key))
    if image is None or labels is None or labels.dtype != np.uint8 or labels.ndim != 2 or image.ndim != 3:
        return None
    return (image, labels) if image.shape[:2] == labels.shape else None


def _map(path: Path) -> NDArray[Any] | None:
    """Map a file copy-on-write, so that writing to the array does not change the file."""
    try:
        with warnings.catch_warnings(action="ignore"):  # numpy warns of some damaged headers
            array = np.lib.format.open_memmap(path, mode="c")
        whole = array.offset + array.nbytes == path.stat().st_size
    except Exception:  # a damaged header raises nearly every built-in exception
        return None
    return np.asarray(array) if whole and array.dtype in (np.uint8, np.float32) and array.flags.c_contiguous else None

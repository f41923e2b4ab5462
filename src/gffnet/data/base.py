"""What every data set is: pairs of an image and a label file, read on access, with labels as train ids."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from gffnet.data.catalog import Classes
from gffnet.data.images import read_image, read_labels
from gffnet.errors import UserError

Files: TypeAlias = list[tuple[Path, Path]]
"""Pairs of an image and its label map."""


class Sample(NamedTuple):
    """An image with its labels."""

    image: UInt8[Tensor, "3 h w"]
    labels: UInt8[Tensor, "h w"]
    """Train ids `0..n-1`, and 255 where a pixel is ignored."""
    name: str


class _WorkerError(UserError):
    """A `UserError` in a `DataLoader` worker, which torch makes anew from its traceback: only the message is kept."""

    def __init__(self, text: str) -> None:
        super().__init__(text.rsplit(f"{type(self).__name__}: ", 1)[-1].strip())


class Dataset(torch.utils.data.Dataset[Sample]):
    """Images with label maps; a data set derives from it and lists its files.

    Args:
        classes: in the order of the train ids.
        files: image and label map of every sample.
        train_ids: stored id to train id (255: ignored), for every id that may occur.
        legal: names those ids in errors.
    """

    def __init__(self, classes: Classes, files: Files, train_ids: Mapping[int, int], legal: str) -> None:
        self.classes = classes
        self.files = files
        self._legal = legal
        self._train_ids = np.full(257, -1, np.int16)  # the last entry stands for ids that eight bits do not hold
        self._train_ids[list(train_ids.keys())] = list(train_ids.values())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """Read sample `index`.

        Raises:
            UserError: a file cannot be read, sizes differ, or the label map holds an id that it may not.
        """
        try:
            return self._read(index)
        except UserError as error:
            raise (_WorkerError(str(error)) if get_worker_info() else error) from None

    def name(self, index: int) -> str:
        """The name of sample `index`: the file name of its image without the ending."""
        return self.files[index][0].stem

    def _read(self, index: int) -> Sample:
        image_file, label_file = self.files[index]
        image, ids = read_image(image_file), read_labels(label_file)
        if image.shape[:2] != ids.shape:
            raise UserError(
                f"image {image_file} is {image.shape[1]}x{image.shape[0]} pixels, but its label map {label_file} is "
                f"{ids.shape[1]}x{ids.shape[0]}: they must be of one size. Restore the one that was scaled or cut."
            )
        labels = self._to_train_ids(ids, label_file)
        return Sample(torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(labels), self.name(index))

    def _to_train_ids(self, ids: NDArray[Any], label_file: Path) -> NDArray[np.uint8]:
        known = ids if ids.dtype == np.uint8 else np.where((ids >= 0) & (ids <= 255), ids, 256)
        train_ids: NDArray[np.int16] = self._train_ids[known]
        if train_ids.min() < 0:
            row, column = np.argwhere(train_ids < 0)[0]
            raise UserError(
                f"label map {label_file}: value {ids[row, column]} at row {row}, column {column} is no label id: they "
                f"are {self._legal}. {(train_ids < 0).sum()} of its {ids.size} pixels are wrong: restore the file."
            )
        return train_ids.astype(np.uint8)


@dataclass(frozen=True)
class Layout:
    """How the folder of a data set should look."""

    name: str
    """Of the data set."""
    marker: str
    """A glob pattern that only the right folder has a match for."""
    remedy: str
    """Says where to get the data set and how its folder looks."""

    def error(self, root: Path, cause: str) -> UserError:
        """The error for a folder that does not hold the data set; it names the right one if that is next to it."""
        right = None if self._fits(root) else next(filter(self._fits, self._near(root)), None)
        remedy = f"{right} looks like it: pass --root {right}." if right else self.remedy
        return UserError(f"data set {self.name!r} at {root}: {cause}. {remedy}")

    def _fits(self, folder: Path) -> bool:
        return any(folder.glob(self.marker))

    def _near(self, root: Path) -> list[Path]:
        try:
            return [root.parent, *sorted(root.iterdir())] if root.is_dir() else []
        except OSError:
            return []


def list_files(
    layout: Layout, root: Path, splits: str, present: Callable[[], list[str]], pairs_of: Callable[[str], Files]
) -> Files:
    """The files of one split, or of several one after the other.

    Args:
        layout: of the data set.
        root: its folder.
        splits: one split, or several joined by `+`.
        present: finds the splits that are there.
        pairs_of: lists one of them.

    Raises:
        UserError: the folder is missing or no such data set, a split is missing, empty or named twice, or a file is
            missing.
    """
    if not root.is_dir():
        raise layout.error(root, "there is no such folder")
    there = present()
    if not there:
        raise layout.error(root, "the folder does not look like this data set")
    names = splits.split("+")
    if len(set(names)) < len(names):
        raise UserError(
            f"data set {layout.name!r}: splits {splits!r} name one twice. Name each once, such as train+val."
        )
    files: Files = []
    for split in names:
        if split not in there:
            raise layout.error(root, f"split {split!r} is not there (there are: {', '.join(there)})")
        pairs = pairs_of(split)
        if not pairs:
            raise layout.error(root, f"split {split!r} holds no image")
        _check_exist(layout, root, split, pairs)
        files += pairs
    return files


def _check_exist(layout: Layout, root: Path, split: str, pairs: Files) -> None:
    for position, what in enumerate(("image", "label map")):
        missing = [pair[position] for pair in pairs if not pair[position].is_file()]
        if missing:
            count = f"{len(missing)} of the {len(pairs)} samples of split {split!r} lack their {what}"
            raise layout.error(root, f"{count}, the first of them {missing[0]}")

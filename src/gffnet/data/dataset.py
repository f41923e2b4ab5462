"""Split lists: text files that name one image a line."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info
from torchvision.tv_tensors import Image, Mask

from gffnet.data.catalog import IGNORE, Classes
from gffnet.data.io import as_array, read_image, read_labels
from gffnet.errors import UserError, nearest


def read_list(path: Path) -> list[str]:
    """The images that a split list names, in its order: base names without folders and endings.

    Of a line that names more than one file, the first counts.

    Raises:
        UserError: the list cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"split list {path} cannot be read ({error}). Restore it from the release.") from None
    return [Path(line.split()[0].replace("\\", "/")).stem for line in lines if line.strip()]


# From the ids that a label file stores to train ids.


_LARGEST = 1023
"""The largest id that any data set stores."""


class LabelTable:
    """Stored id to train id: `0..n-1`, and 255 where a pixel is ignored.

    Args:
        train_ids: for every id that may occur.
        legal: names those ids in errors, such as `0..150`.
        hint: says what another id may mean, and the remedy.
    """

    def __init__(self, train_ids: Mapping[int, int], legal: str, hint: str = "restore the file") -> None:
        self.legal = legal
        self.hint = hint
        self._table = np.full(_LARGEST + 2, -1, np.int16)  # the last entry stands for all larger and negative ids
        self._table[list(train_ids.keys())] = list(train_ids.values())
        free = set(range(256)) - set(train_ids.values())
        self._wrong = min(free, default=None)
        """A value that is no train id, for the ids that may not occur."""
        self._bytes = np.where(self._table[:256] < 0, self._wrong or 0, self._table[:256]).astype(np.uint8).tobytes()

    def legal_ids(self) -> NDArray[np.intp]:
        """The ids that may occur, ascending."""
        return np.flatnonzero(self._table >= 0)

    def text(self) -> str:
        """The table as text."""
        return " ".join(map(str, self._table.tolist()))

    def known(self, ids: Integer[np.ndarray, "..."]) -> NDArray[np.bool_]:
        """Where an id is one that may occur."""
        found: NDArray[np.bool_] = self._look_up(ids) >= 0
        return found

    def __call__(self, ids: Integer[np.ndarray, "h w"], label_file: Path) -> UInt8[np.ndarray, "h w"]:
        """The train ids of a label map.

        Raises:
            UserError: it holds an id that may not occur.
        """
        if ids.dtype == np.uint8 and self._wrong is not None:
            quick = ids.tobytes().translate(self._bytes)
            if self._wrong not in quick:
                return np.frombuffer(quick, np.uint8).reshape(ids.shape)
        train_ids = self._look_up(ids)
        if train_ids.min() < 0:
            row, column = np.argwhere(train_ids < 0)[0]
            raise UserError(
                f"label map {label_file}: value {ids[row, column]} at row {row}, column {column} is no label id: they "
                f"are {self.legal}. {(train_ids < 0).sum()} of its {ids.size} pixels are wrong: {self.hint}."
            )
        return train_ids.astype(np.uint8)

    def _look_up(self, ids: NDArray[Any]) -> NDArray[np.int16]:
        small = ids if ids.dtype == np.uint8 else np.where((ids >= 0) & (ids <= _LARGEST), ids, _LARGEST + 1)
        found: NDArray[np.int16] = self._table[small]
        return found


def identity(classes: int, ignored: int | None = IGNORE) -> dict[int, int]:
    """Ids that are train ids already; `ignored` is the id of ignored pixels, if there is one."""
    return {**{i: i for i in range(classes)}, **({} if ignored is None else {ignored: IGNORE})}


# How the folder of a data set looks, and what its splits hold.


Files: TypeAlias = list[tuple[Path, Path]]
"""Pairs of an image and its label map."""


@dataclass(frozen=True)
class Layout:
    """How the folder of a data set should look."""

    name: str
    """Of the data set."""
    marker: str
    """A glob pattern that only the right folder has a match for."""
    remedy: str
    """Says where to get the data set and how its folder looks."""
    splits: Callable[[Path], list[str]]
    """The splits that a folder holds."""
    pairs: Callable[[Path, str], Files]
    """The samples of one of them: where their files are, or should be."""
    label_files: Callable[[Path, str], list[Path]] | None = None
    """The label maps that lie in the folder of a split, where a split has one: each must belong to an image."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many samples the official splits have."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Another release that users take for this one: a glob pattern that tells it, and what it is and what to do."""

    def error(self, root: Path, cause: str) -> UserError:
        """The error for a folder that does not hold the data set; it names the right one if that is next to it."""
        other = self.other_release(root)
        right = None if self._fits(root) else next(filter(self._fits, self._near(root)), None)
        remedy = other or (f"{right} looks like it: pass --root {right}." if right else self.remedy)
        return UserError(f"data set {self.name!r} at {root}: {cause}. {remedy}")

    def other_release(self, root: Path) -> str | None:
        """What the folder is instead, and what to do, if it is a known other release."""
        return next((what for pattern, what in self.others.items() if any(root.glob(pattern))), None)

    def _fits(self, folder: Path) -> bool:
        return any(folder.glob(self.marker))

    def _near(self, root: Path) -> list[Path]:
        try:
            return [root.parent, *sorted(root.iterdir())] if root.is_dir() else []
        except OSError:
            return []


def list_files(layout: Layout, root: Path, splits: str) -> Files:
    """The files of one split, or of several one after the other.

    Args:
        layout: of the data set.
        root: its folder.
        splits: one split, or several joined by `+`.

    Raises:
        UserError: the folder is missing or no such data set, a split is missing, empty or named twice, or a file is
            missing.
    """
    if not root.is_dir():
        raise layout.error(root, "there is no such folder")
    there = layout.splits(root)
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
        pairs = layout.pairs(root, split)
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


# What every data set is: pairs of an image and a label file, read on access, with labels as train ids.


class Sample(NamedTuple):
    """An image with its labels, as torchvision's types, so that its v2 transforms know which is which."""

    image: UInt8[Tensor, "3 h w"]
    """RGB; a `tv_tensors.Image`."""
    labels: UInt8[Tensor, "h w"]
    """Train ids `0..n-1`, and 255 where a pixel is ignored; a `tv_tensors.Mask`."""
    name: str


class Pixels(NamedTuple):
    """The pixels of an image or a part of it, as files hold them: rows, columns, channels."""

    image: UInt8[np.ndarray, "h w 3"]
    labels: UInt8[np.ndarray, "h w"]


@runtime_checkable
class Opened(Protocol):
    """A sample whose pixels are at hand, or are decoded where they are asked for."""

    @property
    def name(self) -> str:
        """Of its files."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""

    def window(self, rows: slice, columns: slice) -> Pixels:
        """The pixels of a part, within the image; not to be written to."""

    def labels(self) -> UInt8[np.ndarray, "h w"]:
        """The whole label map; not to be written to."""


class Decoded(NamedTuple):
    """An opened sample that is decoded whole."""

    pixels: Pixels
    name: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.pixels.labels.shape
        return height, width

    def window(self, rows: slice, columns: slice) -> Pixels:
        """The pixels of a part."""
        return Pixels(self.pixels.image[rows, columns], self.pixels.labels[rows, columns])

    def labels(self) -> UInt8[np.ndarray, "h w"]:
        """The whole label map."""
        return self.pixels.labels


class _WorkerError(UserError):
    """A `UserError` in a `DataLoader` worker, which torch makes anew from its traceback: only the message is kept."""

    def __init__(self, text: str) -> None:
        super().__init__(text.rsplit(f"{type(self).__name__}: ", 1)[-1].strip())


class Dataset(torch.utils.data.Dataset[Sample]):
    """Images with label maps; a data set derives from it and lists its files.

    Args:
        classes: in the order of the train ids.
        files: image and label map of every sample.
        table: from the ids that label maps store to train ids.
    """

    def __init__(self, classes: Classes, files: Files, table: LabelTable) -> None:
        self.classes = classes
        self.files = files
        self.table = table

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """Read sample `index`. Raises as `open`."""
        return as_sample(self.open(index))

    def open(self, index: int) -> Opened:
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

    def read_ids(self, label_file: Path) -> tuple[NDArray[Any], LabelTable]:
        """The ids that a label file stores, `(H, W)`, and what they mean; other kinds of files override it.

        Raises:
            UserError: the file cannot be read.
        """
        return read_labels(label_file), self.table

    def meaning(self) -> str:
        """All that decides which train id a stored id becomes, but for the files themselves; for caches to compare."""
        return self.table.text()

    def _read(self, index: int) -> Opened:
        image_file, label_file = self.files[index]
        image = as_array(read_image(image_file))
        ids, table = self.read_ids(label_file)
        if image.shape[:2] != ids.shape:
            raise UserError(
                f"image {image_file} is {image.shape[1]}x{image.shape[0]} pixels, but its label map {label_file} is "
                f"{ids.shape[1]}x{ids.shape[0]}: they must be of one size. Restore the one that was scaled or cut."
            )
        return Decoded(Pixels(image, table(ids, label_file)), self.name(index))


def as_sample(opened: Opened) -> Sample:
    """All pixels of an opened sample, as tensors of their own."""
    height, width = opened.size
    image, labels = opened.window(slice(0, height), slice(0, width))
    channels_first = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return Sample(Image(channels_first), Mask(torch.from_numpy(labels.copy())), opened.name)


# The ground truth of images that are named by their files: those of a data set, however the path is written.


class Truth:
    """Label maps by the path of the image."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        """`datasets`: splits to look in, one after the other."""
        self._places: dict[Path, tuple[Dataset, int]] = {}
        self._names: dict[str, Path] = {}
        self._classes = tuple(datasets[0].classes.names) if datasets else None
        for dataset in datasets:
            for index, (image, _) in enumerate(dataset.files):
                self._places.setdefault(image.resolve(), (dataset, index))
                self._names.setdefault(dataset.name(index), image)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes of the labels, in their order; `None` without a data set."""
        return self._classes

    def image(self, name: Path) -> Path:
        """The file of the sample called `name`; a path that is there is left alone, as all are without a data set.

        Raises:
            UserError: there is neither such a file nor such a sample.
        """
        if name.exists() or not self._names:
            return name
        if str(name) not in self._names:
            raise UserError(
                f"{name} is no file, and no image of the data set is called so.{nearest(str(name), self._names)} "
                f"Its names are such as {next(iter(self._names))}."
            )
        return self._names[str(name)]

    def labels(self, image: Path) -> UInt8[np.ndarray, "h w"] | None:
        """Train ids at the size of the image, 255 where there is none; `None` for an image of no data set.

        Raises:
            UserError: the label map cannot be read, or is none of that image.
        """
        found = self._places.get(image.resolve())
        if found is None:
            return None
        dataset, index = found
        return dataset.open(index).labels()

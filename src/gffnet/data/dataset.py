"""Data sets: pairs of an image and a label map, read on access, with labels as train ids.

A data set is a subclass of `Dataset` in a file of its own, which states its classes, the table from stored ids to train
ids, and the layout of its folder.
"""

import copy
import hashlib
import json
import os
import re
import shlex
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape
from itertools import chain, combinations, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
import yaml
from jaxtyping import Integer, Num, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info
from torchvision.tv_tensors import Image, Mask

from gffnet.data.io import read_header, read_input, read_labels
from gffnet.errors import UserError, nearest
from gffnet.files import as_path, read_text
from gffnet.recipe import ModelRecipe, StrictLoader
from gffnet.registry import Registry

IGNORE = 255
"""The label of pixels that count neither in the loss nor in a score."""

Files: TypeAlias = list[tuple[Path, Path]]
"""Pairs of an image and its label map."""


@dataclass(frozen=True)
class Classes:
    """Classes in the order of their train ids `0..n-1`."""

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """One RGB color a class."""

    @classmethod
    def parse(cls, text: str) -> "Classes":
        """Classes from text such as `road #804080, traffic light #faaa1e`."""
        names, colors = zip(*(entry.rsplit(" ", 1) for entry in " ".join(text.split()).split(", ")), strict=True)
        red_green_blue = (bytes.fromhex(color.removeprefix("#")) for color in colors)
        return cls(names, tuple((red, green, blue) for red, green, blue in red_green_blue))


def class_difference(first: Sequence[str], second: Sequence[str], of_first: str, of_second: str) -> str:
    """Say how two lists of classes differ, for errors: `class 6 is 'tree' in the model and 'trees' in mine`.

    Args:
        first, second: the names of the classes.
        of_first, of_second: what they are the classes of.
    """
    differing = [i for i, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]]
    counts = f"{of_first} has {len(first)} classes and {of_second} {len(second)}: " * (len(first) != len(second))
    if not differing:
        longer, of_longer = (first, of_first) if len(first) > len(second) else (second, of_second)
        shared = min(len(first), len(second))
        return f"{counts}class {shared}, counted from 0, is {longer[shared]!r} in {of_longer} and missing in the other"
    one, other = first[differing[0]], second[differing[0]]
    others = len(differing) - 1
    text = f"{counts}class {differing[0]}, counted from 0, is {one!r} in {of_first} and {other!r} in {of_second}"
    text += f", and {others} other{'s' * (others != 1)} differ{'s' * (others == 1)}" if others else ""
    if not counts and sorted(first) == sorted(second):
        return f"{text}: the names are the same, in another order"
    same = [normalized_name(a) == normalized_name(b) for a, b in zip(first, second, strict=False)]
    if not counts and all(same):
        return f"{text}: in case, spaces or Unicode form only"
    return text


def normalized_name(name: str) -> str:
    """The name of a class but for case, spaces, `_` and `-`, and Unicode form."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()


# Label maps: from stored ids to train ids.

_LARGEST = 1023
"""The largest id that any data set stores."""


class LabelTable:
    """Maps stored ids to train ids, `0..n-1`, and to 255 where a pixel is ignored.

    Args:
        train_ids: the train id of every id that a label map may hold.
        legal: those ids in words, for errors, such as `0..150`; None: they are listed.
        hint: the remedy where another id is found.
    """

    def __init__(self, train_ids: Mapping[int, int], legal: str | None = None, hint: str = "restore the file") -> None:
        self.legal = ", ".join(map(str, sorted(train_ids))) if legal is None else legal
        self.hint = hint
        self._table = np.full(_LARGEST + 2, -1, np.int16)  # the last entry stands for all larger and negative ids
        self._table[list(train_ids.keys())] = list(train_ids.values())
        unused = set(range(256)) - set(train_ids.values())
        self._illegal = min(unused, default=None)
        """A value that is no train id; it marks illegal ids in `_bytes`."""
        self._bytes = np.where(self._table[:256] < 0, self._illegal or 0, self._table[:256]).astype(np.uint8).tobytes()

    def legal_ids(self) -> NDArray[np.intp]:
        """The ids that a label map may hold, in ascending order."""
        return np.flatnonzero(self._table >= 0)

    def text(self) -> str:
        """The table as text; part of a data set's fingerprint."""
        return " ".join(map(str, self._table.tolist()))

    def known(self, ids: Integer[np.ndarray, "..."]) -> NDArray[np.bool_]:
        """Mark the legal ids."""
        found: NDArray[np.bool_] = self._look_up(ids) >= 0
        return found

    def __call__(self, ids: Integer[np.ndarray, "h w"], label_file: Path) -> UInt8[np.ndarray, "h w"]:
        """Map ids to train ids.

        Raises:
            UserError: an id is illegal.
        """
        if ids.dtype == np.uint8 and self._illegal is not None:
            translated = ids.tobytes().translate(self._bytes)  # many times faster than indexing with an array
            if self._illegal not in translated:
                return np.frombuffer(bytearray(translated), np.uint8).reshape(ids.shape)
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
    """The `train_ids` of label maps that store train ids, with `ignored` for ignored pixels (None: there are none)."""
    return {**{i: i for i in range(classes)}, **({} if ignored is None else {ignored: IGNORE})}


# Folders: what they must look like, and the samples of their splits.

_SPLIT_NAMES = {
    "train": {"train", "training"},
    "val": {"val", "valid", "validation", "dev"},
    "test": {"test", "testing"},
}


def usual_split(name: str) -> str:
    """`train`, `val` or `test` for the other names that these have, such as `Valid`; else the name itself."""
    return next((usual for usual, names in _SPLIT_NAMES.items() if name.casefold() in names), name)


class Incomplete(UserError):
    """What `Layout.splits` raises for a folder that lacks a part of the data set: the cause alone."""


_NESTED = 1000
"""Folders in which the right one is looked for, at most."""
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}


@dataclass(frozen=True)
class Layout:
    """The layout of a data set's folder."""

    name: str
    """The data set's name."""
    marker: str
    """A glob pattern that matches in the right folder only."""
    remedy: str
    """Where to get the data set and what its folder looks like, for errors."""
    splits: Callable[[Path], list[str]]
    """The splits in a folder; may raise `Incomplete`. See `present`."""
    pairs: Callable[[Path, str], Files]
    """Image and label map of every sample of a split, whether the files exist or not."""
    label_files: Callable[[Path, str], list[Path]] | None = None
    """All label maps in the folder of a split, for layouts that have one; each must belong to an image."""
    list_file: Callable[[Path, str], Path | None] = lambda root, split: None
    """The file that lists the images of a split, whether it exists or not, for layouts that have such."""
    folds: Callable[[Path], list[str]] = lambda root: []
    """Further splits, made of the samples of those in the folder, such as folds for cross-validation: to train and to
    evaluate on where they are named."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """The number of samples in the official splits."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names of splits."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Other releases that users confuse with this one: a glob pattern, and what the folder is and what to do."""

    @classmethod
    def of_patterns(cls, name: str, images: str, labels: str, **options: Any) -> "Layout":
        """The layout of a data set whose images and label maps have one name.

        Args:
            name: the data set's.
            images: where the images of a split are, such as `photos/{split}/*.jpg`.
            labels: where the label map of an image is, such as `masks/{split}/{stem}.png`; `{stem}` is the name of the
                image's file without its suffix.
            options: further fields of a layout; the `remedy` states both patterns unless it is given.
        """
        level = next((i for i, part in enumerate(Path(images).parts) if part == "{split}"), None)
        if level is None or "{split}" not in labels or "{stem}" not in labels:
            raise UserError(
                f"data set {name!r}: images {images!r} must have a folder {{split}}, and labels {labels!r} must have "
                "{split} and {stem}, such as photos/{split}/*.jpg and masks/{split}/{stem}.png."
            )
        marker = images.replace("{split}", "*")

        def splits(root: Path) -> list[str]:
            return sorted({path.relative_to(root).parts[level] for path in root.glob(marker)})

        def pairs(root: Path, split: str) -> Files:
            found = sorted(root.glob(images.replace("{split}", escape(split))))
            return [(image, root / labels.format(split=split, stem=image.stem)) for image in found]

        def label_files(root: Path, split: str) -> list[Path]:
            return sorted(root.glob(labels.format(split=escape(split), stem="*")))

        remedy = f"gffnet reads {images} and {labels} there."
        options = {"remedy": remedy, "marker": marker, "label_files": label_files, **options}
        return cls(name, splits=splits, pairs=pairs, **options)

    def present(self, root: Path) -> list[str]:
        """The splits in a folder; none if it is not the data set.

        Raises:
            UserError: there is no such folder, or it lacks a part of the data set.
        """
        if not root.is_dir():
            raise self.no_folder(root)
        try:
            return self.splits(root)
        except Incomplete as error:
            raise self.error(root, str(error)) from None

    def find_split(self, name: str, present: Collection[str]) -> str:
        """The split that a name means: that of this name, or the only one with the same usual name (`valid` for `val`).

        The name itself if there is none, or more than one.
        """
        alike = [each for each in present if usual_split(each) == usual_split(self.aliases.get(name, name))]
        return name if name in present or len(alike) != 1 else alike[0]

    def find_splits(self, root: Path, splits: str) -> list[str]:
        """The splits of a folder that `a+b` means.

        Raises:
            UserError: the folder is missing or not the data set; a split is missing or named twice.
        """
        found = self.present(root)
        if not found:
            raise self.error(root, "the folder does not look like this data set")
        options = shlex.join(split_options(self, found))
        found = [*found, *self.folds(root)]
        written = [splits] if splits in found else splits.split("+")
        names = [self.find_split(name, found) for name in written]
        if len(set(names)) < len(names):
            raise UserError(
                f"data set {self.name!r}: splits {'+'.join(names)!r} name one twice. Name each once, such as train+val."
            )
        if missing := [name for name in names if name not in found]:
            hint = f"; to train, name others: {options}" if options and usual_split(missing[0]) != "test" else ""
            if empty := self.empty_list(root, missing[0]):
                raise self.error(root, f"{empty}{hint}")
            raise self.error(root, f"split {missing[0]!r} is not there (there are: {', '.join(found)}){hint}")
        return names

    def empty_list(self, root: Path, split: str) -> str:
        """What is wrong with the list of a split without images; empty if it has no list."""
        file = self.list_file(root, split)
        return f"list {file} names no image: it must name one per line" if file and file.is_file() else ""

    def no_folder(self, root: Path) -> UserError:
        """The error for a `root` that is no folder."""
        if not root.exists():
            return self.error(root, "there is no such folder")
        archive = root.suffix.lower() in _ARCHIVES
        return self.error(root, f"it is {'an archive: unpack it, and give the' if archive else 'a file, not a'} folder")

    def error(self, root: Path, cause: str) -> UserError:
        """The error for a folder that is not the data set; names the right folder if it is nearby."""
        right = self.right_root(root)
        advice = f"{right} looks like it: pass --root {shlex.quote(str(right))}."
        remedy = self.other_release(root) or (advice if right else self.remedy)
        return UserError(f"data set {self.name!r} at {root}: {cause}. {remedy}")

    def other_release(self, root: Path) -> str | None:
        """What the folder is and what to do, if it is one of `others`."""
        return next((what for pattern, what in self.others.items() if any(root.glob(pattern))), None)

    def right_root(self, root: Path) -> Path | None:
        """The data set near a folder that is not; None if it is the data set itself, or there is none near."""
        return None if self._matches(root) else next(filter(self._matches, _nearby(root)), None)

    def _matches(self, folder: Path) -> bool:
        """Whether a folder holds an image of the data set with its label map."""
        with suppress(UserError, OSError):
            return any(folder.glob(self.marker)) and any(
                image.is_file() and labels.is_file()
                for split in self.splits(folder)
                for image, labels in self.pairs(folder, split)
            )
        return False


def _nearby(root: Path) -> Iterator[Path]:
    """The folders that may be meant where `root` is not: three above it, and two levels below.

    Archives often bring a folder of their own. If `root` does not exist, they are the one above it, and those beside it
    that have a similar name.
    """
    exists = root.is_dir()
    above = root.absolute().parents[: 3 if exists else 1]
    yield from above if root.is_absolute() else (Path(os.path.relpath(folder)) for folder in above)
    below = _folders(root) if exists else [each for each in _folders(root.parent) if _similar(each.name, root.name)]
    yield from below
    yield from islice((inner for folder in below for inner in _folders(folder)), _NESTED)


def _similar(name: str, other: str) -> bool:
    a, b = name.casefold(), other.casefold()
    return a in b or b in a or bool(nearest(a, [b]))


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, less hidden ones and those that macOS adds to archives."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice((entry for entry in entries if entry.is_dir()), _NESTED)]
        return [folder / name for name in sorted(names) if not name.startswith((".", "__MACOSX"))]
    except OSError:
        return []


def fold_splits(fold: str) -> tuple[str, str]:
    """The splits of a fold of a cross-validation: all images but those of `fold`, to train on, and only those."""
    return f"without_{fold}", f"only_{fold}"


def fold_of(train: str, val: str) -> str | None:
    """The fold whose splits are trained and validated on; None if they are not those of a fold."""
    fold = val.removeprefix("only_")
    return fold if (train, val) == fold_splits(fold) else None


def leak(splits: Collection[str], all_splits: Collection[str]) -> tuple[str, ...]:
    """Two of the splits that have an image in common, and must not; none if they may.

    Of the splits of folds, only the two of one fold must not: `without_A` has the images of `only_B`. A fold has both
    its splits among `all_splits` of the data set.
    """
    folds = (fold_splits(name.removeprefix("only_")) for name in all_splits if name.startswith("only_"))
    of_folds = {name for fold in folds if fold[0] in all_splits for name in fold}
    for pair in combinations(splits, 2):
        if of_folds.isdisjoint(pair) or fold_of(*pair) or fold_of(*reversed(pair)):
            return pair
    return ()


def training_splits(layout: Layout, present: Sequence[str]) -> tuple[str, str] | None:
    """What to train and to validate on, of the splits in a folder; None if one of the two is missing.

    Where train and val, by whatever usual name, are not both there, other splits stand in: one for val, which is test
    only if there is no other, and all but test for train; or, of a cross-validation, the first fold.
    """
    train, val = (layout.find_split(name, present) for name in ("train", "val"))
    tests = [name for name in present if usual_split(name) == "test" and name != val]
    folds = [fold_splits(name.removeprefix("only_")) for name in present if name.startswith("only_")]
    folds = [splits for splits in folds if set(splits) <= set(present)]
    not_others = {train, val, *tests, *chain(*folds)}  # splits of folds share their images
    others = [name for name in present if name not in not_others and "+" not in name]
    if folds and not others and train not in present and val not in present:
        return folds[0]
    if val not in present:
        enough = len(others) > (train not in present)
        val = others.pop() if enough else tests[0] if tests else ""
    if train not in present:
        train = "+".join(others)
    return (train, val) if train and val else None


def split_options(layout: Layout, present: Sequence[str]) -> list[str]:
    """The options of `gffnet train` that name `training_splits`, where they are not found by themselves."""
    chosen = zip(("train", "val"), training_splits(layout, present) or (), strict=False)
    return [
        word
        for usual, name in chosen
        if layout.find_split(usual, present) != name
        for word in ("--set", f"data.{usual}_split={_as_yaml(name)}")
    ]


def _as_yaml(text: str) -> str:
    return text if yaml.load(text, StrictLoader) == text else json.dumps(text)


def list_files(layout: Layout, root: Path, splits: str) -> Files:
    """List the samples of one split, or of several joined by `+`, in order.

    Raises:
        UserError: the folder is missing or not the data set; a split is missing, empty or named twice; a file is
            missing.
    """
    files: Files = []
    for split in layout.find_splits(root, splits):
        pairs = layout.pairs(root, split)
        if not pairs:
            raise layout.error(root, layout.empty_list(root, split) or f"split {split!r} holds no image")
        for position, what in enumerate(("image", "label map")):
            missing = [pair[position] for pair in pairs if not pair[position].is_file()]
            if missing:
                count = f"{len(missing)} of the {len(pairs)} samples of split {split!r} lack their {what}"
                used = {pair[position] for pair in pairs}
                similar = (file for file in missing[0].parent.glob(f"{escape(missing[0].stem)}*") if file not in used)
                near = f" (there is {file.name})" if (file := min(similar, default=None)) else ""
                raise layout.error(root, f"{count}, the first of them {missing[0]}{near}")
        files += pairs
    return files


def read_list(path: Path) -> list[str]:
    """Read a split list, one image a line: base names without folders and suffixes; the first of each line counts.

    Raises:
        UserError: the list cannot be read.
    """
    try:
        lines = read_text(path, "split list").splitlines()
    except OSError as error:
        raise UserError(f"split list {path} cannot be read ({error}). Restore it from the release.") from None
    return [Path(line.split()[0].replace("\\", "/")).stem for line in lines if line.strip()]


# The data set.


class Sample(NamedTuple):
    """An image and its labels, as torchvision's types, so that its v2 transforms tell them apart."""

    image: Num[Tensor, "c h w"]
    """RGB, but for own data of other channels; float32 in 0..255 of images deeper than 8 bits, if their white level is
    known. A `tv_tensors.Image`; channels lie last in memory."""
    labels: UInt8[Tensor, "h w"]
    """Train ids, 255 where a pixel is ignored; a `tv_tensors.Mask`."""
    name: str


class SampleCache(Protocol):
    """What a data set asks of its cache (`gffnet.data.cache.Cache`); None for a sample that is not cached."""

    def read(self, dataset: "Dataset", index: int) -> Sample | None: ...

    def read_labels(self, dataset: "Dataset", index: int) -> UInt8[np.ndarray, "h w"] | None: ...


class Dataset(torch.utils.data.Dataset[Sample]):
    """Images with label maps. Subclasses state `classes`, `table` and `layout`.

    Args:
        root: the folder of the release.
        split: a split, or several joined by `+`, such as `train+val`.
        files: image and label map of every sample; they replace those of the split, and `root` is not searched.

    Raises:
        UserError: the folder, a split or a file is missing.
    """

    classes: Classes
    table: LabelTable
    """From the ids that label maps store to train ids."""
    layout: Layout
    thin_classes: tuple[str, ...] = ()
    """Classes that are thin or small in most images; tables average them separately."""
    cache: "SampleCache | None" = None
    """Where samples are looked up before they are read; see `with_cache`."""
    picklable: bool = True
    """Whether other processes may be sent this data set."""
    random: bool = False
    """Whether reading a sample may draw random numbers."""
    in_channels: int = 3
    """Of its images; see `for_model`."""
    white_level: float | None = None
    """What deeper samples than those of 8 bits are scaled by; None: images are rounded to 8 bits."""

    def __init__(self, root: str | Path, split: str, files: Files | None = None) -> None:
        self.root = as_path(root)
        self.files = list_files(self.layout, self.root, split) if files is None else files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`, from the cache or from its files.

        Raises:
            UserError: a file cannot be read, the sizes differ, or the label map holds an illegal id.
        """
        try:
            cached = self.cache.read(self, index) if self.cache else None
            return self.read(index) if cached is None else cached
        except UserError as error:
            raise (WorkerError(str(error)) if get_worker_info() else error) from None

    def name(self, index: int) -> str:
        """The name of sample `index`: its image's file name without suffix."""
        return self.files[index][0].stem

    def labels(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """The train ids of sample `index`, from the cache or from its file.

        Raises:
            UserError: the label map cannot be read or holds an illegal id.
        """
        cached = self.cache.read_labels(self, index) if self.cache else None
        return self.read_labels(index) if cached is None else cached

    def subset(self, indices: Sequence[int]) -> "Dataset":
        """These samples, in this order."""
        part = copy.copy(self)
        part.files = [self.files[i] for i in indices]
        return part

    def for_model(self, model: ModelRecipe) -> "Dataset":
        """The same samples, with images of the channels and of the white level that a network takes."""
        of_model = copy.copy(self)
        of_model.in_channels, of_model.white_level = model.backbone.in_channels, model.white_level
        return of_model

    def size(self, index: int) -> tuple[int, int] | None:
        """Height and width of sample `index`, from the header of its image; None if that cannot be read."""
        header = read_header(self.files[index][0])
        if header is None:
            return None
        height, width = header.size
        return (width, height) if header.orientation > 4 else (height, width)

    def file_sizes(self, index: int) -> list[int | None]:
        """Bytes of the files of sample `index`; None for a missing one."""
        return [file.stat().st_size if file.is_file() else None for file in self.files[index]]

    def read(self, index: int) -> Sample:
        """Read sample `index` from its files; subclasses may override it. Raises as `__getitem__`."""
        image_file, label_file = self.files[index]
        image, labels = read_input(image_file, self.in_channels, self.white_level), self.read_labels(index)
        check_sizes(image_file, (image.shape[1], image.shape[2]), label_file, labels.shape)
        return Sample(Image(image), Mask(torch.from_numpy(labels)), self.name(index))

    def read_labels(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """Read the train ids of sample `index` from its label map.

        Raises:
            UserError: the label map cannot be read or holds an illegal id.
        """
        label_file = self.files[index][1]
        ids, table = self.read_ids(label_file)
        return table(ids, label_file)

    def read_ids(self, label_file: Path) -> tuple[NDArray[Any], LabelTable]:
        """Read the ids that a label file stores, (H, W), and the table that applies; overridden for other file formats.

        Raises:
            UserError: the file cannot be read.
        """
        return read_labels(label_file), self.table

    def contents(self) -> list[str]:
        """Of data without files, SHA-256 of some samples; part of the fingerprint."""
        return []

    def meaning(self) -> str:
        """What decides, besides the files, which train id a stored id becomes; part of the fingerprint."""
        return self.table.text()


def check_sizes(image_file: Path, size: tuple[int, int], label_file: Path, labels: tuple[int, ...]) -> None:
    """Raise `UserError` if an image and its label map are of different heights or widths."""
    if size != labels:
        raise UserError(
            f"image {image_file} is {size[1]}x{size[0]} pixels, but its label map {label_file} is "
            f"{labels[1]}x{labels[0]}: they must be of one size. Restore the one that was resized."
        )


class WorkerError(UserError):
    """A `UserError` in a `DataLoader` worker: torch rebuilds it from its traceback, and only the message is wanted."""

    def __init__(self, text: str) -> None:
        super().__init__(text.rsplit(f"{type(self).__name__}: ", 1)[-1].strip())


def evenly_spaced(length: int, count: int, endpoint: bool = True) -> list[int]:
    """At most `count` indices of `length` items, evenly spaced from the first, to the last if `endpoint`."""
    count = min(count, length)
    items, steps = (length - 1, max(1, count - 1)) if endpoint else (length, count)
    return [i * items // steps for i in range(count)]


def fingerprint(dataset: Dataset, sizes: bool = True) -> str:
    """SHA-256 over the classes, the label table and every sample's name and file sizes, in order.

    Two data sets are the same if their fingerprints are. It depends neither on where the data set is nor on whether it
    has a cache, and reads no file. Of data in Python, which have neither names nor files, it includes the contents of
    some samples (see `MapStyleDataset.contents`).

    Args:
        dataset: the data set.
        sizes: include the file sizes.
    """
    text = hashlib.sha256(json.dumps([dataset.classes.names, dataset.meaning()]).encode())
    for index in range(len(dataset)):
        # A missing file has no size: the error of reading it will say so.
        text.update(json.dumps([dataset.name(index), *(dataset.file_sizes(index) if sizes else [])]).encode())
    for digest in dataset.contents():
        text.update(digest.encode())
    return text.hexdigest()


DATASETS: Registry[type[Dataset]] = Registry("data set", Dataset)
"""Data sets by name. `open_dataset` opens one."""


class Truth:
    """Ground truth of images that are given by their paths.

    Args:
        datasets: splits to look in, in order.
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self._places: dict[Path, tuple[Dataset, int]] = {}
        self._names: dict[str, Path] = {}
        self.classes = tuple(datasets[0].classes.names) if datasets else None
        """The classes of the labels, in order; `None` without a data set."""
        for dataset in datasets:
            for index, (image, _) in enumerate(dataset.files):
                self._places.setdefault(image.resolve(), (dataset, index))
                self._names.setdefault(dataset.name(index), image)

    def image(self, name: Path) -> Path:
        """The image file of the sample called `name`; existing paths, and all paths without a data set, stay as is.

        Raises:
            UserError: there is neither such a file nor such a sample.
        """
        if name.exists() or not self._names:
            return name
        if str(name) not in self._names:
            raise UserError(
                f"{name} is neither a file nor the name of an image in the data set."
                f"{nearest(str(name), self._names)} Its names are such as {next(iter(self._names))}."
            )
        return self._names[str(name)]

    def labels(self, image: Path) -> UInt8[np.ndarray, "h w"] | None:
        """The train ids of an image; `None` if it belongs to no data set.

        Raises:
            UserError: the label map cannot be read, or is not of the size of the image.
        """
        found = self._places.get(image.resolve())
        if found is None:
            return None
        dataset, index = found
        labels, size = dataset.labels(index), dataset.size(index)
        if size is not None:
            check_sizes(image, size, dataset.files[index][1], labels.shape)
        return labels

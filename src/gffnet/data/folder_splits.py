"""Which of one's own images are for training, and which mask belongs to which image.

There are three ways to say it; the first that applies is in force.

Lists: `{split}.txt` beside `images`, an image a line: its path in `images`, with or without suffix. train.txt, val.txt
    and test.txt are lists, and so is every other .txt file that names an image.
Subfolders: `images/{split}` with `masks/{split}`. The names are free; but if `classes.yaml` has `val_fraction`, one of
    them must be train, val or test, or else none of them is a split.
Fraction: `val_fraction: 0.2` in `classes.yaml` makes train and val; 0.2 is also what holds where neither lists nor
    subfolders say anything. A hash of the path of an image decides where it belongs, so that it stays there whichever
    others come or go; but neither split is left empty.
"""

import hashlib
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from gffnet.data.folder_classes import FILE, read_classes
from gffnet.data.images import image_files
from gffnet.data.layout import Files, Layout, list_files
from gffnet.errors import UserError, nearest

_USUAL = {"train", "val", "test"}
"""Names that say by themselves that a list or a subfolder is a split."""
FRACTION = 0.2
"""The share of images to validate on where nothing says it."""


class _Way(NamedTuple):
    """The way in force, and the splits that it makes."""

    kind: Literal["lists", "subfolders", "fraction"]
    splits: list[str]
    fraction: float = 0.0


def list_own_files(root: Path, splits: str) -> Files:
    """The images and masks of one split, or of several joined by `+`; raises as `list_files`."""
    return list_files(replace(LAYOUT, pairs=_whole_pairs), root, splits)


def side(name: str, fraction: float) -> Literal["train", "val"]:
    """Where `val_fraction` puts the image of this name; equal on every machine, for ever."""
    return "val" if _place(name) < fraction * 2**64 else "train"


def _place(name: str) -> int:
    """A hash of a name, uniform in 0..2^64 - 1."""
    text = unicodedata.normalize("NFC", name).encode(errors="surrogateescape")  # a file name need not be UTF-8
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _validated(names: Iterable[str], fraction: float) -> set[str]:
    """The images that `val_fraction` puts into val: of two or more, at least one and not all."""
    ordered = sorted(names, key=_place)
    below = sum(side(name, fraction) == "val" for name in ordered)
    return set(ordered[: min(max(below, 1), len(ordered) - 1)]) if len(ordered) > 1 else set()


def _splits(root: Path) -> list[str]:
    """The splits of a folder; none if it has neither images nor masks.

    Raises:
        UserError: it has only one of them, or a split has no masks.
    """
    missing = [name for name in ("images", "masks") if not (root / name).is_dir()]
    if len(missing) == 1:
        raise LAYOUT.error(root, f"it has no folder {missing[0]!r}")
    if missing:
        return []
    return _way(root).splits


def _way(root: Path) -> _Way:
    lists = [file.stem for file in sorted(root.glob("*.txt")) if file.stem in _USUAL or _names_image(file)]
    if lists:
        return _Way("lists", lists)
    folders = next(os.walk(root / "images"), ("", [], []))[1]
    subfolders = [name for name in sorted(folders) if name[0] != "." and (root / "masks" / name).is_dir()]
    if not _USUAL.isdisjoint(subfolders):
        return _Way("subfolders", subfolders)
    fraction = read_classes(root).val_fraction if (root / FILE).exists() else None
    if fraction is None and subfolders:
        return _Way("subfolders", subfolders)
    if fraction is None and (lone := sorted(_USUAL.intersection(folders))):
        raise LAYOUT.error(root, f"images/{lone[0]} is there, but no folder masks/{lone[0]}")
    return _Way("fraction", ["train", "val"], FRACTION if fraction is None else fraction)


def _images(root: Path, split: str, way: _Way) -> dict[str, Path]:
    """The images of a split by name."""
    if way.kind == "subfolders":
        return _named(root / "images", split)
    images = _named(root / "images")
    if way.kind == "lists":
        return _listed(root / f"{split}.txt", images)
    if len(images) == 1:
        raise UserError(
            f"data set 'folder' at {root}: there is 1 image, {next(iter(images.values()))}, and training and "
            "validation need one each. Add images, or name it in both train.txt and val.txt."
        )
    validated = _validated(images, way.fraction)
    return {name: file for name, file in images.items() if (name in validated) == (split == "val")}


def _masks(root: Path, split: str, way: _Way) -> dict[str, Path]:
    """The masks among which those of a split are, by the names of their images."""
    return _named(root / "masks", split if way.kind == "subfolders" else "")


def _pairs(root: Path, split: str) -> Files:
    way = _way(root)
    masks = _masks(root, split, way)
    images = _images(root, split, way)
    return [(image, masks.get(name, root / "masks" / f"{name}.png")) for name, image in images.items()]


def _whole_pairs(root: Path, split: str) -> Files:
    """As `_pairs`, but a mask that is missing is an error, which names a mask of no image that may be the one."""
    pairs = _pairs(root, split)
    lacking = [(image, mask) for image, mask in pairs if not mask.exists()]
    if lacking:
        (image, mask), folder = lacking[0], root / "masks"
        masks, images = _masks(root, split, _way(root)), _named(root / "images")
        unused = [file.relative_to(folder).as_posix() for name, file in masks.items() if name not in images]
        near = nearest(mask.relative_to(folder).as_posix(), unused)
        raise UserError(
            f"data set 'folder' at {root}: {len(lacking)} of the {len(pairs)} images of split {split!r} lack their "
            f"mask, the first of them {image}.{near} A mask has the path of its image but for the suffix, here {mask}."
        )
    return pairs


def _label_files(root: Path, split: str) -> list[Path]:
    way = _way(root)
    if way.kind == "lists":
        return []  # a mask that no list names is not in the way
    masks = _masks(root, split, way)
    if way.kind == "subfolders":
        return list(masks.values())
    images = _named(root / "images")
    validated = _validated(images, way.fraction)
    validated |= {name for name in masks if name not in images and side(name, way.fraction) == "val"}
    return [file for name, file in masks.items() if (name in validated) == (split == "val")]


def _named(folder: Path, part: str = "") -> dict[str, Path]:
    """The images or masks in a part of a folder, by name: their path in the folder without suffix."""
    try:
        files = image_files([folder / part])
    except UserError:  # there is none
        return {}
    named: dict[str, Path] = {}
    for file in files:
        other = named.setdefault(file.relative_to(folder).with_suffix("").as_posix(), file)
        if other != file:
            raise UserError(
                f"data set 'folder': {other} and {file} differ in their suffix only, so it is not clear which mask "
                "belongs to which image. Rename or remove one of them."
            )
    return named


def _lines(file: Path) -> list[tuple[int, str]]:
    """The lines of a list that are not blank, as paths, with their numbers from 1 on."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"list {file} cannot be read ({error}): save it as UTF-8 text, or delete it.") from None
    lines = ((number, line.strip().replace("\\", "/")) for number, line in enumerate(text.splitlines(), 1))
    return [(number, str(PurePosixPath(line))) for number, line in lines if line]


def _called(images: dict[str, Path]) -> dict[str, str]:
    """From what a line of a list may call an image to the image's name."""
    return {**{name: name for name in images}, **{name + file.suffix: name for name, file in images.items()}}


def _names_image(file: Path) -> bool:
    """Whether a text file has a line that names an image."""
    try:
        lines = _lines(file)
    except UserError:
        return False
    known = _called(_named(file.parent / "images"))
    return any(line in known for _, line in lines)


def _listed(file: Path, images: dict[str, Path]) -> dict[str, Path]:
    """The images that a list names, in its order."""
    known, listed = _called(images), dict[str, Path]()
    for number, line in _lines(file):
        if line not in known:
            raise UserError(
                f"list {file}, line {number}: {line!r} is no image in {file.parent / 'images'}.{nearest(line, known)} "
                "Lines are paths in that folder, with or without suffix."
            )
        if (name := known[line]) in listed:
            raise UserError(f"list {file}, line {number}: {line!r} is listed above already. Delete one of the lines.")
        listed[name] = images[name]
    return listed


LAYOUT = Layout(
    name="folder",
    marker=FILE,
    remedy=(
        "gffnet reads images/**/NAME.jpg (or .png, ...) with masks/**/NAME.png and classes.yaml. Splits are lists "
        "(train.txt, val.txt: a path in images/ a line), or subfolders (images/train with masks/train, ...), or made "
        "by `val_fraction: 0.2` in classes.yaml, which is also what holds if nothing is said."
    ),
    splits=_splits,
    pairs=_pairs,
    label_files=_label_files,
)

"""The `classes.yaml` of one's own images: names, ids or colours, which pixels are ignored, how to split.

    classes:            # in the order of their labels
      - road            # its id is its place in the list: 0
      - {name: pole, color: [153, 153, 153]}
      - {name: sign, id: 7, color: "#dcdc00"}
    ignore: 255         # ids, or colours, of pixels that do not count: one or a list; [] for none
    masks: ids          # or colors: then every class needs its color
    val_fraction: 0.2   # the share of images to validate on, where neither lists nor subfolders say it

Only `classes` is needed. If `ignore` is left out, it is 255, or nothing if a class has id 255 or masks are colours. In
id masks a colour is how results are shown; classes without one get PASCAL VOC's, none of them black.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import yaml
from jaxtyping import UInt8, UInt32
from numpy.typing import NDArray

from gffnet.data.catalog import IGNORE, Classes
from gffnet.data.dataset import Dataset, Files, LabelTable, Layout, identity, list_files
from gffnet.data.io import as_array, image_files, read_header, read_image, read_labels
from gffnet.errors import UserError, nearest
from gffnet.recipe import StrictLoader

# Masks whose colours stand for classes: from exact colours to train ids.


_JPEG = b"\xff\xd8\xff"
"""How every JPEG file begins."""


def pack(rgb: UInt8[np.ndarray, "*shape 3"]) -> UInt32[np.ndarray, "*shape"]:
    """Every colour as one number, `0xRRGGBB`."""
    wide = rgb.astype(np.uint32)
    packed: NDArray[np.uint32] = np.left_shift(wide[..., 0], 16) | np.left_shift(wide[..., 1], 8) | wide[..., 2]
    return packed


def unpack(packed: int) -> tuple[int, int, int]:
    """Red, green and blue of `0xRRGGBB`."""
    return packed >> 16, packed >> 8 & 255, packed & 255


def read_colours(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """The colours of a mask; those of its palette where it has one. An alpha channel is dropped.

    Raises:
        UserError: the file cannot be read whole, or is a JPEG.
    """
    colours = as_array(read_image(path))
    with path.open("rb") as file:
        if file.read(len(_JPEG)) == _JPEG:
            raise UserError(f"mask {path}: JPEG changes colours, so its classes are lost: save masks as PNG.")
    return colours


class ColourTable:
    """Colour to train id: `0..n-1`, and 255 where a pixel is ignored.

    Args:
        train_ids: of every colour that may occur, as `0xRRGGBB`.
        names: of the classes, for errors.
        source: the file that lists the colours, for errors.
    """

    def __init__(self, train_ids: Mapping[int, int], names: Sequence[str], source: Path) -> None:
        self.names = tuple(names)
        self.source = source
        self._colours = np.array(sorted(train_ids), np.uint32)
        self._train_ids = np.array([train_ids[colour] for colour in sorted(train_ids)], np.uint8)

    def __call__(self, colours: UInt8[np.ndarray, "h w 3"], mask_file: Path) -> UInt8[np.ndarray, "h w"]:
        """The train ids of a mask.

        Raises:
            UserError: it holds a colour that may not occur.
        """
        packed = pack(colours)
        found = np.minimum(np.searchsorted(self._colours, packed), len(self._colours) - 1)
        wrong = self._colours[found] != packed
        if wrong.any():
            raise self._error(packed, wrong, mask_file)
        train_ids: NDArray[np.uint8] = self._train_ids[found]
        return train_ids

    def _error(self, packed: NDArray[np.uint32], wrong: NDArray[np.bool_], mask_file: Path) -> UserError:
        """What is wrong with a mask whose `wrong` pixels have no known colour."""
        row, column = np.argwhere(wrong)[0]
        colour, kinds = unpack(int(packed[row, column])), len(np.unique(packed[wrong]))
        near, whose = self._nearest(colour)
        if self._is_grey(packed) and not self._is_grey(self._colours):
            cause = f"It is grey all over: if its values are class ids, set `masks: ids` in {self.source}"
        else:
            cause = (
                "Colours between those of classes come of JPEG, or of smoothing where a mask was drawn or scaled: save "
                "masks as PNG, without smoothing. If a colour is missing, add it to `classes` or to `ignore` in "
                f"{self.source}"
            )
        return UserError(
            f"mask {mask_file}: colour {colour} at row {row}, column {column} is of no class; the nearest is {near}, "
            f"{whose}. {wrong.sum()} of its {wrong.size} pixels have such a colour ({kinds} different). {cause}."
        )

    def _nearest(self, colour: tuple[int, int, int]) -> tuple[tuple[int, int, int], str]:
        """The known colour that is nearest in RGB, and what it stands for."""
        known = np.array([unpack(int(one)) for one in self._colours])
        best = int(((known - colour) ** 2).sum(axis=1).argmin())
        train_id = int(self._train_ids[best])
        return unpack(int(self._colours[best])), "ignored" if train_id == IGNORE else repr(self.names[train_id])

    @staticmethod
    def _is_grey(packed: NDArray[np.uint32]) -> bool:
        return bool((packed % 0x10101 == 0).all())


# What a `classes.yaml` that is missing could say, as far as the masks show it.


LOOKED_AT = 50
"""Masks that are read, evenly spread."""
_SHOWN = 8
"""Classes that are written out."""


def guess_classes(masks: Path) -> str:
    """A sentence about the values in a folder of masks, with the `classes` to write for them; empty if it has none.

    Masks of more than 255 colours, as JPEG has, say nothing, nor do those that are grey all over in several channels.
    """
    try:
        files = image_files([masks])
        files = files[:: max(1, len(files) // LOOKED_AT)]
        headers = [read_header(file) for file in files]
        if any(header is not None and header.colour for header in headers):
            colours = {int(colour) for file in files for colour in np.unique(pack(read_colours(file)))}
            return _of_colours(sorted(colours))
        return _of_ids(sorted({int(value) for file in files for value in np.unique(read_labels(file))}))
    except UserError:
        return ""


def _of_ids(values: Sequence[int]) -> str:
    ids = [value for value in values if value != IGNORE]
    if not ids or len(ids) > IGNORE:
        return ""
    in_order = ids == list(range(len(ids)))
    entries = [f"name of {value}" if in_order else f"{{name: name of {value}, id: {value}}}" for value in ids]
    ignored = ", and 255, which is ignored" if IGNORE in values else ""
    return f"The masks hold ids {_listed(list(map(str, ids)))}{ignored}: write `classes: [{_listed(entries)}]` into it."


def _of_colours(values: Sequence[int]) -> str:
    if len(values) > IGNORE or all(value % 0x10101 == 0 for value in values):
        return ""
    shown = [f"#{value:06x}" for value in values]
    # A bare # would begin a comment.
    entries = [f'{{name: name of {colour[1:]}, color: "{colour}"}}' for colour in shown]
    return (
        f"The masks hold colours {_listed(shown)}: write `masks: colors` and `classes: [{_listed(entries)}]` into it."
    )


def _listed(words: Sequence[str]) -> str:
    """The words with commas, the first of them where there are many."""
    return ", ".join([*words[:_SHOWN], "..."] if len(words) > _SHOWN else words)


FILE = "classes.yaml"
Kind: TypeAlias = Literal["ids", "colors"]
_KEYS = ("classes", "ignore", "masks", "val_fraction")
_CLASS_KEYS = ("name", "id", "color")
_LARGEST = 1023
"""A `LabelTable` holds no larger id."""
_EXAMPLE = "`classes: [road, car]`"


@dataclass(frozen=True)
class FolderClasses:
    """What a `classes.yaml` says."""

    classes: Classes
    masks: Kind
    train_ids: Mapping[int, int]
    """Of every id, or of every colour as `0xRRGGBB`, that masks may hold; 255 where it is ignored."""
    val_fraction: float | None = None


def read_classes(root: Path) -> FolderClasses:
    """The classes of one's own images in the folder `root`.

    Raises:
        UserError: `classes.yaml` is missing, is no valid YAML, or says what it may not.
    """
    path = root / FILE
    try:
        mapping = yaml.load(path.read_text(encoding="utf-8"), StrictLoader)
    except FileNotFoundError:
        hint = guess_classes(root / "masks") or f"Write it, such as {_EXAMPLE}."
        raise UserError(f"{path} is missing: it names the classes of the masks. {hint}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): it must be a file that you may read.") from None
    except (yaml.YAMLError, ValueError) as error:  # a ValueError for bytes that are no UTF-8, or a 13th month
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    try:
        return _checked(mapping)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def voc_colours() -> Iterator[tuple[int, int, int]]:
    """PASCAL VOC's colours but for the first, black: bits 0, 3, 6, ... of a colour's number are red, highest first."""
    for number in range(1, 1 << 24):
        red, green, blue = (sum((number >> 3 * i + c & 1) << 7 - i for i in range(8)) for c in range(3))
        yield red, green, blue


def _checked(mapping: Any) -> FolderClasses:
    """The content of the file, every key and value checked."""
    if not isinstance(mapping, dict):
        raise UserError(f"expected `key: value` lines, such as {_EXAMPLE}, got {mapping!r}.")
    _known_keys(mapping, _KEYS, "")
    masks = mapping.get("masks", "ids")
    if masks not in ("ids", "colors"):
        hint = nearest(str(masks), ("ids", "colors"))
        raise UserError(f"masks: expected `ids` (one value a pixel) or `colors`, got {masks!r}.{hint}")
    fraction = mapping.get("val_fraction")
    if "val_fraction" in mapping and not (isinstance(fraction, float) and 0 < fraction < 1):
        raise UserError(f"val_fraction: expected a number between 0 and 1, such as 0.2, got {fraction!r}.")
    entries = _entries(mapping.get("classes"), masks)
    given = [entry["color"] for entry in entries if "color" in entry]
    free = (colour for colour in voc_colours() if colour not in given)
    palette = tuple(entry["color"] if "color" in entry else next(free) for entry in entries)
    names = tuple(entry["name"] for entry in entries)
    stored = [entry["id"] for entry in entries] if masks == "ids" else [_number(colour) for colour in palette]
    _unique(stored, names, masks)
    ignored = _ignored(mapping, masks, stored, names)
    train_ids = {**dict.fromkeys(ignored, IGNORE), **{value: i for i, value in enumerate(stored)}}
    return FolderClasses(Classes(names, palette), masks, train_ids, fraction)


def _known_keys(mapping: Mapping[Any, Any], allowed: Sequence[str], where: str) -> None:
    for key in mapping:
        if key not in allowed:
            raise UserError(f"{where}{key!r} is unknown.{nearest(str(key), allowed)} Allowed: {', '.join(allowed)}.")


def _entries(listed: Any, masks: Kind) -> list[dict[str, Any]]:
    """Every class with its `name`, its `id` where masks hold ids, and its `color` if it has one."""
    if not isinstance(listed, list) or not 1 <= len(listed) <= IGNORE:
        got = f"{len(listed)} of them" if isinstance(listed, list) else "none" if listed is None else repr(listed)
        raise UserError(f"classes: expected a list of 1 to {IGNORE} classes, such as {_EXAMPLE}, got {got}.")
    entries = [_entry(item, position, masks) for position, item in enumerate(listed)]
    names = [entry["name"] for entry in entries]
    for position, name in enumerate(names):
        if (first := names.index(name)) < position:
            raise UserError(f"classes {first + 1} and {position + 1} are both named {name!r}: each needs its own name.")
    return entries


def _entry(item: Any, position: int, masks: Kind) -> dict[str, Any]:
    """The class at a position of the list."""
    entry = dict(item) if isinstance(item, dict) else {"name": item}
    where = f"class {position + 1}: "
    _known_keys(entry, _CLASS_KEYS, where)
    name = entry.get("name")
    if not isinstance(name, str):
        got = repr(name) if "name" in entry else repr(item)
        raise UserError(
            f"{where}expected its name, or {{name: ..., id: ..., color: ...}}, got {got}. "
            "A name that YAML takes for a number or for yes and no must be in quotes."
        )
    if not name or name != " ".join(name.split()):
        raise UserError(f"{where}expected a name of one line, without outer or double spaces, got {name!r}.")
    where = f"class {position + 1} ({name!r}): "
    if masks == "colors" and "id" in entry:
        raise UserError(f"{where}id {entry['id']!r} has no meaning where `masks: colors`. Leave it out.")
    if masks == "colors" and "color" not in entry:
        raise UserError(f"{where}color is missing, and every class needs one where `masks: colors`.")
    if "color" in entry:
        entry["color"] = _colour(entry["color"], f"{where}color")
    entry["id"] = _id(entry.get("id", position), f"{where}id")
    return entry


def _id(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise UserError(f"{where}: expected an integer in 0..{_LARGEST}, got {value!r}.")
    return value


def _colour(value: Any, where: str) -> tuple[int, int, int]:
    if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value):
        return unpack(int(value[1:], 16))
    if isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value):
        return value[0], value[1], value[2]
    quotes = " Put #rrggbb in quotes: YAML takes a bare # for a comment." if value is None else ""
    raise UserError(f'{where}: expected [r, g, b] of integers in 0..255, or "#rrggbb", got {value!r}.{quotes}')


def _number(colour: tuple[int, int, int]) -> int:
    """A colour as `0xRRGGBB`."""
    return colour[0] << 16 | colour[1] << 8 | colour[2]


def _shown(value: int, masks: Kind) -> str:
    return f"id {value}" if masks == "ids" else f"color {list(unpack(value))}"


def _unique(stored: Sequence[int], names: Sequence[str], masks: Kind) -> None:
    """Refuse an id, or a colour of colour masks, that two classes have."""
    for position, value in enumerate(stored):
        if (first := stored.index(value)) < position:
            raise UserError(
                f"classes {names[first]!r} and {names[position]!r} both have {_shown(value, masks)}: each needs its own"
                f"{', and a class without `id` has its place in the list, counted from 0' if masks == 'ids' else ''}."
            )


def _ignored(mapping: Mapping[str, Any], masks: Kind, stored: Sequence[int], names: Sequence[str]) -> list[int]:
    """The ids or colours of ignored pixels."""
    if "ignore" not in mapping:
        return [IGNORE] if masks == "ids" and IGNORE not in stored else []
    given = mapping["ignore"]
    if given is None:
        raise UserError("ignore: got nothing. Leave it out, or write `ignore: []` if every pixel counts.")
    if masks == "ids":
        values = [_id(value, "ignore") for value in (given if isinstance(given, list) else [given])]
    else:
        one = not isinstance(given, list) or any(type(value) is int for value in given)
        values = [_number(_colour(value, "ignore")) for value in ([given] if one else given)]
    for value in values:
        if value in stored:
            what = f"{_shown(value, masks)} is that of class {names[stored.index(value)]!r}"
            raise UserError(f"ignore: {what}. Leave it out, or give the class another one.")
    return values


# Which of one's own images are for training, and which mask belongs to which image.
#
# There are three ways to say it; the first that applies is in force.
#
# Lists: `{split}.txt` beside `images`, an image a line: its path in `images`, with or without suffix. train.txt, val.txt
#     and test.txt are lists, and so is every other .txt file that names an image.
# Subfolders: `images/{split}` with `masks/{split}`. The names are free; but if `classes.yaml` has `val_fraction`, one of
#     them must be train, val or test, or else none of them is a split.
# Fraction: `val_fraction: 0.2` in `classes.yaml` makes train and val; 0.2 is also what holds where neither lists nor
#     subfolders say anything. A hash of the path of an image decides where it belongs, so that it stays there whichever
#     others come or go; but neither split is left empty.


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
        return _listed_folder_splits(root / f"{split}.txt", images)
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


def _listed_folder_splits(file: Path, images: dict[str, Path]) -> dict[str, Path]:
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


# One's own images and masks.
#
# Format:
#     `images/**/NAME.jpg` (or any other image format) and `masks/**/NAME.png`: a mask has the path of its image but for
#     the suffix. Masks hold class ids or colours, without loss.
# Splits:
#     by lists, by subfolders, or by a fraction of the images; see `folder_splits`.
# Classes:
#     those of `classes.yaml`, in its order; see `folder_classes`.


class Folder(Dataset):
    """The images of `split`, such as train, val, or several such as `train+val`.

    Args:
        root: the folder that holds `images`, `masks` and `classes.yaml`.
        split: the split or splits.
        files: takes the place of the split where its files were listed before.

    Raises:
        UserError: the folder, its classes, a split or a file is missing or wrong.
    """

    def __init__(self, root: Path, split: str, files: Files | None = None) -> None:
        files = list_own_files(root, split) if files is None else files
        self.root = root
        self.stored = read_classes(root)
        names = self.stored.classes.names
        self.colours: ColourTable | None = None
        if self.stored.masks == "colors":
            self.colours = ColourTable(self.stored.train_ids, names, root / FILE)
            table = LabelTable(identity(len(names)), legal=f"0..{len(names) - 1}, and 255")
        else:
            table = _id_table(self.stored, root / FILE)
        super().__init__(self.stored.classes, files, table)

    def name(self, index: int) -> str:
        """The path of sample `index` in `images`, without suffix, as `gffnet predict` names results."""
        return self.files[index][0].relative_to(self.root / "images").with_suffix("").as_posix()

    def read_ids(self, label_file: Path) -> tuple[NDArray[Any], LabelTable]:
        """The ids that a mask stores; where masks are colours, the train ids.

        Raises:
            UserError: the file cannot be read, holds colours in place of ids, or a colour of no class.
        """
        if self.colours is not None:
            return self.colours(read_colours(label_file), label_file), self.table
        try:
            return read_labels(label_file), self.table
        except UserError:
            _refuse_colours(label_file, self.root / FILE)
            raise

    def meaning(self) -> str:
        """All that decides which train id a stored id or colour becomes, but for the files themselves."""
        return f"{self.stored.masks} {sorted(self.stored.train_ids.items())}"


def _id_table(stored: FolderClasses, source: Path) -> LabelTable:
    """From the ids of masks to train ids."""
    hint = f"correct it, or add the id to `classes` or `ignore` in {source}; for colours, write `masks: colors` there"
    return LabelTable(stored.train_ids, legal=_ranges(sorted(stored.train_ids)), hint=hint)


def _ranges(ids: list[int]) -> str:
    """Ascending ids as text, such as `0..2, 7, 255`."""
    runs: list[list[int]] = []
    for one in ids:
        if runs and one == runs[-1][-1] + 1:
            runs[-1].append(one)
        else:
            runs.append([one])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


def _refuse_colours(mask: Path, source: Path) -> None:
    """Say what to do with a mask that holds colours where it should hold ids."""
    try:
        colours = read_colours(mask)
    except UserError:
        return  # something else is wrong with it
    if (colours == colours[..., :1]).all():
        remedy = "It is grey all over: if its values are ids, save one of its channels"
    else:
        remedy = f"If its colours stand for classes, write `masks: colors` and a color for every class in {source}"
    raise UserError(
        f"mask {mask}: it has several channels, but {source} says `masks: ids`, one value a pixel. {remedy}."
    )

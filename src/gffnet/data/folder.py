"""The user's own images and masks: the data set `folder`.

Format:
    `images/**/NAME.jpg` (or any other image format) and `masks/**/NAME.png`: a mask has the path of its image but for
    the suffix. Masks hold class ids or colors, in a lossless format.
Classes:
    Those of `classes.yaml`, in the order of their labels:

        classes:
          - road            # its id is its position in the list: 0
          - {name: pole, color: [153, 153, 153]}
          - {name: sign, id: 7, color: "#dcdc00"}
        ignore: 255         # ids (or colors) of ignored pixels: one or a list; [] for none
        masks: ids          # or colors: then every class needs its color
        val_fraction: 0.2   # share of images to validate on, where neither lists nor subfolders define splits

    Only `classes` is required. `ignore` defaults to 255; to none where a class has id 255 or masks hold colors. With id
    masks, colors are for display only, and classes without one get a color of PASCAL VOC's palette.
Splits:
    The first of these that is there defines them.

    Lists: `{split}.txt` beside `images`, one image per line: its path in `images`, with or without suffix. train.txt,
        val.txt and test.txt are lists, and so is any other .txt file that names an image.
    Subfolders: `images/{split}` with `masks/{split}`, of any name. If `classes.yaml` has `val_fraction`, they are
        splits only if one of them is train, val or test.
    Fraction: `val_fraction` of `classes.yaml`, or 0.2, defines train and val. A hash of its path decides to which
        an image belongs, so that it stays there when others are added or removed; neither split is left empty. Where
        lists or subfolders define train, but not val, `val_fraction` takes val from train.

    Upper case and other usual names do not matter: training is found as train; valid, validation and dev as val.
"""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import yaml
from jaxtyping import Bool, UInt8, UInt32
from numpy.typing import NDArray

from gffnet.data.dataset import (
    DATASETS,
    IGNORE,
    Classes,
    Dataset,
    Files,
    Incomplete,
    LabelTable,
    Layout,
    identity,
    usual_split,
)
from gffnet.data.io import images_in, read_colors, read_header, read_labels, unread_files
from gffnet.errors import UserError, nearest, one_line
from gffnet.files import read_text
from gffnet.palette import MAX_CLASSES, voc_colors
from gffnet.recipe import StrictLoader

FILE = "classes.yaml"
FRACTION = 0.2
"""The share of images to validate on where nothing else defines splits."""
Kind: TypeAlias = Literal["ids", "colors"]
Color: TypeAlias = tuple[int, int, int]

# classes.yaml. Its errors say more than a pydantic model's could: which class of which name, and YAML's own traps.

_KEYS = ("classes", "ignore", "masks", "val_fraction")
_CLASS_KEYS = ("name", "id", "color")
_LARGEST_ID = 1023
"""As in a `LabelTable`."""
_EXAMPLE = "`classes: [road, car]`"


@dataclass(frozen=True)
class FolderClasses:
    """The content of `classes.yaml`."""

    classes: Classes
    masks: Kind
    train_ids: Mapping[int, int]
    """The train id of every id, or of every color as `0xRRGGBB`, that masks may hold; 255 where it is ignored."""
    val_fraction: float | None = None
    ignores_by_default: bool = False
    """255 is ignored because the file does not say what it is."""


def read_classes(root: Path) -> FolderClasses:
    """Read `classes.yaml` in the folder `root`.

    Raises:
        UserError: the file is missing, is not valid YAML, or has an unknown key or an invalid value.
    """
    path = root / FILE
    try:
        mapping = yaml.load(read_text(path, "file"), StrictLoader)
    except FileNotFoundError:
        alike = [file for file in sorted(root.glob("[cC]*")) if file.name.casefold() in {FILE, "classes.yml"}]
        hint = guess_classes(root / "masks") or f"Write it, such as {_EXAMPLE}."
        hint = f"There is {alike[0].name}: rename it to {FILE}." if alike else hint
        raise UserError(f"{path} is missing: it names the classes of the masks. {hint}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): it must be a readable file.") from None
    except RecursionError:
        raise UserError(f"{path} is not valid YAML: it is nested too deeply. Write it such as {_EXAMPLE}.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2020-13-45
        raise UserError(f"{path} is not valid YAML: {one_line(error)}.") from None
    try:
        stored = _parse(mapping)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if len(stored.classes.names) == 1:
        raise UserError(
            f"{path}: classes: {stored.classes.names[0]!r} is the only one, and a network needs two or more to tell "
            f"apart. List what all other pixels are, too. {guess_classes(root / 'masks')}".rstrip()
        )
    return stored


class _Entry(NamedTuple):
    """A class as it is listed."""

    name: str
    id: int
    color: Color | None


def _parse(mapping: Any) -> FolderClasses:
    """Check every key and value of the file."""
    if not isinstance(mapping, dict):
        raise UserError(f"expected `key: value` lines, such as {_EXAMPLE}, got {mapping!r}.")
    _check_keys(mapping, _KEYS, "")
    masks = mapping.get("masks", "ids")
    if masks not in ("ids", "colors"):
        hint = nearest(str(masks), ("ids", "colors"))
        raise UserError(f"masks: expected `ids` (one value per pixel) or `colors`, got {masks!r}.{hint}")
    fraction = mapping.get("val_fraction")
    if "val_fraction" in mapping and not (isinstance(fraction, float) and 0 < fraction < 1):
        raise UserError(f"val_fraction: expected a number between 0 and 1, such as 0.2, got {fraction!r}.")
    listed = mapping.get("classes")
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_CLASSES:  # one has an error of its own
        got = f"{len(listed)} of them" if isinstance(listed, list) else "none" if listed is None else repr(listed)
        raise UserError(f"classes: expected a list of 2 to {MAX_CLASSES} classes, such as {_EXAMPLE}, got {got}.")
    entries = [_parse_class(item, position, masks) for position, item in enumerate(listed)]

    names = tuple(entry.name for entry in entries)
    given = {entry.color for entry in entries}
    free = (color for color in voc_colors() if color not in given)
    palette = tuple(entry.color or next(free) for entry in entries)
    stored = [entry.id for entry in entries] if masks == "ids" else [_packed(color) for color in palette]
    for position, (name, value) in enumerate(zip(names, stored, strict=True)):
        if (first := names.index(name)) < position:
            raise UserError(f"classes {first + 1} and {position + 1} are both named {name!r}: each needs its own name.")
        if (first := stored.index(value)) < position:
            raise UserError(
                f"classes {names[first]!r} and {name!r} both have {_as_written(value, masks)}: each needs its own"
                f"{', and the id of a class without one is its position, from 0' if masks == 'ids' else ''}."
            )
    ignored = _parse_ignore(mapping, masks, dict(zip(stored, names, strict=True)))
    train_ids = {**dict.fromkeys(ignored, IGNORE), **{value: i for i, value in enumerate(stored)}}
    by_default = "ignore" not in mapping and bool(ignored)
    return FolderClasses(Classes(names, palette), masks, train_ids, fraction, by_default)


def _check_keys(mapping: Mapping[Any, Any], allowed: Sequence[str], where: str) -> None:
    for key in mapping:
        if key not in allowed:
            raise UserError(f"{where}{key!r} is unknown.{nearest(str(key), allowed)} Allowed: {', '.join(allowed)}.")


def _parse_class(item: Any, position: int, masks: Kind) -> _Entry:
    """Check one entry of `classes`: a name, or a mapping."""
    entry = item if isinstance(item, dict) else {"name": item}
    where = f"class {position + 1}: "
    _check_keys(entry, _CLASS_KEYS, where)
    name = entry.get("name")
    if not isinstance(name, str):
        raise UserError(
            f"{where}expected its name, or {{name: ..., id: ..., color: ...}}, got "
            f"{name if 'name' in entry else item!r}. Quote a name that YAML takes for a number, for yes or for no."
        )
    if not name or name != " ".join(name.split()):
        raise UserError(f"{where}expected a one-line name without outer or double spaces, got {name!r}.")
    where = f"class {position + 1} ({name!r}): "
    if masks == "colors" and "id" in entry:
        raise UserError(f"{where}id {entry['id']!r} has no meaning with `masks: colors`. Leave it out.")
    if masks == "colors" and "color" not in entry:
        raise UserError(f"{where}color is missing, and `masks: colors` needs one for every class.")
    color = _parse_color(entry["color"], f"{where}color") if "color" in entry else None
    return _Entry(name, _parse_id(entry.get("id", position), f"{where}id"), color)


def _parse_id(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST_ID:
        raise UserError(f"{where}: expected an integer in 0..{_LARGEST_ID}, got {value!r}.")
    return value


def _parse_color(value: Any, where: str) -> Color:
    if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value):
        return unpack(int(value[1:], 16))
    if isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value):
        return value[0], value[1], value[2]
    quotes = " Put #rrggbb in quotes: YAML takes a bare # for a comment." if value is None else ""
    raise UserError(f'{where}: expected [r, g, b] of integers in 0..255, or "#rrggbb", got {value!r}.{quotes}')


def _parse_ignore(mapping: Mapping[str, Any], masks: Kind, names: Mapping[int, str]) -> list[int]:
    """Ids or packed colors of ignored pixels; `names` has the class of every other."""
    if "ignore" not in mapping:
        return [IGNORE] if masks == "ids" and IGNORE not in names else []
    given = mapping["ignore"]
    if given is None:
        raise UserError("ignore: got nothing. Leave it out, or write `ignore: []` if no pixel is ignored.")
    if masks == "ids":
        values = [_parse_id(value, "ignore") for value in (given if isinstance(given, list) else [given])]
    else:
        one = not isinstance(given, list) or any(type(value) is int for value in given)
        values = [_packed(_parse_color(value, "ignore")) for value in ([given] if one else given)]
    for value in values:
        if value in names:
            what = f"{_as_written(value, masks)} is that of class {names[value]!r}"
            raise UserError(f"ignore: {what}. Leave it out, or give the class another one.")
    return values


def _as_written(value: int, masks: Kind) -> str:
    return f"id {value}" if masks == "ids" else f"color {list(unpack(value))}"


# A suggestion for a classes.yaml that is missing, from the values in the masks.

GUESS_FROM = 50
"""Number of masks that are read, evenly spread."""
_SHOWN = 8
"""Number of classes that are written out."""
MUCH = 0.2
"""Share of pixels from which 255 is rather a class than what lies between classes, which is 5 to 13 % in releases."""


def guess_classes(masks: Path) -> str:
    """Say which values a folder of masks holds, and the `classes` to write for them; empty where they do not tell.

    They do not where there are more than 254 colors, as in JPEG.
    """
    try:
        files = images_in(masks)
        files = files[:: max(1, len(files) // GUESS_FROM)]
        headers = [read_header(file) for file in files]
        if any(header is not None and header.color for header in headers):
            return _guess_colors(sorted({int(color) for file in files for color in np.unique(_visible(file))}))
        pixels: Counter[int] = Counter()
        for file in files:
            values, counts = np.unique(read_labels(file), return_counts=True)
            pixels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        return _guess_ids(pixels)
    except UserError:
        return ""


def _visible(mask: Path) -> UInt32[np.ndarray, " n"]:
    """The colors of a mask where it is opaque. Raises `UserError`."""
    colors, opaque = read_colors(mask)
    return pack(colors.reshape(-1, 3) if opaque is None else colors[opaque])


def _guess_ids(pixels: Mapping[int, int]) -> str:
    """`pixels`: of every id."""
    ids = sorted(set(pixels) - {IGNORE})
    if len(ids) >= MAX_CLASSES or not pixels:
        return ""
    if len(pixels) == 1:
        return f"The masks hold nothing but {next(iter(pixels))}, and a network needs two classes."
    a_class = is_class_255(ids, pixels.get(IGNORE, 0) / sum(pixels.values()))
    in_order = ids == list(range(len(ids)))
    entries = [f"name of {value}" if in_order else f"{{name: name of {value}, id: {value}}}" for value in ids]
    listed = f"{_shortened(entries)}, {{name: name of {IGNORE}, id: {IGNORE}}}" if a_class else _shortened(entries)
    ignored = ", and 255, which is ignored" if IGNORE in pixels and not a_class else ", 255" if a_class else ""
    unless = " Leave 255 out if it marks unlabelled pixels." if a_class and len(ids) > 1 else ""
    return f"The masks hold ids {_shortened(map(str, ids))}{ignored}: write `classes: [{listed}]` into it.{unless}"


def is_class_255(ids: Sequence[int], share: float) -> bool:
    """Whether 255 beside these ids is rather a class than unlabelled pixels; `share` of the pixels are 255.

    It is beside one id alone, where it is much, or where all are far apart, to be seen, such as 0, 128 and 255.
    """
    apart = min(np.diff([*ids, IGNORE])) > IGNORE // (2 * len(ids) + 2)
    return share > 0 and (len(ids) == 1 or apart or share > MUCH)


def _guess_colors(values: Sequence[int]) -> str:
    if not 1 < len(values) <= MAX_CLASSES:
        return ""
    colors = [f"#{value:06x}" for value in values]
    entries = [f'{{name: name of {color[1:]}, color: "{color}"}}' for color in colors]  # a bare # begins a comment
    return (
        f"The masks hold colors {_shortened(colors)}: write `masks: colors` and `classes: [{_shortened(entries)}]` "
        "into it."
    )


def _shortened(words: Iterable[str]) -> str:
    words = list(words)
    return ", ".join([*words[:_SHOWN], "..."] if len(words) > _SHOWN else words)


# Masks whose colors stand for classes.


def pack(rgb: UInt8[np.ndarray, "*shape 3"]) -> UInt32[np.ndarray, "*shape"]:
    """Write each color as one number, `0xRRGGBB`."""
    wide = rgb.astype(np.uint32)
    packed: NDArray[np.uint32] = np.left_shift(wide[..., 0], 16) | np.left_shift(wide[..., 1], 8) | wide[..., 2]
    return packed


def _packed(color: Color) -> int:
    return color[0] << 16 | color[1] << 8 | color[2]


def unpack(packed: int) -> Color:
    """Red, green and blue of `0xRRGGBB`."""
    return packed >> 16, packed >> 8 & 255, packed & 255


def _is_grey(packed: NDArray[Any]) -> bool:
    return bool((packed % 0x10101 == 0).all())


class ColorTable:
    """From colors to train ids: `0..n-1`, and 255 where a pixel is ignored.

    Args:
        train_ids: the train id of every color that may occur, as `0xRRGGBB`.
        names: of the classes, for errors.
        source: the file that lists the colors, for errors.
    """

    def __init__(self, train_ids: Mapping[int, int], names: Sequence[str], source: Path) -> None:
        self.names = tuple(names)
        self.source = source
        self._colors = np.array(sorted(train_ids), np.uint32)
        self._train_ids = np.array([train_ids[color] for color in sorted(train_ids)], np.uint8)

    def __call__(
        self, colors: UInt8[np.ndarray, "h w 3"], mask_file: Path, opaque: Bool[np.ndarray, "h w"] | None = None
    ) -> UInt8[np.ndarray, "h w"]:
        """Convert a mask to train ids; pixels that are not `opaque`, if given, are ignored whatever their color.

        Raises:
            UserError: it holds a color that may not occur.
        """
        packed = pack(colors)
        found = np.minimum(np.searchsorted(self._colors, packed), len(self._colors) - 1)
        wrong = self._colors[found] != packed
        if opaque is not None:
            wrong &= opaque
        if wrong.any():
            raise self._error(packed, wrong, mask_file)
        train_ids: NDArray[np.uint8] = self._train_ids[found]
        return train_ids if opaque is None else np.where(opaque, train_ids, np.uint8(IGNORE))

    def _error(self, packed: NDArray[np.uint32], wrong: NDArray[np.bool_], mask_file: Path) -> UserError:
        """The error for a mask whose `wrong` pixels have unknown colors."""
        row, column = np.argwhere(wrong)[0]
        color, different = unpack(int(packed[row, column])), len(np.unique(packed[wrong]))
        known = np.array([unpack(int(each)) for each in self._colors])
        best = int(((known - color) ** 2).sum(axis=1).argmin())
        train_id = int(self._train_ids[best])
        meaning = "ignored" if train_id == IGNORE else repr(self.names[train_id])
        if _is_grey(packed) and not _is_grey(self._colors):
            remedy = f"It is grey throughout: if its values are class ids, set `masks: ids` in {self.source}"
        else:
            remedy = (
                "Colors between those of classes come from JPEG, or from smoothing in drawing or scaling: save masks "
                "as PNG, without smoothing. If a color is missing, add it to `classes` or to `ignore` in "
                f"{self.source}"
            )
        return UserError(
            f"mask {mask_file}: color {color} at row {row}, column {column} belongs to no class; the nearest is "
            f"{unpack(int(self._colors[best]))}, {meaning}. {wrong.sum()} of its {wrong.size} pixels have such a color "
            f"({different} different). {remedy}."
        )


# Splits.

_USUAL = {"train", "val", "test"}
"""Names that, by whatever spelling, make a list or a subfolder a split."""


class _SplitRule(NamedTuple):
    """What defines the splits of a folder, and their names."""

    kind: Literal["lists", "subfolders", "fraction"]
    splits: list[str]
    fraction: float = 0.0
    """Of the images of `divided` that are validated on; the others stay in it."""
    divided: str = ""

    def divides(self, split: str) -> bool:
        """Whether the fraction decides which images belong to the split."""
        return self.fraction > 0 and split in (self.divided, "val")

    def source(self, split: str) -> str:
        """The list or subfolder that names the images of a split."""
        return self.divided if self.divides(split) else split


def _split_rule(root: Path) -> _SplitRule:
    lists = [file.stem for file in sorted(root.glob("*.txt")) if file.stem.casefold() in _USUAL or _names_image(file)]
    if lists:
        return _with_validation(root, "lists", lists)
    folders = sorted(name for name in next(os.walk(root / "images"), ("", [], []))[1] if name[0] != ".")
    subfolders = [name for name in folders if (root / "masks" / name).is_dir()]
    if not _USUAL.isdisjoint(map(usual_split, subfolders)):
        return _with_validation(root, "subfolders", subfolders)
    fraction = _fraction(root)
    if fraction is None and subfolders:
        return _SplitRule("subfolders", subfolders)
    if fraction is None and (lone := [name for name in folders if usual_split(name) in _USUAL]):
        masks = next(os.walk(root / "masks"), ("", [], []))[1]
        near = next((name for name in masks if usual_split(name) == usual_split(lone[0])), None)
        hint = f" (there is masks/{near}: both must have one name)" if near else ""
        raise Incomplete(f"images/{lone[0]} is there, but no folder masks/{lone[0]}{hint}")
    return _SplitRule("fraction", ["train", "val"], FRACTION if fraction is None else fraction, "train")


def _fraction(root: Path) -> float | None:
    return read_classes(root).val_fraction if (root / FILE).exists() else None


def _with_validation(root: Path, kind: Literal["lists", "subfolders"], splits: list[str]) -> _SplitRule:
    """The rule of these splits; where none is val, `val_fraction` divides the training split if it is given."""
    train = LAYOUT.find_split("train", splits)
    if train not in splits or "val" in map(usual_split, splits) or not (fraction := _fraction(root)):
        return _SplitRule(kind, splits)
    return _SplitRule(kind, [*splits, "val"], fraction, train)


def _splits(root: Path) -> list[str]:
    """The splits of a folder; none if it has neither images nor masks.

    Raises:
        Incomplete: it has only one of the two, or a split has no masks.
    """
    missing = [name for name in ("images", "masks") if not (root / name).is_dir()]
    if len(missing) == 1:
        folders = ", ".join(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."))
        raise Incomplete(f"it has no folder {missing[0]!r} (there are: {folders})")
    return [] if missing else _split_rule(root).splits


def split_of(name: str, fraction: float) -> Literal["train", "val"]:
    """Where `val_fraction` puts the image of this name: the same on every computer and in every version."""
    return "val" if _hash(name) < fraction * 2**64 else "train"


def _hash(name: str) -> int:
    """Hash a name, uniformly in 0..2^64 - 1."""
    text = unicodedata.normalize("NFC", name).encode(errors="surrogateescape")  # a file name need not be UTF-8
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _validation_images(names: Iterable[str], fraction: float) -> set[str]:
    """The images that `val_fraction` puts into val: of two or more, at least one and not all."""
    ordered = sorted(names, key=_hash)
    below = sum(split_of(name, fraction) == "val" for name in ordered)
    return set(ordered[: min(max(below, 1), len(ordered) - 1)]) if len(ordered) > 1 else set()


def _images(root: Path, split: str, rule: _SplitRule) -> dict[str, Path]:
    """The images of a split by name."""
    images = _by_name(root / "images", rule.source(split) if rule.kind == "subfolders" else "")
    if rule.kind == "lists":
        images = _read_list(root / f"{rule.source(split)}.txt", images)
    if not rule.divides(split):
        return images
    if len(images) == 1:
        raise UserError(
            f"data set 'folder' at {root}: there is 1 image, {next(iter(images.values()))}, but training and "
            "validation need one each. Add images, or name it in both train.txt and val.txt."
        )
    validation = _validation_images(images, rule.fraction)
    return {name: file for name, file in images.items() if (name in validation) == (split == "val")}


def _pairs(root: Path, split: str) -> Files:
    rule = _split_rule(root)
    masks = _by_name(root / "masks", rule.source(split) if rule.kind == "subfolders" else "")
    images = _images(root, split, rule)
    return [(image, masks.get(name, root / "masks" / f"{name}.png")) for name, image in images.items()]


def _label_files(root: Path, split: str) -> list[Path]:
    rule = _split_rule(root)
    if rule.kind == "lists":
        return []  # other masks may lie beside those of a list
    part = rule.source(split) if rule.kind == "subfolders" else ""
    masks, images = _by_name(root / "masks", part), _by_name(root / "images", part)
    if not rule.divides(split):
        return list(masks.values())
    validation = _validation_images(images, rule.fraction)
    validation |= {name for name in masks if name not in images and split_of(name, rule.fraction) == "val"}
    return [file for name, file in masks.items() if (name in validation) == (split == "val")]


def _by_name(folder: Path, part: str = "") -> dict[str, Path]:
    """The images or masks in a part of a folder, by name: their path in the folder without suffix, in Unicode's NFC.

    Raises:
        UserError: two differ only in their suffix or in Unicode's form, or all are of formats that are not read.
    """
    try:
        files = images_in(folder / part)
    except UserError as error:  # there is none
        if unread_files(folder / part):
            raise UserError(f"data set 'folder': {error}") from None
        return {}
    named: dict[str, Path] = {}
    for file in files:
        name = unicodedata.normalize("NFC", file.relative_to(folder).with_suffix("").as_posix())  # macOS writes NFD
        other = named.setdefault(name, file)
        if other != file:
            what = "their suffix" if file.suffix != other.suffix else "the Unicode form of their names"
            raise UserError(
                f"data set 'folder': {other} and {file} differ only in {what}, so it is not clear which mask "
                "belongs to which image. Rename or remove one of them."
            )
    return named


def _read_list(file: Path, images: dict[str, Path]) -> dict[str, Path]:
    """The images that a list names, in its order."""
    known, listed = _written_names(images), dict[str, Path]()
    for number, line in _lines(file):
        if line not in known:
            raise UserError(
                f"list {file}, line {number}: {line!r} is no image in {file.parent / 'images'}.{nearest(line, known)} "
                "Lines are paths in that folder, with or without suffix."
            )
        if (name := known[line]) in listed:
            raise UserError(f"list {file}, line {number}: {line!r} is already listed above. Delete one of the lines.")
        listed[name] = images[name]
    return listed


def _list_file(root: Path, split: str) -> Path:
    return root / f"{_split_rule(root).source(split)}.txt"


def _names_image(file: Path) -> bool:
    """Whether a text file has a line that names an image."""
    try:
        lines = _lines(file)
    except UserError:  # not readable as text
        return usual_split(file.stem) in _USUAL
    known = _written_names(_by_name(file.parent / "images"))
    return any(line in known for _, line in lines)


def _lines(file: Path) -> list[tuple[int, str]]:
    """The non-blank lines of a list, as paths, with their numbers, from 1."""
    try:
        text = read_text(file, "list")
    except OSError as error:
        raise UserError(f"list {file} cannot be read ({error.strerror}): it must be a readable file.") from None
    text = unicodedata.normalize("NFC", text)
    lines = ((number, line.strip().replace("\\", "/")) for number, line in enumerate(text.splitlines(), 1))
    return [(number, str(PurePosixPath(line))) for number, line in lines if line]


def _written_names(images: dict[str, Path]) -> dict[str, str]:
    """From the ways in which a list may write an image to the image's name."""
    return {**{name: name for name in images}, **{name + file.suffix: name for name, file in images.items()}}


LAYOUT = Layout(
    name="folder",
    marker=FILE,
    remedy=(
        "gffnet reads images/**/NAME.jpg (or .png, ...) with masks/**/NAME.png and classes.yaml. Splits are lists "
        "(train.txt, val.txt: a path in images/ per line), or subfolders (images/train with masks/train, ...), or made "
        "by `val_fraction: 0.2` in classes.yaml, which is the default, and takes val from a train split that is alone."
    ),
    splits=_splits,
    pairs=_pairs,
    label_files=_label_files,
    list_file=_list_file,
    others={
        **dict.fromkeys(("I[mM]*", "im[gG]*", "image"), "Name its folders images and masks, in lower case."),
        "[tT][rR][aA][iI][nN]*/images": (
            "Its splits hold their images and masks: move them from train/images to images/train and from train/masks "
            "to masks/train, and so on."
        ),
    },
)


@DATASETS.register("folder")
class Folder(Dataset):
    """The images of `split`, such as train, val, or several such as `train+val`.

    Args:
        root: the folder that holds `images`, `masks` and `classes.yaml`.
        split: the split or splits.
        files: if given, used in place of the split's files.

    Raises:
        UserError: the folder, its classes, a split or a file is missing or wrong.
    """

    layout = LAYOUT

    def __init__(self, root: str | Path, split: str, files: Files | None = None) -> None:
        super().__init__(root, split, files)
        self.stored = read_classes(self.root)
        names, source = self.stored.classes.names, self.root / FILE
        self.colors: ColorTable | None = None
        if self.stored.masks == "colors":
            self.colors = ColorTable(self.stored.train_ids, names, source)
            self.table = LabelTable(identity(len(names)), legal=f"0..{len(names) - 1}, and 255")
        else:
            hint = (
                f"correct it, or add the id to `classes` or `ignore` in {source}; for colors, write `masks: colors` "
                "there"
            )
            self.table = LabelTable(self.stored.train_ids, legal=_ranges(sorted(self.stored.train_ids)), hint=hint)
        self.classes = self.stored.classes

    def name(self, index: int) -> str:
        """The path of sample `index` in `images`, without suffix, as `gffnet predict` names results."""
        return self.files[index][0].relative_to(self.root / "images").with_suffix("").as_posix()

    def read_ids(self, label_file: Path) -> tuple[NDArray[Any], LabelTable]:
        """Read the ids that a mask stores; the train ids where masks hold colors.

        Raises:
            UserError: the file cannot be read, holds colors in place of ids, or a color of no class.
        """
        if self.colors is not None:
            colors, opaque = read_colors(label_file)
            return self.colors(colors, label_file, opaque), self.table
        try:
            return read_labels(label_file), self.table
        except UserError:
            _refuse_colors(label_file, self.root / FILE)
            raise

    def doubt_255(self, classes: int, share: float) -> str:
        """What to do where 255 may be a class and `classes.yaml` does not say so; empty where it need not be.

        Args:
            classes: that occur.
            share: of the pixels that are 255.
        """
        ids = sorted(set(self.stored.train_ids) - {IGNORE})
        if not self.stored.ignores_by_default or not share or (classes > 1 and not is_class_255(ids, share)):
            return ""
        file = self.root / FILE
        return (
            f"If 255 is a class, add {{name: ..., id: 255}} to `classes` in {file}; if not, write `ignore: 255` there."
        )

    def meaning(self) -> str:
        """Everything that decides which train id a stored id or color becomes, except for the files themselves."""
        return f"{self.stored.masks} {sorted(self.stored.train_ids.items())}"


def _ranges(ids: list[int]) -> str:
    """Ascending ids as text, such as `0..2, 7, 255`."""
    runs = [[each for _, each in run] for _, run in groupby(enumerate(ids), lambda item: item[1] - item[0])]
    return ", ".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _refuse_colors(mask: Path, source: Path) -> None:
    """Raise `UserError` with the remedy for a mask that holds colors where it should hold ids."""
    try:
        colors, opaque = read_colors(mask)
    except UserError:
        return  # something else is wrong with it
    if (colors == colors[..., :1]).all():
        alpha = "" if opaque is None else ", with the id of ignored pixels where it is transparent"
        remedy = (
            f"It is grey throughout: if its values are ids, save one of its channels{alpha}; or write `masks: colors` "
            f"and a color for every class in {source}"
        )
    else:
        remedy = f"If its colors stand for classes, write `masks: colors` and a color for every class in {source}"
    raise UserError(
        f"mask {mask}: it has several channels, but {source} says `masks: ids`, one value per pixel. {remedy}."
    )

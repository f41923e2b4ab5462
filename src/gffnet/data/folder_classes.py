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

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from gffnet.data.catalog import IGNORE, Classes
from gffnet.data.colour_masks import unpack
from gffnet.data.folder_guess import guess_classes
from gffnet.errors import UserError, nearest
from gffnet.recipe import StrictLoader

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

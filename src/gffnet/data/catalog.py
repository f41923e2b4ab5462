"""The classes of each data set: names, colours, and how many they are. `classes/*.txt` lists them, one a line."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gffnet.errors import UserError, unknown

IGNORE = 255
"""The label of pixels that count neither in the loss nor in a score."""

_FILES = Path(__file__).with_name("classes")
_LISTED = {name: name for name in ("cityscapes", "ade20k", "pascal_context", "coco_stuff_10k", "camvid")}
_LISTED["streets"] = "cityscapes"
_THIN = {
    "camvid": ("pole", "sign", "pedestrian", "bicyclist"),
    "cityscapes": ("pole", "traffic light", "traffic sign", "person", "rider", "bicycle"),
}
_FOLDER = 19
"""Stands in for the number of a user's own classes where no data say it."""


@dataclass(frozen=True)
class Classes:
    """Classes in the order of their labels `0..n-1`."""

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """One RGB colour a class."""


def dataset_classes(name: str) -> Classes:
    """The official classes of a data set, in the order of its train ids.

    Raises:
        UserError: no such data set, or `folder`, whose classes stand in its own classes.yaml.
    """
    if name == "folder":
        raise UserError("data set 'folder' has no classes of its own: they stand in the classes.yaml of its folder.")
    if name not in _LISTED:
        raise unknown("data set", name, [*_LISTED, "folder"])
    return listed_classes(_LISTED[name])


def thin_classes(name: str) -> tuple[str, ...]:
    """The classes of a data set that are thin or small in most images; none where nobody has said which."""
    return _THIN.get(_LISTED.get(name, name), ())


def class_count(name: str) -> int:
    """How many classes a data set has; for `folder`, whose data say it, a stand-in of 19 that serves costing only.

    Raises:
        UserError: no such data set.
    """
    return _FOLDER if name == "folder" else len(dataset_classes(name).names)


@cache
def listed_classes(file: str) -> Classes:
    """The classes that `classes/{file}.txt` lists, in lines `red green blue name`."""
    rows = [line.split(maxsplit=3) for line in (_FILES / f"{file}.txt").read_text(encoding="utf-8").splitlines()]
    return Classes(tuple(row[3] for row in rows), tuple((int(row[0]), int(row[1]), int(row[2])) for row in rows))


CAMVID = dataset_classes("camvid")
CITYSCAPES = dataset_classes("cityscapes")

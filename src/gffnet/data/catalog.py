"""The classes of each data set: names, colours, and how many they are."""

from dataclasses import dataclass

from gffnet.errors import UserError, unknown

IGNORE = 255
"""The label of pixels that count neither in the loss nor in a score."""


@dataclass(frozen=True)
class Classes:
    """Classes in the order of their labels `0..n-1`."""

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """One RGB colour a class."""


CAMVID = Classes(
    names=("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),
    palette=(
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
)
"""The eleven classes of the SegNet release, in its order and colours."""

CITYSCAPES = Classes(
    names=(
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
        *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    ),
    palette=(
        (128, 64, 128),
        (244, 35, 232),
        (70, 70, 70),
        (102, 102, 156),
        (190, 153, 153),
        (153, 153, 153),
        (250, 170, 30),
        (220, 220, 0),
        (107, 142, 35),
        (152, 251, 152),
        (70, 130, 180),
        (220, 20, 60),
        (255, 0, 0),
        (0, 0, 142),
        (0, 0, 70),
        (0, 60, 100),
        (0, 80, 100),
        (0, 0, 230),
        (119, 11, 32),
    ),
)
"""The nineteen evaluated classes, in the order of their official train ids."""

_CLASSES = {"camvid": CAMVID, "cityscapes": CITYSCAPES, "streets": CITYSCAPES}
_COUNTS = {"ade20k": 150, "pascal_context": 59, "coco_stuff_10k": 171, "folder": 19}


def dataset_classes(name: str) -> Classes:
    """The classes of a data set whose classes are fixed and listed here.

    Raises:
        UserError: no such data set, or one whose classes are not listed.
    """
    if name in _COUNTS:
        raise UserError(
            f"the class names of data set {name!r} are not known to this version: {', '.join(_CLASSES)} are."
        )
    if name not in _CLASSES:
        raise unknown("data set", name, [*_CLASSES, *_COUNTS])
    return _CLASSES[name]


def class_count(name: str) -> int:
    """How many classes a data set has; for `folder`, whose data say it, a stand-in of 19 that serves costing only.

    Raises:
        UserError: no such data set.
    """
    return _COUNTS[name] if name in _COUNTS else len(dataset_classes(name).names)

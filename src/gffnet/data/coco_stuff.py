"""COCO-Stuff 10k: images of COCO with 80 kinds of things and 91 kinds of stuff.

Features:
    9000 training and 1000 test images of about 640x480 pixels; some are grey.
Format:
    `images/*.jpg`, `annotations/*.mat` and `imageLists/{train,test}.txt`. A MAT file holds the label map `S` and
    `names`, the classes that its ids stand for. There are two releases, and `names` tells which one a file is of:
    in 1.1 it has 182 entries, and 0 in `S` is unlabelled; in 1.0 it has 172, and the first of them, `unlabeled`, is
    id 1. Their ids differ, their images, masks and classes do not. Files of 1.0 are of MAT 7.3, for which h5py must be
    there: `python -m pip install 'gffnet[coco]'`. val is understood as the test split.
Classes:
    171, in the order of both releases. Release 1.1 counts 182, eleven of them (street sign, hat, shoe, eye glasses,
    plate, mirror, window, desk, door, blender, hair brush: things that COCO planned and never labelled) unused. The
    colours are those of the release's colour map (cmapThingsStuff.m). Unlabelled pixels are ignored.
Licence:
    The annotations are CC BY 4.0; the images are under Flickr's terms of use.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gffnet.data.catalog import IGNORE, dataset_classes
from gffnet.data.dataset import Dataset, Files, LabelTable, Layout, list_files, read_list
from gffnet.data.io import MatFile
from gffnet.errors import UserError

_SPLITS = ("train", "test")
_ALIASES = {"val": "test"}
_UNLABELLED = "unlabeled"
_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
_LEGAL = {172: "1..172", 182: f"0..182 less {' '.join(map(str, _UNUSED))}"}
"""How many names a release has, and its ids."""

_HINT = "restore the file from cocostuff-10k-v1.1.zip"
_IDS = [stored for stored in range(1, 183) if stored not in _UNUSED]
TABLE = LabelTable({0: IGNORE, **{stored: train_id for train_id, stored in enumerate(_IDS)}}, _LEGAL[182], _HINT)
"""Of release 1.1."""


class COCOStuff10k(Dataset):
    """The images of `split`: train, test, or both as `train+test`; val is test.

    Args:
        root: the folder that holds `images`, `annotations` and `imageLists`.
        split: the split or splits.
        files: takes the place of the split where its files were listed before.

    Raises:
        UserError: the folder, a split or a file is missing.
    """

    def __init__(self, root: Path, split: str, files: Files | None = None) -> None:
        splits = "+".join(_ALIASES.get(name, name) for name in split.split("+"))
        super().__init__(
            dataset_classes("coco_stuff_10k"), list_files(LAYOUT, root, splits) if files is None else files, TABLE
        )

    def read_ids(self, label_file: Path) -> tuple[NDArray[Any], LabelTable]:
        """The ids that a MAT file stores, and what they mean in its release.

        Raises:
            UserError: the file cannot be read, or its names are those of no release.
        """
        file = MatFile(label_file, ("S", "names"))
        return file.ids("S"), _table(file.texts("names"), label_file)


def _table(names: tuple[str, ...], label_file: Path) -> LabelTable:
    """What ids mean in a file that holds these names."""
    table = _table_of(names)
    if table is None:
        other = next((name for name in names if name not in (*_class_names(), _UNLABELLED)), "")
        raise UserError(
            f"label map {label_file}: its {len(names)} names are neither the 182 of COCO-Stuff 10k 1.1 nor the 172 of "
            f"1.0{f'; the first that is no class of them is {other!r}' if other else ''}. Restore the file from "
            "cocostuff-10k-v1.1.zip."
        )
    return table


@lru_cache(maxsize=4)
def _table_of(names: tuple[str, ...]) -> LabelTable | None:
    """What ids mean where the i-th name is that of id i, counted from 1; None if no release has these names."""
    train_ids = {name: train_id for train_id, name in enumerate(_class_names())}
    ids = {stored: train_ids[name] for stored, name in enumerate(names, 1) if name in train_ids}
    if len(names) not in _LEGAL or sorted(ids.values()) != sorted(train_ids.values()):
        return None
    unlabelled = names.index(_UNLABELLED) + 1 if _UNLABELLED in names else 0
    return LabelTable({unlabelled: IGNORE, **ids}, _LEGAL[len(names)], _HINT)


def _class_names() -> tuple[str, ...]:
    return dataset_classes("coco_stuff_10k").names


def _splits(root: Path) -> list[str]:
    return [split for split in _SPLITS if (root / "imageLists" / f"{split}.txt").is_file()]


def _pairs(root: Path, split: str) -> Files:
    names = read_list(root / "imageLists" / f"{split}.txt")
    return [(root / "images" / f"{name}.jpg", root / "annotations" / f"{name}.mat") for name in names]


_READS = "gffnet reads COCO-Stuff 10k as released (cocostuff-10k-v1.1.zip); see docs/data.md#coco_stuff_10k."
_BIG = f"holds COCO-Stuff of all of COCO (164k), whose label maps are PNG. {_READS}"
LAYOUT = Layout(
    name="coco_stuff_10k",
    marker="imageLists/*.txt",
    remedy=f"It needs images/*.jpg, annotations/*.mat and imageLists/{{train,test}}.txt. {_READS}",
    splits=_splits,
    pairs=_pairs,
    counts={"train": 9000, "test": 1000},
    others={
        "stuffthingmaps*": f"stuffthingmaps {_BIG}",
        "train2017": f"train2017 {_BIG}",
        "images/train2017": f"images/train2017 {_BIG}",
        "annotations/train2017": f"annotations/train2017 {_BIG}",
        "images/train2014/*.jpg": "images/train2014 was made by a converter, which moves the images: move them back "
        f"into images. {_READS}",
    },
)

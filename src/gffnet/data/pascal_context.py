"""Pascal Context: PASCAL VOC 2010, every pixel labelled.

Features:
    4998 training and 5105 validation images of about 500x375 pixels, indoors and outdoors.
Format:
    `JPEGImages/*.jpg` of VOC 2010, and label maps; of those that are there, the first in this table are read:
    `trainval/*.mat`: as released. `LabelMap` holds the ids 1..459 of the list of 459 names.
    `trainval/*.png`: the same ids as 16-bit grey PNG, which eight bits cannot hold.
    `59_context_labels/*.png`: as released; 1..59 in the order of 59_labels.txt, and 0 for the rest.
    `SegmentationClassContext/*.png`: as mmsegmentation converts them; 1..59 in the order of the 459, which is the
    alphabet's, and 0 for the rest.
    The splits are those of VOC 2010, `ImageSets/SegmentationContext/{train,val}.txt` or
    `ImageSets/Main/{train,val}.txt`. The root is VOC2010 or a folder that holds VOC2010 or VOCdevkit/VOC2010; label
    maps and lists may lie in either.
Classes:
    59, in the order of 59_labels.txt whatever the label maps store: the 20 of PASCAL VOC first. Ids of the 459 are
    matched by name; three names differ between the lists. All other pixels are ignored. The colours are those of
    PASCAL VOC's colour map, which goes on for ever.
Licence:
    The annotations are free for research; the images are under Flickr's terms of use.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gffnet.data.catalog import IGNORE, dataset_classes, listed_classes
from gffnet.data.dataset import Dataset, Files, LabelTable, Layout, list_files, read_list
from gffnet.data.io import MatFile, read_labels
from gffnet.errors import UserError

ORDER = "59_labels.txt"
"""Names the order of the train ids: a table of scores should say it, since the alphabet's order is used as well."""

_NAMES = dataset_classes("pascal_context").names
_IN_459 = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
"""Classes that the list of 459 calls otherwise."""

_ID_459 = {name: stored for stored, name in enumerate(listed_classes("pascal_context_459").names, 1)}
_STORED = {_ID_459[_IN_459.get(name, name)]: train_id for train_id, name in enumerate(_NAMES)}
TABLE_459 = LabelTable(
    {**dict.fromkeys(range(460), IGNORE), **_STORED}, "0..459", "restore the file from trainval.tar.gz"
)


_LISTS = ("SegmentationContext", "Main")
"""Where in ImageSets the lists of the splits lie."""


class Variant(NamedTuple):
    """One way in which label maps of Pascal Context come."""

    folder: str
    ending: str
    order: str
    """What the ids count."""
    table: LabelTable


def _variant_59(folder: str, order: str, train_ids: list[int]) -> Variant:
    ids = {0: IGNORE, **dict(enumerate(train_ids, 1))}
    hint = "other ids mean that the map was converted once more, and its order is unknown: use trainval/*.mat"
    return Variant(folder, ".png", order, LabelTable(ids, "0..59", hint))


VARIANTS = (
    Variant("trainval", ".mat", "459 names", TABLE_459),
    Variant("trainval", ".png", "459 names", TABLE_459),
    _variant_59("59_context_labels", ORDER, list(range(59))),
    _variant_59("SegmentationClassContext", "alphabet", [_STORED[stored] for stored in sorted(_STORED)]),
)


class PascalContext(Dataset):
    """The images of `split`: train, val, or both as `train+val`.

    Args:
        root: VOC2010, or a folder that holds it.
        split: the split or splits.
        files: takes the place of the split where its files were listed before.

    Attributes:
        order: of the train ids.
        variant: of the label maps that are read.

    Raises:
        UserError: the folder, a split or a file is missing.
    """

    order = ORDER

    def __init__(self, root: Path, split: str, files: Files | None = None) -> None:
        files = list_files(LAYOUT, root, split) if files is None else files
        found = _label_maps(root)
        self.variant = found[0] if found else VARIANTS[0]
        super().__init__(dataset_classes("pascal_context"), files, self.variant.table)

    def read_ids(self, label_file: Path) -> tuple[NDArray[Any], LabelTable]:
        """The ids that a label file stores, and what they mean.

        Raises:
            UserError: the file cannot be read, or is a PNG of eight bits where ids go to 459.
        """
        if self.variant.ending == ".mat":
            return MatFile(label_file, ("LabelMap",)).ids("LabelMap"), self.table
        ids = read_labels(label_file)
        if self.table is TABLE_459 and ids.dtype == np.uint8:
            raise UserError(
                f"label map {label_file}: its eight bits cannot hold the ids 1..459, so those above 255 are lost. "
                "Use the trainval/*.mat that it was made from, or write its ids with 16 bits."
            )
        return ids, self.table


def _bases(root: Path) -> list[Path]:
    """The folders in which the parts of the data set may lie."""
    return [root, root / "VOC2010", root / "VOCdevkit" / "VOC2010"]


def _label_maps(root: Path) -> tuple[Variant, Path] | None:
    """The label maps that are there, and their folder."""
    folders = ((variant, base / variant.folder) for variant in VARIANTS for base in _bases(root))
    return next((found for found in folders if any(found[1].glob(f"*{found[0].ending}"))), None)


def _images(root: Path) -> Path | None:
    return next((base / "JPEGImages" for base in _bases(root) if (base / "JPEGImages").is_dir()), None)


def _list(root: Path, split: str) -> Path | None:
    files = (base / "ImageSets" / name / f"{split}.txt" for name in _LISTS for base in _bases(root))
    return next((file for file in files if file.is_file()), None)


def _splits(root: Path) -> list[str]:
    """The splits that have a list, if images and label maps are there.

    Raises:
        UserError: only one of the two is there.
    """
    images, labels = _images(root), _label_maps(root)
    if labels and not images:
        raise LAYOUT.error(root, "there are label maps of Pascal Context, but no JPEGImages")
    if images and not labels:
        raise LAYOUT.error(root, "there are JPEGImages, as in every PASCAL VOC, but no label maps of Pascal Context")
    return [split for split in ("train", "val") if images and _list(root, split)]


def _pairs(root: Path, split: str) -> Files:
    images, labels, listing = _images(root), _label_maps(root), _list(root, split)
    if not images or not labels or not listing:
        return []
    variant, folder = labels
    return [(images / f"{name}.jpg", folder / f"{name}{variant.ending}") for name in read_list(listing)]


_READS = "gffnet reads trainval/*.mat of trainval.tar.gz (Pascal Context); see docs/data.md#pascal_context."
LAYOUT = Layout(
    name="pascal_context",
    marker="trainval/*.mat",
    remedy="It needs JPEGImages and ImageSets/Main/{train,val}.txt of VOC 2010 (VOCtrainval_03-May-2010.tar), and "
    f"trainval/*.mat of Pascal Context (trainval.tar.gz) beside them. {_READS}",
    splits=_splits,
    pairs=_pairs,
    counts={"train": 4998, "val": 5105},
    others={
        "GroundTruth_trainval_png/*.png": "GroundTruth_trainval_png holds ids of 1..459 cut to eight bits, or classes "
        f"in an order that nothing tells. {_READS}",
        "33_context_labels/*.png": f"33_context_labels holds 33 classes, not 59. {_READS}",
        "annotations_ctx59/*": f"annotations_ctx59 is made by a converter for detectron2. {_READS}",
        "annotations_detectron2/*": f"annotations_detectron2 is made by a converter. {_READS}",
    },
)

"""ADE20K, the release of the SceneParsing challenge (ADEChallengeData2016).

Features:
    20210 training and 2000 validation images of indoor and outdoor scenes, of many sizes; some are grey.
Format:
    `images/{training,validation}/*.jpg` and `annotations/{training,validation}/*.png` (grey; 0 is unlabelled, 1..150
    are the classes). The splits are called train and val here; training and validation are understood as well.
Classes:
    150, each called by the first of its names in objectInfo150.txt; the colours are those of color150.mat, in which
    road and skyscraper share one. Unlabelled pixels are ignored.
Licence:
    The annotations are BSD-3; the images are for non-commercial research and education (sceneparsing.csail.mit.edu).
"""

from pathlib import Path

from gffnet.data.catalog import IGNORE, dataset_classes
from gffnet.data.dataset import Dataset, Files, LabelTable, Layout, list_files

_FOLDERS = {"train": "training", "val": "validation"}
_SPLITS = {folder: split for split, folder in _FOLDERS.items()}
_TREE = "images/{training,validation}/*.jpg and annotations/{training,validation}/*.png"
_READS = "gffnet reads the SceneParsing challenge release (ADEChallengeData2016.zip); see docs/data.md#ade20k."
TABLE = LabelTable(
    {0: IGNORE, **{stored: stored - 1 for stored in range(1, 151)}},
    legal="0..150",
    hint="the full ADE20K release numbers its classes otherwise, and converters shift the ids: "
    "restore the file from ADEChallengeData2016",
)


class ADE20K(Dataset):
    """The images of `split`: train, val, or both as `train+val`.

    Args:
        root: the folder that holds `images` and `annotations`.
        split: the split or splits.
        files: takes the place of the split where its files were listed before.

    Raises:
        UserError: the folder, a split or a file is missing.
    """

    def __init__(self, root: Path, split: str, files: Files | None = None) -> None:
        splits = "+".join(_SPLITS.get(name, name) for name in split.split("+"))
        super().__init__(dataset_classes("ade20k"), list_files(LAYOUT, root, splits) if files is None else files, TABLE)


def _splits(root: Path) -> list[str]:
    """The splits whose images and labels have a folder."""
    parts = ("images", "annotations")
    return [split for split, folder in _FOLDERS.items() if all((root / part / folder).is_dir() for part in parts)]


def _pairs(root: Path, split: str) -> Files:
    images, labels = root / "images" / _FOLDERS[split], root / "annotations" / _FOLDERS[split]
    return [(image, labels / f"{image.stem}.png") for image in sorted(images.glob("*.jpg"))]


def _label_files(root: Path, split: str) -> list[Path]:
    return sorted((root / "annotations" / _FOLDERS[split]).glob("*.png"))


_FULL = f"This is the full ADE20K release, whose masks hold over 3000 classes as colours. {_READS}"
LAYOUT = Layout(
    name="ade20k",
    marker="annotations/*/ADE_*.png",
    remedy=f"It needs {_TREE}. {_READS}",
    splits=_splits,
    pairs=_pairs,
    label_files=_label_files,
    counts={"train": 20210, "val": 2000},
    others={
        "images/training/*/**/*_seg.png": f"images/training/**/*_seg.png exist. {_FULL}",
        "images/ADE/*": f"images/ADE exists. {_FULL}",
        "ADE20K_20*_*_*": f"It holds ADE20K_<date>. {_FULL}",
    },
)

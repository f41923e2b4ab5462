"""Cityscapes, and every data set in its layout, such as the procedural streets.

Features:
    2975 training, 500 validation and 1525 test images of 2048x1024 pixels, from 50 cities; fine annotations.
Format:
    `leftImg8bit/{split}/{city}/*_leftImg8bit.png` (RGB) and `gtFine/{split}/{city}/*_gtFine_labelIds.png` (grey, the
    value is the official label id). The test split's label maps are dummies. Each of the two may lie in a folder of its
    archive, such as `gtFine_trainvaltest/gtFine`.
Classes:
    19 of the 34 label ids are evaluated, in the order of their train ids; the others are ignored, and so is 255, which
    is how eight bits store the licence plates' -1.
Licence:
    Free for research and teaching after registration at cityscapes-dataset.com; not to be passed on.
"""

from pathlib import Path

from gffnet.data.dataset import DATASETS, IGNORE, Classes, Dataset, Files, LabelTable, Layout

CITYSCAPES = Classes.parse(
    """
    road #804080, sidewalk #f423e8, building #464646, wall #66669c, fence #be9999, pole #999999, traffic light #faaa1e,
    traffic sign #dcdc00, vegetation #6b8e23, terrain #98fb98, sky #4682b4, person #dc143c, rider #ff0000, car #00008e,
    truck #000046, bus #003c64, train #005064, motorcycle #0000e6, bicycle #770b20
    """
)
_TREE = "leftImg8bit/{split}/{city}/*_leftImg8bit.png and gtFine/{split}/{city}/*_gtFine_labelIds.png"
EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The label ids of the train ids 0..18."""
TRAIN_IDS = {
    **dict.fromkeys(range(34), IGNORE),
    255: IGNORE,
    **{label: train_id for train_id, label in enumerate(EVALUATED)},
}


def _parts(root: Path, part: str) -> list[Path]:
    """The folders `leftImg8bit` or `gtFine`: in the root or in that of an archive, `gtFine_trainvaltest/gtFine`."""
    return [folder for folder in (root / part, *sorted(root.glob(f"{part}*/{part}"))) if folder.is_dir()]


def _split(root: Path, part: str, split: str) -> Path:
    """The folder of a split in the first of `_parts` that has it."""
    found = (folder / split for folder in _parts(root, part) if (folder / split).is_dir())
    return next(found, root / part / split)


def _splits(root: Path) -> list[str]:
    parts = _parts(root, "leftImg8bit")
    return sorted({split.name for part in parts for split in part.iterdir() if split.is_dir() and split not in parts})


def _pairs(root: Path, split: str) -> Files:
    images, labels = _split(root, "leftImg8bit", split), _split(root, "gtFine", split)
    return [
        (image, labels / image.parent.name / image.name.replace("_leftImg8bit.png", "_gtFine_labelIds.png"))
        for image in sorted(images.glob("*/*_leftImg8bit.png"))
    ]


def _label_files(root: Path, split: str) -> list[Path]:
    return sorted(_split(root, "gtFine", split).glob("*/*_gtFine_labelIds.png"))


def _layout(name: str, remedy: str, counts: dict[str, int]) -> Layout:
    return Layout(
        name=name,
        marker="leftImg8bit*/**/*_leftImg8bit.png",
        remedy=f"{remedy}: {_TREE}.",
        splits=_splits,
        pairs=_pairs,
        label_files=_label_files,
        counts=counts,
    )


@DATASETS.register("cityscapes")
class Cityscapes(Dataset):
    """The images of `split`: train, val, test, or several such as `train+val`."""

    classes = CITYSCAPES
    thin_classes = ("pole", "traffic light", "traffic sign", "person", "rider", "bicycle")
    table = LabelTable(TRAIN_IDS, legal="0..33, and 255 for the licence plates' -1")
    layout = _layout(
        "cityscapes",
        "It needs leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, unpacked into one folder",
        {"train": 2975, "val": 500, "test": 1525},
    )

    def name(self, index: int) -> str:
        """City, sequence and frame of sample `index`, such as `frankfurt_000000_000294`."""
        return super().name(index).removesuffix("_leftImg8bit")


@DATASETS.register("streets")
class Streets(Cityscapes):
    """Procedural street scenes (`gffnet data streets`) in the layout and with the classes of Cityscapes."""

    layout = _layout("streets", "`gffnet data streets --out DIR --train N --val N` makes it", {})

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gffnet.data.pascal_context import PascalContext
from gffnet.errors import UserError
from tests.data.trees import pascal_context_tree, picture, save, save_mat

# The official order (59_labels.txt), and the id that each class has among the 459.
OFFICIAL = """
aeroplane     2
bicycle      23
bird         25
boat         31
bottle       34
bus          45
car          59
cat          65
chair        72
cow          98
diningtable 397
dog         113
horse       207
motorbike   258
person      284
pottedplant 308
sheep       347
sofa        368
train       416
tvmonitor   427
bag           9
bed          18
bench        22
book         33
building     44
cabinet      46
ceiling      68
clothes      80
computer     85
cup         104
door        115
fence       144
floor       158
flower      159
food        162
grass       187
ground      189
keyboard    220
light       232
mountain    259
mouse       260
curtain     105
platform    296
sign        355
plate       295
road        324
rock        326
shelves     349
sidewalk    354
sky         360
snow        366
bedcloth     19
track       415
tree        420
truck       424
wall        440
water       445
window      454
wood        458
"""
ROWS = [(name, int(stored)) for name, stored in (line.split() for line in OFFICIAL.strip().splitlines())]
NAMES = [name for name, _ in ROWS]

# What mmsegmentation's converter writes: 1..59 in the order of these names, 0 for the rest.
ALPHABET = """
aeroplane bag bed bedclothes bench bicycle bird boat book bottle building bus cabinet car cat ceiling chair cloth
computer cow cup curtain dog door fence floor flower food grass ground horse keyboard light motorbike mountain mouse
person plate platform pottedplant road rock sheep shelves sidewalk sign sky snow sofa table track train tree truck
tvmonitor wall water window wood
"""
RENAMED = {"table": "diningtable", "bedclothes": "bedcloth", "cloth": "clothes"}
FIRST = "2008_000000"


def with_png(root: Path, folder: str, stored: np.ndarray) -> Path:
    """The tree with PNG label maps in place of MAT files; that of the first image holds these ids."""
    for file in root.glob("trainval/*.mat"):
        save(root / folder / f"{file.stem}.png", np.zeros((12, 16), np.uint8))
        file.unlink()
    save(root / folder / f"{FIRST}.png", stored)
    save(root / "JPEGImages" / f"{FIRST}.jpg", picture(0, stored.shape))
    return root


def labels(root: Path) -> list[int]:
    return PascalContext(root, "train")[0].labels[0].tolist()


def test_every_id_of_a_mat_file(tmp_path: Path) -> None:
    root = pascal_context_tree(tmp_path)
    stored = np.arange(460, dtype=np.uint16)[None]
    save_mat(root / "trainval" / f"{FIRST}.mat", LabelMap=stored)
    save(root / "JPEGImages" / f"{FIRST}.jpg", picture(0, stored.shape))
    train_ids = {stored: train_id for train_id, (_, stored) in enumerate(ROWS)}
    assert len(train_ids) == 59
    assert labels(root) == [train_ids.get(stored, 255) for stored in range(460)]
    dataset = PascalContext(root, "train")
    assert list(dataset.classes.names) == NAMES
    assert (dataset.order, dataset.variant.order) == ("59_labels.txt", "459 names")


def test_every_id_of_mmsegmentations_png(tmp_path: Path) -> None:
    """By content: the pixel that the converter wrote for a name is labelled with that name."""
    stored = np.arange(60, dtype=np.uint8)[None]
    root = with_png(pascal_context_tree(tmp_path), "SegmentationClassContext", stored)
    ignored, *found = labels(root)
    assert ignored == 255
    assert [NAMES[label] for label in found] == [RENAMED.get(name, name) for name in ALPHABET.split()]
    assert PascalContext(root, "train").variant.order == "alphabet"


def test_every_id_of_the_official_png(tmp_path: Path) -> None:
    stored = np.arange(60, dtype=np.uint8)[None]
    root = with_png(pascal_context_tree(tmp_path), "59_context_labels", stored)
    assert labels(root) == [255, *range(59)]
    assert PascalContext(root, "train").variant.order == PascalContext.order == "59_labels.txt"


def test_every_id_of_a_png_with_the_459(tmp_path: Path) -> None:
    root = with_png(pascal_context_tree(tmp_path), "trainval", np.arange(460, dtype=np.uint16)[None])
    found = labels(root)
    assert [found[stored] for _, stored in ROWS] == list(range(59))
    assert found.count(255) == 460 - 59


def test_mat_files_go_first(tmp_path: Path) -> None:
    root = pascal_context_tree(tmp_path)
    save(root / "SegmentationClassContext" / f"{FIRST}.png", np.zeros((12, 16), np.uint8))
    assert PascalContext(root, "train").variant.ending == ".mat"


@pytest.mark.parametrize("inner", [".", "VOC2010", "VOCdevkit/VOC2010"])
def test_splits_wherever_voc_lies(tmp_path: Path, inner: str) -> None:
    pascal_context_tree(tmp_path / inner)
    dataset = PascalContext(tmp_path, "train+val")
    assert [dataset[i].name[-3:] for i in range(5)] == ["000", "001", "002", "100", "101"]
    assert dataset[4].image.shape == (3, 12, 16)


def test_label_maps_and_lists_beside_voc(tmp_path: Path) -> None:
    root = pascal_context_tree(tmp_path / "VOCdevkit" / "VOC2010")
    (root / "trainval").rename(tmp_path / "trainval")
    listing = tmp_path / "ImageSets" / "SegmentationContext" / "val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("2008_000101\n")
    assert [image.stem for image, _ in PascalContext(tmp_path, "val").files] == ["2008_000101"]


# Errors: one line with the cause and the remedy.


def test_missing_folder_and_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: there is no such folder\. It needs JPEGImages and ImageSets/Main/"):
        PascalContext(tmp_path / "none", "val")
    with pytest.raises(UserError, match=r"does not look like this data set\. It needs JPEGImages"):
        PascalContext(tmp_path, "val")
    root = pascal_context_tree(tmp_path / "VOC2010")
    with pytest.raises(UserError, match=rf"like it: pass --root {root}\."):
        PascalContext(root / "trainval", "val")
    with pytest.raises(UserError, match=r"split 'test' is not there \(there are: train, val\)"):
        PascalContext(root, "test")
    (root / "trainval" / f"{FIRST}.mat").unlink()
    with pytest.raises(UserError, match=rf"1 of the 3 samples of split 'train' lack their label map, .*{FIRST}\.mat"):
        PascalContext(root, "train")


def test_plain_pascal_voc(tmp_path: Path) -> None:
    root = pascal_context_tree(tmp_path)
    for file in root.glob("trainval/*.mat"):
        file.unlink()
    save(root / "SegmentationClass" / f"{FIRST}.png", np.zeros((12, 16), np.uint8))
    with pytest.raises(
        UserError, match=r"there are JPEGImages, as in every PASCAL VOC, but no label maps of Pascal Context\. It needs"
    ):
        PascalContext(root, "train")


def test_label_maps_alone(tmp_path: Path) -> None:
    root = pascal_context_tree(tmp_path)
    (root / "JPEGImages").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"there are label maps of Pascal Context, but no JPEGImages\. It needs"):
        PascalContext(root, "train")


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("GroundTruth_trainval_png", "ids of 1..459 cut to eight bits, or classes in an unknown order"),
        ("33_context_labels", "33_context_labels holds 33 classes, not 59"),
        ("annotations_ctx59/training", "made by a converter for detectron2"),
        ("annotations_detectron2/pc59_val", "made by a converter"),
    ],
)
def test_label_maps_of_unknown_order_are_refused(tmp_path: Path, folder: str, said: str) -> None:
    root = with_png(pascal_context_tree(tmp_path), folder, np.ones((12, 16), np.uint8))
    with pytest.raises(UserError, match=rf"no label maps of Pascal Context\. .*{said}.* gffnet reads trainval/\*\.mat"):
        PascalContext(root, "train")


@pytest.mark.parametrize("folder", ["SegmentationClassContext", "59_context_labels"])
@pytest.mark.parametrize("value", [60, 255])
def test_illegal_label_of_59(tmp_path: Path, folder: str, value: int) -> None:
    root = with_png(pascal_context_tree(tmp_path), folder, np.array([[1, value]], np.uint8))
    with pytest.raises(
        UserError,
        match=rf"value {value} at row 0, column 1 is no label id: they are 0\.\.59\. .* order is unknown: use trainval",
    ):
        labels(root)


def test_illegal_label_of_459(tmp_path: Path) -> None:
    root = pascal_context_tree(tmp_path)
    save_mat(root / "trainval" / f"{FIRST}.mat", LabelMap=np.full((12, 16), 460, np.uint16))
    with pytest.raises(
        UserError, match=rf"{FIRST}\.mat: value 460 at row 0, column 0 is no label id: they are 0\.\.459"
    ):
        labels(root)


def test_eight_bits_cannot_hold_the_459(tmp_path: Path) -> None:
    root = with_png(pascal_context_tree(tmp_path), "trainval", np.array([[1, 2]], np.uint8))
    assert Image.open(root / "trainval" / f"{FIRST}.png").mode == "L"
    with pytest.raises(UserError, match=rf"{FIRST}\.png: its eight bits cannot hold the ids 1\.\.459"):
        labels(root)


def test_damaged_mat_file(tmp_path: Path) -> None:
    root = pascal_context_tree(tmp_path)
    file = root / "trainval" / f"{FIRST}.mat"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match=rf"{FIRST}\.mat: it is damaged or cut short"):
        labels(root)
    save_mat(file, S=np.ones((12, 16)))
    with pytest.raises(UserError, match=rf"{FIRST}\.mat: it holds no variable 'LabelMap' \(it holds 'S'\)"):
        labels(root)

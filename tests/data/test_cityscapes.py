from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as OFFICIAL

from gffnet.data.cityscapes import Cityscapes
from gffnet.data.datasets import open_dataset
from gffnet.errors import UserError
from tests.data.trees import cityscapes_tree, ids, picture, save


def test_train_ids_names_and_colors_are_those_of_the_official_scripts(tmp_path: Path) -> None:
    root = cityscapes_tree(tmp_path, train=1)
    stored = np.array([[label.id % 256 for label in OFFICIAL]], np.uint8)  # eight bits hold -1 as 255
    stem = "aachen_000000_000019"
    save(root / "leftImg8bit/train/aachen" / f"{stem}_leftImg8bit.png", picture(0, stored.shape))
    save(root / "gtFine/train/aachen" / f"{stem}_gtFine_labelIds.png", stored)
    dataset = Cityscapes(root, "train")
    assert dataset[0].labels.tolist() == [[label.trainId % 256 for label in OFFICIAL]]
    evaluated = {label.trainId: label for label in OFFICIAL if not label.ignoreInEval}
    assert dataset.classes.names == tuple(evaluated[i].name for i in range(19))
    assert dataset.classes.palette == tuple(evaluated[i].color for i in range(19))


def test_samples(tmp_path: Path) -> None:
    dataset = Cityscapes(cityscapes_tree(tmp_path), "train+val")
    names = [f"{city}_{i:06d}_000019" for city, i in [("aachen", 0), ("aachen", 2), ("ulm", 1), ("ulm", 3)]]
    assert [dataset[i].name for i in range(6)] == [*names, "aachen_000000_000019", "ulm_000001_000019"]
    image, labels, _ = dataset[3]
    np.testing.assert_array_equal(image.numpy(), picture(3).transpose(2, 0, 1))
    np.testing.assert_array_equal(labels.numpy() == 0, ids(3, 34) == 7)


def test_other_files_do_not_matter(tmp_path: Path) -> None:
    root = cityscapes_tree(tmp_path)
    save(root / "gtFine/train/ulm/ulm_000001_000019_gtFine_color.png", picture(0))
    save(root / "gtCoarse/train/ulm/ulm_000001_000019_gtCoarse_labelIds.png", ids(0, 34))
    (root / "leftImg8bit/train/ulm/Thumbs.db").touch()
    assert len(Cityscapes(root, "train")) == 4


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("cityscapes", "It needs leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip"),
        ("streets", "`gffnet data streets --out DIR --train N --val N` makes it"),
    ],
)
def test_missing_folder(tmp_path: Path, name: str, remedy: str) -> None:
    with pytest.raises(UserError, match=rf"data set '{name}' at .*none: there is no such folder\. {remedy}"):
        open_dataset(name, tmp_path / "none", "val")
    with pytest.raises(UserError, match=rf"the folder does not look like this data set\. {remedy}"):
        open_dataset(name, tmp_path, "val")


@pytest.mark.parametrize("given", [".", "city/leftImg8bit"])
def test_the_folder_above_or_below(tmp_path: Path, given: str) -> None:
    root = cityscapes_tree(tmp_path / "city")
    with pytest.raises(UserError, match=rf"{root} looks like it: pass --root {root}\."):
        Cityscapes(tmp_path / given, "val")


def test_missing_and_empty_split(tmp_path: Path) -> None:
    root = cityscapes_tree(tmp_path)
    (root / "leftImg8bit" / "test").mkdir()
    with pytest.raises(UserError, match=r"split 'valid' is not there \(there are: test, train, val\)"):
        Cityscapes(root, "valid")
    with pytest.raises(UserError, match="split 'test' holds no image"):
        Cityscapes(root, "test")


def test_missing_label_maps(tmp_path: Path) -> None:
    root = cityscapes_tree(tmp_path)
    (root / "gtFine/train/ulm/ulm_000003_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(
        UserError, match=r"1 of the 4 samples of split 'train' lack their label map, the first .*ulm_000003"
    ):
        Cityscapes(root, "train")


@pytest.mark.parametrize("value", [34, 100, 254])
def test_illegal_label(tmp_path: Path, value: int) -> None:
    root = cityscapes_tree(tmp_path)
    labels = ids(1, 34)
    labels[3:5, 6] = value
    save(root / "gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png", labels)
    with pytest.raises(
        UserError, match=rf"ulm_000001_.*: value {value} at row 3, column 6 is no label id.* 2 of its 192 pixels"
    ):
        Cityscapes(root, "train")[2]

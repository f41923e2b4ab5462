from pathlib import Path

import numpy as np
import pytest
import torch

from gffnet.data.camvid import CamVid
from gffnet.data.io import read_image
from gffnet.errors import UserError
from tests.data.trees import camvid_tree, ids, picture, real, save


@pytest.mark.parametrize("listed", [True, False])
def test_samples(tmp_path: Path, listed: bool) -> None:
    dataset = CamVid(camvid_tree(tmp_path, listed=listed), "train")
    assert len(dataset) == 5
    for i in range(5):
        image, labels, name = dataset[i]
        assert name == f"train_{i:03d}"
        assert (image.dtype, labels.dtype) == (torch.uint8, torch.uint8)
        np.testing.assert_array_equal(image.numpy(), picture(i).transpose(2, 0, 1))
        stored = ids(i, 12)
        np.testing.assert_array_equal(labels.numpy(), np.where(stored == 11, 255, stored))
    assert dataset.classes.names[3] == "road"


def test_several_splits_one_after_the_other(tmp_path: Path) -> None:
    dataset = CamVid(camvid_tree(tmp_path), "val+train")
    assert [dataset[i].name for i in (0, 2, 3, 7)] == ["val_000", "val_002", "train_000", "train_004"]
    assert len(dataset) == 8


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


def test_the_real_release() -> None:
    root = real("CamVid")
    train, val = CamVid(root, "train"), CamVid(root, "val")
    assert (len(train), len(val), len(CamVid(root, "train+val"))) == (367, 101, 468)
    assert (train[0].name, val[0].name) == ("0001TP_006690", "0016E5_07959")
    seen: set[int] = set()
    for i in range(0, 101, 4):
        image, labels, name = val[i]
        assert (image.shape, labels.shape) == ((3, 360, 480), (360, 480))
        np.testing.assert_array_equal(image.numpy(), read_image(root / "val" / f"{name}.png").numpy())
        seen |= set(labels.unique().tolist())
    assert seen == {*range(11), 255}


def test_classes_fit_the_real_labels() -> None:
    """The sky lies above the road, and the road is the largest class of all frames' lower half."""
    dataset = CamVid(real("CamVid"), "val")
    labels = torch.stack([dataset[i].labels for i in range(0, 101, 10)])
    rows = torch.arange(360)[:, None].expand(360, 480)
    height = {name: rows[(labels == i).any(0)].float().mean() for i, name in enumerate(dataset.classes.names)}
    assert height["sky"] < height["building"] < height["road"]
    assert dataset.classes.names[int(labels[:, 180:][labels[:, 180:] < 255].mode().values)] == "road"


# Errors: one line with the cause and the remedy.


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"'camvid' at .*none: there is no such folder\. gffnet reads the SegNet release"
    ):
        CamVid(tmp_path / "none", "train")


@pytest.mark.parametrize("given", [".", "CamVid/train"])
def test_the_folder_above_or_below(tmp_path: Path, given: str) -> None:
    root = camvid_tree(tmp_path / "CamVid")
    with pytest.raises(
        UserError, match=rf"does not look like this data set\. {root} looks like it: pass --root {root}\."
    ):
        CamVid(tmp_path / given, "train")


def test_another_release(tmp_path: Path) -> None:
    save(tmp_path / "701_StillsRaw_full" / "a.png", picture(0))
    with pytest.raises(UserError, match=r"does not look like this data set. gffnet reads the SegNet release"):
        CamVid(tmp_path, "train")


@pytest.mark.parametrize("split", ["test", "", "train+"])
def test_missing_split(tmp_path: Path, split: str) -> None:
    missing = split.split("+")[-1]
    with pytest.raises(UserError, match=rf"split '{missing}' is not there \(there are: train, val\)"):
        CamVid(camvid_tree(tmp_path), split)


def test_a_split_named_twice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="splits 'train\\+train' name one twice"):
        CamVid(camvid_tree(tmp_path), "train+train")


@pytest.mark.parametrize("listed", [True, False])
def test_empty_split(tmp_path: Path, listed: bool) -> None:
    root = camvid_tree(tmp_path, val=1, listed=listed)
    if listed:
        (root / "val.txt").write_text("\n")
    else:
        (root / "val" / "val_000.png").unlink()
    with pytest.raises(UserError, match="split 'val' holds no image"):
        CamVid(root, "val")


@pytest.mark.parametrize(("folder", "what"), [("train", "image"), ("trainannot", "label map")])
def test_missing_files(tmp_path: Path, folder: str, what: str) -> None:
    root = camvid_tree(tmp_path)
    for i in (1, 3):
        (root / folder / f"train_{i:03d}.png").unlink()
    with pytest.raises(
        UserError, match=rf"2 of the 5 samples of split 'train' lack their {what}, the first .*{folder}/train_001\.png"
    ):
        CamVid(root, "train")


@pytest.mark.parametrize("line", ["train_000.jpg train_000.jpg", "a.png b.png c.png", "nothing", "a.png b.png"])
def test_damaged_list(tmp_path: Path, line: str) -> None:
    root = camvid_tree(tmp_path)
    (root / "train.txt").write_text(f"train_000.png\n{line}\n")
    with pytest.raises(UserError, match=rf"train\.txt, line 2: '{line}' must name a \.png image and its label map"):
        CamVid(root, "train")


def test_binary_list(tmp_path: Path) -> None:
    root = camvid_tree(tmp_path)
    (root / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"train\.txt cannot be read .*: restore or delete it"):
        CamVid(root, "train")


@pytest.mark.parametrize("value", [12, 255, 300])
def test_illegal_label(tmp_path: Path, value: int) -> None:
    root = camvid_tree(tmp_path)
    labels = ids(2, 12).astype(np.uint16 if value > 255 else np.uint8)
    labels[7, 5] = value
    save(root / "trainannot" / "train_002.png", labels)
    with pytest.raises(UserError) as caught:
        CamVid(root, "train")[2]
    assert str(caught.value) == (
        f"label map {root}/trainannot/train_002.png: value {value} at row 7, column 5 is no label id: they are 0..11. "
        "1 of its 192 pixels are wrong: restore the file."
    )


def test_sizes_differ(tmp_path: Path) -> None:
    root = camvid_tree(tmp_path)
    save(root / "trainannot" / "train_002.png", ids(2, 12, (12, 15)))
    with pytest.raises(
        UserError, match=r"train_002\.png is 16x12 pixels, but its label map .* is 15x12: they must be of"
    ):
        CamVid(root, "train")[2]

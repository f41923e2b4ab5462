from pathlib import Path

import numpy as np
import pytest
import torch

from gffnet.data.coco_stuff import COCOStuff10k
from gffnet.errors import UserError
from tests.data.trees import (
    COCO_STUFF_10,
    COCO_STUFF_11,
    COCO_STUFF_UNUSED,
    coco_stuff_tree,
    ids,
    picture,
    save,
    save_coco_stuff,
    save_mat,
)

FIRST = "COCO_train2014_000000000000"
RELEASES = pytest.mark.parametrize("names", [COCO_STUFF_10, COCO_STUFF_11], ids=["1.0", "1.1"])


def first(root: Path, stored: np.ndarray, names: list[str]) -> Path:
    """The tree with these ids as the label map of its first image."""
    save(root / "images" / f"{FIRST}.jpg", picture(0, stored.shape))
    save_coco_stuff(root / "annotations" / f"{FIRST}.mat", stored, names)
    return root


def test_the_official_names() -> None:
    assert (len(COCO_STUFF_10), len(COCO_STUFF_11)) == (172, 182)
    assert (COCO_STUFF_11[0], COCO_STUFF_11[89], COCO_STUFF_11[91], COCO_STUFF_11[181]) == (
        *("person", "toothbrush"),
        *("banner", "wood"),
    )
    assert COCO_STUFF_11[91:] == sorted(COCO_STUFF_11[91:])  # stuff is in the order of the alphabet


@RELEASES
def test_every_id_is_the_class_of_its_name(tmp_path: Path, names: list[str]) -> None:
    root = coco_stuff_tree(tmp_path, names=names)
    named = {
        stored: name for stored, name in enumerate(names, 1) if len(names) == 172 or stored not in COCO_STUFF_UNUSED
    }
    named.pop(1) if len(names) == 172 else None
    dataset = COCOStuff10k(first(root, np.array([list(named)]), names), "train")
    labels = dataset[0].labels[0].tolist()
    assert [dataset.classes.names[label] for label in labels] == list(named.values())
    assert labels == list(range(171))  # the order of both releases


@RELEASES
def test_unlabelled_is_ignored(tmp_path: Path, names: list[str]) -> None:
    unlabelled, person = (1, 2) if len(names) == 172 else (0, 1)
    root = first(coco_stuff_tree(tmp_path, names=names), np.array([[unlabelled, person]]), names)
    assert COCOStuff10k(root, "train")[0].labels.tolist() == [[255, 0]]


def test_both_releases_are_read_alike(tmp_path: Path) -> None:
    """The same masks, with ids of the one and of the other; even where files of both lie in one folder."""
    index = ids(5, 172).astype(int)
    used = [0, *(i for i in range(1, 183) if i not in COCO_STUFF_UNUSED)]
    root = coco_stuff_tree(tmp_path)
    new = COCOStuff10k(first(root, np.array(used)[index], COCO_STUFF_11), "train")[0].labels
    old = COCOStuff10k(first(root, index + 1, COCO_STUFF_10), "train")[0].labels
    assert torch.equal(new, old)
    assert {*new.unique().tolist()} > {255}


@pytest.mark.parametrize("size", [(12, 16), (150, 170)])
def test_release_1_0_as_it_was_saved(tmp_path: Path, size: tuple[int, int]) -> None:
    """As MAT 7.3, and saved again as MAT 7."""
    stored = ids(7, 172, size) + 1
    root = first(coco_stuff_tree(tmp_path, names=COCO_STUFF_10), stored, COCO_STUFF_10)
    again = COCOStuff10k(root, "train")[0].labels
    save_coco_stuff(root / "annotations" / f"{FIRST}.mat", stored, COCO_STUFF_10, new=True)
    labels = COCOStuff10k(root, "train")[0].labels
    assert torch.equal(labels, again)
    np.testing.assert_array_equal(labels, (stored.astype(int) - 2) % 256)


def test_splits(tmp_path: Path) -> None:
    root = coco_stuff_tree(tmp_path)
    dataset = COCOStuff10k(root, "train+test")
    assert [dataset[i].name[-3:] for i in range(5)] == ["000", "001", "002", "100", "101"]
    assert dataset[3].image.shape == (3, 12, 16)
    assert COCOStuff10k(root, "val").files == COCOStuff10k(root, "test").files
    with pytest.raises(UserError, match="splits 'test\\+test' name one twice"):
        COCOStuff10k(root, "val+test")


def test_grey_images(tmp_path: Path) -> None:
    root = coco_stuff_tree(tmp_path)
    save(root / "images" / f"{FIRST}.jpg", picture(1)[..., 0])
    assert COCOStuff10k(root, "train")[0].image.shape == (3, 12, 16)


# Errors: one line with the cause and the remedy.


def test_the_folder_above_or_below(tmp_path: Path) -> None:
    root = coco_stuff_tree(tmp_path / "cocostuff-10k-v1.1")
    for given in (tmp_path, root / "annotations"):
        with pytest.raises(UserError, match=rf"like this data set\. {root} looks like it: pass --root {root}\."):
            COCOStuff10k(given, "test")


@pytest.mark.parametrize(
    "there",
    [
        "stuffthingmaps_trainval2017/train2017/000000000009.png",
        "train2017/000000000009.jpg",
        "images/train2017/000000000009.jpg",
        "annotations/train2017/000000000009.png",
    ],
)
def test_the_release_of_all_of_coco(tmp_path: Path, there: str) -> None:
    save(tmp_path / there, picture(0))
    with pytest.raises(
        UserError,
        match=r"like this data set\. [a-z0-9/]+ holds COCO-Stuff of all of COCO \(164k\), whose label maps are PNG\. "
        r"gffnet reads COCO-Stuff 10k as released \(cocostuff-10k-v1\.1\.zip\); see docs/data\.md#coco_stuff_10k\.",
    ):
        COCOStuff10k(tmp_path, "train")


def test_images_that_a_converter_moved(tmp_path: Path) -> None:
    root = coco_stuff_tree(tmp_path)
    (root / "images" / "train2014").mkdir()
    for image in root.glob("images/*00?.jpg"):
        image.rename(root / "images" / "train2014" / image.name)
    with pytest.raises(UserError, match=r"3 of the 3 .* lack their image.*made by a converter.*: move them back"):
        COCOStuff10k(root, "train")


def test_missing_parts(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: there is no such folder\. It needs images/\*\.jpg, annotations/\*"):
        COCOStuff10k(tmp_path / "none", "train")
    root = coco_stuff_tree(tmp_path)
    with pytest.raises(UserError, match=r"split 'all' is not there \(there are: train, test\)"):
        COCOStuff10k(root, "all")
    (root / "annotations" / f"{FIRST}.mat").unlink()
    with pytest.raises(UserError, match=rf"1 of the 3 samples of split 'train' lack their label map, .*{FIRST}\.mat"):
        COCOStuff10k(root, "train")
    (root / "imageLists" / "train.txt").write_text("")
    with pytest.raises(UserError, match="split 'train' holds no image"):
        COCOStuff10k(root, "train")


@pytest.mark.parametrize(
    ("value", "names", "legal"),
    [
        (0, COCO_STUFF_10, r"1\.\.172"),
        (173, COCO_STUFF_10, r"1\.\.172"),
        (12, COCO_STUFF_11, r"0\.\.182 less 12 26 29 30 45 66 68 69 71 83 91"),
        (183, COCO_STUFF_11, r"0\.\.182 less"),
        (255, COCO_STUFF_11, r"0\.\.182 less"),
    ],
)
def test_illegal_label(tmp_path: Path, value: int, names: list[str], legal: str) -> None:
    root = first(coco_stuff_tree(tmp_path), np.array([[2, value]]), names)
    with pytest.raises(
        UserError,
        match=rf"{FIRST}\.mat: value {value} at row 0, column 1 is no label id: they are {legal}.*: restore the file "
        r"from cocostuff-10k-v1\.1\.zip\.",
    ):
        COCOStuff10k(root, "train")[0]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["person", "bicycle"], r"its 2 names are neither .* Restore the file from cocostuff-10k-v1\.1\.zip\."),
        (["unlabeled", *COCO_STUFF_11], "its 183 names are neither the 182 of COCO-Stuff 10k 1.1 nor the 172 of 1.0"),
        ([*COCO_STUFF_10[:-1], "wool"], "its 172 names .* the first that is no class of them is 'wool'"),
        ([*COCO_STUFF_11[:-1], "banner"], "its 182 names are neither"),
    ],
)
def test_other_names(tmp_path: Path, names: list[str], said: str) -> None:
    root = first(coco_stuff_tree(tmp_path), np.array([[2, 2]]), names)
    with pytest.raises(UserError, match=rf"label map .*{FIRST}\.mat: {said}"):
        COCOStuff10k(root, "train")[0]


def test_damaged_file(tmp_path: Path) -> None:
    root = coco_stuff_tree(tmp_path)
    file = save_mat(root / "annotations" / f"{FIRST}.mat", S=ids(0, 172))
    with pytest.raises(UserError, match=rf"{FIRST}\.mat: it holds no variable 'names' \(it holds 'S'\)"):
        COCOStuff10k(root, "train")[0]
    file.write_bytes(b"MATLAB 7.3 MAT-file".ljust(520))
    with pytest.raises(UserError, match=rf"{FIRST}\.mat: it is damaged or cut short"):
        COCOStuff10k(root, "train")[0]
    save_coco_stuff(file, ids(0, 11, (5, 7)), COCO_STUFF_11)
    with pytest.raises(UserError, match=r"is 16x12 pixels, but its label map .* is 7x5: they must be of one size"):
        COCOStuff10k(root, "train")[0]

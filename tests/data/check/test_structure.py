"""Faults of a folder: each is planted in a tree without one, and is all that is found."""

from pathlib import Path

import pytest

from tests.data.check.planted import SIZE, camvid, check, cityscapes, only, write_list
from tests.data.trees import ids, picture, save


def test_trees_without_a_fault(tmp_path: Path) -> None:
    for name, tree in {"camvid": camvid, "cityscapes": cityscapes}.items():
        report = check(tree(tmp_path / name), name)
        assert [(finding.code, finding.split) for finding in report.findings] == [
            ("count", split) for split in report.splits
        ]
        assert report.ok


def test_a_partial_copy(tmp_path: Path) -> None:
    report = check(camvid(tmp_path))
    (train, *_) = (finding for finding in report.findings if finding.code == "count")
    assert train.message == "3 of 367 official samples are there."
    assert "download what is missing" in train.remedy


def test_more_than_the_release_holds(tmp_path: Path) -> None:
    report = check(camvid(tmp_path, samples=102), split="val")
    finding = report.findings[0]
    assert (finding.code, finding.message) == ("count", "102 of 101 official samples are there.")
    assert "Remove what the release does not hold" in finding.remedy


@pytest.mark.parametrize("listed", [True, False])
def test_an_empty_split(tmp_path: Path, listed: bool) -> None:
    root = camvid(tmp_path, listed=listed)
    for file in (root / "val").iterdir():
        file.unlink()
    if listed:
        (root / "val.txt").write_text("\n")
    finding = only(check(root), "split-empty")
    assert (finding.split, finding.severity) == ("val", "error")
    assert "{split}/*.png and {split}annot/*.png" in finding.remedy


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    (root / "val.txt").write_text("val_000.png\nnothing\n")
    finding = only(check(root), "list-unreadable")
    said = "val.txt, line 2: 'nothing' must name a .png image and its label map, which have one name."
    assert finding.message.endswith(said)
    assert finding.remedy == "Restore the file, or delete it to use the whole folder."


def test_a_list_names_images_that_are_not_there(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    write_list(root, "train", [f"train_{i:03d}.png" for i in range(5)])
    finding = only(check(root), "image-missing")
    assert finding.message == "images that are listed, but not there: 2 of 5, the first train/train_003.png."
    assert finding.files == ("train/train_003.png", "train/train_004.png")
    assert "delete their lines" in finding.remedy


def test_images_without_label_maps(tmp_path: Path) -> None:
    root = cityscapes(tmp_path)
    for i in (0, 2):
        (root / f"gtFine/val/ulm/ulm_{i:06d}_000019_gtFine_labelIds.png").unlink()
    finding = only(check(root, "cityscapes"), "label-missing")
    assert (finding.split, finding.severity, finding.count) == ("val", "error", 2)
    assert "2 of 3, the first gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png" in finding.message
    assert "move away the images that have none" in finding.remedy


@pytest.mark.parametrize("name", ["camvid", "cityscapes"])
def test_label_maps_without_images(tmp_path: Path, name: str) -> None:
    root = {"camvid": camvid, "cityscapes": cityscapes}[name](tmp_path)
    labels = {"camvid": "trainannot/x.png", "cityscapes": "gtFine/train/ulm/x_gtFine_labelIds.png"}[name]
    save(root / labels, ids(1, 12, SIZE))
    finding = only(check(root, name), "label-without-image")
    assert (finding.files, finding.severity) == ((labels,), "warning")
    assert "Download the images again" in finding.remedy


def test_samples_that_no_list_names(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    write_list(root, "train", ["train_000.png", "train_002.png"])
    finding = only(check(root), "not-listed")
    assert (finding.files, finding.severity) == (("train/train_001.png",), "note")
    assert "add them to the list" in finding.remedy


def test_samples_listed_twice(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    write_list(root, "train", [f"train_{i:03d}.png" for i in (0, 1, 2, 1)])
    report = check(root)
    finding = only(report, "listed-twice")
    assert (finding.files, finding.severity) == (("train/train_001.png",), "warning")
    assert "Delete the repeated lines" in finding.remedy
    assert report.splits["train"].samples == 3


@pytest.mark.parametrize("ending", [".PNG", ".jpeg"])
def test_an_image_under_another_name(tmp_path: Path, ending: str) -> None:
    root = camvid(tmp_path)
    image = root / "train/train_001.png"
    image.rename(image.with_suffix(ending))
    finding = only(check(root), "name-mismatch")
    assert finding.files == (f"train/train_001{ending}",)
    assert "expected train_001.png" in finding.message
    assert "Rename them as expected" in finding.remedy


def test_a_label_map_under_another_name(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    (root / "trainannot/train_001.png").rename(root / "trainannot/Train_001.png")
    finding = only(check(root), "name-mismatch")
    assert (finding.files, finding.count) == (("trainannot/Train_001.png",), 1)
    assert "expected train_001.png" in finding.message


def test_an_unlisted_image_under_another_name(tmp_path: Path) -> None:
    """Where folders are listed, such an image is not seen at all; its label map tells of it."""
    root = cityscapes(tmp_path)
    image = root / "leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png"
    image.rename(image.with_suffix(".PNG"))
    finding = only(check(root, "cityscapes"), "name-mismatch")
    assert finding.files == ("leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.PNG",)
    assert "images that do not end in .png: 1 of 2" in finding.message
    assert "Rename them" in finding.remedy


def test_empty_files(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    (root / "train/train_001.png").write_bytes(b"")
    (root / "trainannot/train_002.png").write_bytes(b"")
    finding = only(check(root), "empty-file")
    assert finding.files == ("train/train_001.png", "trainannot/train_002.png")
    assert finding.message == "empty files: 2 of 6, the first train/train_001.png."
    assert finding.remedy == "Copy or download them again."


def test_hidden_files_taken_for_images(tmp_path: Path) -> None:
    root = camvid(tmp_path, listed=False)
    for folder in ("train", "trainannot"):
        (root / folder / "._train_000.png").write_bytes(b"\0\5\x16\7")
    report = check(root)
    finding = only(report, "junk-sample")
    assert (finding.files, finding.severity) == (("train/._train_000.png",), "error")
    assert f"find {root} -name '._*' -delete" in finding.remedy
    assert report.splits["train"].samples == 3


def test_hidden_files_beside_label_maps(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    (root / "trainannot/._train_000.png").write_bytes(b"\0\5\x16\7")
    (root / "train/Thumbs.db").write_bytes(b"x")
    finding = only(check(root), "junk-file")
    assert (finding.files, finding.severity) == (("trainannot/._train_000.png",), "note")
    assert "-delete" in finding.remedy


def test_a_label_map_of_another_format_is_no_other_name_for_a_mat_file(tmp_path: Path) -> None:
    save(tmp_path / "images/a.jpg", picture(0, SIZE))
    save(tmp_path / "annotations/a.png", ids(0, 12, SIZE))
    (tmp_path / "imageLists").mkdir()
    (tmp_path / "imageLists/train.txt").write_text("a\n")
    report = check(tmp_path, "coco_stuff_10k", "train")
    assert only(report, "label-missing").files == ("annotations/a.mat",)

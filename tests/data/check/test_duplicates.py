"""Images that are in a data set more than once."""

from pathlib import Path

from tests.data.check.planted import SIZE, camvid, check, only
from tests.data.trees import ids, picture, save


def test_a_copy_in_another_split(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    (root / "val/val_001.png").write_bytes((root / "train/train_002.png").read_bytes())
    finding = only(check(root), "identical-across-splits")
    assert finding.message == (
        "images with a copy in another split: 1 of 9, train/train_002.png (the same as val/val_001.png)."
    )
    assert (finding.severity, finding.split) == ("warning", None)
    assert "Keep each sample in one split" in finding.remedy


def test_a_copy_in_the_same_split(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    (root / "train/train_001.png").write_bytes((root / "train/train_002.png").read_bytes())
    finding = only(check(root), "identical-images")
    assert "train/train_001.png (the same as train/train_002.png)" in finding.message
    assert finding.severity == "note"
    assert "Delete the copies" in finding.remedy


def test_files_of_equal_size_only(tmp_path: Path) -> None:
    """Their size is no proof."""
    root = camvid(tmp_path)
    one, other = root / "train/train_001.png", root / "val/val_001.png"
    longer = max(one.stat().st_size, other.stat().st_size) + 1
    for file in (one, other):
        file.write_bytes(file.read_bytes().ljust(longer, b"\0"))  # a PNG ends where it says that it does
    assert {finding.code for finding in check(root).findings} == {"count"}


def test_a_sample_that_is_listed_in_two_splits(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        save(tmp_path / f"images/{name}.png", picture(ord(name), SIZE))
        save(tmp_path / f"masks/{name}.png", ids(ord(name), 3, SIZE))
    (tmp_path / "classes.yaml").write_text("classes: [road, car, sky]\n")
    (tmp_path / "train.txt").write_text("a\nb\n")
    (tmp_path / "val.txt").write_text("b\nc\n")
    finding = only(check(tmp_path, "folder"), "split-leak")
    assert finding.message == "images in more than one split: 1 of 3, images/b.png (train and val)."
    assert finding.severity == "warning"
    assert "a score on images that were trained on says nothing" in finding.remedy

"""Faults of label maps, one by one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.check.planted import SIZE, camvid, check, cityscapes, only
from tests.data.trees import ids, picture, save

LABELS = "trainannot/train_001.png"


def test_an_unreadable_label_map(tmp_path: Path) -> None:
    file = camvid(tmp_path) / LABELS
    file.write_bytes(file.read_bytes()[:300])
    finding = only(check(tmp_path), "label-unreadable")
    assert (finding.files, finding.severity) == ((LABELS,), "error")
    assert "damaged or cut short" in finding.message
    assert "download it again" in finding.remedy


def test_a_colour_mask(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    save(root / LABELS, picture(1, SIZE))
    finding = only(check(root), "colour-mask")
    assert (finding.files, finding.severity) == ((LABELS,), "error")
    assert "its pixels are RGB" in finding.message
    assert "use the data set's id files" in finding.remedy


def test_a_jpeg_mask(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    Image.fromarray(ids(1, 12, SIZE)).save(root / LABELS, format="JPEG")
    finding = only(check(root), "jpeg-mask")
    assert (finding.files, finding.severity) == ((LABELS,), "error")
    assert "its ids are lost" in finding.message
    assert "Export or download them as PNG" in finding.remedy


def test_a_mask_of_16_bits(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    save(root / LABELS, ids(1, 12, SIZE).astype(np.uint16))
    finding = only(check(root), "deep-mask")
    assert (finding.files, finding.severity) == ((LABELS,), "note")
    assert "8 bits" in finding.remedy


def test_labels_of_no_class(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    for name, value, pixels in (("train_000", 12, 2), ("train_002", 300, 1), ("train_001", 12, 4)):
        labels = ids(1, 12, SIZE).astype(np.uint16 if value > 255 else np.uint8)
        labels[7, 5 : 5 + pixels] = value
        save(root / f"trainannot/{name}.png", labels)
    report = check(root)
    (finding,) = report.of("error")
    assert finding.code == "unknown-label"
    assert finding.message == (
        "label maps with values that are no label id (those are 0..11): 12 (6 px), 300 (1 px): 3 of 3, the first "
        "trainannot/train_000.png (12 at row 7, column 5)."
    )
    assert finding.remedy == "Restore the file."
    assert report.splits["train"].ids[300] == 1


def test_more_values_than_a_message_holds(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    save(root / LABELS, np.arange(40 * 48, dtype=np.uint8).reshape(SIZE))
    assert "19 (8 px) and 236 more: 1 of 3" in only(check(root), "unknown-label").message


def test_a_mask_of_black_and_white(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    save(root / LABELS, (ids(1, 12, SIZE) > 5) * np.uint8(255))
    finding = only(check(root), "binary-mask")
    assert (finding.files, finding.severity) == ((LABELS,), "error")
    assert "Store the class ids themselves" in finding.remedy


def test_a_label_map_without_labels(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    save(root / LABELS, np.full(SIZE, 11, np.uint8))
    finding = only(check(root), "unlabelled-map")
    assert (finding.files, finding.severity) == ((LABELS,), "warning")
    assert "overwritten" in finding.remedy


@pytest.mark.parametrize(
    ("split", "code", "severity", "remedy"),
    [
        ("test", "dummy-labels", "note", "score on val"),
        ("val", "unlabelled-split", "error", "nothing to train on or to score"),
    ],
)
def test_a_split_without_labels(tmp_path: Path, split: str, code: str, severity: str, remedy: str) -> None:
    root = cityscapes(tmp_path)
    for file in (root / "gtFine" / split).rglob("*.png"):
        save(file, ids(1, 4, SIZE))  # what the test split's dummies hold: ego vehicle, out of roi, ...
    report = check(root, "cityscapes")
    finding = only(report, code)
    assert (finding.split, finding.severity, finding.count) == (split, severity, 3)
    assert remedy in finding.remedy
    assert report.splits[split].ignored_share == 1
    alone = check(root, "cityscapes", split)
    assert only(alone, code) == finding

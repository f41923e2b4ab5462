"""Faults of images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.check.planted import SIZE, camvid, check, only
from tests.data.trees import ids, picture, raw_png, save

IMAGE, LABELS = "train/train_001.png", "trainannot/train_001.png"


@pytest.mark.parametrize(
    ("content", "cause"),
    [(lambda whole: whole[: len(whole) // 2], "damaged or cut short"), (lambda _: b"nothing", "is no image")],
)
def test_unreadable_images(tmp_path: Path, content, cause: str) -> None:
    file = camvid(tmp_path) / IMAGE
    file.write_bytes(content(file.read_bytes()))
    finding = only(check(tmp_path), "image-unreadable")
    assert (finding.files, finding.severity, finding.split) == ((IMAGE,), "error", "train")
    assert cause in finding.message
    assert "download it again" in finding.remedy


def test_sizes_that_differ(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    save(root / LABELS, ids(1, 12, (40, 47)))
    finding = only(check(root), "size-mismatch")
    assert f"{IMAGE} (40x48, but {LABELS} is 40x47; height x width)" in finding.message
    assert finding.remedy == "Restore the one that was scaled or cut."


def test_an_image_that_is_turned_by_its_orientation(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture(1, SIZE)).save(root / IMAGE, exif=exif)
    finding = only(check(root), "rotated-image")
    assert f"{IMAGE} (48x40, but {LABELS} is 40x48" in finding.message
    assert "exiftool -Orientation= FILE" in finding.remedy


def test_an_orientation_that_label_maps_may_share(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(picture(1, SIZE)).save(root / IMAGE, exif=exif)
    finding = only(check(root), "exif-orientation")
    assert (finding.files, finding.severity) == ((IMAGE,), "note")
    assert "label maps are upright too" in finding.remedy


def test_small_images(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    save(root / IMAGE, picture(1, (31, 48)))
    save(root / LABELS, ids(1, 12, (31, 48)))
    finding = only(check(root), "small-image")
    assert finding.message == f"images less than 32 pixels high or wide: 1 of 3, {IMAGE} (31x48)."
    assert (finding.severity, "scaled down" in finding.remedy) == ("warning", True)


def test_sizes_far_apart(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    save(root / IMAGE, picture(1, (160, 192)))
    save(root / LABELS, ids(1, 12, (160, 192)))
    finding = only(check(root), "sizes-vary")
    assert "from 40x48 to 160x192 pixels (median 40x48; height x width)" in finding.message
    assert (finding.severity, "restore" in finding.remedy) == ("note", True)


@pytest.mark.parametrize("stored", ["grey", "rgb"])
def test_grey_images(tmp_path: Path, stored: str) -> None:
    root = camvid(tmp_path)
    grey = picture(1, SIZE)[..., 0]
    save(root / IMAGE, grey if stored == "grey" else np.stack([grey] * 3, axis=-1))
    finding = only(check(root), "grey-image")
    assert finding.message == f"grey images: 1 of 3, {IMAGE}."
    assert finding.severity == "note"


def test_one_coloured_pixel_makes_an_image_a_colour_image(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    pixels = np.full((*SIZE, 3), 7, np.uint8)
    pixels[5, 5, 2] = 8
    save(root / IMAGE, pixels)
    assert {finding.code for finding in check(root).findings} == {"count"}


def test_images_of_16_bits(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    (root / IMAGE).write_bytes(raw_png(48, 40, 16, 2, [bytes(range(256))[:288].ljust(288, b"\1")] * 40))
    finding = only(check(root), "deep-image")
    assert (finding.files, finding.severity) == ((IMAGE,), "note")
    assert "high byte" in finding.remedy

"""The numbers of a split."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.check.planted import SIZE, camvid, check
from tests.data.trees import ids, picture, real, save


def test_numbers_of_a_split(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    tall = (50, 48)
    save(root / "train/train_002.png", picture(2, tall))
    save(root / "trainannot/train_002.png", np.full(tall, 3, np.uint8))
    numbers = check(root).splits["train"]
    labels = [ids(0, 12, SIZE), ids(1, 12, SIZE), np.full(tall, 3, np.uint8)]
    pixels = sum(np.bincount(each.ravel(), minlength=12) for each in labels)
    assert numbers.ids == dict(enumerate(pixels))
    assert numbers.pixels == tuple(pixels[:11])
    assert numbers.images == (2, 2, 2, 3, *[2] * 7)
    assert numbers.ignored_share == pytest.approx(pixels[11] / pixels.sum())
    assert sum(numbers.share(label) for label in range(11)) == pytest.approx(1)
    assert (numbers.sizes, numbers.distinct_sizes) == ((SIZE, SIZE, tall), 2)
    assert (numbers.samples, numbers.expected) == (3, 367)


def test_a_split_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    root = camvid(tmp_path)
    for file in (root / "val").iterdir():
        file.write_bytes(b"nothing")
    numbers = check(root).splits["val"]
    assert numbers.to_json()["sizes"] == {"min": None, "median": None, "max": None, "distinct": 0}


def test_the_real_release() -> None:
    report = check(real("CamVid"), split="val")
    assert report.findings == []
    numbers = report.splits["val"]
    assert (numbers.samples, numbers.sizes) == (101, ((360, 480),) * 3)
    assert max(zip(numbers.pixels, numbers.names, strict=True))[1] == "road"

"""The fingerprint of a data set: it depends on the data, not on their place."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gffnet.data.cache import build_cache
from gffnet.data.camvid import CamVid
from gffnet.data.dataset import fingerprint
from gffnet.data.datasets import open_dataset, open_files
from tests.data import trees

TREES = {
    "ade20k": trees.ade20k_tree,
    "camvid": trees.camvid_tree,
    "cityscapes": trees.cityscapes_tree,
    "coco_stuff_10k": trees.coco_stuff_tree,
    "folder": trees.folder_tree,
    "pascal_context": trees.pascal_context_tree,
}


@pytest.mark.parametrize("name", TREES)
def test_it_does_not_depend_on_the_place(name: str, tmp_path: Path) -> None:
    TREES[name](tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there/below")
    here, there = (open_files(name, tmp_path / place, "train") for place in ("here", "there/below"))
    assert fingerprint(here) == fingerprint(there)
    assert len(fingerprint(here)) == 64


@pytest.mark.parametrize("name", TREES)
def test_splits_differ(name: str, tmp_path: Path) -> None:
    TREES[name](tmp_path)
    other = "test" if name == "coco_stuff_10k" else "val"
    found = [fingerprint(open_files(name, tmp_path, split)) for split in ("train", other, f"train+{other}")]
    assert len(set(found)) == 3


def test_it_is_made_of_classes_meaning_names_and_sizes(tmp_path: Path) -> None:
    data = CamVid(trees.camvid_tree(tmp_path, train=2), "train")
    text = json.dumps([list(data.classes.names), data.table.text()])
    for i in range(2):
        sizes = [(tmp_path / folder / f"train_00{i}.png").stat().st_size for folder in ("train", "trainannot")]
        text += json.dumps([f"train_00{i}", *sizes])
    assert fingerprint(data) == hashlib.sha256(text.encode()).hexdigest()


def lengthen(root: Path) -> None:
    with (root / "trainannot/train_001.png").open("ab") as file:
        file.write(b"x")


def rename(root: Path) -> None:
    for folder in ("train", "trainannot"):
        (root / folder / "train_001.png").rename(root / folder / "train_00x.png")
    listed = root / "train.txt"
    listed.write_text(listed.read_text().replace("train_001", "train_00x"))


def reverse(root: Path) -> None:
    listed = root / "train.txt"
    listed.write_text("\n".join(reversed(listed.read_text().splitlines())))


def shorten(root: Path) -> None:
    listed = root / "train.txt"
    listed.write_text("\n".join(listed.read_text().splitlines()[:-1]))


@pytest.mark.parametrize("change", [lengthen, rename, reverse, shorten])
def test_a_change_shows(change: Callable[[Path], None], tmp_path: Path) -> None:
    root = trees.camvid_tree(tmp_path)
    before = fingerprint(CamVid(root, "train"))
    os.utime(root / "train/train_001.png", (1, 1))
    assert fingerprint(CamVid(root, "train")) == before
    change(root)
    assert fingerprint(CamVid(root, "train")) != before


def test_other_classes_and_other_meanings_show(tmp_path: Path) -> None:
    root = trees.folder_tree(tmp_path)
    text = (root / "classes.yaml").read_text()
    seen = set()
    for variant in (text, text.replace("road", "roads"), f"{text}ignore: [7]\n"):
        (root / "classes.yaml").write_text(variant)
        seen.add(fingerprint(open_files("folder", root, "train")))
    assert len(seen) == 3


def test_a_cache_changes_nothing(tmp_path: Path) -> None:
    root = trees.camvid_tree(tmp_path)
    before = fingerprint(open_dataset("camvid", root, "train"))
    build_cache(open_files("camvid", root, "train"), "train", root / "gffnet_cache", workers=1)
    cached = open_dataset("camvid", root, "train")
    assert cached.cache is not None
    assert fingerprint(cached) == before


def test_a_missing_file_changes_it(tmp_path: Path) -> None:
    data = CamVid(trees.camvid_tree(tmp_path), "train")
    before = fingerprint(data)
    (tmp_path / "train/train_001.png").unlink()
    assert fingerprint(data) != before


def test_it_is_cheap(tmp_path: Path) -> None:
    data = CamVid(trees.camvid_tree(tmp_path), "train")
    data.files = data.files * 2000
    start = time.perf_counter()
    fingerprint(data)
    assert time.perf_counter() - start < 5  # a fraction of a second, were the machine not busy

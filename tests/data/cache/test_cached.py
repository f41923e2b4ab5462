import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gffnet.data.cache.build import build_cache
from gffnet.data.cache.cached import Cached, with_cache
from gffnet.data.cache.entry import Mapped, Tiled
from gffnet.data.camvid import CamVid
from gffnet.data.dataset import Dataset, LabelTable, Sample, identity
from gffnet.errors import UserError
from tests.data.trees import camvid_tree, ids, picture, save

BOTH = pytest.mark.parametrize("compressed", [False, True])


def cached_tree(folder: Path, compressed: bool = False) -> Path:
    root = camvid_tree(folder)
    build_cache(CamVid(root, "train"), "train", root, root / "cache", compressed, workers=1)
    return root


def opened(root: Path, splits: str = "train") -> Cached:
    dataset = with_cache(CamVid(root, splits), root, splits, root / "cache")
    assert isinstance(dataset, Cached)
    return dataset


def same(a: Sample, b: Sample) -> bool:
    return torch.equal(a.image, b.image) and torch.equal(a.labels, b.labels) and a.name == b.name


def all_same(a: Dataset, b: Dataset) -> bool:
    return len(a) == len(b) and all(same(a[i], b[i]) for i in range(len(a)))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@BOTH
def test_samples_are_those_of_the_files(tmp_path: Path, compressed: bool) -> None:
    root = cached_tree(tmp_path, compressed)
    dataset = opened(root)
    assert all_same(dataset, CamVid(root, "train"))
    assert all(isinstance(dataset.open(i), Tiled if compressed else Mapped) for i in range(5))
    assert (dataset.cached, dataset.classes, dataset.name(2)) == (5, CamVid(root, "train").classes, "train_002")


def test_they_come_from_the_cache(tmp_path: Path) -> None:
    """Sample 1 with an entry that holds other pixels."""
    root = cached_tree(tmp_path)
    dataset = opened(root)
    entry = dataset.open(1)
    assert isinstance(entry, Mapped)
    content = bytearray(entry.path.read_bytes())
    content[64] ^= 1
    entry.path.write_bytes(content)
    assert not same(dataset[1], CamVid(root, "train")[1])


def test_splits_without_an_index_are_read(tmp_path: Path) -> None:
    root = cached_tree(tmp_path)
    both = opened(root, "train+val")
    assert (both.cached, len(both)) == (5, 8)
    assert all_same(both, CamVid(root, "train+val"))
    val = CamVid(root, "val")
    assert with_cache(val, root, "val", root / "cache") is val
    assert with_cache(val, root, "val", root / "nowhere") is val


@BOTH
@pytest.mark.parametrize("changed", ["train", "trainannot"])
@pytest.mark.parametrize("seen_before", [False, True])
def test_changed_files_are_read_instead(
    tmp_path: Path, compressed: bool, changed: str, seen_before: bool, caplog: pytest.LogCaptureFixture
) -> None:
    root = cached_tree(tmp_path, compressed)
    dataset = opened(root)
    if seen_before:
        dataset[2]
    for name in ("train_002.png", "train_003.png"):
        save(root / changed / name, picture(50) if changed == "train" else ids(50, 12))
    with caplog.at_level(logging.WARNING):
        assert all_same(dataset, CamVid(root, "train"))
        assert all_same(dataset, CamVid(root, "train"))
    assert len(warnings(caplog)) == 1
    assert "train_002.png or its label map changed since it was cached" in warnings(caplog)[0]
    assert dataset.cached == 3


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    root = camvid_tree(tmp_path)
    path = root / "trainannot" / "train_000.png"
    for value in (3, 4):
        old = path.stat()
        save(path, np.full((12, 16), value, np.uint8))
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
        if value == 3:
            build_cache(CamVid(root, "train"), "train", root, root / "cache", workers=1)
            size, dataset = path.stat().st_size, opened(root)
            assert dataset[0].labels.unique().tolist() == [3]
    assert path.stat().st_size == size
    assert dataset[0].labels.unique().tolist() == [4]


def test_a_copied_data_set_keeps_its_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = cached_tree(tmp_path / "one")
    copy = Path(shutil.copytree(root, tmp_path / "two", copy_function=shutil.copyfile))
    dataset = opened(copy)
    with caplog.at_level(logging.WARNING):
        assert all(isinstance(dataset.open(i), Mapped) for i in range(5))
        assert all_same(dataset, CamVid(copy, "train"))
    assert warnings(caplog) == []


def test_other_ids_make_the_cache_a_stale_one(tmp_path: Path) -> None:
    root = cached_tree(tmp_path)
    changed = CamVid(root, "train")
    changed.table = LabelTable({**identity(11, ignored=11), 0: 5, 5: 0}, legal="0..11")
    dataset = with_cache(changed, root, "train", root / "cache")
    assert isinstance(dataset, Cached)
    assert dataset.cached == 0
    assert all_same(dataset, changed)
    build_cache(changed, "train", root, root / "cache", workers=1)
    assert all_same(opened_as(changed, root), changed)
    assert all_same(opened(root), CamVid(root, "train"))


def opened_as(dataset: Dataset, root: Path) -> Dataset:
    again = with_cache(dataset, root, "train", root / "cache")
    assert isinstance(again, Cached)
    assert again.cached == 5
    return again


@pytest.mark.parametrize("damage", ["missing", "empty", "short"])
def test_entries_that_are_gone_or_cut_short_do_not_matter(tmp_path: Path, damage: str) -> None:
    root = cached_tree(tmp_path)
    for path in (root / "cache").rglob("*.flat"):
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else -9])
    assert all_same(opened(root), CamVid(root, "train"))


def test_files_that_are_gone_are_reported_as_ever(tmp_path: Path) -> None:
    root = cached_tree(tmp_path)
    dataset = opened(root)
    (root / "train" / "train_001.png").unlink()
    with pytest.raises(UserError, match=r"cannot read image .*train_001\.png: there is no such file"):
        dataset[1]


def test_class_pixels(tmp_path: Path) -> None:
    root = cached_tree(tmp_path)
    dataset = opened(root, "train+val")
    labels = CamVid(root, "train")[2].labels
    assert dataset.class_pixels(2) == {int(label): int((labels == label).sum()) for label in labels.unique()}
    assert dataset.class_pixels(6) is None

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from gffnet.data.cache import build
from gffnet.data.cache.build import Report, build_cache
from gffnet.data.cache.cached import with_cache
from gffnet.data.cache.index import read_index
from gffnet.data.camvid import CamVid
from gffnet.errors import UserError
from tests.data.trees import camvid_tree, ids, save
from tests.full_disk import full_after

TRAIN = 9


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return camvid_tree(tmp_path / "camvid", train=TRAIN)


def cache(root: Path, compressed: bool = False, workers: int = 1, split: str = "train") -> Report:
    return build_cache(CamVid(root, split), split, root, root / "cache", compressed, workers)


def entries(root: Path) -> list[Path]:
    return sorted(path for path in (root / "cache").rglob("*") if path.suffix in {".flat", ".zstd"})


def known(root: Path) -> int:
    index = read_index(root / "cache", "train")
    return 0 if index is None else len(index.records)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_all_samples_are_cached_once(root: Path, compressed: bool, workers: int) -> None:
    report = cache(root, compressed, workers)
    assert (report.written, report.kept, report.left_out) == (TRAIN, 0, [])
    assert report.size == sum(path.stat().st_size for path in entries(root))
    before = {path: path.stat().st_mtime_ns for path in entries(root)}
    assert cache(root, compressed, workers) == Report(0, TRAIN, [], report.size)
    assert {path: path.stat().st_mtime_ns for path in entries(root)} == before


def test_class_pixels_are_counted(root: Path) -> None:
    cache(root)
    index = read_index(root / "cache", "train")
    assert index is not None
    values, counts = np.unique(ids(3, 12), return_counts=True)
    expected = {str(255 if value == 11 else value): count for value, count in zip(values, counts, strict=True)}
    assert index.records["train/train_003.png"].classes == expected


def test_damaged_and_missing_entries_are_mended(root: Path) -> None:
    cache(root)
    first, second, third, *_ = entries(root)
    good = first.read_bytes()
    first.write_bytes(good[:-1] + b"\xee")
    second.unlink()
    third.write_bytes(b"")
    assert cache(root)[:2] == (3, TRAIN - 3)
    assert first.read_bytes() == good


def test_changed_samples_are_cached_anew_and_old_entries_deleted(root: Path) -> None:
    cache(root)
    save(root / "trainannot" / "train_001.png", ids(77, 12))
    assert cache(root)[:2] == (1, TRAIN - 1)
    assert len(entries(root)) == TRAIN


def test_another_kind_takes_the_place_of_the_first(root: Path) -> None:
    cache(root)
    cache(root, compressed=True)
    assert [path.suffix for path in entries(root)] == [".zstd"] * TRAIN


def test_what_cannot_be_read_is_left_out_and_named(root: Path) -> None:
    bad = root / "train" / "train_004.png"
    bad.write_bytes(b"no image")
    save(root / "trainannot" / "train_005.png", np.full((12, 16), 99, np.uint8))
    report = cache(root, workers=2)
    assert report.written == TRAIN - 2
    assert len(report.left_out) == 2
    assert any(f"cannot read image {bad}" in reason for reason in report.left_out)
    assert any("train_005.png: value 99 at row 0" in reason for reason in report.left_out)


def test_a_full_disk_loses_nothing(root: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        full_after(patched, writes=4)
        with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
            cache(root)
    assert len(entries(root)) == 4
    assert not list((root / "cache").rglob("*.part"))
    assert known(root) == 0  # there was no room for the index either
    assert cache(root)[:2] == (TRAIN - 4, 4)


def test_a_cache_that_is_broken_off_keeps_what_is_done_and_what_was_there(root: Path) -> None:
    cache(root)
    save(root / "train" / "train_000.png", np.zeros((12, 16, 3), np.uint8))

    def stop(done: int, total: int) -> None:
        assert total == TRAIN
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(CamVid(root, "train"), "train", root, root / "cache", workers=1, progress=stop)
    assert known(root) == TRAIN
    assert cache(root)[:2] == (0, TRAIN)


def test_no_room_is_said_before_it_is_taken(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 6000

    monkeypatch.setattr(build.shutil, "disk_usage", lambda folder: Usage)
    with pytest.raises(UserError, match=r"about 0\.0 GB more are needed, but 0\.0 GB are free\. Make room"):
        cache(root)
    assert len(entries(root)) == 1


def test_several_processes_at_once(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=cache, args=(root,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert len(entries(root)) == known(root) == TRAIN
    assert not list((root / "cache").rglob("*.part"))
    dataset = with_cache(CamVid(root, "train"), root, "train", root / "cache")
    assert [dataset[i].image.tolist() for i in range(TRAIN)] == [
        CamVid(root, "train")[i].image.tolist() for i in range(TRAIN)
    ]


def test_a_damaged_index_is_written_anew(root: Path) -> None:
    cache(root)
    (root / "cache" / "index-train.json").write_text("{")
    assert cache(root)[:2] == (0, TRAIN)
    assert known(root) == TRAIN

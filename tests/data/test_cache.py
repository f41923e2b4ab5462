"""The cache of decoded samples, `gffnet data cache`, and that training and evaluation read it."""

import logging
import multiprocessing
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torchvision import tv_tensors

from gffnet.cli.main import main
from gffnet.data import cache as module
from gffnet.data.cache import CacheReport, build_cache, with_cache
from gffnet.data.camvid import CamVid
from gffnet.data.dataset import Dataset, LabelTable, Sample, identity
from gffnet.data.datasets import open_dataset
from gffnet.errors import UserError
from tests import tiny
from tests.data.trees import camvid_tree, ids, picture, save
from tests.full_disk import full_after

TRAIN = 6
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return camvid_tree(tmp_path / "CamVid", train=TRAIN)


def build(root: Path, split: str = "train", workers: int = 1) -> CacheReport:
    return build_cache(CamVid(root, split), split, root / "gffnet_cache", workers)


def entries(root: Path, kind: str = "*") -> list[Path]:
    return sorted((root / "gffnet_cache").rglob(f"*.{kind}.npy"))


def cached(root: Path, split: str = "train") -> Dataset:
    dataset = open_dataset("camvid", root, split)
    assert dataset.cache is not None
    return dataset


def hits(dataset: Dataset) -> int:
    assert dataset.cache is not None
    return sum(dataset.cache.read(dataset, i) is not None for i in range(len(dataset)))


def same(a: Sample, b: Sample) -> bool:
    return torch.equal(a.image, b.image) and torch.equal(a.labels, b.labels) and a.name == b.name


def all_same(dataset: Dataset, other: Dataset) -> bool:
    assert all(np.array_equal(dataset.labels(i), other.labels(i)) for i in range(len(other)))
    return len(dataset) == len(other) and all(same(dataset[i], other[i]) for i in range(len(other)))


# Reading.


def test_cached_samples_equal_those_of_the_files(root: Path) -> None:
    build(root)
    dataset = cached(root)
    assert hits(dataset) == TRAIN
    assert all_same(dataset, CamVid(root, "train"))
    assert all_same(pickle.loads(pickle.dumps(dataset)), CamVid(root, "train"))
    assert isinstance(dataset[0].image, tv_tensors.Image)
    assert isinstance(dataset[0].labels, tv_tensors.Mask)


def test_samples_are_read_from_the_cache_and_writing_to_them_does_not_change_it(root: Path) -> None:
    build(root)
    for path in entries(root, "image"):
        array = np.load(path)
        np.save(path, 255 - array)
    dataset = cached(root)
    image = dataset[1].image
    assert torch.equal(image, 255 - CamVid(root, "train")[1].image)
    image.zero_()
    assert dataset[1].image.any()


def test_the_arrays_are_plain(root: Path) -> None:
    build(root)
    pixels = [np.load(path).tobytes() for path in entries(root, "image")]
    assert sorted(pixels) == sorted(picture(i).tobytes() for i in range(TRAIN))


def test_splits_without_a_cache_are_read_from_files(root: Path) -> None:
    build(root)
    both = cached(root, "train+val")
    assert (hits(both), len(both)) == (TRAIN, TRAIN + 3)
    assert all_same(both, CamVid(root, "train+val"))
    assert open_dataset("camvid", root, "val").cache is None


def test_folds_are_read_from_the_caches_of_train_and_val(root: Path) -> None:
    frames = [f"{'0001TP' if i < 2 else '0006R0'}_{i:05}" for i in range(TRAIN)]
    (root / "train.txt").write_text("".join(f"/x/{frame}.png /x/{frame}.png\n" for frame in frames))
    for folder in ("train", "trainannot"):
        for frame, path in zip(frames, sorted((root / folder).glob("*.png")), strict=True):
            path.rename(path.with_name(f"{frame}.png"))
    for split in ("train", "val"):
        build(root, split)
    folds = [cached(root, f"{kind}_0001TP") for kind in ("only", "without")]
    assert [hits(fold) for fold in folds] == [len(fold) for fold in folds]
    assert len(folds[0]) == 2


@pytest.mark.parametrize("changed", ["train", "trainannot"])
@pytest.mark.parametrize("read_before", [False, True])
def test_changed_samples_are_read_from_files(
    root: Path, changed: str, read_before: bool, caplog: pytest.LogCaptureFixture
) -> None:
    build(root)
    dataset = cached(root)
    if read_before:
        assert dataset[2].image.any()
    for name in ("train_002.png", "train_003.png"):
        save(root / changed / name, picture(50) if changed == "train" else ids(50, 12))
    with caplog.at_level(logging.WARNING):
        assert all_same(dataset, CamVid(root, "train"))
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(messages) == 1
    assert "train_002.png or its label map changed since it was cached" in messages[0]
    assert hits(dataset) == TRAIN - 2


def test_a_change_of_the_time_alone_counts_as_one(root: Path) -> None:
    build(root)
    os.utime(root / "train" / "train_000.png", ns=(0, 10**9))
    assert hits(cached(root)) == TRAIN - 1


def test_a_copy_that_keeps_times_keeps_the_cache(root: Path, tmp_path: Path) -> None:
    build(root)
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    assert hits(cached(copy)) == TRAIN
    assert all_same(cached(copy), CamVid(root, "train"))


def test_another_label_table_needs_another_cache(root: Path) -> None:
    build(root)
    changed = CamVid(root, "train")
    changed.table = LabelTable({**identity(11, ignored=11), 0: 5, 5: 0}, legal="0..11")
    assert hits(with_cache(changed, "train")) == 0
    assert not np.array_equal(changed.labels(0), CamVid(root, "train").labels(0))
    assert all_same(cached(root), CamVid(root, "train"))


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "longer", "other"])
@pytest.mark.parametrize("kind", ["image", "labels"])
def test_damaged_entries_are_ignored_and_replaced(root: Path, damage: str, kind: str) -> None:
    build(root)
    path = entries(root, kind)[0]
    whole = path.read_bytes()
    content = {"empty": b"", "truncated": whole[:-9], "longer": whole + b"\0", "other": b"PK\3\4" + whole[4:]}
    path.unlink() if damage == "missing" else path.write_bytes(content[damage])
    assert hits(cached(root)) == TRAIN - 1
    assert all_same(cached(root), CamVid(root, "train"))
    assert build(root)[:2] == (1, TRAIN - 1)
    assert path.read_bytes() == whole


def test_missing_files_are_reported_as_without_a_cache(root: Path) -> None:
    build(root)
    dataset = cached(root)
    (root / "train" / "train_001.png").unlink()
    with pytest.raises(UserError, match=r"cannot read image .*train_001\.png: no such file"):
        dataset[1]


def test_caches_of_0_1_0_are_ignored(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = root / "gffnet_cache"
    (folder / "0a").mkdir(parents=True)
    old = [folder / "index-train.json", folder / "0a" / "0a1b.flat", folder / "0a" / "0a1c.zstd"]
    for path in old:
        path.write_bytes(b"{}")
    with caplog.at_level(logging.WARNING):
        assert open_dataset("camvid", root, "train").cache is None
    assert f"is of gffnet 0.1.0 and is ignored: `gffnet data cache camvid --root {root}` makes it again" in caplog.text
    with pytest.raises(UserError, match=r"the cache is of gffnet 0\.1\.0, which this version does not read\. `gffnet"):
        open_dataset("camvid", root, "train", folder)
    build(root)
    assert hits(cached(root)) == TRAIN


# Building.


@pytest.mark.parametrize("workers", [1, 2])
def test_samples_are_cached_once(root: Path, workers: int) -> None:
    size = TRAIN * 12 * 16 * 4
    assert build(root, workers=workers) == CacheReport(TRAIN, 0, [], size)
    before = {path: path.stat().st_mtime_ns for path in entries(root)}
    assert len(before) == 2 * TRAIN
    assert build(root, workers=workers) == CacheReport(0, TRAIN, [], size)
    assert {path: path.stat().st_mtime_ns for path in entries(root)} == before


def test_entries_of_changed_samples_are_replaced(root: Path) -> None:
    build(root)
    save(root / "trainannot" / "train_001.png", ids(77, 12))
    assert build(root)[:2] == (1, TRAIN - 1)
    assert len(entries(root)) == 2 * TRAIN


def test_arrays_that_are_no_entries_stay(root: Path) -> None:
    build(root)
    own = root / "gffnet_cache" / "train"
    names = ("0.npy", "photo.image.npy", f"{'0' * 32}.npy", f"{'g' * 32}.image.npy")
    for name in names:
        (own / name).write_bytes(b"mine")
    stale = own / f"{'0' * 32}.image.npy"
    stale.write_bytes(b"an entry of a sample that is gone")
    build(root)
    assert all((own / name).read_bytes() == b"mine" for name in names)
    assert not stale.exists()


def test_unreadable_samples_are_left_out_and_named(root: Path) -> None:
    bad = root / "train" / "train_004.png"
    bad.write_bytes(b"no image")
    save(root / "trainannot" / "train_005.png", np.full((12, 16), 99, np.uint8))
    report = build(root, workers=2)
    assert (report.written, len(report.left_out)) == (TRAIN - 2, 2)
    assert any(f"cannot read image {bad}" in reason for reason in report.left_out)
    assert any("train_005.png: value 99 at row 0" in reason for reason in report.left_out)


def test_a_full_disk_loses_nothing(root: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        full_after(patched, writes=4)
        with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
            build(root)
    assert len(entries(root)) == 4
    assert not list((root / "gffnet_cache").rglob("*.part"))
    assert build(root)[:2] == (TRAIN - 2, 2)


def test_an_interrupted_call_keeps_what_it_has_written(root: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert total == TRAIN
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(CamVid(root, "train"), "train", root / "gffnet_cache", workers=1, progress=stop)
    assert hits(cached(root)) == 3
    assert build(root)[:2] == (TRAIN - 3, 3)


def test_a_small_disk_is_reported_before_it_is_full(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 3000

    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: Usage)
    with pytest.raises(UserError, match=r"about 0\.0 GB more are needed, but 0\.0 GB are free\. Make room"):
        build(root)
    assert len(entries(root)) == 2


def test_several_processes_at_once(root: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=build, args=(root,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert len(entries(root)) == 2 * TRAIN
    assert not list((root / "gffnet_cache").rglob("*.part"))
    assert all_same(cached(root), CamVid(root, "train"))


# The command.


def test_all_splits_are_cached(root: Path, capsys: Captured) -> None:
    for written, kept in ((TRAIN, 0), (0, TRAIN)):
        assert main(["data", "cache", "camvid", "--root", str(root)]) == 0
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith(f"train: {written} samples decoded, {kept} were there: ")
        assert lines[0].endswith(f"MB in {root / 'gffnet_cache'}")
        assert lines[1].startswith("val: ")
    assert len(entries(root, "image")) == TRAIN + 3


def test_test_is_left_out_where_there_is_val(root: Path, capsys: Captured) -> None:
    for name in ("test", "testannot"):
        save(root / name / "a.png", np.zeros((12, 16) if name == "testannot" else (12, 16, 3), np.uint8))
    assert main(["data", "cache", "camvid", "--root", str(root)]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["train", "val"]
    assert main(["data", "cache", "camvid", "--root", str(root), "--split", "test+val"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["test", "val"]


def test_training_and_evaluation_read_it(
    tmp_path: Path, root: Path, capsys: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    recipe, cache, run = tmp_path / "tiny.yaml", str(tmp_path / "cache"), str(tmp_path / "run")
    recipe.write_text(yaml.safe_dump(tiny.recipe(iterations=2).to_mapping()))
    assert main(["data", "cache", "camvid", "--root", str(root), "--out", cache]) == 0
    assert f"train with it: gffnet train RECIPE --root {root} --cache {cache}" in capsys.readouterr().err
    assert main(["train", str(recipe), "--root", str(root), "--out", run, "--cache", cache]) == 0
    assert f"cache {cache}: splits train" in caplog.text
    assert "never cached" not in caplog.text
    capsys.readouterr()
    words = ["evaluate", "--model", run, "--dataset", "camvid", "--root", str(root), "--json"]
    scores = []
    for more in ([], ["--cache", cache]):
        assert main([*words, *more]) == 0
        scores.append(yaml.safe_load(capsys.readouterr().out))
    assert scores[0]["per_class"] == scores[1]["per_class"]


def test_the_command_fails_where_samples_are_left_out(root: Path, capsys: Captured) -> None:
    bad = root / "train" / "train_001.png"
    bad.write_bytes(b"")
    assert main(["data", "cache", "camvid", "--root", str(root)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"train: {TRAIN - 1} samples decoded")
    assert lines[1].startswith(f"left out: cannot read image {bad}: the file is empty")
    assert lines[-1] == (
        "error: 1 samples could not be read and are not in the cache; gffnet data check camvid --root "
        f"{root} finds them all."
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["camvit", "--root", "."], "data set 'camvit' is unknown. Did you mean 'camvid'?"),
        (["camvid", "--root", "nowhere"], "data set 'camvid' at nowhere: there is no such folder."),
        (["camvid", "--root", ".", "--split", "vall"], "data set 'camvid' at .: the folder does not look like"),
        (["camvid"], "the following arguments are required: --root"),
    ],
)
def test_mistakes(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "cache", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")


def test_a_missing_cache(root: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["train", "camvid/gffnet_r18", "--root", str(root), "--cache", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    command = f"`gffnet data cache camvid --root {root} --out {tmp_path / 'none'}`"
    assert f"--cache {tmp_path / 'none'}: there is no cache. {command} makes it." in error

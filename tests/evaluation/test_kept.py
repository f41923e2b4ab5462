"""What an evaluation that was broken off leaves behind."""

from pathlib import Path

import numpy as np
import pytest

from gffnet.data.dataset import Dataset
from gffnet.data.datasets import open_dataset
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import Kept, Scored
from gffnet.evaluation.evaluate import clear_kept as clear
from gffnet.evaluation.evaluate import evaluation_fingerprint as fingerprint
from tests.data.trees import camvid_tree, picture, save
from tests.full_disk import full_after

PRINT = {"weights_sha256": "a", "scales": (1.0,), "device": "cuda", "details": True}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out/scored"


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return open_dataset("camvid", camvid_tree(tmp_path / "CamVid"), "train")


def scored(*indices: int) -> Scored:
    of = Scored(3)
    for i in indices:
        labels = np.random.default_rng(i).integers(0, 3, (8, 8), dtype=np.uint8)
        of.update(i, labels, labels[::-1].copy())
    return of


def keep(data: Dataset, folder: Path, *indices: int, **other: object) -> Kept:
    kept = Kept(folder, {**PRINT, **other}, data)
    kept.save(scored(*indices))
    return kept


def load(data: Dataset, folder: Path, **other: object) -> Scored:
    of = Scored(3)
    Kept(folder, {**PRINT, **other}, data).load(of)
    return of


def test_all_that_was_kept_is_added(data: Dataset, folder: Path) -> None:
    one = keep(data, folder, 0)
    keep(data, folder, 4, 1)
    one.save(scored(0, 2))  # in place of what it kept before
    found = load(data, folder)
    assert sorted(found.images) == [0, 1, 2, 4]
    names = ["a", "b", "c"]
    assert found.counts.report(names) == scored(0, 1, 2, 4).counts.report(names)


def test_an_image_in_two_files_counts_once(data: Dataset, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As after two evaluations into one folder at a time."""
    keep(data, folder, 0, 1)
    keep(data, folder, 1, 2)
    found = load(data, folder)
    assert len(found.images) == 2
    assert "scored twice" in capsys.readouterr().err
    assert load(data, folder).images == found.images


@pytest.mark.parametrize("damage", [b"", b"PK\3\4 and no more", None])
def test_a_damaged_file_is_left_out(
    damage: bytes | None, data: Dataset, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = keep(data, folder, 0)
    kept.own.write_bytes(kept.own.read_bytes()[:-50] if damage is None else damage)
    keep(data, folder, 1)
    assert list(load(data, folder).images) == [1]
    assert f"{kept.own} is damaged" in capsys.readouterr().err
    assert not kept.own.exists()


def test_what_does_not_fit_is_named(data: Dataset, folder: Path) -> None:
    keep(data, folder, 0)
    with pytest.raises(UserError, match=r"another model; scales \[1.0\] then, \[1.0, 2.0\] now\. Give .* --out"):
        load(data, folder, weights_sha256="b", scales=[1.0, 2.0])
    with pytest.raises(UserError, match="details True then, False now"):
        load(data, folder, details=False)


def test_only_its_own_files_are_removed(data: Dataset, folder: Path) -> None:
    keep(data, folder, 0)
    (folder / ".0123456789abcdef.npz.0123abcd.part").write_bytes(b"killed in the midst")
    clear(folder)
    assert not folder.exists()
    clear(folder)
    keep(data, folder, 0)
    (folder / "mine.npz").write_bytes(b"")
    clear(folder)
    assert [path.name for path in folder.iterdir()] == ["mine.npz"]


def test_a_full_disk_takes_nothing_away(data: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = keep(data, folder, 0)
    with monkeypatch.context() as patch:
        full_after(patch, 0)
        with pytest.raises(UserError, match="cannot write"):
            kept.save(scored(0, 1))
    assert list(load(data, folder).images) == [0]


def test_a_file_may_be_mended_unless_its_image_was_scored(data: Dataset, folder: Path) -> None:
    keep(data, folder, 0, 1)
    save(data.files[2][0], picture(7, (11, 16)))
    assert len(load(data, folder).images) == 2
    save(data.files[1][1], picture(7, (11, 16)))
    with pytest.raises(UserError, match="the files of train_001 have changed"):
        load(data, folder)


def test_the_fingerprint_is_of_the_images_wherever_they_lie(tmp_path: Path) -> None:
    protocol = {"device": "cuda:1", "absent": "left out", "absent_source": "why", "split": "val"}
    here, there = (open_dataset("camvid", camvid_tree(tmp_path / name), "val") for name in "ab")
    print_ = fingerprint(protocol, here, True)
    assert print_ == fingerprint({**protocol, "device": "cuda:0", "absent_source": "so"}, there, True)
    assert print_ != fingerprint(protocol, here, False)
    assert print_ != fingerprint({**protocol, "split": "train"}, here, True)
    assert print_ != fingerprint(protocol, open_dataset("camvid", tmp_path / "a", "train"), True)

"""Partial results add up to the whole, and what an interrupted evaluation saved is found, checked and removed."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gffnet.data.dataset import Dataset
from gffnet.data.datasets import open_dataset
from gffnet.data.map_style import MapStyleDataset
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import PartialResults, PartialScores, evaluation_settings, remove_partial
from gffnet.metrics.boundary import distance_to_boundary
from tests.data.trees import camvid_tree, picture, save
from tests.full_disk import full_after

NAMES = ["a", "b", "c"]
SETTINGS = {"weights_sha256": "a", "scales": (1.0,), "device": "cuda", "details": True}


def pair(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels of a large square and specks, with an ignored column; predictions that are often right."""
    random = np.random.default_rng(seed)
    labels = np.zeros((110, 130), np.uint8)
    labels[5:105, 5:105] = 1
    labels[random.integers(0, 110, 30), random.integers(100, 130, 30)] = 2
    labels[:, 129] = 255
    predicted = np.where(random.random(labels.shape) < 0.7, labels, random.integers(0, 3, labels.shape))
    return labels, np.minimum(predicted, 2).astype(np.uint8)


def scored(*indices: int, details: bool = True) -> PartialScores:
    scores = PartialScores(3, details)
    for i in indices:
        scores.update(i, *pair(i))
    return scores


@pytest.mark.parametrize("details", [True, False])
def test_parts_add_up_exactly(details: bool) -> None:
    whole, merged = scored(*range(5), details=details), PartialScores(3, details)
    for part in ([3, 1], [], [0, 2, 4]):
        merged.merge(scored(*part, details=details).arrays())
    assert merged.counts.compute(NAMES) == whole.counts.compute(NAMES)
    assert merged.images == whole.images
    assert merged.parts.keys() == whole.parts.keys() == set(range(5) if details else [])
    assert all(np.array_equal(merged.parts[i], whole.parts[i]) for i in whole.parts)
    assert all(isinstance(score.pixels, int) for score in merged.images.values())


def test_an_image_is_not_counted_twice_nor_with_other_counts() -> None:
    scores = scored(0, 1)
    before = scores.counts.compute(NAMES)
    with pytest.raises(ValueError, match="twice"):
        scores.merge(scored(1, 2).arrays())
    with pytest.raises(ValueError, match="counts of other scores"):
        scores.merge(scored(2, details=False).arrays())
    assert scores.counts.compute(NAMES) == before
    assert list(scores.images) == [0, 1]


def test_the_parts_of_an_image_are_correct_and_labelled_pixels_by_distance_and_size() -> None:
    labels, predicted = pair(0)
    correct, labelled = scored(0).parts[0]
    distance = distance_to_boundary(labels, 3)
    for i, (low, high) in enumerate(pairwise([-1, 2, 4, 8, 16, 32, np.inf])):
        where = (distance > low) & (distance <= high) & (labels != 255)
        assert (correct[i], labelled[i]) == ((where & (labels == predicted)).sum(), where.sum())
    assert labelled[5] > 0
    square, specks = labels == 1, labels == 2  # what specks leave of the background is large, too
    assert (correct[6], labelled[6]) == ((specks & (predicted == 2)).sum(), specks.sum())
    assert (correct[8], labelled[8]) == ((square & (predicted == 1)).sum(), square.sum())


# On disk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out/scored"


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return open_dataset("camvid", camvid_tree(tmp_path / "CamVid"), "train")


def store(data: Dataset, folder: Path, *indices: int) -> PartialResults:
    partial = PartialResults(folder, SETTINGS, data)
    partial.save([scored(*indices)])
    return partial


def load(data: Dataset, folder: Path, **other: object) -> PartialScores:
    scores = PartialScores(3)
    PartialResults(folder, {**SETTINGS, **other}, data).load([scores])
    return scores


def test_everything_saved_is_added(data: Dataset, folder: Path) -> None:
    one = store(data, folder, 0)
    store(data, folder, 4, 1)
    one.save([scored(0, 2)])  # in place of what it saved before
    found = load(data, folder)
    assert sorted(found.images) == [0, 1, 2, 4]
    assert found.counts.compute(NAMES) == scored(0, 1, 2, 4).counts.compute(NAMES)


def test_variants_are_kept_apart(data: Dataset, folder: Path) -> None:
    PartialResults(folder, SETTINGS, data).save([scored(0, 1), scored(2, 3)])
    found = [PartialScores(3), PartialScores(3)]
    PartialResults(folder, SETTINGS, data).load(found)
    assert [list(scores.images) for scores in found] == [[0, 1], [2, 3]]


def test_an_image_in_two_files_counts_once(data: Dataset, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As after two evaluations into one folder at a time."""
    store(data, folder, 0, 1)
    store(data, folder, 1, 2)
    found = load(data, folder)
    assert len(found.images) == 2
    assert "scored twice" in capsys.readouterr().err
    assert load(data, folder).images == found.images


@pytest.mark.parametrize("damage", [b"", b"PK\3\4 and no more", None])
def test_a_damaged_file_is_left_out(
    damage: bytes | None, data: Dataset, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = store(data, folder, 0)
    partial.own.write_bytes(partial.own.read_bytes()[:-50] if damage is None else damage)
    store(data, folder, 1)
    assert list(load(data, folder).images) == [1]
    assert f"{partial.own} is damaged" in capsys.readouterr().err
    assert not partial.own.exists()


def test_other_settings_are_named(data: Dataset, folder: Path) -> None:
    store(data, folder, 0)
    with pytest.raises(UserError, match=r"another model; scales \[1.0\] then, \[1.0, 2.0\] now\. Give .* --out"):
        load(data, folder, weights_sha256="b", scales=[1.0, 2.0])
    with pytest.raises(UserError, match="details True then, False now"):
        load(data, folder, details=False)


def test_only_its_own_files_are_removed(data: Dataset, folder: Path) -> None:
    store(data, folder, 0)
    (folder / ".0123abcd.part").write_bytes(b"killed while writing")
    remove_partial(folder)
    assert not folder.exists()
    remove_partial(folder)
    store(data, folder, 0)
    for name in ("mine.npz", ".mine.part"):
        (folder / name).write_bytes(b"")
    remove_partial(folder)
    assert sorted(path.name for path in folder.iterdir()) == [".mine.part", "mine.npz"]


def test_a_full_disk_takes_nothing_away(data: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = store(data, folder, 0)
    with monkeypatch.context() as patch:
        full_after(patch, 0)
        with pytest.raises(UserError, match="cannot write"):
            partial.save([scored(0, 1)])
    assert list(load(data, folder).images) == [0]


def test_a_file_may_be_repaired_unless_its_image_was_scored(data: Dataset, folder: Path) -> None:
    store(data, folder, 0, 1)
    save(data.files[2][0], picture(7, (11, 16)))
    assert len(load(data, folder).images) == 2
    save(data.files[1][1], picture(7, (11, 16)))
    with pytest.raises(UserError, match="the files of train_001 have changed"):
        load(data, folder)


def test_the_settings_tell_data_in_python_apart() -> None:
    """Which have indices for names, and no files."""
    first, second = ([(np.full((6, 8, 3), i, np.uint8), np.zeros((6, 8), np.uint8))] * 3 for i in (0, 1))
    of = [evaluation_settings({"device": "cpu"}, MapStyleDataset(data, 3), True) for data in (first, second, first)]
    assert of[0] == of[2] != of[1]


def test_the_settings_are_of_the_images_wherever_they_lie(tmp_path: Path) -> None:
    protocol = {"device": "cuda:1", "absent": "left out", "absent_source": "why", "split": "val"}
    here, there = (open_dataset("camvid", camvid_tree(tmp_path / name), "val") for name in "ab")
    settings = evaluation_settings(protocol, here, True)
    assert settings == evaluation_settings({**protocol, "device": "cuda:0", "absent_source": "so"}, there, True)
    assert settings != evaluation_settings(protocol, here, False)
    assert settings != evaluation_settings({**protocol, "split": "train"}, here, True)
    assert settings != evaluation_settings(protocol, open_dataset("camvid", tmp_path / "a", "train"), True)

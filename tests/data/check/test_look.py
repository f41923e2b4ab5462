"""What is seen in one sample, and in many by many processes."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gffnet.data.camvid import CamVid
from gffnet.data.check.look import look_at, look_at_all
from gffnet.data.dataset import Dataset, LabelTable
from gffnet.errors import RunFailed
from tests.data.check.planted import SIZE, camvid
from tests.data.trees import ids, save


class Deadly(CamVid):
    """A reader that is killed at one file."""

    def read_ids(self, label_file: Path) -> tuple[Any, LabelTable]:
        if label_file.name == "train_019.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read_ids(label_file)


def reader(root: Path, kind: type[CamVid] = CamVid) -> Dataset:
    return kind(root, "", files=[])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
def test_pixels_are_counted(tmp_path: Path, kind: type) -> None:
    labels = ids(1, 14, SIZE)
    image, file = camvid(tmp_path) / "train/train_000.png", save(tmp_path / "labels.png", labels.astype(kind))
    seen = look_at(reader(tmp_path), image, file).label
    assert seen.ids == {value: int((labels == value).sum()) for value in range(14)}
    assert seen.classes == {**{value: seen.ids[value] for value in range(11)}, 255: seen.ids[11]}
    assert seen.strange == {value: seen.ids[value] for value in (12, 13)}
    row, column = np.argwhere(labels > 11)[0]
    assert seen.unknown == (labels[row, column], row, column)


def test_ids_beyond_16_bits_are_counted(tmp_path: Path) -> None:
    class Wide(CamVid):
        def read_ids(self, label_file: Path) -> tuple[Any, LabelTable]:
            return np.array([[-1, 5, 1 << 20]]), self.table

    image = camvid(tmp_path) / "train/train_000.png"
    seen = look_at(reader(tmp_path, Wide), image, image).label
    assert (seen.ids, seen.unknown) == ({-1: 1, 5: 1, 1 << 20: 1}, (-1, 0, 0))


def test_many_processes_see_what_one_does(tmp_path: Path) -> None:
    files = CamVid(camvid(tmp_path, samples=20), "train").files
    alone, together = (dict(look_at_all(reader(tmp_path), files, workers)) for workers in (1, 2))
    assert sorted(together) == list(range(20))
    assert {number: together[number] for number in alone} == alone


def test_a_process_that_dies(tmp_path: Path) -> None:
    files = CamVid(camvid(tmp_path, samples=20), "train").files
    with pytest.raises(
        RunFailed, match=r"died at .*train_0\d\d\.png or a file after it.* Free memory or pass --workers 1"
    ):
        list(look_at_all(reader(tmp_path, Deadly), files, 2))

from pathlib import Path

import pytest

from gffnet.data.catalog import class_count
from gffnet.data.datasets import LAYOUTS, READERS, open_dataset
from gffnet.errors import UserError
from tests.data.trees import (
    ade20k_tree,
    camvid_tree,
    cityscapes_tree,
    coco_stuff_tree,
    folder_tree,
    pascal_context_tree,
)


def test_every_readable_data_set(tmp_path: Path) -> None:
    makers = {
        "ade20k": ade20k_tree,
        "camvid": camvid_tree,
        "cityscapes": cityscapes_tree,
        "streets": cityscapes_tree,
        "pascal_context": pascal_context_tree,
        "coco_stuff_10k": coco_stuff_tree,
    }
    assert set(makers) == set(READERS) - {"folder"} == set(LAYOUTS) - {"folder"}
    for name, make in makers.items():
        dataset = open_dataset(name, make(tmp_path / name), "train+val")
        assert len(dataset) == len(dataset.files) > 2
        assert len(dataset.classes.names) == class_count(name)
        assert [dataset[i].name for i in range(len(dataset))] == [dataset.name(i) for i in range(len(dataset))]


def test_ones_own_images_bring_their_classes(tmp_path: Path) -> None:
    dataset = open_dataset("folder", folder_tree(tmp_path), "train+val")
    assert len(dataset) == len(dataset.files) == 6
    assert dataset.classes.names == ("road", "pole", "sign")
    assert [dataset[i].name for i in range(6)] == [dataset.name(i) for i in range(6)]
    assert {"folder"} <= set(READERS) & set(LAYOUTS)


def test_streets_are_named_in_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data set 'streets' .*gffnet data streets --out DIR"):
        open_dataset("streets", tmp_path, "val")


def test_unknown_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data set 'camvit' is unknown. Did you mean 'camvid'\?"):
        open_dataset("camvit", tmp_path, "val")


def test_no_root() -> None:
    with pytest.raises(UserError, match=r"data set 'camvid': its folder is not given. Pass --root DIR"):
        open_dataset("camvid", None, "val")

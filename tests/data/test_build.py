from pathlib import Path

import pytest

from gffnet.data.build import open_dataset
from gffnet.data.catalog import class_count
from gffnet.errors import UserError
from tests.data.trees import camvid_tree, cityscapes_tree


def test_every_readable_data_set(tmp_path: Path) -> None:
    camvid_tree(tmp_path / "camvid")
    cityscapes_tree(tmp_path / "streets")
    for name, folder in (("camvid", "camvid"), ("cityscapes", "streets"), ("streets", "streets")):
        dataset = open_dataset(name, tmp_path / folder, "train+val")
        assert len(dataset) == len(dataset.files)
        assert len(dataset.classes.names) == class_count(name)
        assert [dataset[i].name for i in range(len(dataset))] == [dataset.name(i) for i in range(len(dataset))]


def test_streets_are_named_in_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data set 'streets' .*gffnet data streets --out DIR"):
        open_dataset("streets", tmp_path, "val")


@pytest.mark.parametrize("name", ["ade20k", "pascal_context", "coco_stuff_10k", "folder"])
def test_data_sets_without_a_reader(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        UserError, match=f"{name!r} cannot be read by this version yet; readable now: camvid, cityscapes"
    ):
        open_dataset(name, tmp_path, "val")


def test_unknown_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data set 'camvit' is unknown. Did you mean 'camvid'\?"):
        open_dataset("camvit", tmp_path, "val")


def test_no_root() -> None:
    with pytest.raises(UserError, match=r"data set 'camvid': its folder is not given. Pass --root DIR"):
        open_dataset("camvid", None, "val")

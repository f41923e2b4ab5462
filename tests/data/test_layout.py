"""What the readers' own tests do not show: `Layout` by itself, on a made-up data set."""

from dataclasses import replace
from pathlib import Path

import pytest

from gffnet.data.dataset import Files, Layout, list_files
from gffnet.errors import UserError


def splits(root: Path) -> list[str]:
    return sorted(folder.name for folder in root.glob("p-*"))


def pairs(root: Path, split: str) -> Files:
    return [(path, path.with_suffix(".mask")) for path in sorted((root / split).glob("*.picture"))]


LAYOUT = Layout("mine", "p-*/*.picture", "It comes from nowhere.", splits, pairs)
OTHER = replace(LAYOUT, others={"**/*.theirs": "This is theirs: get mine."})


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_files_of_several_splits(tmp_path: Path) -> None:
    root = tree(tmp_path, "p-a/1.picture", "p-a/1.mask", "p-b/2.picture", "p-b/2.mask", "p-b/0.picture", "p-b/0.mask")
    found = [image.name for image, _ in list_files(LAYOUT, root, "p-b+p-a")]
    assert found == ["0.picture", "2.picture", "1.picture"]


def test_another_release_is_told_rather_than_a_folder_nearby(tmp_path: Path) -> None:
    tree(tmp_path / "right", "p-a/1.picture")
    tree(tmp_path, "x.theirs")
    assert LAYOUT.other_release(tmp_path) is None
    assert OTHER.other_release(tmp_path) == "This is theirs: get mine."
    with pytest.raises(UserError, match=rf"at {tmp_path}: .*\. {tmp_path}/right looks like it: pass --root"):
        list_files(LAYOUT, tmp_path, "p-a")
    with pytest.raises(UserError, match=r"does not look like this data set\. This is theirs: get mine\.$"):
        list_files(OTHER, tmp_path, "p-a")


def test_the_remedy_where_nothing_is_near(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data set 'mine' at .*: there is no such folder\. It comes from nowhere\."):
        list_files(LAYOUT, tmp_path / "none" / "none", "p-a")


def test_missing_files_are_counted(tmp_path: Path) -> None:
    root = tree(tmp_path, "p-a/1.picture", "p-a/1.mask", "p-a/2.picture", "p-a/3.picture")
    with pytest.raises(UserError, match=r"2 of the 3 samples of split 'p-a' lack their label map, the first .*2\.mask"):
        list_files(LAYOUT, root, "p-a")

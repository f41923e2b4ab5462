import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gffnet.data.folder import LAYOUT, list_folder, split_of
from gffnet.errors import UserError
from tests.data.trees import folder_tree


def flat_tree(root: Path, count: int = 40, classes: str = "classes: [road]\n") -> Path:
    """Files without content, in no subfolder."""
    for folder, suffix in (("images", ".JPG"), ("masks", ".png")):
        (root / folder).mkdir(parents=True)
        for i in range(count):
            (root / folder / f"i{i:03d}{suffix}").touch()
    (root / "classes.yaml").write_text(classes)
    return root


def names(root: Path, split: str) -> list[str]:
    """The images of a split without suffix, each of which has the mask of its name."""
    files = list_folder(root, split)
    found = [image.relative_to(root / "images").with_suffix("").as_posix() for image, _ in files]
    assert found == [mask.relative_to(root / "masks").with_suffix("").as_posix() for _, mask in files]
    return found


EAST_WEST = ["train/east/a.0", "train/east/a.2", "train/west/a.1", "train/west/a.3"]


def test_by_subfolders(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    (root / "images" / "more").mkdir()  # no masks: no split
    assert LAYOUT.splits(root) == ["train", "val"]
    assert names(root, "train") == EAST_WEST
    assert names(root, "val+train") == ["val/east/a.0", "val/west/a.1", *EAST_WEST]


def test_subfolders_of_any_name(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    for folder in ("images", "masks"):
        (root / folder / "train").rename(root / folder / "summer")
        (root / folder / "val").rename(root / folder / "winter")
    assert LAYOUT.splits(root) == ["summer", "winter"]
    assert names(root, "winter") == ["winter/east/a.0", "winter/west/a.1"]


def test_by_lists(tmp_path: Path) -> None:
    """They come before subfolders; lines may be of Windows, with or without suffix."""
    root = folder_tree(tmp_path)
    (root / "train.txt").write_bytes(b"\xef\xbb\xbfval/west/a.1.png\r\n\r\ntrain\\east\\a.2\r\n./train/west/a.3")
    (root / "fold 1.txt").write_text("train/east/a.0\n")
    (root / "val.txt").write_text("\n")
    (root / "README.txt").write_text("Pictures of\nroads.\n/\n..\n")
    (root / "binary.txt").write_bytes(b"\xff")
    assert LAYOUT.splits(root) == ["fold 1", "train", "val"]
    assert names(root, "train") == ["val/west/a.1", "train/east/a.2", "train/west/a.3"]
    assert names(root, "fold 1") == ["train/east/a.0"]
    with pytest.raises(UserError, match="split 'val' holds no image"):
        list_folder(root, "val")


def test_by_fraction(tmp_path: Path) -> None:
    root = flat_tree(tmp_path, classes="classes: [road]\nval_fraction: 0.25\n")
    assert LAYOUT.splits(root) == ["train", "val"]
    train, val = names(root, "train"), names(root, "val")
    assert sorted(train + val) == [f"i{i:03d}" for i in range(40)]
    assert {split_of(name, 0.25) for name in val} == {"val"}
    assert {split_of(name, 0.25) for name in train} == {"train"}
    shutil.rmtree(root / "masks")
    (root / "masks").mkdir()
    (root / "masks" / "i000.png").touch()
    assert [image.stem for image, _ in LAYOUT.pairs(root, "val")] == val


def test_which_way_is_in_force(tmp_path: Path) -> None:
    """Lists before subfolders before the fraction, unless no subfolder has the name of a split."""
    root = folder_tree(tmp_path)
    with (root / "classes.yaml").open("a") as file:
        file.write("val_fraction: 0.4\n")
    assert names(root, "train") == EAST_WEST
    (root / "train.txt").write_text("val/west/a.1\n")
    assert names(root, "train") == ["val/west/a.1"]
    assert LAYOUT.splits(root) == ["train"]
    (root / "train.txt").unlink()
    for folder in ("images", "masks"):
        (root / folder / "train").rename(root / folder / "summer")
        (root / folder / "val").rename(root / folder / "winter")
    assert LAYOUT.splits(root) == ["train", "val"]
    both = names(root, "train+val")
    assert sorted(both) == sorted([*(name.replace("train", "summer") for name in EAST_WEST), *names_of_winter()])


def names_of_winter() -> list[str]:
    return ["winter/east/a.0", "winter/west/a.1"]


# The fraction


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_larger_fraction_takes_no_image_back(name: str, one: float, other: float) -> None:
    smaller, larger = sorted((one, other))
    assert split_of(name, smaller) == "train" or split_of(name, larger) == "val"
    assert split_of(name, larger) == split_of(name, larger)


def test_the_share_is_close_to_the_fraction() -> None:
    for fraction in (0.05, 0.2, 0.5):
        val = sum(split_of(f"city/frame_{i:06d}", fraction) == "val" for i in range(2000))
        assert abs(val / 2000 - fraction) < 3 * (fraction * (1 - fraction) / 2000) ** 0.5


def test_sides_are_for_ever() -> None:
    """Pinned: images that were trained on must not be validated on by a later version."""
    val = [i for i in range(20) if split_of(f"images/{i}", 0.3) == "val"]
    assert val == [2, 5, 7, 8, 11, 18]
    assert split_of("Fu\u00dfg\u00e4nger", 0.5) == split_of("Fu\u00dfga\u0308nger", 0.5)  # file systems differ in this
    assert split_of(b"\xff".decode(errors="surrogateescape"), 0.5) in {"train", "val"}


def test_other_images_do_not_move_an_image(tmp_path: Path) -> None:
    root = flat_tree(tmp_path, 60, "classes: [road]\nval_fraction: 0.3\n")
    before = {split: names(root, split) for split in ("train", "val")}
    for i in range(0, 60, 3):
        (root / "images" / f"i{i:03d}.JPG").unlink()
    for folder, suffix in (("images", ".png"), ("masks", ".tif")):
        (root / folder / "new").mkdir()
        for i in range(50):
            (root / folder / "new" / f"i{i:03d}{suffix}").touch()
    for split, old in before.items():
        kept = [name for name in names(root, split) if not name.startswith("new/")]
        assert kept == [name for name in old if int(name[1:]) % 3]


def test_a_fraction_holds_where_nothing_is_said(tmp_path: Path) -> None:
    silent = flat_tree(tmp_path / "a", 100)
    told = flat_tree(tmp_path / "b", 100, "classes: [road]\nval_fraction: 0.2\n")
    for split in ("train", "val"):
        assert names(silent, split) == names(told, split)
    (silent / "classes.yaml").unlink()
    assert LAYOUT.splits(silent) == ["train", "val"]  # what is missing is told when the classes are read


@pytest.mark.parametrize(("count", "fraction"), [(2, 0.001), (2, 0.999), (3, 0.001), (9, 0.999)])
def test_a_fraction_leaves_no_split_empty(tmp_path: Path, count: int, fraction: float) -> None:
    root = flat_tree(tmp_path, count, f"classes: [road]\nval_fraction: {fraction}\n")
    split = {name: names(root, name) for name in ("train", "val")}
    assert sorted(split["train"] + split["val"]) == [f"i{i:03d}" for i in range(count)]
    assert len(split["val" if fraction < 0.5 else "train"]) == 1
    assert LAYOUT.label_files is not None
    for name in split:
        assert LAYOUT.label_files(root, name) == [mask for _, mask in LAYOUT.pairs(root, name)]


# The label files of a split, among which the check of a data set looks for those of no image


def test_label_files(tmp_path: Path) -> None:
    assert LAYOUT.label_files is not None
    root = folder_tree(tmp_path / "a")
    (root / "masks" / "val" / "left.png").touch()
    assert [file.name for file in LAYOUT.label_files(root, "val")] == ["a.0.png", "left.png", "a.1.png"]
    (root / "val.txt").write_text("val/east/a.0\n")
    assert LAYOUT.label_files(root, "val") == []
    root = flat_tree(tmp_path / "b", classes="classes: [road]\nval_fraction: 0.3\n")
    for split in ("train", "val"):
        assert LAYOUT.label_files(root, split) == [mask for _, mask in LAYOUT.pairs(root, split)]


# Errors


def refusal(root: Path, split: str = "train") -> str:
    with pytest.raises(UserError) as caught:
        list_folder(root, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


WAYS = (
    "gffnet reads images/**/NAME.jpg (or .png, ...) with masks/**/NAME.png and classes.yaml. Splits are lists "
    "(train.txt, val.txt: a path in images/ per line), or subfolders (images/train with masks/train, ...), or made by "
    "`val_fraction: 0.2` in classes.yaml, which is also the default."
)


def test_a_split_without_masks(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    shutil.move(root / "masks/train", root / "masks/Train")
    shutil.move(root / "masks/val", root / "masks/Val")
    assert refusal(root) == (f"data set 'folder' at {root}: images/train is there, but no folder masks/train. {WAYS}")


def test_no_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "x") == f"data set 'folder' at {tmp_path}/x: there is no such folder. {WAYS}"
    assert "the folder does not look like this data set. gffnet reads" in refusal(tmp_path)
    root = folder_tree(tmp_path / "own")
    assert f"{root} looks like it: pass --root {root}." in refusal(tmp_path)
    assert f"{root} looks like it: pass --root {root}." in refusal(root / "masks")
    (root / "masks").rename(root / "labels")
    assert refusal(root) == f"data set 'folder' at {root}: it has no folder 'masks'. {WAYS}"


def test_no_such_split(tmp_path: Path) -> None:
    said = refusal(folder_tree(tmp_path), "test")
    assert said == f"data set 'folder' at {tmp_path}: split 'test' is not there (there are: train, val). {WAYS}"


def test_a_mask_that_is_missing(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    (root / "masks/train/east/a.2.png").unlink()
    (root / "masks/train/west/a.1.png").unlink()
    start = f"data set 'folder' at {root}: 2 of the 4 images of split 'train' have no mask, the first is "
    end = f" A mask has the path of its image but for the suffix, here {root}/masks/train/east/a.2.png."
    assert refusal(root) == f"{start}{root}/images/train/east/a.2.png.{end}"
    (root / "masks/train/east/a.2_mask.tif").touch()
    assert refusal(root) == f"{start}{root}/images/train/east/a.2.png. Did you mean 'train/east/a.2_mask.tif'?{end}"


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_files_of_one_name(tmp_path: Path, folder: str) -> None:
    root = folder_tree(tmp_path)
    (root / folder / "train/east/a.2.bmp").touch()
    files = f"{root}/{folder}/train/east/a.2.bmp and {root}/{folder}/train/east/a.2.png"
    assert refusal(root) == (
        f"data set 'folder': {files} differ only in their suffix, so it is not clear which mask belongs to which "
        "image. Rename or remove one of them."
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("images/train/east/a.2.png", "Did you mean 'train/east/a.2.png'? "),
        ("train/east/a.2.jpg", "Did you mean 'train/east/a.2.png'? "),
        ("zzz", ""),
        ("/", ""),
    ],
)
def test_a_line_that_names_no_image(tmp_path: Path, line: str, said: str) -> None:
    root = folder_tree(tmp_path)
    (root / "train.txt").write_text(f"train/east/a.0\n\n{line}\n")
    assert refusal(root) == (
        f"list {root}/train.txt, line 3: {line!r} is no image in {root}/images. {said}Lines are paths in that "
        "folder, with or without suffix."
    )


def test_a_line_twice(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    (root / "train.txt").write_text("train/east/a.0\ntrain/east/a.0.png\n")
    assert "train.txt, line 2: 'train/east/a.0.png' is already listed above. Delete one of the lines." in refusal(root)


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    (root / "train.txt").write_bytes(b"\xff\xfe\x00")
    assert "train.txt cannot be read ('utf-8' codec" in refusal(root)
    assert refusal(root).endswith("save it as UTF-8 text, or delete it.")


def test_one_image_is_not_enough(tmp_path: Path) -> None:
    root = flat_tree(tmp_path, 1)
    assert refusal(root, "val") == (
        f"data set 'folder' at {root}: there is 1 image, {root}/images/i000.JPG, but training and validation need one "
        "each. Add images, or name it in both train.txt and val.txt."
    )
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("i000\n")
    assert names(root, "train") == names(root, "val") == ["i000"]


def test_no_image_at_all(tmp_path: Path) -> None:
    root = flat_tree(tmp_path, 0, "classes: [road]\nval_fraction: 0.2\n")
    assert "split 'train' holds no image" in refusal(root)

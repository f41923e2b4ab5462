"""What all data sets share: label tables, layouts, split lists, classes, the registry and ground truth by path."""

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gffnet
from gffnet.data.cache import build_cache
from gffnet.data.camvid import CamVid
from gffnet.data.dataset import (
    DATASETS,
    IGNORE,
    Classes,
    Dataset,
    Files,
    LabelTable,
    Layout,
    Truth,
    class_difference,
    evenly_spaced,
    fingerprint,
    identity,
    list_files,
    read_list,
)
from gffnet.data.datasets import class_count, dataset_classes, open_dataset, open_files, thin_classes
from gffnet.errors import UserError
from gffnet.registry import names
from gffnet.streets import write_streets
from tests.data.trees import (
    ade20k_tree,
    camvid_tree,
    cityscapes_tree,
    coco_stuff_tree,
    folder_tree,
    ids,
    pascal_context_tree,
    picture,
    save,
)

# Label tables.

FILE = Path("some/mask.png")
TABLE = LabelTable({0: 255, 7: 0, 8: 1, 400: 2}, legal="0, 7, 8, 400", hint="write it anew")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64, np.uint32])
def test_ids_become_train_ids(dtype: type) -> None:
    ids = np.array([[7, 8, 0], [0, 7, 7]], dtype)
    train_ids = TABLE(ids, FILE)
    assert train_ids.dtype == np.uint8
    assert train_ids.tolist() == [[0, 1, 255], [255, 0, 0]]


def test_ids_that_eight_bits_do_not_hold() -> None:
    assert TABLE(np.array([[400, 0]], np.int32), FILE).tolist() == [[2, 255]]


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20))
def test_every_other_id_is_refused(values: list[int]) -> None:
    ids = np.array([values], np.int32)
    expected = [value in {0, 7, 8, 400} for value in values]
    assert TABLE.known(ids).tolist() == [expected]
    if all(expected):
        assert TABLE(ids, FILE).shape == ids.shape
    else:
        with pytest.raises(
            UserError, match=r"label map some/mask\.png: value -?\d+ at row 0, column \d+ is no label id"
        ):
            TABLE(ids, FILE)


def test_the_error_says_where_and_how_many() -> None:
    ids = np.zeros((3, 4), np.uint8)
    ids[1, 2], ids[2, 0] = 9, 200
    with pytest.raises(UserError) as caught:
        TABLE(ids, FILE)
    assert str(caught.value) == (
        "label map some/mask.png: value 9 at row 1, column 2 is no label id: they are 0, 7, 8, 400. 2 of its 12 pixels "
        "are wrong: write it anew."
    )


def test_legal_ids_and_text() -> None:
    assert TABLE.legal_ids().tolist() == [0, 7, 8, 400]
    same, other = LabelTable({400: 2, 8: 1, 7: 0, 0: 255}, legal="x"), LabelTable({0: 255, 7: 0, 8: 1}, legal="x")
    assert TABLE.text() == same.text() != other.text()


def test_identity() -> None:
    assert identity(3) == {0: 0, 1: 1, 2: 2, 255: 255}
    assert identity(2, ignored=2) == {0: 0, 1: 1, 2: 255}
    assert identity(2, ignored=None) == {0: 0, 1: 1}


# Layouts, on a made-up data set.


def made_up_splits(root: Path) -> list[str]:
    return sorted(folder.name for folder in root.glob("p-*"))


def made_up_pairs(root: Path, split: str) -> Files:
    return [(path, path.with_suffix(".mask")) for path in sorted((root / split).glob("*.picture"))]


LAYOUT = Layout("mine", "p-*/*.picture", "It comes from nowhere.", made_up_splits, made_up_pairs)
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
    tree(tmp_path / "right", "p-a/1.picture", "p-a/1.mask")
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


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("data", "data/made up/inner"),  # two levels too high
        ("data/made up", "data/made up/inner"),
        ("data/made up/inner/p-a/deep", "data/made up/inner"),  # two levels too deep
        ("data/made up/inner/p-a", "data/made up/inner"),
        ("data/made up/inner/p-b", "data/made up/inner"),  # does not exist
        ("data/Made_up", "data/made up/inner"),  # does not exist; another is called so
        ("data/made up/Inner", "data/made up/inner"),
        ("data/else", None),  # does not exist, and none is called so
        ("data/half", None),  # images without label maps, as in what macOS adds and in hidden folders
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_the_right_folder_is_named(
    given: str, right: str | None, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is advised works."""
    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "data/half", "p-a/1.picture", "__MACOSX/p-a/1.picture", "__MACOSX/p-a/1.mask", ".x/p-a/1.picture")
    tree(tmp_path / "data/made up/inner", "p-a/1.picture", "p-a/1.mask", "p-a/deep/x")
    start = Path() if relative else tmp_path
    with pytest.raises(UserError) as error:
        list_files(LAYOUT, start / given, "p-a")
    words = shlex.split(str(error.value).removesuffix("."))
    if right is None:
        assert "--root" not in words
    else:
        assert words[-2:] == ["--root", str(start / right)]
        assert len(list_files(LAYOUT, Path(words[-1]), "p-a")) == 1


@pytest.mark.parametrize("name", ["x.zip", "x.tar.gz", "x.7z", "x.TAR", "x.png"])
def test_a_file_in_place_of_the_folder(name: str, tmp_path: Path) -> None:
    tree(tmp_path, name)
    said = "it is a file, not a folder" if name == "x.png" else "it is an archive: unpack it, and give the folder"
    with pytest.raises(UserError, match=f"{name}: {said}"):
        list_files(LAYOUT, tmp_path / name, "p-a")


def test_missing_files_are_counted(tmp_path: Path) -> None:
    root = tree(tmp_path, "p-a/1.picture", "p-a/1.mask", "p-a/2.picture", "p-a/3.picture")
    with pytest.raises(UserError, match=r"2 of the 3 samples of split 'p-a' lack their label map, the first .*2\.mask"):
        list_files(LAYOUT, root, "p-a")


def test_split_lists_give_base_names(tmp_path: Path) -> None:
    lines = [
        "2008_000002",
        "JPEGImages/2008_000003.jpg labels/2008_000003.png",
        "",
        "C:\\voc\\2008_000007.jpg  1",
        " x ",
    ]
    (tmp_path / "train.txt").write_text("\r\n".join(lines))
    assert read_list(tmp_path / "train.txt") == ["2008_000002", "2008_000003", "2008_000007", "x"]


def test_unreadable_split_lists(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"split list .*train\.txt is not UTF-8 text \(line 1\)\. Save it as UTF-8\."):
        read_list(tmp_path / "train.txt")
    with pytest.raises(UserError, match=r"split list .*val\.txt cannot be read .*\. Restore it from the release\."):
        read_list(tmp_path / "val.txt")


# Ground truth by path.


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("streets")
    write_streets(root, 2, 3, (128, 256))
    return root


def test_labels_are_those_of_the_sample(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    val = open_dataset("streets", scenes, "val")
    truth = Truth([open_dataset("streets", scenes, "train"), val])
    for index in range(len(val)):
        labels = truth.labels(val.files[index][0])
        assert labels is not None
        assert len(np.unique(labels)) > 2
        assert np.array_equal(labels, val[index].labels.numpy())
    monkeypatch.chdir(scenes.parent)
    relative = Path(scenes.name) / ".." / val.files[1][0].relative_to(scenes.parent)
    assert np.array_equal(truth.labels(relative), val[1].labels.numpy())


def test_classes_are_those_of_the_data_set(scenes: Path) -> None:
    val = open_dataset("streets", scenes, "val")
    assert Truth([val]).classes == tuple(val.classes.names)
    assert Truth([]).classes is None


def test_an_image_of_no_data_set_has_none(scenes: Path, tmp_path: Path) -> None:
    assert Truth([open_dataset("streets", scenes, "val")]).labels(tmp_path / "photo.jpg") is None
    assert Truth([]).labels(tmp_path / "photo.jpg") is None


def test_samples_by_name(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    val = open_dataset("streets", scenes, "val")
    truth = Truth([val])
    assert truth.image(Path(val.name(2))) == val.files[2][0]
    assert Truth([]).image(Path("nobody")) == Path("nobody")
    wrong = val.name(1)[:-1]
    with pytest.raises(UserError, match=f"^{wrong} is neither a file nor the name of an image .* Did you mean"):
        truth.image(Path(wrong))
    monkeypatch.chdir(tmp_path)
    (tmp_path / val.name(2)).touch()
    assert truth.image(Path(val.name(2))) == Path(val.name(2)), "a file that is there is what is meant"


# The registry.


TREES = {
    "cityscapes": cityscapes_tree,
    "ade20k": ade20k_tree,
    "pascal_context": pascal_context_tree,
    "coco_stuff_10k": coco_stuff_tree,
    "camvid": camvid_tree,
    "streets": cityscapes_tree,
    "folder": folder_tree,
}


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_is_opened_by_name(tmp_path: Path, name: str) -> None:
    dataset = open_dataset(name, TREES[name](tmp_path), "train+val")
    assert dataset.layout.name == name
    assert len(dataset) == len(dataset.files) > 2
    assert name == "folder" or dataset.classes == dataset_classes(name)
    for i in range(len(dataset)):
        assert dataset[i].name == dataset.name(i)
        assert np.array_equal(dataset[i].labels, dataset.labels(i))


@patch.dict(DATASETS)
def test_a_data_set_of_ones_own(tmp_path: Path) -> None:
    @gffnet.register_dataset("mine")
    class Mine(Dataset):
        classes = Classes.parse("ground #808080, tree trunk #804000")
        table = LabelTable(identity(2), legal="0, 1, 255")
        layout = replace(LAYOUT, pairs=lambda root, split: [(path, path) for path in sorted(root.glob("p-a/*.png"))])

    save(tmp_path / "p-a" / "1.png", ids(0, 2))
    (tmp_path / "p-a" / "1.picture").touch()
    dataset = open_dataset("mine", tmp_path, "p-a")
    assert isinstance(dataset, Mine)
    assert np.array_equal(dataset[0].labels, ids(0, 2))
    assert dataset_classes("mine").names == ("ground", "tree trunk")
    assert (class_count("mine"), thin_classes("mine")) == (2, ())
    assert "mine" in names("data set")


@patch.dict(DATASETS)
def test_a_data_set_of_ones_own_whose_folder_defines_its_classes() -> None:
    """Costs are computed for as many classes as those of `folder`."""

    @gffnet.register_dataset("mine")
    class Mine(Dataset):
        layout = replace(LAYOUT, name="mine")

    assert class_count("mine") == class_count("folder") == 19


def test_a_layout_of_patterns(tmp_path: Path) -> None:
    layout = Layout.of_patterns("mine", "p/{split}/*.picture", "masks/{split}/{stem}.png", counts={"a": 2})
    for split, name in (("a", "2"), ("a", "1 [x]"), ("b-[c]", "3")):
        save(tmp_path / "masks" / split / f"{name}.png", ids(0, 2))
        (tmp_path / "p" / split).mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / split / f"{name}.picture").touch()
    save(tmp_path / "masks/a/left.png", ids(0, 2))
    assert layout.splits(tmp_path) == ["a", "b-[c]"]
    pairs = [(tmp_path / f"p/a/{name}.picture", tmp_path / f"masks/a/{name}.png") for name in ("1 [x]", "2")]
    assert list_files(layout, tmp_path, "a") == pairs
    assert [file.name for _, file in list_files(layout, tmp_path, "b-[c]")] == ["3.png"]
    assert layout.label_files is not None
    assert [file.name for file in layout.label_files(tmp_path, "a")] == ["1 [x].png", "2.png", "left.png"]
    (tmp_path / "masks/a/2.png").unlink()
    with pytest.raises(UserError, match=r"1 of the 2 samples .* lack their label map.*gffnet reads p/\{split\}"):
        list_files(layout, tmp_path, "a")
    for wrong in (("p/*.png", "{split}/{stem}.png"), ("{split}/*.png", "m/{stem}.png"), ("{split}/*", "{split}.png")):
        with pytest.raises(UserError, match=r"images '.*' must have a folder \{split\}"):
            Layout.of_patterns("mine", *wrong)


def test_mistaken_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data set 'camvit' is unknown. Did you mean 'camvid'\?"):
        open_dataset("camvit", tmp_path, "val")
    with pytest.raises(UserError, match=r"data set 'camvid': its folder is not given. Pass --root DIR"):
        open_dataset("camvid", None, "val")
    with pytest.raises(UserError, match=r"data set 'citiscapes' is unknown. Did you mean 'cityscapes'"):
        class_count("citiscapes")
    with pytest.raises(
        UserError, match=r"data set 'folder' has no classes of its own: they stand in the classes\.yaml"
    ):
        dataset_classes("folder")


def test_images_and_label_maps_have_one_size(tmp_path: Path) -> None:
    root = camvid_tree(tmp_path)
    save(root / "train" / "train_001.png", picture(1, (12, 15)))
    message = r"train_001\.png is 15x12 pixels, but its label map .*train_001\.png is 16x12: they must be of one size"
    with pytest.raises(UserError, match=message):
        open_dataset("camvid", root, "train")[1]


# Classes.


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("ade20k", 150),
        ("camvid", 11),
        ("cityscapes", 19),
        ("streets", 19),
        ("pascal_context", 59),
        ("coco_stuff_10k", 171),
    ],
)
def test_every_class_has_a_name_and_a_color_of_its_own(name: str, count: int) -> None:
    classes = dataset_classes(name)
    assert len(classes.names) == len(set(classes.names)) == count
    assert len(classes.palette) == count
    shared = {classes.palette[classes.names.index("road")]} if name == "ade20k" else set()  # with skyscraper
    assert {color for color in classes.palette if classes.palette.count(color) > 1} == shared
    assert all(0 <= level <= 255 for color in classes.palette for level in color)
    assert class_count(name) == count <= IGNORE


@pytest.mark.parametrize(
    ("name", "label", "class_name", "color"),
    [
        ("camvid", 0, "sky", (128, 128, 128)),
        ("camvid", 4, "pavement", (60, 40, 222)),
        ("camvid", 10, "bicyclist", (0, 128, 192)),
        ("cityscapes", 0, "road", (128, 64, 128)),
        ("cityscapes", 6, "traffic light", (250, 170, 30)),
        ("streets", 18, "bicycle", (119, 11, 32)),
        ("ade20k", 0, "wall", (120, 120, 120)),
        ("ade20k", 44, "chest of drawers", (6, 51, 255)),
        ("ade20k", 89, "television", (0, 255, 194)),
        ("ade20k", 149, "flag", (92, 0, 255)),
        ("pascal_context", 0, "aeroplane", (128, 0, 0)),
        ("pascal_context", 19, "tvmonitor", (0, 64, 128)),
        ("pascal_context", 27, "clothes", (64, 64, 128)),
        ("pascal_context", 58, "wood", (192, 192, 64)),
        ("coco_stuff_10k", 0, "person", (255, 89, 0)),
        ("coco_stuff_10k", 11, "stop sign", None),
        ("coco_stuff_10k", 79, "toothbrush", None),
        ("coco_stuff_10k", 80, "banner", (128, 44, 0)),
        ("coco_stuff_10k", 170, "wood", None),
    ],
)
def test_order(name: str, label: int, class_name: str, color: tuple[int, int, int] | None) -> None:
    classes = dataset_classes(name)
    assert classes.names[label] == class_name
    assert color in (None, classes.palette[label])


@pytest.mark.parametrize("name", ["camvid", "cityscapes", "streets"])
def test_thin_classes_are_classes(name: str) -> None:
    assert set(thin_classes(name)) < set(dataset_classes(name).names)
    assert "pole" in thin_classes(name)


def test_no_thin_classes_are_stated() -> None:
    assert thin_classes("ade20k") == thin_classes("folder") == thin_classes("unknown") == ()


# The fingerprint: it depends on the data, not on their place.


@pytest.mark.parametrize("name", TREES)
def test_it_depends_on_the_split_but_not_on_the_place(name: str, tmp_path: Path) -> None:
    TREES[name](tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there/below")
    here, there = (open_files(name, tmp_path / place, "train") for place in ("here", "there/below"))
    assert fingerprint(here) == fingerprint(there)
    other = "test" if name == "coco_stuff_10k" else "val"
    splits = [open_files(name, tmp_path / "here", split) for split in (other, f"train+{other}")]
    assert len({fingerprint(here), *map(fingerprint, splits)}) == 3


def test_it_is_made_of_classes_meaning_names_and_sizes(tmp_path: Path) -> None:
    data = CamVid(camvid_tree(tmp_path, train=2), "train")
    text = json.dumps([list(data.classes.names), data.table.text()])
    for i in range(2):
        sizes = [(tmp_path / folder / f"train_00{i}.png").stat().st_size for folder in ("train", "trainannot")]
        text += json.dumps([f"train_00{i}", *sizes])
    assert fingerprint(data) == hashlib.sha256(text.encode()).hexdigest()


def lengthen(root: Path) -> None:
    with (root / "trainannot/train_001.png").open("ab") as file:
        file.write(b"x")


def rename(root: Path) -> None:
    for folder in ("train", "trainannot"):
        (root / folder / "train_001.png").rename(root / folder / "train_00x.png")
    listed = root / "train.txt"
    listed.write_text(listed.read_text().replace("train_001", "train_00x"))


def reverse(root: Path) -> None:
    listed = root / "train.txt"
    listed.write_text("\n".join(reversed(listed.read_text().splitlines())))


def shorten(root: Path) -> None:
    listed = root / "train.txt"
    listed.write_text("\n".join(listed.read_text().splitlines()[:-1]))


@pytest.mark.parametrize("change", [lengthen, rename, reverse, shorten])
def test_a_change_shows(change: Callable[[Path], None], tmp_path: Path) -> None:
    root = camvid_tree(tmp_path)
    before = fingerprint(CamVid(root, "train"))
    os.utime(root / "train/train_001.png", (1, 1))
    assert fingerprint(CamVid(root, "train")) == before
    change(root)
    assert fingerprint(CamVid(root, "train")) != before


def test_other_classes_and_other_meanings_show(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    text = (root / "classes.yaml").read_text()
    seen = set()
    for variant in (text, text.replace("road", "roads"), f"{text}ignore: [7]\n"):
        (root / "classes.yaml").write_text(variant)
        seen.add(fingerprint(open_files("folder", root, "train")))
    assert len(seen) == 3


def test_a_cache_changes_nothing(tmp_path: Path) -> None:
    root = camvid_tree(tmp_path)
    before = fingerprint(open_dataset("camvid", root, "train"))
    build_cache(open_files("camvid", root, "train"), "train", root / "gffnet_cache", workers=1)
    cached = open_dataset("camvid", root, "train")
    assert cached.cache is not None
    assert fingerprint(cached) == before


def test_a_missing_file_changes_it(tmp_path: Path) -> None:
    data = CamVid(camvid_tree(tmp_path), "train")
    before = fingerprint(data)
    (tmp_path / "train/train_001.png").unlink()
    assert fingerprint(data) != before


SEVEN = ("other", "road", "sky", "house", "car", "person", "tree")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ((*SEVEN[:6], "trees"), "class 6, counted from 0, is 'tree' in A and 'trees' in B"),
        (("all", *SEVEN[1:6], "trees"), "class 0, counted from 0, is 'other' in A and 'all' in B, and 1 other differs"),
        (("x", "y", "z", *SEVEN[3:]), "class 0, counted from 0, is 'other' in A and 'x' in B, and 2 others differ"),
        ((*SEVEN[:6], "Tree"), "class 6, counted from 0, is 'tree' in A and 'Tree' in B: in case, spaces or Unicode"),
        ((*SEVEN[:6], "tree "), "class 6, counted from 0, is 'tree' in A and 'tree ' in B: in case, spaces or Unicode"),
        (
            ("other", "sky", "road", *SEVEN[3:]),
            "'road' in A and 'sky' in B, and 1 other differs: the names are the same",
        ),
        (SEVEN[:6], "A has 7 classes and B 6: class 6, counted from 0, is 'tree' in A and missing in the other"),
        ((*SEVEN, "sea"), "A has 7 classes and B 8: class 7, counted from 0, is 'sea' in B and missing in the other"),
        (SEVEN[1:], "A has 7 classes and B 6: class 0, counted from 0, is 'other' in A and 'road' in B, and 5 others"),
    ],
)
def test_the_first_difference_of_classes_is_named(other: tuple[str, ...], said: str) -> None:
    assert said in class_difference(SEVEN, other, "A", "B")


def test_classes_that_look_the_same() -> None:
    """An accented letter in one piece, and as a Mac writes it, in two."""
    one, two = "caf\u00e9", "cafe\u0301"
    assert class_difference([one], [two], "A", "B").endswith(f"{two!r} in B: in case, spaces or Unicode form only")


def test_evenly_spaced_indices() -> None:
    assert evenly_spaced(40, 4) == [0, 13, 26, 39]
    assert evenly_spaced(40, 4, endpoint=False) == [0, 10, 20, 30]
    for length, count in ((0, 3), (1, 1), (9, 1), (9, 7), (9, 9), (9, 30)):
        for endpoint in (True, False):
            indices = evenly_spaced(length, count, endpoint)
            assert len(set(indices)) == len(indices) == min(count, length)
            assert set(indices) <= set(range(length))

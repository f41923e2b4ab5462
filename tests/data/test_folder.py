"""The data set `folder`: classes.yaml, color masks, splits, samples."""

import pickle
import re
import shlex
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gffnet.data.check import check_dataset
from gffnet.data.dataset import LabelTable, list_files, split_options, training_splits
from gffnet.data.folder import (
    GUESS_FROM,
    LAYOUT,
    ColorTable,
    Folder,
    FolderClasses,
    guess_classes,
    read_classes,
    read_colors,
    split_of,
    unpack,
)
from gffnet.errors import UserError
from gffnet.palette import voc_colors
from gffnet.recipe import load_recipe
from tests.data.trees import OWN_CLASSES, folder_tree, ids, picture, save

# classes.yaml


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


def read(root: Path, text: str) -> FolderClasses:
    (root / "classes.yaml").write_text(text, encoding="utf-8")
    return read_classes(root)


def test_names_alone(root: Path) -> None:
    own = read(root, "classes: [road, Fußgänger, 'no']")
    assert own.classes.names == ("road", "Fußgänger", "no")
    assert own.classes.palette == ((128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert own.train_ids == {0: 0, 1: 1, 2: 2, 255: 255}
    assert (own.masks, own.val_fraction) == ("ids", None)


def test_every_key(root: Path) -> None:
    own = read(
        root,
        """
classes:
  - road
  - {name: pole, color: [0, 128, 0]}
  - {name: sign, id: 7, color: "#DCdc00"}
  - {name: car, id: 2}
ignore: [3, 255, 1000]
masks: ids
val_fraction: 0.25
""",
    )
    assert own.classes.names == ("road", "pole", "sign", "car")
    assert own.classes.palette == ((128, 0, 0), (0, 128, 0), (220, 220, 0), (128, 128, 0))
    assert own.train_ids == {0: 0, 1: 1, 7: 2, 2: 3, 3: 255, 255: 255, 1000: 255}
    assert own.val_fraction == 0.25


@pytest.mark.parametrize(
    ("ignore", "expected"),
    [
        ("", {}),
        ("ignore: []", {}),
        ("ignore: [0, 0, 0]", {0: 255}),
        ("ignore: '#010203'", {0x010203: 255}),
        ("ignore: [[0, 0, 0], '#ffFFff']", {0: 255, 0xFFFFFF: 255}),
    ],
)
def test_classes_of_color_masks(root: Path, ignore: str, expected: dict[int, int]) -> None:
    own = read(
        root, f"masks: colors\nclasses: [{{name: a, color: [128, 0, 1]}}, {{name: b, color: '#0000ff'}}]\n{ignore}"
    )
    assert own.masks == "colors"
    assert own.classes.palette == ((128, 0, 1), (0, 0, 255))
    assert own.train_ids == {0x800001: 0, 0x0000FF: 1, **expected}


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        ("", {255}),
        ("ignore: 9", {9}),
        ("ignore: [9, 8]", {8, 9}),
        ("ignore: []", set()),
    ],
)
def test_ignored_ids(root: Path, text: str, ignored: set[int]) -> None:
    own = read(root, f"classes: [a, b]\n{text}")
    assert {value for value, train_id in own.train_ids.items() if train_id == 255} == ignored


def test_black_and_white_masks(root: Path) -> None:
    """255 is a class here, so it is not ignored."""
    assert read(root, "classes: [background, {name: cell, id: 255}]").train_ids == {0: 0, 255: 1}


def test_limits_of_classes(root: Path) -> None:
    names = [f"c{i}" for i in range(254)]
    own = read(root, yaml.safe_dump({"classes": names}))
    assert own.train_ids == {**{i: i for i in range(254)}, 255: 255}
    assert len(set(own.classes.palette) | {(0, 0, 0)}) == 255
    table = LabelTable(read(root, "classes: [{name: a, id: 1023}, b]").train_ids, "")  # the largest that it can hold
    np.testing.assert_array_equal(table(np.array([[1023, 1, 255]]), root), [[0, 1, 255]])


def test_palette_of_pascal_voc() -> None:
    colors = list(islice(voc_colors(), 255))
    assert colors[:8] == [
        (128, 0, 0),
        (0, 128, 0),
        (128, 128, 0),
        (0, 0, 128),
        (128, 0, 128),
        (0, 128, 128),
        (128, 128, 128),
        (64, 0, 0),
    ]
    assert (colors[19], colors[254]) == ((0, 64, 128), (224, 224, 192))
    assert len({*colors}) == 255


NAME_FORM = "expected its name, or {name: ..., id: ..., color: ...}, got"
COLOR_FORM = 'color: expected [r, g, b] of integers in 0..255, or "#rrggbb", got'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected `key: value` lines, such as `classes: [road, car]`, got None."),
        ("[road]", "expected `key: value` lines, such as `classes: [road, car]`, got ['road']."),
        ("masks: ids", "classes: expected a list of 2 to 254 classes, such as `classes: [road, car]`, got none."),
        ("classes: []", "classes: expected a list of 2 to 254 classes, such as `classes: [road, car]`, got 0 of them."),
        (f"classes: {list(range(256))}", "got 256 of them."),
        ("classes: {0: road}", "classes: expected a list of 2 to 254 classes, .* got {0: 'road'}."),
        ("clases: [a]", "'clases' is unknown. Did you mean 'classes'? Allowed: classes, ignore, masks, val_fraction."),
        ("classes: [a]\n1: 2", "1 is unknown. Allowed: "),
        ("classes: [{nam: a}]", "class 1: 'nam' is unknown. Did you mean 'name'? Allowed: name, id, color."),
        ("classes: [a, b, a]", "classes 1 and 3 are both named 'a': each needs its own name."),
        (
            "classes: [a, no]",
            f"class 2: {NAME_FORM} False. Quote a name that YAML takes for a number, for yes or for no.",
        ),
        ("classes: [a, 3]", f"class 2: {NAME_FORM} 3."),
        ("classes: [{id: 3}]", f"class 1: {NAME_FORM} {{'id': 3}}."),
        ("classes: ['']", "class 1: expected a one-line name without outer or double spaces, got ''."),
        ("classes: ['a ']", "class 1: expected a one-line name without outer or double spaces, got 'a '."),
        ('classes: ["a\\nb"]', "class 1: expected a one-line name without outer or double spaces, got 'a\\nb'."),
        ("classes: [{name: a, id: 1024}]", "class 1 ('a'): id: expected an integer in 0..1023, got 1024."),
        ("classes: [{name: a, id: -1}]", "class 1 ('a'): id: expected an integer in 0..1023, got -1."),
        ("classes: [{name: a, id: true}]", "class 1 ('a'): id: expected an integer in 0..1023, got True."),
        (
            "classes: [{name: a, id: 1}, b]",
            "classes 'a' and 'b' both have id 1: each needs its own, and the id of a class without one is its "
            "position, from 0.",
        ),
        ("classes: [{name: a, color: '#fff'}]", f"class 1 ('a'): {COLOR_FORM} '#fff'."),
        ("classes: [{name: a, color: [1, 2]}]", f"class 1 ('a'): {COLOR_FORM} [1, 2]."),
        ("classes: [{name: a, color: [1, 2, 256]}]", f"class 1 ('a'): {COLOR_FORM} [1, 2, 256]."),
        ("classes: [{name: a, color: [1, 2, true]}]", f"class 1 ('a'): {COLOR_FORM} [1, 2, True]."),
        (
            "classes:\n- name: a\n  color: #ffffff",
            f"class 1 ('a'): {COLOR_FORM} None. Put #rrggbb in quotes: YAML takes a bare # for a comment.",
        ),
        (
            "masks: colours\nclasses: [a]",
            "masks: expected `ids` (one value per pixel) or `colors`, got 'colours'. Did you",
        ),
        ("masks: [ids]\nclasses: [a]", "masks: expected `ids` (one value per pixel) or `colors`, got ['ids']."),
        (
            "masks: colors\nclasses: [a]",
            "class 1 ('a'): color is missing, and `masks: colors` needs one for every class.",
        ),
        (
            "masks: colors\nclasses: [{name: a, id: 1, color: [1, 2, 3]}]",
            "class 1 ('a'): id 1 has no meaning with `masks: colors`. Leave it out.",
        ),
        (
            "masks: colors\nclasses: [{name: a, color: [1, 2, 3]}, {name: b, color: '#010203'}]",
            "classes 'a' and 'b' both have color [1, 2, 3]: each needs its own.",
        ),
        (
            "ignore: 1\nclasses: [a, b]",
            "ignore: id 1 is that of class 'b'. Leave it out, or give the class another one.",
        ),
        ("ignore:\nclasses: [a]", "ignore: got nothing. Leave it out, or write `ignore: []` if no pixel is ignored."),
        ("ignore: '#000000'\nclasses: [a]", "ignore: expected an integer in 0..1023, got '#000000'."),
        (
            "masks: colors\nignore: [[0, 0, 0], [1, 2, 3]]\nclasses: [{name: a, color: [1, 2, 3]}]",
            "ignore: color [1, 2, 3] is that of class 'a'.",
        ),
        (
            "masks: colors\nignore: 255\nclasses: [{name: a, color: [1, 2, 3]}]",
            'ignore: expected [r, g, b] of integers in 0..255, or "#rrggbb", got 255.',
        ),
        ("val_fraction: 1\nclasses: [a]", "val_fraction: expected a number between 0 and 1, such as 0.2, got 1."),
        ("val_fraction: 0.0\nclasses: [a]", "val_fraction: expected a number between 0 and 1, such as 0.2, got 0.0."),
        ("val_fraction: .nan\nclasses: [a]", "val_fraction: expected a number between 0 and 1, such as 0.2, got nan."),
        ("val_fraction: 20%\nclasses: [a]", "val_fraction: expected a number between 0 and 1, such as 0.2, got '20%'."),
        ("val_fraction:\nclasses: [a]", "val_fraction: expected a number between 0 and 1, such as 0.2, got None."),
    ],
)
def test_invalid_classes(root: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read(root, text)
    assert str(caught.value).startswith(f"{root}/classes.yaml: ")
    for part in message.split(" .* "):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"classes: [a", "while parsing a flow sequence"),
        (b"classes: [a]\nclasses: [b]", "'classes' twice"),
        (b"classes: [{name: a, name: b}]", "'name' twice"),
        (b"classes: [2020-13-45]", "month must be in 1..12"),
        (b"classes: " + b"[" * 3000, "nested too deeply"),
    ],
)
def test_invalid_yaml(root: Path, content: bytes, said: str) -> None:
    (root / "classes.yaml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_classes(root)
    assert str(caught.value).startswith(f"{root}/classes.yaml is not valid YAML: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_classes_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"classes\.yaml is missing: .* Write it, such as `classes: \[road, car\]`\."):
        read_classes(tmp_path)
    (tmp_path / "Classes.yml").touch()
    with pytest.raises(UserError, match=r"There is Classes\.yml: rename it to classes\.yaml\."):
        read_classes(tmp_path)
    (tmp_path / "classes.yaml").mkdir()
    with pytest.raises(UserError, match=r"classes\.yaml cannot be read \(Is a directory\): it must be a readable file"):
        read_classes(tmp_path)


# A suggestion for a classes.yaml that is missing


def mask(folder: Path, values: list[int] | list[list[int]], name: str = "a.png") -> Path:
    """A mask that shows each value, or each color, once."""
    return save(folder / name, np.array([values], np.uint8))


def written(guess: str) -> dict:
    """What the sentence says to write, as YAML."""
    lines = re.findall(r"`(.*?)`", guess)
    mapping = yaml.safe_load("\n".join(lines))
    assert isinstance(mapping, dict)
    return mapping


def test_guessed_ids_in_order(tmp_path: Path) -> None:
    mask(tmp_path, [0, 2, 255])
    mask(tmp_path / "deeper", [1, 2])
    assert guess_classes(tmp_path) == (
        "The masks hold ids 0, 1, 2, and 255, which is ignored: write `classes: [name of 0, name of 1, name of 2]` "
        "into it."
    )


def test_many_classes_are_cut_short(tmp_path: Path) -> None:
    mask(tmp_path, list(range(40)))
    assert "hold ids 0, 1, 2, 3, 4, 5, 6, 7, ...: write" in guess_classes(tmp_path)
    assert len(guess_classes(tmp_path)) < 250


def test_only_some_of_many_masks_are_read(tmp_path: Path) -> None:
    for i in range(3 * GUESS_FROM):
        mask(tmp_path, [i % 3, 7], f"{i:03d}.png")
    assert "hold ids 0, 7:" in guess_classes(tmp_path)  # every third


@pytest.mark.parametrize("kind", ["none", "empty", "damaged", "many colors", "jpeg"])
def test_masks_that_do_not_tell(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "masks"
    if kind != "none":
        folder.mkdir()
    if kind == "damaged":
        mask(folder, [0, 1]).write_bytes(b"\x89PNG")
    elif kind == "many colors":
        mask(folder, [[i % 256, i // 256, 0] for i in range(300)])
    elif kind == "jpeg":
        mask(folder, [[0, 0, 0], [255, 0, 0]], "a.jpg")
    assert guess_classes(folder) == ""


RARELY_255 = [0, 1, 2, 2, 2, 2, 2, 2, 2, 255]


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ([0, 1, 2], 3),
        (RARELY_255, 3),
        ([1, 2, 2, 2, 2, 2, 2, 2, 2, 255], 2),
        ([3, 9, 200], 3),
        # 255 is a class: black and white, spread to be seen, or much of it
        ([0, 255], 2),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255], 2),
        ([1, 255], 2),
        ([0, 128, 255], 3),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 255], 3),
        ([0, 85, 170, 255], 4),
        ([0, 127, 254, 255, 255], 4),
        ([0, 1, 255], 3),
        ([*range(12), 255, 255, 255, 255], 13),
        ([[0, 0, 0], [128, 0, 0], [0, 128, 64]], 3),
        ([[0, 0, 0], [255, 255, 255]], 2),
    ],
    ids=str,
)
def test_what_is_guessed_reads_the_masks(tmp_path: Path, values: list, classes: int) -> None:
    mask(tmp_path / "masks", values)
    with pytest.raises(UserError, match=r"classes\.yaml is missing: it names the classes of the masks") as caught:
        read_classes(tmp_path)
    proposed = written(str(caught.value))
    if classes > 8:  # what is cut short
        at = proposed["classes"].index("...")
        proposed["classes"][at : at + 1] = [f"name of {value}" for value in range(8, 12)]
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(proposed))
    stored = read_classes(tmp_path)
    shown = {r << 16 | g << 8 | b for r, g, b in values} if isinstance(values[0], list) else set(values)
    assert shown <= stored.train_ids.keys()
    assert len(stored.classes.names) == classes


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0, 255], "hold ids 0, 255: write `classes: [name of 0, {name: name of 255, id: 255}]` into it."),
        ([0, 128, 255], "{name: name of 255, id: 255}]` into it. Leave 255 out if it marks unlabelled pixels."),
        ([1], "The masks hold nothing but 1, and a network needs two classes."),
        ([255], "The masks hold nothing but 255, and a network needs two classes."),
    ],
    ids=str,
)
def test_one_class_is_not_enough(tmp_path: Path, values: list[int], said: str) -> None:
    """Neither with ids nor with colors."""
    mask(tmp_path / "masks", values)
    assert guess_classes(tmp_path / "masks").endswith(said)
    for text in ("classes: [background]", "masks: colors\nclasses: [{name: background, color: [0, 0, 0]}]"):
        with pytest.raises(UserError) as caught:
            read(tmp_path, text)
        assert str(caught.value) == (
            f"{tmp_path}/classes.yaml: classes: 'background' is the only one, and a network needs two or more to tell "
            f"apart. List what all other pixels are, too. {guess_classes(tmp_path / 'masks')}"
        )


# Color masks


COLORS = st.lists(st.integers(0, 0xFFFFFF), min_size=1, max_size=255, unique=True)
SOURCE = Path("classes.yaml")


@given(COLORS, st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9))
def test_from_ids_to_colors_and_back(colors: list[int], seed: int, height: int, width: int) -> None:
    names = [f"class {i}" for i in range(len(colors))]
    table = ColorTable({color: i for i, color in enumerate(colors)}, names, SOURCE)
    labels = np.random.default_rng(seed).integers(0, len(colors), (height, width))
    drawn = np.array([unpack(color) for color in colors], np.uint8)[labels]
    back = table(drawn, Path("mask.png"))
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, labels)


@given(COLORS, st.integers(0, 0xFFFFFF), st.integers(0, 11))
def test_an_unknown_color_is_an_error_that_names_the_nearest(colors: list[int], other: int, place: int) -> None:
    names = [f"class {i}" for i in range(len(colors))]
    table = ColorTable({color: i for i, color in enumerate(colors)}, names, SOURCE)
    known = np.array([unpack(color) for color in colors])
    drawn = np.full((3, 4, 3), known[0], np.uint8)
    drawn[divmod(place, 4)] = unpack(other)
    if other in colors:
        assert table(drawn, Path("mask.png"))[divmod(place, 4)] == colors.index(other)
        return
    with pytest.raises(UserError) as caught:
        table(drawn, Path("mask.png"))
    row, column = divmod(place, 4)
    assert f"mask mask.png: color {unpack(other)} at row {row}, column {column} belongs to no class" in str(
        caught.value
    )
    assert "1 of its 12 pixels have such a color (1 different)" in str(caught.value)
    distance = ((known - unpack(other)) ** 2).sum(axis=1)
    nearest = [i for i in range(len(colors)) if distance[i] == distance.min()]
    assert any(f"the nearest is {unpack(colors[i])}, 'class {i}'." in str(caught.value) for i in nearest)


def test_ignored_colors_of_a_table() -> None:
    table = ColorTable({0: 255, 0xFFFFFF: 255, 0x800000: 0}, ["road"], SOURCE)
    drawn = np.array([[[0, 0, 0], [128, 0, 0], [255, 255, 255]]], np.uint8)
    np.testing.assert_array_equal(table(drawn, Path("mask.png")), [[255, 0, 255]])
    drawn[0, 0] = 3
    with pytest.raises(UserError, match=r"the nearest is \(0, 0, 0\), ignored\."):
        table(drawn, Path("mask.png"))


def test_smoothed_edges(tmp_path: Path) -> None:
    table = ColorTable({0: 0, 0xFF0000: 1}, ["road", "sign"], tmp_path / "classes.yaml")
    sharp = np.zeros((8, 8, 3), np.uint8)
    sharp[2:6, 2:6, 0] = 255
    smooth = np.array(Image.fromarray(sharp).resize((16, 16), Image.Resampling.BILINEAR))
    with pytest.raises(UserError) as caught:
        table(smooth, tmp_path / "mask.png")
    kinds = len(np.unique(smooth[..., 0])) - 2
    wrong = int(((smooth[..., 0] > 0) & (smooth[..., 0] < 255)).sum())
    assert f"{wrong} of its 256 pixels have such a color ({kinds} different). " in str(caught.value)
    assert str(caught.value).endswith(
        "Colors between those of classes come from JPEG, or from smoothing in drawing or scaling: save masks "
        "as PNG, without smoothing. If a color is missing, add it to `classes` or to `ignore` in "
        f"{tmp_path}/classes.yaml."
    )


def test_grey_values_in_place_of_colors() -> None:
    grey = np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4, 1), 3, axis=2)
    with pytest.raises(
        UserError, match=r"It is grey throughout: if its values are class ids, set `masks: ids` in classes\.yaml\."
    ):
        ColorTable({0x010203: 0}, ["road"], SOURCE)(grey, Path("mask.png"))
    with pytest.raises(UserError, match="Colors between"):  # where classes are black and white, grey is between
        ColorTable({0: 0, 0xFFFFFF: 1}, ["road", "sign"], SOURCE)(grey, Path("mask.png"))


def test_colors_of_a_file(tmp_path: Path) -> None:
    rgb = picture(0)
    bits = picture(2)[..., 0] > 127
    for name, stored, expected in (
        ("rgb", rgb, rgb),
        ("grey", rgb[..., 0], np.stack([rgb[..., 0]] * 3, -1)),
        ("bits", bits, np.stack([np.where(bits, 255, 0)] * 3, -1)),
    ):
        colors, opaque = read_colors(save(tmp_path / f"{name}.png", stored))
        assert opaque is None
        np.testing.assert_array_equal(colors, expected)


def transparent_mask(path: Path, kind: str, colors: NDArray, alpha: NDArray) -> Path:
    """A mask whose colors go on where it is transparent; `transparent` has one color more, which is transparent."""
    if kind in {"png", "webp", "tif"}:
        image = Image.fromarray(np.dstack([colors, alpha]))
        image.save(path.with_suffix(f".{kind}"), **({"lossless": True, "exact": True} if kind == "webp" else {}))
        return path.with_suffix(f".{kind}")
    if kind == "tiff of 16 bits":
        deep = np.dstack([colors, alpha]).astype(np.uint16) * 257
        tifffile.imwrite(path.with_suffix(".tif"), deep, photometric="rgb", extrasamples=["unassalpha"])
        return path.with_suffix(".tif")
    if kind == "grey and alpha":
        Image.fromarray(np.dstack([colors[..., 0], alpha])).save(path)
        return path
    palette, indices = np.unique(colors.reshape(-1, 3), axis=0, return_inverse=True)
    shown = np.where(alpha > 0, indices.reshape(alpha.shape), len(palette)).astype(np.uint8)
    image = Image.fromarray(shown, "P")
    hidden = [*palette.ravel().tolist(), *palette[0].tolist()]  # the transparent entry has the color of a class
    image.putpalette(hidden)
    if kind == "palette":
        image.save(path, transparency=bytes([255] * len(palette) + [0]))
    elif kind == "gif":
        image.save(path.with_suffix(".gif"), transparency=len(palette))
        return path.with_suffix(".gif")
    else:
        assert kind == "transparent color"
        unused = (1, 2, 3)
        Image.fromarray(np.where(alpha[..., None] > 0, colors, np.uint8(unused))).save(path, transparency=unused)
    return path


def test_images_of_an_unread_format_alone_are_named(tmp_path: Path) -> None:
    for part, suffix in (("images", "heic"), ("masks", "psd")):
        root = folder_tree(tmp_path / part)
        for file in [*(root / part).rglob("*.png")]:
            file.rename(file.with_suffix(f".{suffix}"))
        with pytest.raises(UserError, match=rf"a\.0\.{suffix} \(a .* and 3 more such files; gffnet reads .*PNG"):
            Folder(root, "train")


@pytest.mark.parametrize("suffix", [".gif", ".jp2", ".tga", ".bmp", ".npy", ".tif", ".tiff"])
def test_masks_of_any_lossless_format(tmp_path: Path, suffix: str) -> None:
    root = folder_tree(tmp_path)
    for file in [*(root / "masks").rglob("*.png")]:
        stored = np.asarray(Image.open(file))
        file.unlink()
        if suffix == ".npy":
            np.save(file.with_suffix(suffix), stored)
        else:
            Image.fromarray(stored).save(file.with_suffix(suffix))
    dataset = Folder(root, "train")
    for i in range(4):
        np.testing.assert_array_equal(dataset[i].labels, ids(int(dataset.name(i)[-1]), 3))


KINDS_WITH_ALPHA = ["png", "webp", "tif", "tiff of 16 bits", "grey and alpha", "palette", "gif", "transparent color"]


@pytest.mark.parametrize("kind", KINDS_WITH_ALPHA)
def test_transparent_pixels_of_color_masks_are_ignored(tmp_path: Path, kind: str) -> None:
    greys = kind == "grey and alpha"
    palette = np.array([[9, 9, 9], [77, 77, 77]] if greys else [[128, 64, 128], [0, 0, 142]], np.uint8)
    labels, alpha = ids(0, 2), (picture(1)[..., 0] > 99).astype(np.uint8) * 255
    save(tmp_path / "images/train/a.png", picture(0))
    (tmp_path / "masks/train").mkdir(parents=True)
    transparent_mask(tmp_path / "masks/train/a.png", kind, palette[labels], alpha)
    classes = [f"{{name: c{i}, color: {color.tolist()}}}" for i, color in enumerate(palette)]
    (tmp_path / "classes.yaml").write_text(f"masks: colors\nclasses: [{', '.join(classes)}]\n")
    found = Folder(tmp_path, "train")[0].labels.numpy()
    np.testing.assert_array_equal(found, np.where(alpha > 0, labels, 255))


@pytest.mark.parametrize("kind", ["png", "webp", "tif", "tiff of 16 bits", "grey and alpha"])
def test_partly_transparent_pixels_of_color_masks_are_refused(tmp_path: Path, kind: str) -> None:
    alpha = np.full((12, 16), 255, np.uint8)
    alpha[3, 4], alpha[5, 6] = 0, 128
    path = transparent_mask(tmp_path / "a.png", kind, picture(0), alpha)
    with pytest.raises(UserError, match=r"a\.\w+: 1 of its 192 pixels are partly transparent.* at row 5, column 6"):
        read_colors(path)


# Splits


def flat_tree(root: Path, count: int = 40, classes: str = "classes: [road, car]\n") -> Path:
    """Files without content, in no subfolder."""
    for folder, suffix in (("images", ".JPG"), ("masks", ".png")):
        (root / folder).mkdir(parents=True)
        for i in range(count):
            (root / folder / f"i{i:03d}{suffix}").touch()
    (root / "classes.yaml").write_text(classes)
    return root


def names(root: Path, split: str) -> list[str]:
    """The images of a split without suffix, each of which has the mask of its name."""
    files = list_files(LAYOUT, root, split)
    found = [image.relative_to(root / "images").with_suffix("").as_posix() for image, _ in files]
    assert found == [mask.relative_to(root / "masks").with_suffix("").as_posix() for _, mask in files]
    return found


NAMES = ["train/east/a.0", "train/east/a.2", "train/west/a.1", "train/west/a.3"]
WINTER = ["winter/east/a.0", "winter/west/a.1"]


def rename_by_season(root: Path) -> None:
    for folder in ("images", "masks"):
        (root / folder / "train").rename(root / folder / "summer")
        (root / folder / "val").rename(root / folder / "winter")


def test_splits_by_subfolders(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    (root / "images" / "more").mkdir()  # no masks: no split
    assert LAYOUT.splits(root) == ["train", "val"]
    assert names(root, "train") == NAMES
    assert names(root, "val+train") == ["val/east/a.0", "val/west/a.1", *NAMES]


def test_linked_subfolders(tmp_path: Path) -> None:
    root = folder_tree(tmp_path / "data")
    for folder in ("images", "masks"):
        (root / folder / "train/west").rename(tmp_path / folder)
        (root / folder / "train/west").symlink_to(tmp_path / folder)
        (root / folder / "train/back").symlink_to(root / folder)
        (root / folder / "val").rename(tmp_path / f"{folder}-val")
        (root / folder / "val").symlink_to(f"../../{folder}-val")
        for first in (root / folder / "train/east").glob("a.0*"):  # two names of one file are two samples
            first.with_name(f"a.9{first.suffix}").symlink_to(first.name)
    assert LAYOUT.splits(root) == ["train", "val"]
    assert names(root, "val+train") == ["val/east/a.0", "val/west/a.1", *sorted([*NAMES, "train/east/a.9"])]


def test_results_among_the_images_are_no_samples(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = folder_tree(tmp_path)
    for name in ("predict.json", "labels/a.png", "overlay/a.png"):
        (root / "images/train/results" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "images/train/results" / name).touch()
    assert names(root, "train") == NAMES
    assert caplog.messages == [
        f"left out: labels, overlay in {root}/images/train/results, the results of an earlier command"
    ]


def test_splits_by_lists(tmp_path: Path) -> None:
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
    with pytest.raises(
        UserError, match=rf"at {root}: list {root}/val\.txt names no image: it must name one per line\."
    ):
        list_files(LAYOUT, root, "val")
    (root / "only_A.txt").touch()  # no list, where nobody asks for that split
    for find in (list_files, lambda *_: check_dataset("folder", root, "only_A", workers=1)):
        with pytest.raises(UserError, match=rf"list {root}/only_A\.txt names no image"):
            find(LAYOUT, root, "only_A")
    (root / "val.txt").unlink()
    (root / "train.txt").write_text("")
    (root / "classes.yaml").write_text("classes: [road, car]\nval_fraction: 0.2\n")
    with pytest.raises(UserError, match=rf"list {root}/train\.txt names no image"):
        list_files(LAYOUT, root, "val")


def test_accents_may_be_written_in_either_form_of_unicode(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    root = flat_tree(tmp_path, 3)
    (root / "images/i000.JPG").rename(root / f"images/{composed}.png")
    (root / "masks/i000.png").rename(root / f"masks/{decomposed}.png")
    (root / "train.txt").write_text(f"{decomposed}\n")
    assert list_files(LAYOUT, root, "train") == [(root / f"images/{composed}.png", root / f"masks/{decomposed}.png")]
    (root / f"images/{decomposed}.png").touch()
    with pytest.raises(UserError, match="differ only in the Unicode form of their names"):
        list_files(LAYOUT, root, "train")


def test_splits_by_fraction(tmp_path: Path) -> None:
    root = flat_tree(tmp_path, classes="classes: [road, car]\nval_fraction: 0.25\n")
    assert LAYOUT.splits(root) == ["train", "val"]
    train, val = names(root, "train"), names(root, "val")
    assert sorted(train + val) == [f"i{i:03d}" for i in range(40)]
    assert {split_of(name, 0.25) for name in val} == {"val"}
    assert {split_of(name, 0.25) for name in train} == {"train"}
    shutil.rmtree(root / "masks")
    (root / "masks").mkdir()
    (root / "masks" / "i000.png").touch()
    assert [image.stem for image, _ in LAYOUT.pairs(root, "val")] == val


def test_which_rule_applies(tmp_path: Path) -> None:
    """Lists before subfolders before the fraction, unless no subfolder has the name of a split."""
    root = folder_tree(tmp_path)
    with (root / "classes.yaml").open("a") as file:
        file.write("val_fraction: 0.4\n")
    assert names(root, "train") == NAMES
    (root / "train.txt").write_text("val/west/a.1\n")
    with pytest.raises(UserError, match=r"there is 1 image, .* but training and validation need one each"):
        names(root, "train")
    assert LAYOUT.splits(root) == ["train", "val"]
    (root / "train.txt").unlink()
    rename_by_season(root)
    assert LAYOUT.splits(root) == ["train", "val"]
    both = names(root, "train+val")
    assert sorted(both) == sorted([*(name.replace("train", "summer") for name in NAMES), *WINTER])


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_larger_fraction_takes_no_image_back(name: str, one: float, other: float) -> None:
    smaller, larger = sorted((one, other))
    assert split_of(name, smaller) == "train" or split_of(name, larger) == "val"


def test_the_share_is_close_to_the_fraction() -> None:
    for fraction in (0.05, 0.2, 0.5):
        val = sum(split_of(f"city/frame_{i:06d}", fraction) == "val" for i in range(2000))
        assert abs(val / 2000 - fraction) < 3 * (fraction * (1 - fraction) / 2000) ** 0.5


def test_the_split_of_an_image_never_changes() -> None:
    """Pinned: images that were trained on must not be validated on by a later version."""
    val = [i for i in range(20) if split_of(f"images/{i}", 0.3) == "val"]
    assert val == [2, 5, 7, 8, 11, 18]
    assert split_of("Fu\u00dfg\u00e4nger", 0.5) == split_of("Fu\u00dfga\u0308nger", 0.5)  # file systems differ in this
    assert split_of(b"\xff".decode(errors="surrogateescape"), 0.5) in {"train", "val"}


def test_other_images_do_not_move_an_image(tmp_path: Path) -> None:
    root = flat_tree(tmp_path, 60, "classes: [road, car]\nval_fraction: 0.3\n")
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


@pytest.mark.parametrize("kind", ["lists", "subfolders"])
@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("Train", "Val"),
        ("TRAIN", "VAL"),
        ("training", "validation"),
        ("train", "valid"),
        ("Training", "Valid"),
        ("train", "dev"),
    ],
)
def test_usual_names_of_splits(tmp_path: Path, kind: str, train: str, val: str) -> None:
    root = folder_tree(tmp_path)
    expected = {split: names(root, split) for split in ("train", "val")}
    for split, name in (("train", train), ("val", val)):
        if kind == "lists":
            (root / f"{name}.txt").write_text("\n".join(expected[split]))
        else:
            for folder in ("images", "masks"):
                (root / folder / split).rename(root / folder / name)
            expected[split] = [each.replace(split, name) for each in expected[split]]
    assert sorted(LAYOUT.splits(root)) == sorted([train, val])
    for split, name in (("train", train), ("val", val)):
        assert names(root, split) == names(root, name) == expected[split]
    assert names(root, "train+val") == [*expected["train"], *expected["val"]]
    assert split_options(LAYOUT, LAYOUT.splits(root)) == []


def test_two_splits_of_one_usual_name(tmp_path: Path) -> None:
    """The one that is spelled so is meant; otherwise neither."""
    found = ["dev", "train", "val"]
    assert [LAYOUT.find_split(name, found) for name in ("val", "dev", "valid")] == ["val", "dev", "valid"]
    root = folder_tree(tmp_path)
    for folder in ("images", "masks"):
        (root / folder / "val").rename(root / folder / "valid")
        (root / folder / "dev").mkdir()
    assert (
        "split 'val' is not there (there are: dev, train, valid); to train, name others: --set data.val_split=valid. "
    ) in split_error(root, "val")


@pytest.mark.parametrize(
    ("present", "chosen", "options"),
    [
        ("train val test", ("train", "val"), ""),
        ("train test", ("train", "test"), "--set data.val_split=test"),
        ("Train Test", ("Train", "Test"), "--set data.val_split=Test"),
        ("train fold test", ("train", "fold"), "--set data.val_split=fold"),
        ("val summer winter test", ("summer+winter", "val"), "--set data.train_split=summer+winter"),
        ("a b c", ("a+b", "c"), "--set data.train_split=a+b --set data.val_split=c"),
        ("a test", ("a", "test"), "--set data.train_split=a --set data.val_split=test"),
        ("train 2", ("train", "2"), "--set 'data.val_split=\"2\"'"),
        ("train 1e3", ("train", "1e3"), "--set 'data.val_split=\"1e3\"'"),
        (
            "only_a only_b without_a without_b",
            ("without_a", "only_a"),
            "--set data.train_split=without_a --set data.val_split=only_a",
        ),
        ("train only_a only_b without_a without_b", None, ""),
        ("train", None, ""),
        ("val", None, ""),
        ("test", None, ""),
        ("a", None, ""),
    ],
)
def test_splits_that_stand_in(present: str, chosen: tuple[str, str] | None, options: str) -> None:
    found = present.split()
    assert training_splits(LAYOUT, found) == chosen
    assert split_options(LAYOUT, found) == shlex.split(options)
    recipe = load_recipe("folder/gffnet_r18", shlex.split(options)[1::2])
    if chosen is not None:
        named = recipe.data.train_split, recipe.data.val_split
        assert tuple(LAYOUT.find_split(name, found) for name in named) == chosen


@pytest.mark.parametrize("kind", ["lists", "subfolders"])
def test_a_fraction_of_a_training_split_that_is_alone(tmp_path: Path, kind: str) -> None:
    root = folder_tree(tmp_path, train=12)
    for folder in ("images", "masks"):
        (root / folder / "val").rename(root / folder / "test")
    every, test = names(root, "train"), names(root, "test")
    if kind == "lists":
        (root / "Train.txt").write_text("\n".join(every))
        (root / "test.txt").write_text("\n".join(test))
    said = split_error(root, "val")
    assert "; to train, name others: --set data.val_split=test. " in said
    assert "`val_fraction: 0.2` in classes.yaml, which is the default, and takes val from a train split" in said
    with (root / "classes.yaml").open("a") as file:
        file.write("val_fraction: 0.3\n")
    train, val = names(root, "train"), names(root, "val")
    assert sorted(train + val) == sorted(every)
    assert train
    assert {split_of(name, 0.3) for name in val} == {"val"}
    assert names(root, "test") == test
    assert LAYOUT.label_files is not None
    if kind == "subfolders":
        for split in ("train", "val", "test"):
            assert LAYOUT.label_files(root, split) == [mask for _, mask in LAYOUT.pairs(root, split)]


def test_the_default_fraction(tmp_path: Path) -> None:
    silent = flat_tree(tmp_path / "a", 100)
    explicit = flat_tree(tmp_path / "b", 100, "classes: [road, car]\nval_fraction: 0.2\n")
    for split in ("train", "val"):
        assert names(silent, split) == names(explicit, split)
    (silent / "classes.yaml").unlink()
    assert LAYOUT.splits(silent) == ["train", "val"]  # the error comes when the classes are read


@pytest.mark.parametrize(("count", "fraction"), [(2, 0.001), (2, 0.999), (3, 0.001), (9, 0.999)])
def test_a_fraction_leaves_no_split_empty(tmp_path: Path, count: int, fraction: float) -> None:
    root = flat_tree(tmp_path, count, f"classes: [road, car]\nval_fraction: {fraction}\n")
    split = {name: names(root, name) for name in ("train", "val")}
    assert sorted(split["train"] + split["val"]) == [f"i{i:03d}" for i in range(count)]
    assert len(split["val" if fraction < 0.5 else "train"]) == 1
    assert LAYOUT.label_files is not None
    for name in split:
        assert LAYOUT.label_files(root, name) == [mask for _, mask in LAYOUT.pairs(root, name)]


def test_label_files_of_a_split(tmp_path: Path) -> None:
    assert LAYOUT.label_files is not None
    root = folder_tree(tmp_path / "a")
    (root / "masks" / "val" / "left.png").touch()
    assert [file.name for file in LAYOUT.label_files(root, "val")] == ["a.0.png", "left.png", "a.1.png"]
    (root / "val.txt").write_text("val/east/a.0\n")
    assert LAYOUT.label_files(root, "val") == []
    root = flat_tree(tmp_path / "b", classes="classes: [road, car]\nval_fraction: 0.3\n")
    for split in ("train", "val"):
        assert LAYOUT.label_files(root, split) == [mask for _, mask in LAYOUT.pairs(root, split)]


def split_error(root: Path, split: str = "train") -> str:
    with pytest.raises(UserError) as caught:
        list_files(LAYOUT, root, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


REMEDY = (
    "gffnet reads images/**/NAME.jpg (or .png, ...) with masks/**/NAME.png and classes.yaml. Splits are lists "
    "(train.txt, val.txt: a path in images/ per line), or subfolders (images/train with masks/train, ...), or made by "
    "`val_fraction: 0.2` in classes.yaml, which is the default, and takes val from a train split that is alone."
)


def test_a_split_without_masks(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    shutil.move(root / "masks/train", root / "masks/Train")
    shutil.move(root / "masks/val", root / "masks/Val")
    assert split_error(root) == (
        f"data set 'folder' at {root}: images/train is there, but no folder masks/train (there is masks/Train: both "
        f"must have one name). {REMEDY}"
    )


def test_no_such_folder(tmp_path: Path) -> None:
    assert split_error(tmp_path / "x") == f"data set 'folder' at {tmp_path}/x: there is no such folder. {REMEDY}"
    assert "the folder does not look like this data set. gffnet reads" in split_error(tmp_path)
    root = folder_tree(tmp_path / "own")
    assert f"{root} looks like it: pass --root {root}." in split_error(tmp_path)
    assert f"{root} looks like it: pass --root {root}." in split_error(root / "masks")
    (root / "masks").rename(root / "labels")
    assert split_error(root) == (
        f"data set 'folder' at {root}: it has no folder 'masks' (there are: images, labels). {REMEDY}"
    )


def test_splits_that_hold_images_and_masks(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / "Train" / folder).mkdir(parents=True)
    assert "Its splits hold their images and masks: move them from train/images to images/train" in split_error(
        tmp_path
    )


@pytest.mark.parametrize("images", ["Images", "IMAGES", "image", "img", "imgs"])
def test_folders_of_other_names(tmp_path: Path, images: str) -> None:
    for folder in (images, "Masks"):
        (tmp_path / folder).mkdir()
    assert "Name its folders images and masks, in lower case." in split_error(tmp_path)


def test_no_such_split(tmp_path: Path) -> None:
    said = split_error(folder_tree(tmp_path), "test")
    assert said == f"data set 'folder' at {tmp_path}: split 'test' is not there (there are: train, val). {REMEDY}"


def test_a_mask_that_is_missing(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    (root / "masks/train/east/a.2.png").unlink()
    (root / "masks/train/west/a.1.png").unlink()
    start = f"data set 'folder' at {root}: 2 of the 4 samples of split 'train' lack their label map, the first of them "
    assert split_error(root) == f"{start}{root}/masks/train/east/a.2.png. {REMEDY}"
    (root / "masks/train/east/a.2_mask.tif").touch()
    assert split_error(root) == f"{start}{root}/masks/train/east/a.2.png (there is a.2_mask.tif). {REMEDY}"


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_files_of_one_name(tmp_path: Path, folder: str) -> None:
    root = folder_tree(tmp_path)
    (root / folder / "train/east/a.2.bmp").touch()
    files = f"{root}/{folder}/train/east/a.2.bmp and {root}/{folder}/train/east/a.2.png"
    assert split_error(root) == (
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
    assert split_error(root) == (
        f"list {root}/train.txt, line 3: {line!r} is no image in {root}/images. {said}Lines are paths in that "
        "folder, with or without suffix."
    )


def test_a_line_twice(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    (root / "train.txt").write_text("train/east/a.0\ntrain/east/a.0.png\n")
    assert "train.txt, line 2: 'train/east/a.0.png' is already listed above. Delete one of the lines." in split_error(
        root
    )


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    (root / "train.txt").write_bytes(b"\xff\xfe\x00")
    assert split_error(root) == f"list {root}/train.txt is not UTF-8 text (line 1). Save it as UTF-8."
    (root / "train.txt").unlink()
    (root / "train.txt").mkdir()
    assert "train.txt cannot be read (Is a directory)" in split_error(root)


def test_one_image_is_not_enough(tmp_path: Path) -> None:
    root = flat_tree(tmp_path, 1)
    assert split_error(root, "val") == (
        f"data set 'folder' at {root}: there is 1 image, {root}/images/i000.JPG, but training and validation need one "
        "each. Add images, or name it in both train.txt and val.txt."
    )
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("i000\n")
    assert names(root, "train") == names(root, "val") == ["i000"]


# Samples


PALETTE = np.array([[128, 0, 0], [153, 153, 153], [220, 220, 0]], np.uint8)
COLORED = OWN_CLASSES.replace("- road", "- {name: road, color: [128, 0, 0]}") + "masks: colors\n"
FIRST = "masks/train/east/a.0.png"


def colored_tree(root: Path, kind: str = "rgb") -> Path:
    """As `folder_tree`, with colors for ids."""
    for mask in folder_tree(root).glob("masks/**/*.png"):
        labels = np.array(Image.open(mask))
        if kind == "palette":
            image = Image.fromarray(labels)
            image.putpalette(PALETTE.tobytes())
            image.save(mask)
        else:
            alpha = np.full((*labels.shape, 1), 255, np.uint8)
            save(mask, np.dstack([PALETTE[labels], alpha]) if kind == "rgba" else PALETTE[labels])
    (root / "classes.yaml").write_text(COLORED)
    return root


def check_samples(dataset: Folder) -> None:
    """Whether samples are what `folder_tree` made."""
    assert len(dataset) == 4
    assert [dataset.name(i) for i in range(4)] == NAMES
    for i, name in enumerate(NAMES):
        image, labels, found = dataset[i]
        number = int(name[-1])
        assert found == name
        assert (image.dtype, labels.dtype) == (torch.uint8, torch.uint8)
        np.testing.assert_array_equal(image.numpy(), picture(number).transpose(2, 0, 1))
        np.testing.assert_array_equal(labels.numpy(), ids(number, 3))


@pytest.mark.parametrize(
    ("kind", "classes"),
    [("", OWN_CLASSES), ("palette", OWN_CLASSES), *((k, COLORED) for k in ("rgb", "rgba", "palette"))],
)
def test_ids_and_colors_in_masks(tmp_path: Path, kind: str, classes: str) -> None:
    root = colored_tree(tmp_path, kind) if kind else folder_tree(tmp_path)
    (root / "classes.yaml").write_text(classes)
    dataset = Folder(root, "train")
    check_samples(dataset)
    assert dataset.classes.names == ("road", "pole", "sign")
    assert dataset.classes.palette == ((128, 0, 0), (153, 153, 153), (220, 220, 0))


def test_arbitrary_ids(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    stored = np.array([[7, 300, 255], [0, 7, 3]], np.uint16)
    save(root / "images/train/east/a.0.png", picture(0, (2, 3)))
    save(root / FIRST, stored)
    (root / "classes.yaml").write_text(
        "classes: [{name: a, id: 7}, {name: b, id: 300}, {name: c, id: 3}]\nignore: [0, 255]"
    )
    np.testing.assert_array_equal(Folder(root, "train")[0].labels, [[0, 1, 255], [255, 0, 2]])


def test_formats_may_differ(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    for file, suffix in (("images/train/east/a.0.png", ".JPG"), (FIRST, ".tif"), ("masks/train/east/a.2.png", ".bmp")):
        Image.open(root / file).save((root / file).with_suffix(suffix))
        (root / file).unlink()
    dataset = Folder(root, "train")
    assert [dataset.name(i) for i in range(4)] == NAMES
    np.testing.assert_array_equal(dataset[0].labels, ids(0, 3))
    np.testing.assert_array_equal(dataset[1].labels, ids(2, 3))


def test_files_in_place_of_a_split(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    listed = Folder(root, "train").files[1:3]
    (root / FIRST).unlink()
    dataset = Folder(root, "", files=listed)
    assert [dataset[i].name for i in range(2)] == NAMES[1:3]


def test_what_labels_mean(tmp_path: Path) -> None:
    """It changes with the ids or colors of classes, and with nothing else."""
    root = colored_tree(tmp_path)
    dataset = Folder(root, "train")
    assert pickle.loads(pickle.dumps(dataset)).meaning() == dataset.meaning() == Folder(root, "val").meaning()
    meanings = {dataset.meaning()}
    for text in (COLORED.replace("128, 0, 0", "0, 0, 1"), f"{COLORED}ignore: '#000000'", OWN_CLASSES):
        (root / "classes.yaml").write_text(text)
        meanings.add(Folder(root, "train").meaning())
    assert len(meanings) == 4


def sample_error(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        Folder(root, "train")[0]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_id_of_no_class(tmp_path: Path) -> None:
    root = folder_tree(tmp_path)
    wrong = ids(0, 3)
    wrong[7, 5] = 4
    save(root / FIRST, wrong)
    (root / "classes.yaml").write_text(f"{OWN_CLASSES}  - {{name: car, id: 9}}\n")
    assert sample_error(root) == (
        f"label map {root}/{FIRST}: value 4 at row 7, column 5 is no label id: they are 0..2, 9, 255. 1 of its 192 "
        f"pixels are wrong: correct it, or add the id to `classes` or `ignore` in {root}/classes.yaml; for colors, "
        "write `masks: colors` there."
    )


@pytest.mark.parametrize(
    ("drawn", "classes", "remedy"),
    [
        (
            picture(0),
            OWN_CLASSES,
            "If its colors stand for classes, write `masks: colors` and a color for every class in",
        ),
        (
            np.dstack([ids(0, 3)] * 3),
            OWN_CLASSES,
            "It is grey throughout: if its values are ids, save one of its channels",
        ),
        (ids(0, 3), COLORED, "It is grey throughout: if its values are class ids, set `masks: ids` in"),
    ],
)
def test_ids_in_place_of_colors_and_colors_in_place_of_ids(
    tmp_path: Path, drawn: np.ndarray, classes: str, remedy: str
) -> None:
    root = folder_tree(tmp_path)
    save(root / FIRST, drawn)
    (root / "classes.yaml").write_text(classes)
    assert sample_error(root).startswith(f"mask {root}/{FIRST}: ")
    assert remedy in sample_error(root)


def test_jpeg_masks(tmp_path: Path) -> None:
    for root, said in ((folder_tree(tmp_path / "ids"), "grey levels"), (colored_tree(tmp_path / "rgb"), "colors")):
        Image.open(root / FIRST).save((root / FIRST).with_suffix(".jpg"))
        (root / FIRST).unlink()
        assert f"masks/train/east/a.0.jpg: JPEG changes {said}, so its" in sample_error(root)
        assert sample_error(root).endswith("masks as PNG.") or sample_error(root).endswith("label maps as PNG.")

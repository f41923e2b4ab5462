from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gffnet.data.dataset import LabelTable
from gffnet.data.folder import FolderClasses, read_classes, voc_colors
from gffnet.errors import UserError


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
def test_colour_masks(root: Path, ignore: str, expected: dict[int, int]) -> None:
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


def test_limits(root: Path) -> None:
    names = [f"c{i}" for i in range(255)]
    own = read(root, yaml.safe_dump({"classes": names}))
    assert own.train_ids == {**{i: i for i in range(255)}, 255: 255}
    assert len(set(own.classes.palette) | {(0, 0, 0)}) == 256
    table = LabelTable(read(root, "classes: [{name: a, id: 1023}]").train_ids, "")  # the largest that it can hold
    np.testing.assert_array_equal(table(np.array([[1023, 255]]), root), [[0, 255]])


def test_palette_of_pascal_voc() -> None:
    colours = list(islice(voc_colors(), 255))
    assert colours[:8] == [
        (128, 0, 0),
        (0, 128, 0),
        (128, 128, 0),
        (0, 0, 128),
        (128, 0, 128),
        (0, 128, 128),
        (128, 128, 128),
        (64, 0, 0),
    ]
    assert (colours[19], colours[254]) == ((0, 64, 128), (224, 224, 192))
    assert len({*colours}) == 255


ENTRY = st.fixed_dictionaries(
    {}, optional={"id": st.integers(0, 1023), "color": st.lists(st.integers(0, 255), min_size=3, max_size=3)}
)


@given(st.lists(ENTRY, min_size=1, max_size=12), st.sampled_from(["ids", "colors"]))
def test_what_is_read_is_what_was_written_or_one_error(
    root: Path, entries: list[dict[str, object]], masks: str
) -> None:
    by_colour = masks == "colors"
    classes = [{"name": f"class {i}", **entry} for i, entry in enumerate(entries)]
    for entry in classes if by_colour else []:
        entry.pop("id", None)
    text = yaml.safe_dump({"classes": classes, "masks": masks})
    values = [entry.get("color") if by_colour else entry.get("id", i) for i, entry in enumerate(entries)]
    twice = any(value in values[:i] for i, value in enumerate(values))
    if twice or None in values:
        with pytest.raises(UserError, match=r"classes\.yaml: class"):
            read(root, text)
        return
    own = read(root, text)
    assert len(own.train_ids) == len(values) + (not by_colour and 255 not in values)
    stored = [value for value, train_id in sorted(own.train_ids.items(), key=lambda item: item[1]) if train_id < 255]
    assert [list(value.to_bytes(3, "big")) if by_colour else value for value in stored] == values
    assert [list(c) for c, e in zip(own.classes.palette, entries, strict=True) if "color" in e] == [
        e["color"] for e in entries if "color" in e
    ]


# Errors


FORM = "expected its name, or {name: ..., id: ..., color: ...}, got"
COLOUR = 'color: expected [r, g, b] of integers in 0..255, or "#rrggbb", got'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected `key: value` lines, such as `classes: [road, car]`, got None."),
        ("[road]", "expected `key: value` lines, such as `classes: [road, car]`, got ['road']."),
        ("masks: ids", "classes: expected a list of 1 to 255 classes, such as `classes: [road, car]`, got none."),
        ("classes: []", "classes: expected a list of 1 to 255 classes, such as `classes: [road, car]`, got 0 of them."),
        (f"classes: {list(range(256))}", "got 256 of them."),
        ("classes: {0: road}", "classes: expected a list of 1 to 255 classes, .* got {0: 'road'}."),
        ("clases: [a]", "'clases' is unknown. Did you mean 'classes'? Allowed: classes, ignore, masks, val_fraction."),
        ("classes: [a]\n1: 2", "1 is unknown. Allowed: "),
        ("classes: [{nam: a}]", "class 1: 'nam' is unknown. Did you mean 'name'? Allowed: name, id, color."),
        ("classes: [a, b, a]", "classes 1 and 3 are both named 'a': each needs its own name."),
        (
            "classes: [a, no]",
            f"class 2: {FORM} False. Quote a name that YAML takes for a number, for yes or for no.",
        ),
        ("classes: [a, 3]", f"class 2: {FORM} 3."),
        ("classes: [{id: 3}]", f"class 1: {FORM} {{'id': 3}}."),
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
        ("classes: [{name: a, color: '#fff'}]", f"class 1 ('a'): {COLOUR} '#fff'."),
        ("classes: [{name: a, color: [1, 2]}]", f"class 1 ('a'): {COLOUR} [1, 2]."),
        ("classes: [{name: a, color: [1, 2, 256]}]", f"class 1 ('a'): {COLOUR} [1, 2, 256]."),
        ("classes: [{name: a, color: [1, 2, true]}]", f"class 1 ('a'): {COLOUR} [1, 2, True]."),
        (
            "classes:\n- name: a\n  color: #ffffff",
            f"class 1 ('a'): {COLOUR} None. Put #rrggbb in quotes: YAML takes a bare # for a comment.",
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
def test_what_is_refused(root: Path, text: str, message: str) -> None:
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
        (b"\xff\xfe", "'utf-8' codec can't decode"),
    ],
)
def test_no_yaml(root: Path, content: bytes, said: str) -> None:
    (root / "classes.yaml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_classes(root)
    assert str(caught.value).startswith(f"{root}/classes.yaml is not valid YAML: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"classes\.yaml is missing: .* Write it, such as `classes: \[road, car\]`\."):
        read_classes(tmp_path)
    (tmp_path / "classes.yaml").mkdir()
    with pytest.raises(UserError, match=r"classes\.yaml cannot be read \(Is a directory\): it must be a readable file"):
        read_classes(tmp_path)

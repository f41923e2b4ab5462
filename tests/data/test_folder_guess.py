"""What a missing `classes.yaml` could say, and that it then reads the masks."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from gffnet.data.folder import GUESS_FROM, guess_classes, read_classes
from gffnet.errors import UserError
from tests.data.trees import save


def mask(folder: Path, values: list[int] | list[list[int]], name: str = "a.png") -> Path:
    """A mask that shows each value, or each colour, once."""
    return save(folder / name, np.array([values], np.uint8))


def written(guess: str) -> dict:
    """What the sentence says to write, as YAML."""
    lines = re.findall(r"`(.*?)`", guess)
    mapping = yaml.safe_load("\n".join(lines))
    assert isinstance(mapping, dict)
    return mapping


def test_ids_in_order(tmp_path: Path) -> None:
    mask(tmp_path, [0, 2, 255])
    mask(tmp_path / "deeper", [1, 2])
    assert guess_classes(tmp_path) == (
        "The masks hold ids 0, 1, 2, and 255, which is ignored: write `classes: [name of 0, name of 1, name of 2]` "
        "into it."
    )


def test_ids_with_gaps(tmp_path: Path) -> None:
    mask(tmp_path, [0, 7, 7])
    assert guess_classes(tmp_path) == (
        "The masks hold ids 0, 7: write `classes: [{name: name of 0, id: 0}, {name: name of 7, id: 7}]` into it."
    )


def test_colours(tmp_path: Path) -> None:
    mask(tmp_path, [[0, 0, 0], [255, 0, 16]])
    assert written(guess_classes(tmp_path)) == {
        "masks": "colors",
        "classes": [{"name": "name of 000000", "color": "#000000"}, {"name": "name of ff0010", "color": "#ff0010"}],
    }


def test_many_classes_are_cut_short(tmp_path: Path) -> None:
    mask(tmp_path, list(range(40)))
    assert "hold ids 0, 1, 2, 3, 4, 5, 6, 7, ...: write" in guess_classes(tmp_path)
    assert len(guess_classes(tmp_path)) < 250


def test_of_many_masks_some_are_looked_at(tmp_path: Path) -> None:
    for i in range(3 * GUESS_FROM):
        mask(tmp_path, [i % 3], f"{i:03d}.png")
    assert "hold ids 0:" in guess_classes(tmp_path)  # every third


@pytest.mark.parametrize("kind", ["none", "empty", "damaged", "grey", "many colours", "jpeg"])
def test_masks_that_say_nothing(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "masks"
    if kind != "none":
        folder.mkdir()
    if kind == "damaged":
        mask(folder, [0, 1]).write_bytes(b"\x89PNG")
    elif kind == "grey":
        mask(folder, [[0, 0, 0], [3, 3, 3]])
    elif kind == "many colours":
        mask(folder, [[i % 256, i // 256, 0] for i in range(300)])
    elif kind == "jpeg":
        mask(folder, [[0, 0, 0], [255, 0, 0]], "a.jpg")
    assert guess_classes(folder) == ""


@pytest.mark.parametrize("values", [[0, 1, 2, 255], [3, 9, 200], [0], [[0, 0, 0], [128, 0, 0], [0, 128, 64]]], ids=str)
def test_what_is_guessed_reads_the_masks(tmp_path: Path, values: list) -> None:
    mask(tmp_path / "masks", values)
    with pytest.raises(UserError, match=r"classes\.yaml is missing: it names the classes of the masks") as caught:
        read_classes(tmp_path)
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(written(str(caught.value))))
    stored = read_classes(tmp_path)
    shown = {r << 16 | g << 8 | b for r, g, b in values} if isinstance(values[0], list) else set(values)
    assert shown <= stored.train_ids.keys()
    assert len(stored.classes.names) == len(shown - {255})

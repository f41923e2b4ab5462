from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gffnet.data.folder import ColorTable, pack, read_colors, unpack
from gffnet.errors import UserError
from tests.data.trees import picture, save

COLOURS = st.lists(st.integers(0, 0xFFFFFF), min_size=1, max_size=255, unique=True)
SOURCE = Path("classes.yaml")


@given(st.integers(0, 0xFFFFFF))
def test_a_colour_is_one_number(number: int) -> None:
    colour = unpack(number)
    assert f"{number:06x}" == bytes(colour).hex()
    assert pack(np.array([colour], np.uint8)).tolist() == [number]


@given(COLOURS, st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9))
def test_from_ids_to_colours_and_back(colours: list[int], seed: int, height: int, width: int) -> None:
    names = [f"class {i}" for i in range(len(colours))]
    table = ColorTable({colour: i for i, colour in enumerate(colours)}, names, SOURCE)
    labels = np.random.default_rng(seed).integers(0, len(colours), (height, width))
    drawn = np.array([unpack(colour) for colour in colours], np.uint8)[labels]
    back = table(drawn, Path("mask.png"))
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, labels)


@given(COLOURS, st.integers(0, 0xFFFFFF), st.integers(0, 11))
def test_any_other_colour_is_refused_and_the_nearest_named(colours: list[int], other: int, place: int) -> None:
    names = [f"class {i}" for i in range(len(colours))]
    table = ColorTable({colour: i for i, colour in enumerate(colours)}, names, SOURCE)
    known = np.array([unpack(colour) for colour in colours])
    drawn = np.full((3, 4, 3), known[0], np.uint8)
    drawn[divmod(place, 4)] = unpack(other)
    if other in colours:
        assert table(drawn, Path("mask.png"))[divmod(place, 4)] == colours.index(other)
        return
    with pytest.raises(UserError) as caught:
        table(drawn, Path("mask.png"))
    row, column = divmod(place, 4)
    assert f"mask mask.png: color {unpack(other)} at row {row}, column {column} belongs to no class" in str(
        caught.value
    )
    assert "1 of its 12 pixels have such a color (1 different)" in str(caught.value)
    distance = ((known - unpack(other)) ** 2).sum(axis=1)
    nearest = [i for i in range(len(colours)) if distance[i] == distance.min()]
    assert any(f"the nearest is {unpack(colours[i])}, 'class {i}'." in str(caught.value) for i in nearest)


def test_ignored_colours() -> None:
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


def test_grey_values_in_place_of_colours() -> None:
    grey = np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4, 1), 3, axis=2)
    with pytest.raises(
        UserError, match=r"It is grey throughout: if its values are class ids, set `masks: ids` in classes\.yaml\."
    ):
        ColorTable({0x010203: 0}, ["road"], SOURCE)(grey, Path("mask.png"))
    with pytest.raises(UserError, match="Colors between"):  # where classes are black and white, grey is between
        ColorTable({0: 0, 0xFFFFFF: 1}, ["road", "sign"], SOURCE)(grey, Path("mask.png"))


# Files


def test_what_colours_a_file_holds(tmp_path: Path) -> None:
    rgb = picture(0)
    np.testing.assert_array_equal(read_colors(save(tmp_path / "rgb.png", rgb)), rgb)
    rgba = np.dstack([rgb, picture(1)[..., 0]])
    np.testing.assert_array_equal(read_colors(save(tmp_path / "rgba.png", rgba)), rgb)
    bits = picture(2)[..., 0] > 127
    np.testing.assert_array_equal(read_colors(save(tmp_path / "bits.png", bits))[..., 1], np.where(bits, 255, 0))


def test_the_colours_of_a_palette_count(tmp_path: Path) -> None:
    indices = np.random.default_rng(0).integers(0, 3, (12, 16), dtype=np.uint8)
    palette = np.array([[1, 2, 3], [128, 64, 128], [0, 0, 0]], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    image.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_colors(tmp_path / "palette.png"), palette[indices])


@pytest.mark.parametrize("name", ["mask.jpg", "mask.png"])
def test_jpegs_are_refused_whatever_they_are_called(tmp_path: Path, name: str) -> None:
    Image.fromarray(picture(0)).save(tmp_path / name, "JPEG")
    with pytest.raises(UserError, match=rf"mask .*{name}: JPEG changes colors, .*: save masks as PNG\."):
        read_colors(tmp_path / name)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        read_colors(tmp_path / "mask.png")

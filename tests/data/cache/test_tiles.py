import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gffnet.data.cache.tiles import SIDE, Grid, TileError, decode, decode_labels, encode
from gffnet.data.dataset import Pixels
from tests.data.trees import ids, picture


def packed(pixels: Pixels) -> NDArray[np.uint8]:
    return np.frombuffer(encode(pixels), np.uint8)


@st.composite
def windows(draw: st.DrawFn) -> tuple[tuple[int, int], slice, slice]:
    """A size next to a whole number of tiles or anywhere, and a window within it."""
    size = tuple(draw(st.sampled_from([1, 7, SIDE - 1, SIDE, SIDE + 1, 2 * SIDE + 5])) for _ in range(2))
    slices = []
    for side in size:
        start = draw(st.integers(0, side - 1))
        slices.append(slice(start, draw(st.integers(start + 1, side))))
    return (size[0], size[1]), slices[0], slices[1]


@given(windows(), st.integers(0, 99))
def test_a_window_is_what_was_encoded(drawn: tuple[tuple[int, int], slice, slice], seed: int) -> None:
    size, rows, columns = drawn
    pixels = Pixels(picture(seed, size), ids(seed, 256, size))
    got = decode(packed(pixels), Grid(*size), rows, columns)
    np.testing.assert_array_equal(got.image, pixels.image[rows, columns])
    np.testing.assert_array_equal(got.labels, pixels.labels[rows, columns])
    np.testing.assert_array_equal(decode_labels(packed(pixels), Grid(*size), rows, columns), got.labels)
    assert got.image.flags.c_contiguous


def test_only_touched_tiles_are_read() -> None:
    pixels = Pixels(picture(0, (300, 300)), ids(0, 9, (300, 300)))
    content = packed(pixels).copy()
    content[len(content) // 3 :] = 0  # of nine image tiles the first is left, and no label tile
    with pytest.raises(TileError, match="tile 8 is damaged"):
        decode(content, Grid(300, 300), slice(290, 300), slice(290, 300))
    with pytest.raises(TileError):
        decode_labels(content, Grid(300, 300), slice(0, 5), slice(0, 5))


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_damage_is_noticed(at: int, change: int) -> None:
    pixels = Pixels(picture(1, (20, 30)), ids(1, 9, (20, 30)))
    content = packed(pixels).copy()
    content[at % len(content)] ^= change
    with pytest.raises(TileError, match=r"tile \d is damaged"):
        decode(content, Grid(20, 30), slice(0, 20), slice(0, 30))


def test_no_tile_takes_the_place_of_another() -> None:
    """Of four tiles of the image and four of the labels, each entry in the table over each other one, or none."""
    pixels = Pixels(picture(2, (2 * SIDE, 2 * SIDE)), ids(2, 9, (2 * SIDE, 2 * SIDE)))
    content, whole = packed(pixels), slice(0, 2 * SIDE)
    table = content[: 8 * 16].reshape(8, 16)
    for at in range(8):
        for entry in [np.zeros(16, np.uint8), *np.delete(table, at, axis=0)]:
            changed = content.copy()
            changed[16 * at : 16 * at + 16] = entry
            with pytest.raises(TileError, match=f"tile {at % 4} is damaged"):
                decode(changed, Grid(2 * SIDE, 2 * SIDE), whole, whole)


def test_smooth_pictures_become_small() -> None:
    ramp = np.linspace(0, 255, 256).astype(np.uint8)
    image = np.stack([np.add.outer(ramp // 2, ramp // 2)] * 3, axis=-1)
    pixels = Pixels(image, np.zeros((256, 256), np.uint8))
    assert len(encode(pixels)) < image.nbytes / 20

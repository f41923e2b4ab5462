import base64
import io

import numpy as np
import pytest
from PIL import Image

from gffnet.data.colors import MARK, colorize
from gffnet.gates.figures import color_table
from gffnet.reports.pictures import WIDEST, gate_picture, label_picture, marked_picture, photo, share_picture

PALETTE = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def decoded(picture, kind="png"):
    head, text = picture.uri.split(",")
    assert head == f"data:image/{kind};base64"
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    assert image.size == (picture.width, picture.height)
    return np.asarray(image.convert("RGB"))


def test_labels_keep_their_colors_exactly():
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    assert np.array_equal(decoded(label_picture(labels, PALETTE)), colorize(labels, PALETTE))


def test_gates_are_shown_to_a_64th():
    gate = np.linspace(0, 1, 300, dtype=np.float32).reshape(10, 30)
    shown = decoded(gate_picture(gate)).astype(int)
    exact = color_table()[np.rint(255 * gate).astype(int)].astype(int)
    assert abs(shown - exact).max() <= 8
    assert np.array_equal(shown[0, 0], color_table()[0])
    assert np.array_equal(shown[-1, -1], color_table()[255])


def test_photos_are_close():
    image = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    assert abs(decoded(photo(image), "jpeg").astype(int) - image).max() <= 4


def test_marks_are_exact_and_the_rest_is_dark():
    mask = np.zeros((8, 8), bool)
    mask[2, 3] = True
    shown = decoded(marked_picture(np.full((8, 8, 3), 250, np.uint8), mask))
    assert tuple(shown[2, 3]) == MARK
    assert shown[~mask].max() < 120


@pytest.mark.parametrize("size", [(100, 2 * WIDEST), (1, 5000)])
def test_wide_pictures_are_reduced(size):
    rgb = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    mask = np.zeros(size, bool)
    mask[:, ::4] = True
    for picture in (
        photo(rgb),
        label_picture(rgb[..., 0] % 3, PALETTE),
        gate_picture(rgb[..., 0].astype(np.float32) / 255),
        marked_picture(rgb, mask),
    ):
        assert (picture.width, picture.height) == (WIDEST, max(1, round(size[0] * WIDEST / size[1])))
    reduced = decoded(label_picture(rgb[..., 0] % 3, PALETTE))
    assert {tuple(c) for c in reduced.reshape(-1, 3)} <= {tuple(c) for c in PALETTE}, "labels are never mixed"


def test_narrow_pictures_are_as_narrow_as_asked():
    gate, mask = np.zeros((60, 300), np.float32), np.zeros((60, 300), bool)
    for picture in (gate_picture(gate, 100), marked_picture(np.zeros((60, 300, 3), np.uint8), mask, 100)):
        assert (picture.width, picture.height) == (100, 20)


def test_shares_have_a_pixel_each():
    shares = np.array([[0.0, 0.5, 1.0]])
    assert np.array_equal(decoded(share_picture(shares)), color_table()[[[0, 128, 255]]])


def test_thin_marks_stay_when_reduced():
    mask = np.zeros((90, 2 * WIDEST), bool)
    mask[:, 601] = True
    shown = decoded(marked_picture(np.zeros((90, 2 * WIDEST, 3), np.uint8), mask))
    assert (shown == MARK).all(-1).any(axis=1).all()

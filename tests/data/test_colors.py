import numpy as np
import pytest

from gffnet.data.camvid import CAMVID
from gffnet.data.cityscapes import CITYSCAPES
from gffnet.data.colors import MARK, colorize, displayable, highlight, legend, overlay

PALETTE = ((10, 20, 30), (200, 100, 0))


def test_colorize_looks_labels_up_and_leaves_the_rest_black():
    labels = np.array([[0, 1], [255, 2]], np.uint8)
    assert colorize(labels, PALETTE).tolist() == [[[10, 20, 30], [200, 100, 0]], [[0, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_colorize_takes_any_integers(kind):
    colors = colorize(np.array([[1]], kind), PALETTE)
    assert colors.dtype == np.uint8
    assert colors.tolist() == [[[200, 100, 0]]]


def test_255_is_black_even_with_a_palette_that_goes_so_far():
    assert colorize(np.array([[255, 254]], np.uint8), [(9, 9, 9)] * 256).tolist() == [[[0, 0, 0], [9, 9, 9]]]


def test_overlay_mixes_and_leaves_unlabelled_pixels_alone():
    image = np.full((1, 3, 3), 100, np.uint8)
    mixed = overlay(image, np.array([[0, 1, 255]], np.uint8), PALETTE, alpha=0.25)
    assert mixed.tolist() == [[[78, 80, 82], [125, 100, 75], [100, 100, 100]]]


@pytest.mark.parametrize("unlabelled", [-1, -100, 255, 300])
def test_labels_of_no_class_are_black_and_leave_the_image_as_it_is(unlabelled):
    image, labels = np.full((1, 2, 3), 100, np.uint8), np.array([[unlabelled, 1]])
    assert colorize(labels, PALETTE).tolist() == [[[0, 0, 0], [200, 100, 0]]]
    assert overlay(image, labels, PALETTE).tolist() == [[[100, 100, 100], [150, 100, 50]]]


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, [100, 100, 100]), (0.5, [55, 60, 65]), (1.0, [10, 20, 30])])
def test_alpha_is_the_share_of_the_color(alpha, expected):
    image = np.full((1, 1, 3), 100, np.uint8)
    assert overlay(image, np.zeros((1, 1), np.uint8), PALETTE, alpha).tolist() == [[expected]]


def test_highlight_marks_the_mask_and_darkens_the_rest():
    image = np.array([[[100, 100, 100], [0, 255, 0]]], np.uint8)
    assert highlight(image, np.array([[False, True]])).tolist() == [[[45, 45, 45], list(MARK)]]


def test_no_palette_has_the_color_of_the_mark():
    assert MARK not in (*CAMVID.palette, *CITYSCAPES.palette)


def test_legend_names_colors_in_hexadecimal():
    assert legend(["road", "car"], PALETTE) == [("road", "#0a141e"), ("car", "#c86400")]


@pytest.mark.parametrize(
    ("channels", "shown"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (4, [0, 1, 2]), (16, [0, 1, 2])]
)
def test_images_of_any_channels_are_displayable(channels, shown):
    image = np.random.default_rng(channels).integers(0, 256, (6, 5, channels), np.uint8)
    picture = displayable(image)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture, image[..., shown])


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_deep_images_are_stretched_to_be_displayed(channels):
    image = np.random.default_rng(0).uniform(2.0, 3.0, (60, 50, channels)).astype(np.float32)
    image[0, 0] = 255.0  # one bright pixel leaves the others as bright as they are
    picture = displayable(image)
    assert picture.shape == (60, 50, 3)
    assert picture.min() == 0
    assert 120 < np.median(picture) < 135
    order = np.argsort(image[1:, :, 0], axis=None)
    assert (np.diff(picture[1:, :, 0].ravel()[order].astype(int)) >= 0).all()
    flat = displayable(np.full((4, 4, channels), 77.0, np.float32))
    assert (flat == 77).all()

import io
import re

import numpy as np
import pytest
from PIL import Image

from gffnet.reports.compare import LOST, REFINED, Inset, Panel, comparison_figure, difference, figure_bytes

PALETTE = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
CLASSES = ["$a_b$", "_hidden", "<b>&"]


INSET = Inset(10, 20, 24, 24)


def figure(height=60, width=90, insets=(INSET,), labels=True):
    random = np.random.default_rng(0)
    truth, first, last = random.integers(0, 3, (3, height, width)).astype(np.uint8)
    truth[:5] = 255
    of = difference(first, last, truth if labels else None, 3)
    image = np.full((height, width, 3), 90, np.uint8)
    panels = [Panel("image", image, False), Panel("$x$", image, True), Panel("difference", of.picture(image), True)]
    return comparison_figure("t_$1$", panels, insets, [truth, first, last], CLASSES, PALETTE, of)


def pixels(of):
    return np.asarray(Image.open(io.BytesIO(figure_bytes(of, "png"))).convert("RGB"))


@pytest.mark.parametrize("size", [(30, 200), (60, 90), (200, 30)])
@pytest.mark.parametrize("insets", [(), (Inset(2, 3, 10, 20), Inset(15, 3, 10, 20))])
def test_pictures_keep_their_shape(size, insets):
    drawn = figure(*size, insets=insets)
    drawn.draw_without_rendering()
    assert len(drawn.axes) == 3 * (1 + len(insets))
    for i, axes in enumerate(drawn.axes):
        box = axes.get_window_extent()
        (image,) = axes.get_images()
        height, width = image.get_array().shape[:2]
        assert box.width / box.height == pytest.approx(width / height, rel=0.02), i
        assert box.width * box.height > 100 * 100


def test_insets_are_framed_and_show_their_part():
    drawn = figure()
    whole, below = drawn.axes[0], drawn.axes[1]
    (frame,) = whole.patches
    assert (frame.get_x(), frame.get_y(), frame.get_width(), frame.get_height()) == (19.5, 9.5, 24, 24)
    assert below.get_images()[0].get_array().shape == (24, 24, 3)
    assert below.get_images()[0].get_interpolation() == "bicubic"
    assert drawn.axes[3].get_images()[0].get_interpolation() == "nearest"


def test_the_legend_names_classes_and_marks_as_they_are():
    drawn = figure()
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()][3:] == ["not labelled", "refined", "lost"]
    assert {text.get_text() for text in legend.get_texts()[:3]} == set(CLASSES)
    assert "changed" in [text.get_text() for text in figure(labels=False).legends[0].get_texts()]
    seen = pixels(drawn)
    for colour in (REFINED, LOST):
        assert (seen == colour).all(-1).sum() > 500


def test_files_are_what_they_are_called_and_the_same_again():
    assert figure_bytes(figure(), "png").startswith(b"\x89PNG")
    pdf, svg = figure_bytes(figure(), "pdf"), figure_bytes(figure(), "svg")
    assert pdf.startswith(b"%PDF")
    assert b"/Type3" not in re.sub(rb"\s", b"", pdf)
    assert b"<svg" in svg
    assert figure_bytes(figure(), "pdf") == pdf
    assert figure_bytes(figure(), "svg") == svg

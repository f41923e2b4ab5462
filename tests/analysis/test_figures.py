import numpy as np
import pytest

from gffnet.gates.edit import Closing, GateResult
from gffnet.gates.figures import closing_figure, colour_table, gate_colours, gates_figure
from tests.analysis import tiny

NASTY = ["$a_b$", "_hidden", "<b>&", r"\frac{", "道"]
PALETTE = [(10 * k, 200, 99) for k in range(5)]


def test_colours_run_from_dark_to_bright():
    lightness = colour_table() @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(lightness) > -1).all()
    assert lightness[0] < 40
    assert lightness[-1] > 200


def test_gate_colours_are_the_ends_of_the_table():
    colours = gate_colours(np.array([[0.0, 1.0]], np.float32))
    assert np.array_equal(colours[0], colour_table()[[0, 255]])


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize(("size", "levels"), [((20, 90), 2), ((62, 94), 4), ((90, 20), 5)])
def test_figures_of_any_shape_and_names(size, levels):
    image = np.full((*size, 3), 90, np.uint8)
    labels = (np.arange(size[0] * size[1]) % 5).astype(np.uint8).reshape(size)
    gate = np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(size)
    result = GateResult((gate,) * levels, labels)
    figure = gates_figure("cost$ _1_.png", image, result, NASTY, PALETTE)
    assert figure.dtype == np.uint8
    assert figure.ndim == 3
    assert (figure == (0x44, 1, 0x54)).all(-1).any(), "the colour of a closed gate"
    closings = [Closing(closed, labels[::-1].copy(), labels[::-1] != labels) for closed in ((1,), (1, 2))]
    for truth in (None, np.roll(labels, 1)):
        assert closing_figure("name", image, result, closings, NASTY, PALETTE, 0.5, truth).shape[2] == 3


def test_a_figure_shows_its_image_and_its_gates():
    image = tiny.image()
    result = GateResult((np.full(image.shape[:2], 1.0, np.float32),) * 4, np.zeros(image.shape[:2], np.uint8))
    dark = GateResult((np.full(image.shape[:2], 0.0, np.float32),) * 4, result.prediction)
    bright, closed = (gates_figure("x", image, r, tiny.CLASSES, [(0, 0, 0)] * 11) for r in (result, dark))
    assert bright.shape == closed.shape
    changed = (bright != closed).any(-1).mean()
    assert 0.3 < changed < 0.7, "four of six panels"

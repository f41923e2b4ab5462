"""Figures of gates: what they show, of any shape and names, in colors that everyone can tell apart."""

import matplotlib
import numpy as np
import pytest

from gffnet.gates.edit import Closing, GateResult
from gffnet.gates.figures import (
    CHANGE_COLORS,
    LINE_COLORS,
    MAX_CHANGED_CLASSES,
    class_changes,
    class_changes_figure,
    closing_figure,
    color_table,
    gate_colors,
    gates_figure,
    losses_figure,
)
from tests.gates import networks, records

NASTY = ["$a_b$", "_hidden", "<b>&", r"\frac{", "道"]
PALETTE = [(10 * k, 200, 99) for k in range(5)]


def test_colors_run_from_dark_to_bright():
    lightness = color_table() @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(lightness) > -1).all()
    assert lightness[0] < 40
    assert lightness[-1] > 200


def test_gate_colors_are_the_ends_of_the_table():
    colors = gate_colors(np.array([[0.0, 1.0]], np.float32))
    assert np.array_equal(colors[0], color_table()[[0, 255]])


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize(
    ("size", "levels"),
    [
        pytest.param((20, 90), 2, marks=pytest.mark.slow),
        ((62, 94), 4),
        pytest.param((90, 20), 5, marks=pytest.mark.slow),
    ],
)
def test_figures_of_any_shape_and_names(size, levels):
    image = np.full((*size, 3), 90, np.uint8)
    labels = (np.arange(size[0] * size[1]) % 5).astype(np.uint8).reshape(size)
    gate = np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(size)
    result = GateResult((gate,) * levels, labels)
    figure = gates_figure("cost$ _1_.png", image, result, NASTY, PALETTE)
    assert figure.dtype == np.uint8
    assert figure.ndim == 3
    assert (figure == (0x44, 1, 0x54)).all(-1).any(), "the color of a closed gate"
    closings = [Closing(closed, labels[::-1].copy(), labels[::-1] != labels) for closed in ((1,), (1, 2))]
    for truth in (None, np.roll(labels, 1)):
        assert closing_figure("name", image, result, closings, NASTY, PALETTE, 0.5, truth).shape[2] == 3


def test_a_figure_shows_its_image_and_its_gates():
    image = networks.image()
    result = GateResult((np.full(image.shape[:2], 1.0, np.float32),) * 4, np.zeros(image.shape[:2], np.uint8))
    dark = GateResult((np.full(image.shape[:2], 0.0, np.float32),) * 4, result.prediction)
    bright, closed = (gates_figure("x", image, r, networks.CLASSES, [(0, 0, 0)] * 11) for r in (result, dark))
    assert bright.shape == closed.shape
    changed = (bright != closed).any(-1).mean()
    assert 0.3 < changed < 0.7, "four of six panels"


# Of a data set


DICHROMATS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""What linear RGB looks like to eyes that lack one kind of cone (Machado, Oliveira and Fernandes, 2009)."""


def seen(colors: np.ndarray, kind: str) -> np.ndarray:
    """Colors (n, 3) in 0..1 as such eyes see them."""
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    linear = (linear @ np.array(DICHROMATS[kind]).T).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_changes_are_points_of_the_mean_and_of_every_class() -> None:
    of = records.record()
    names, changes = class_changes(of)
    assert names == ["mean of all", *of["learned"]["per_class"]]
    assert changes.shape == (8, 10)
    for column, closing in enumerate(of["closings"]):
        assert changes[0, column] == pytest.approx(100 * closing["difference"]["miou"])
        expected = list(closing["difference"]["per_class"].values())
        assert changes[1:, column].tolist() == pytest.approx([100 * change for change in expected])


def test_of_many_classes_those_are_shown_that_lose_most_by_one_gate() -> None:
    of = records.record(classes=60)
    names, changes = class_changes(of)
    assert len(names) == len(changes) == 1 + MAX_CHANGED_CLASSES
    kept = [name for name in of["learned"]["per_class"] if name in names]
    assert names[1:] == kept, "in their order"
    worst = {
        name: min(closing["difference"]["per_class"][name] or 0 for closing in of["closings"][:4])
        for name in of["learned"]["per_class"]
    }
    assert max(worst[name] for name in kept) <= min(value for name, value in worst.items() if name not in kept)


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "levels", "pairs"), [(3, 4, True), (60, 5, False)])
def test_figures_of_any_number_of_classes_and_gates(classes: int, levels: int, pairs: bool) -> None:
    of = records.record(classes, levels, pairs)
    for figure in (class_changes_figure("$title_", of), losses_figure("$title_", of)):
        assert figure.dtype == np.uint8
        assert len(np.unique(figure.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("kind", DICHROMATS)
def test_colors_differ_for_every_eye(kind: str) -> None:
    lost, nothing, won = (matplotlib.colormaps[CHANGE_COLORS]([0.1, 0.5, 0.9])[i : i + 1, :3] for i in range(3))
    for one, other in ((lost, nothing), (nothing, won), (lost, won)):
        assert np.linalg.norm(seen(one, kind) - seen(other, kind)) > 0.3
    lines = seen(np.array([matplotlib.colors.to_rgb(color) for color in LINE_COLORS]), kind)
    apart = np.linalg.norm(lines[:, None] - lines, axis=-1) + 9 * np.eye(len(lines))
    assert apart.min() > 0.1

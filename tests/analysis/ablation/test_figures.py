"""Figures of closed gates: what they are of, and that their colours tell apart what they should."""

import matplotlib
import numpy as np
import pytest

from gffnet.gates.ablation import CHANGES, LINES, MOST_CLASSES, class_changes, class_figure, distance_figure
from tests.analysis import records

DICHROMATS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""What linear RGB looks like to eyes that lack one kind of cone (Machado, Oliveira and Fernandes, 2009)."""


def seen(colours: np.ndarray, kind: str) -> np.ndarray:
    """Colours (n, 3) in 0..1 as such eyes see them."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
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
    assert len(names) == len(changes) == 1 + MOST_CLASSES
    kept = [name for name in of["learned"]["per_class"] if name in names]
    assert names[1:] == kept, "in their order"
    worst = {
        name: min(closing["difference"]["per_class"][name] or 0 for closing in of["closings"][:4])
        for name in of["learned"]["per_class"]
    }
    assert max(worst[name] for name in kept) <= min(value for name, value in worst.items() if name not in kept)


@pytest.mark.parametrize(("classes", "levels", "pairs"), [(3, 4, True), (60, 5, False)])
def test_figures_of_any_number_of_classes_and_gates(classes: int, levels: int, pairs: bool) -> None:
    of = records.record(classes, levels, pairs)
    for figure in (class_figure(of), distance_figure(of)):
        assert figure.dtype == np.uint8
        assert len(np.unique(figure.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize("kind", DICHROMATS)
def test_colours_differ_for_every_eye(kind: str) -> None:
    lost, nothing, won = (matplotlib.colormaps[CHANGES]([0.1, 0.5, 0.9])[i : i + 1, :3] for i in range(3))
    for one, other in ((lost, nothing), (nothing, won), (lost, won)):
        assert np.linalg.norm(seen(one, kind) - seen(other, kind)) > 0.3
    lines = seen(np.array([matplotlib.colors.to_rgb(colour) for colour in LINES]), kind)
    apart = np.linalg.norm(lines[:, None] - lines, axis=-1) + 9 * np.eye(len(lines))
    assert apart.min() > 0.1

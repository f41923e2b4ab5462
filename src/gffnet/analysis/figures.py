"""Figures of gates: pictures with titles, one colour bar and the classes that they show, as RGB arrays.

Drawn on an Agg canvas of their own, so that no window system and no global state of matplotlib is involved.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gffnet.analysis.gated_image import Closing, GateResult
from gffnet.data.colour import MARK, Palette, highlight, legend, overlay

COLOURS = "viridis"
"""Colour map of gates: perceptually uniform, and readable with every kind of colour vision and in grey."""

DPI = 120
PANEL = 4.4
"""Width of a panel in inches."""
MOST_CLASSES = 24
"""Classes that a figure's legend lists at most, those with the most pixels."""


def gate_colours(gate: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A gate map in `[0, 1]` in the colours of `COLOURS`: dark is closed, bright is open."""
    colours: np.ndarray = colour_table()[np.rint(255 * gate).astype(np.uint8)]
    return colours


def colour_table() -> UInt8[np.ndarray, "256 3"]:
    """The 256 colours of gates from closed to open."""
    colours: np.ndarray = matplotlib.colormaps[COLOURS](np.arange(256), bytes=True)[:, :3]
    return colours


def gates_figure(
    name: str, image: UInt8[np.ndarray, "h w 3"], result: GateResult, classes: Sequence[str], palette: Palette
) -> UInt8[np.ndarray, "_h _w 3"]:
    """The image, the prediction over it, and `G_1..G_L` with their means and one colour bar."""
    panels = [("image", image), ("prediction", overlay(image, result.prediction, palette))]
    panels += [
        (f"$G_{{{level}}}$   mean {gate.mean():.2f}", gate_colours(gate)) for level, gate in enumerate(result.maps, 1)
    ]
    figure = _panels(f"{_plain(name)}: gates, {len(result.maps)} levels, $G_1$ the finest", panels, rows=2)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), COLOURS), ax=figure.axes, shrink=0.8, aspect=30, pad=0.01, ticks=[0, 0.5, 1]
    )
    bar.ax.set_yticklabels(["0  closed:\n    receives", "0.5", "1  open:\n    sends"])
    _class_legend(figure, [result.prediction], classes, palette)
    return _rendered(figure)


def closing_figure(
    name: str,
    image: UInt8[np.ndarray, "h w 3"],
    learned: GateResult,
    closing: Closing,
    classes: Sequence[str],
    palette: Palette,
) -> UInt8[np.ndarray, "_h _w 3"]:
    """Predictions with the learned gates and with some closed, and the pixels that differ."""
    closed = ", ".join(f"$G_{{{level}}}$" for level in closing.levels)
    panels = [
        ("image", image),
        ("learned gates", overlay(image, learned.prediction, palette)),
        (f"{closed} closed", overlay(image, closing.prediction, palette)),
        (f"changed: {closing.share:.2%} of the pixels", highlight(image, closing.changed)),
    ]
    figure = _panels(f"{_plain(name)}: {closed} set to zero", panels, rows=2)
    _class_legend(figure, [learned.prediction, closing.prediction], classes, palette, [("changed", MARK)])
    return _rendered(figure)


def _panels(title: str, panels: Sequence[tuple[str, np.ndarray]], rows: int) -> Figure:
    """A grid of titled pictures."""
    columns = ceil(len(panels) / rows)
    height, width = panels[0][1].shape[:2]
    tall = min(max(height / width, 0.3), 2.0) * PANEL + 0.35
    figure = Figure(figsize=(columns * PANEL + 1.1, rows * tall + 1.0), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=14)
    for index, (caption, picture) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(picture)
        axes.set_title(caption, fontsize=12)
        axes.set_axis_off()
    return figure


def _class_legend(
    figure: Figure,
    predictions: Sequence[np.ndarray],
    classes: Sequence[str],
    palette: Palette,
    extra: Sequence[tuple[str, tuple[int, int, int]]] = (),
) -> None:
    """The classes that occur, largest first, below the figure."""
    pixels = np.bincount(np.concatenate([p.ravel() for p in predictions]), minlength=len(classes))
    order = [k for k in np.argsort(-pixels, kind="stable") if pixels[k]][:MOST_CLASSES]
    known = legend(classes, palette)
    entries = [known[k] for k in order] + [(name, "#{:02x}{:02x}{:02x}".format(*colour)) for name, colour in extra]
    drawn = figure.legend(
        [Patch(facecolor=colour, edgecolor="0.4") for _, colour in entries],
        ["?" for _ in entries],
        loc="outside lower center",
        ncols=min(len(entries), max(1, int(figure.get_figwidth() / 1.7))),  # inches that a name takes
        frameon=False,
    )
    for text, (name, _) in zip(drawn.get_texts(), entries, strict=True):
        text.set_parse_math(False)  # a class name is no formula, whatever signs it holds
        text.set_text(name)


def _plain(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def _rendered(figure: Figure) -> UInt8[np.ndarray, "_h _w 3"]:
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

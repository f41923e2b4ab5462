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

from gffnet.data.colors import MARK, Palette, highlight, legend, overlay
from gffnet.gates.edit import Closing, GateResult, became

REFINED, LOST = (86, 200, 255), (255, 150, 20)
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
    pictures = [("image", image), ("prediction", overlay(image, result.prediction, palette))]
    pictures += [
        (f"$G_{{{level}}}$   mean {gate.mean():.2f}", gate_colours(gate)) for level, gate in enumerate(result.maps, 1)
    ]
    figure = panels(f"{plain(name)}: gates, {len(result.maps)} levels, $G_1$ the finest", pictures, rows=2)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), COLOURS), ax=figure.axes, shrink=0.8, aspect=30, pad=0.01, ticks=[0, 0.5, 1]
    )
    bar.ax.set_yticklabels(["0  closed:\n    receives", "0.5", "1  open:\n    sends"])
    class_legend(figure, [result.prediction], classes, palette)
    return rendered(figure)


def closing_figure(
    name: str,
    image: UInt8[np.ndarray, "h w 3"],
    learned: GateResult,
    closings: Sequence[Closing],
    classes: Sequence[str],
    palette: Palette,
    value: float = 0.0,
    truth: UInt8[np.ndarray, "h w"] | None = None,
) -> UInt8[np.ndarray, "_h _w 3"]:
    """A row a closing, as in Figure 7b: the prediction with gates at `value`, and the pixels that it changes.

    The first row has the image and the prediction with the learned gates. With `truth` it has the labels too, and every
    other row the pixels that became wrong and right.
    """
    pictures = [("image", image), ("prediction, learned gates", overlay(image, learned.prediction, palette))]
    marks = [("changed", MARK)]
    if truth is not None:
        pictures.append(("ground truth", overlay(image, truth, palette)))
        marks += [("became wrong", LOST), ("became right", REFINED)]
    for closing in closings:
        gates = ", ".join(f"$G_{{{level}}}$" for level in closing.levels)
        pictures += [
            (f"{gates} {held(value)}", overlay(image, closing.prediction, palette)),
            (f"changed: {closing.share:.2%} of the pixels", highlight(image, closing.changed)),
        ]
        if truth is not None:
            wrong, right = became(learned, closing, truth)
            shown = np.where(right[..., None], np.array(REFINED, np.uint8), highlight(image, wrong, LOST))
            known = max(1, np.count_nonzero(truth < len(classes)))
            caption = f"became wrong: {wrong.sum() / known:.2%}, right: {right.sum() / known:.2%}"
            pictures.append((caption, shown))
    figure = panels(f"{plain(name)}: gates {held(value)}", pictures, rows=1 + len(closings))
    predictions = [learned.prediction, *(closing.prediction for closing in closings)]
    class_legend(figure, predictions, classes, palette, marks)
    return rendered(figure)


def held(value: float) -> str:
    """Where a gate is held, in a word or two."""
    return {0.0: "closed", 1.0: "opened"}.get(value, f"at {value:g}")


def panels(title: str, pictures: Sequence[tuple[str, np.ndarray]], rows: int) -> Figure:
    """A grid of titled pictures, RGB and of one size, in reading order."""
    columns = ceil(len(pictures) / rows)
    height, width = pictures[0][1].shape[:2]
    tall = min(max(height / width, 0.3), 2.0) * PANEL + 0.35
    figure = Figure(figsize=(columns * PANEL + 1.1, rows * tall + 1.0), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=14)
    for index, (caption, picture) in enumerate(pictures):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(picture)
        axes.set_title(caption, fontsize=12)
        axes.set_axis_off()
    return figure


def class_legend(
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


def plain(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return text.replace("$", r"\$")


def rendered(figure: Figure) -> UInt8[np.ndarray, "_h _w 3"]:
    """The figure as pixels."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

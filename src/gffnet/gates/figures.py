"""Figures of gates: gate maps, what closing gates changes in an image, and what it costs over a data set; RGB arrays.

They are rendered on Agg canvases of their own, without a window system or global state of matplotlib.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gffnet.data.colors import MARK, Palette, hex_color, highlight, legend, overlay
from gffnet.evaluation.results import pixel_range
from gffnet.gates.edit import Closing, GateResult, became

REFINED, LOST = (86, 200, 255), (255, 150, 20)

GATE_COLORS = "viridis"
"""Color map of gates: perceptually uniform, and readable with every kind of color vision and in grey."""

CHANGE_COLORS = "RdBu"
"""Diverging color map: red is lost, blue is won; distinct for every kind of color vision."""

LINE_COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7")
"""Of gates, from the finest: Okabe and Ito's, for every kind of color vision."""
_MARKERS = "osD^v"

DPI = 120
PANEL_WIDTH = 4.4
"""In inches."""
MAX_LEGEND = 24
"""Classes in the legend of a figure, those with the most pixels."""
MAX_CHANGED_CLASSES = 32
"""Classes in `class_changes_figure`, those that lose most."""


def gate_colors(gate: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Color a gate map in [0, 1]: dark is closed, bright is open."""
    colors: np.ndarray = color_table()[np.rint(255 * gate).astype(np.uint8)]
    return colors


def color_table() -> UInt8[np.ndarray, "256 3"]:
    """Return the colors of gates from closed to open."""
    colors: np.ndarray = matplotlib.colormaps[GATE_COLORS](np.arange(256), bytes=True)[:, :3]
    return colors


def held(value: float) -> str:
    """Say where a gate is held: closed, opened, or at a value."""
    return {0.0: "closed", 1.0: "opened"}.get(value, f"at {value:g}")


# One image


def gates_figure(
    name: str, image: UInt8[np.ndarray, "h w 3"], result: GateResult, classes: Sequence[str], palette: Palette
) -> UInt8[np.ndarray, "_h _w 3"]:
    """Show the image, the prediction over it, and `G_1..G_L` with their means and one color bar (Figures 6 and 7a)."""
    pictures = [("image", image), ("prediction", overlay(image, result.prediction, palette))]
    pictures += [
        (f"$G_{{{level}}}$   mean {gate.mean():.2f}", gate_colors(gate)) for level, gate in enumerate(result.maps, 1)
    ]
    figure = _panels(f"{_plain(name)}: gates, {len(result.maps)} levels, $G_1$ the finest", pictures, rows=2)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), GATE_COLORS), ax=figure.axes, shrink=0.8, aspect=30, pad=0.01, ticks=[0, 0.5, 1]
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
    value: float,
    truth: UInt8[np.ndarray, "h w"] | None,
) -> UInt8[np.ndarray, "_h _w 3"]:
    """Show a row for each closing, as in Figure 7b: the prediction with gates at `value` and the pixels it changes.

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
            pictures.append((f"became wrong: {wrong.sum() / known:.2%}, right: {right.sum() / known:.2%}", shown))
    figure = _panels(f"{_plain(name)}: gates {held(value)}", pictures, rows=1 + len(closings))
    predictions = [learned.prediction, *(closing.prediction for closing in closings)]
    class_legend(figure, predictions, classes, palette, marks)
    return rendered(figure)


def _panels(title: str, pictures: Sequence[tuple[str, np.ndarray]], rows: int) -> Figure:
    """Lay out titled pictures, RGB and of one size, as a grid in reading order."""
    columns = ceil(len(pictures) / rows)
    height, width = pictures[0][1].shape[:2]
    panel_height = min(max(height / width, 0.3), 2.0) * PANEL_WIDTH + 0.35
    size = (columns * PANEL_WIDTH + 1.1, rows * panel_height + 1.0)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
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
    """List the classes that occur below the figure, largest first, then the `extra` names and colors."""
    pixels = np.bincount(np.concatenate([p.ravel() for p in predictions]), minlength=len(classes))
    order = [k for k in np.argsort(-pixels, kind="stable") if pixels[k]][:MAX_LEGEND]
    known = legend(classes, palette)
    entries = [known[k] for k in order] + [(name, hex_color(color)) for name, color in extra]
    entered = figure.legend(
        [Patch(facecolor=color, edgecolor="0.4") for _, color in entries],
        ["?" for _ in entries],
        loc="outside lower center",
        ncols=min(len(entries), max(1, int(figure.get_figwidth() / 1.7))),  # inches that a name takes
        frameon=False,
    )
    for text, (name, _) in zip(entered.get_texts(), entries, strict=True):
        text.set_parse_math(False)  # a class name is no formula, whatever characters it has
        text.set_text(name)


# A data set


def class_changes_figure(title: str, record: Mapping[str, Any]) -> UInt8[np.ndarray, "_h _w 3"]:
    """Show what every closing of an ablation changes in the IoU of every class, in points, as a heat map."""
    names, changes = class_changes(record)
    closings = [" ".join(f"G{level}" for level in of["levels"]) for of in record["closings"]]
    limit = max(1.0, float(np.nanmax(np.abs(changes), initial=0)))
    size = (3.2 + 0.62 * len(closings), 1.9 + 0.3 * len(names))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    heat_map = axes.imshow(changes, CHANGE_COLORS, vmin=-limit, vmax=limit, aspect="auto")
    axes.set_facecolor("0.85")
    axes.set_xticks(range(len(closings)), closings)
    axes.set_yticks(range(len(names)), [_plain(name) for name in names])
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.axhline(0.5, color="white", linewidth=4)
    axes.axvline(sum(len(of["levels"]) == 1 for of in record["closings"]) - 0.5, color="white", linewidth=4)
    for (row, column), change in np.ndenumerate(changes):
        text = "" if np.isnan(change) else f"{round(change, 1) + 0.0:+.1f}"  # + 0.0: no -0.0
        color = "white" if abs(change) > 0.6 * limit else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color)
    some = f", the {MAX_CHANGED_CLASSES} classes that lose most" if len(names) > MAX_CHANGED_CLASSES else ""
    figure.suptitle(f"{_plain(title)}\nchange of IoU in points{some}", fontsize=11)
    figure.colorbar(heat_map, ax=axes, fraction=0.05, pad=0.02).set_label("red: lost, blue: won")
    return rendered(figure)


def class_changes(record: Mapping[str, Any]) -> tuple[list[str], Float[np.ndarray, "classes closings"]]:
    """Return the changes of the mean IoU and of classes' IoUs, in points, a column for each closing; nan if undefined.

    Of more than `MAX_CHANGED_CLASSES` classes, these are the ones that lose most by one gate alone, in their order.
    """
    names = list(record["learned"]["per_class"])
    columns = [[of["difference"]["per_class"][name] for name in names] for of in record["closings"]]
    changes = 100 * np.array(columns, np.float64).T
    alone = [i for i, of in enumerate(record["closings"]) if len(of["levels"]) == 1]
    if len(names) > MAX_CHANGED_CLASSES:
        worst = np.argsort(np.nan_to_num(changes[:, alone]).min(1), kind="stable")
        shown = sorted(worst[:MAX_CHANGED_CLASSES])
        names, changes = [names[k] for k in shown], changes[shown]
    mean = 100 * np.array([[of["difference"]["miou"] for of in record["closings"]]], np.float64)
    return ["mean of all", *names], np.concatenate([mean, changes])


def losses_figure(title: str, record: Mapping[str, Any]) -> UInt8[np.ndarray, "_h _w 3"]:
    """Show what each gate alone loses, by distance to a boundary and by size of object; a line for each gate."""
    alone = [of for of in record["closings"] if len(of["levels"]) == 1]
    figure = Figure(figsize=(11.5, 4.4), dpi=DPI, layout="constrained")
    figure.suptitle(_plain(title), fontsize=11)
    by_distance, by_size = figure.subplots(1, 2, width_ratios=[3, 2])
    bands = [pixel_range(band["from"], band["to"]) for band in record["learned"]["iou_by_distance"]]
    sizes = [f"{size['name']}\n{pixel_range(size['from'], size['to'])}" for size in record["learned"]["iou_by_size"]]
    for axes, places, part, score in (
        (by_distance, bands, "iou_by_distance", "pixel_accuracy"),
        (by_size, sizes, "iou_by_size", "miou"),
    ):
        _lines(axes, places, {of["levels"][0]: [each[score] for each in of["difference"][part]] for of in alone})
    by_distance.set(xlabel="distance to a boundary of the labels", ylabel="points of pixel accuracy lost")
    by_size.set(xlabel="size of object", ylabel="points of mIoU lost")
    figure.legend(*by_distance.get_legend_handles_labels(), loc="outside right center", frameon=False, title="gate")
    return rendered(figure)


def _lines(axes: Axes, places: Sequence[str], changes: Mapping[int, Sequence[float | None]]) -> None:
    """Draw a line for each gate over named places, losses upwards."""
    axes.axhline(0, color="0.6", linewidth=0.8)
    for i, (level, values) in enumerate(changes.items()):
        losses = [np.nan if value is None else -100 * value for value in values]
        color, marker = LINE_COLORS[i % len(LINE_COLORS)], _MARKERS[i % len(_MARKERS)]
        axes.plot(range(len(places)), losses, label=f"G{level}", color=color, marker=marker, linewidth=1.8)
    axes.set_xticks(range(len(places)), places, fontsize=8)
    axes.set_xlim(-0.4, len(places) - 0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _plain(text: str) -> str:
    """Escape text that matplotlib would take for a formula."""
    return text.replace("$", r"\$")


def rendered(figure: Figure) -> UInt8[np.ndarray, "_h _w 3"]:
    """Render a figure to pixels."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()

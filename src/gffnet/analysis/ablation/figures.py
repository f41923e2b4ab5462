"""Figures of what closing gates costs: by class, by distance to a boundary, and by size of object, as RGB arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gffnet.analysis.ablation.run import name_of
from gffnet.analysis.ablation.tables import range_of, title_of
from gffnet.analysis.figures import DPI, plain, rendered

CHANGES = "RdBu"
"""Diverging colour map: red is lost, blue is won; told apart with every kind of colour vision."""

LINES = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7")
"""Colours of gates from the finest on: those of Okabe and Ito, for every kind of colour vision."""

MARKERS = "osD^v"
"""A second sign of which gate a line is of."""

MOST_CLASSES = 32
"""Classes that a figure has room for: those that lose most."""


def class_figure(record: Mapping[str, Any]) -> UInt8[np.ndarray, "_h _w 3"]:
    """What every closing changes of the IoU of every class, in points, as a heat map; classes in their order."""
    names, changes = class_changes(record)
    closings = [name_of(of["levels"]) for of in record["closings"]]
    limit = max(1.0, float(np.nanmax(np.abs(changes), initial=0)))
    size = (3.2 + 0.62 * len(closings), 1.9 + 0.3 * len(names))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(changes, CHANGES, vmin=-limit, vmax=limit, aspect="auto")
    axes.set_facecolor("0.85")
    axes.set_xticks(range(len(closings)), closings)
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.axhline(0.5, color="white", linewidth=4)
    axes.axvline(sum(len(of["levels"]) == 1 for of in record["closings"]) - 0.5, color="white", linewidth=4)
    for (row, column), change in np.ndenumerate(changes):
        text = "" if np.isnan(change) else f"{round(change, 1) + 0.0:+.1f}"  # + 0.0: no -0.0
        colour = "white" if abs(change) > 0.6 * limit else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    some = f", the {MOST_CLASSES} classes that lose most" if len(names) > MOST_CLASSES else ""
    figure.suptitle(f"{plain(title_of(record))}\nchange of IoU in points{some}", fontsize=11)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.02)
    bar.set_label("red: lost, blue: won")
    return rendered(figure)


def class_changes(record: Mapping[str, Any]) -> tuple[list[str], Float[np.ndarray, "classes closings"]]:
    """The changes of the mean and of the IoU of classes, in points, a column a closing; not a number if there is none.

    Of more than `MOST_CLASSES` classes, those that lose most by one gate alone.
    """
    names = list(record["learned"]["per_class"])
    columns = [[of["difference"]["per_class"][name] for name in names] for of in record["closings"]]
    changes = 100 * np.array(columns, np.float64).T
    alone = [i for i, of in enumerate(record["closings"]) if len(of["levels"]) == 1]
    if len(names) > MOST_CLASSES:
        worst = np.argsort(np.nan_to_num(changes[:, alone]).min(1), kind="stable")
        kept = sorted(worst[:MOST_CLASSES])
        names, changes = [names[k] for k in kept], changes[kept]
    mean = 100 * np.array([[of["difference"]["miou"] for of in record["closings"]]], np.float64)
    return ["mean of all", *names], np.concatenate([mean, changes])


def distance_figure(record: Mapping[str, Any]) -> UInt8[np.ndarray, "_h _w 3"]:
    """What each gate alone loses: accuracy by distance to a boundary, and IoU by size of object; a line a gate."""
    alone = [of for of in record["closings"] if len(of["levels"]) == 1]
    figure = Figure(figsize=(11.5, 4.4), dpi=DPI, layout="constrained")
    figure.suptitle(plain(title_of(record)), fontsize=11)
    by_distance, by_size = figure.subplots(1, 2, width_ratios=[3, 2])
    bands = [range_of(band["from"], band["to"]) for band in record["learned"]["iou_by_distance"]]
    losses = [[band["pixel_accuracy"] for band in of["difference"]["iou_by_distance"]] for of in alone]
    _lines(by_distance, bands, losses, [name_of(of["levels"]) for of in alone])
    by_distance.set(xlabel="distance to a boundary of the labels", ylabel="points of pixel accuracy lost")
    sizes = [f"{size['name']}\n{range_of(size['from'], size['to'])}" for size in record["learned"]["iou_by_size"]]
    losses = [[size["miou"] for size in of["difference"]["iou_by_size"]] for of in alone]
    _lines(by_size, sizes, losses, [name_of(of["levels"]) for of in alone])
    by_size.set(xlabel="size of object", ylabel="points of mIoU lost")
    figure.legend(*by_distance.get_legend_handles_labels(), loc="outside right center", frameon=False, title="gate")
    return rendered(figure)


def _lines(axes: Axes, places: Sequence[str], changes: Sequence[Sequence[float | None]], names: Sequence[str]) -> None:
    """A line a gate over named places; losses are drawn upwards."""
    axes.axhline(0, color="0.6", linewidth=0.8)
    for i, (name, values) in enumerate(zip(names, changes, strict=True)):
        losses = [np.nan if value is None else -100 * value for value in values]
        colour, marker = LINES[i % len(LINES)], MARKERS[i % len(MARKERS)]
        axes.plot(range(len(places)), losses, label=name, color=colour, marker=marker, linewidth=1.8, markersize=6)
    axes.set_xticks(range(len(places)), places, fontsize=8)
    axes.set_xlim(-0.4, len(places) - 0.6)
    axes.spines[["top", "right"]].set_visible(False)

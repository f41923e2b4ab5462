"""The figure of a comparison (the paper's Figures 1, 4, 5 and 8): whole pictures in a row, enlarged windows below."""

import io
from collections.abc import Sequence
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from gffnet.analysis.compare.difference import Difference
from gffnet.analysis.compare.insets import Inset
from gffnet.analysis.figures import class_legend
from gffnet.data.colour import Palette

Format = Literal["png", "pdf", "svg"]

_AREA = 7.5
"""Square inches of a panel."""
DPI = 160
"""Pixels per inch; of what is drawn as pixels, also in PDF and SVG."""


class Panel(NamedTuple):
    """A picture of the image's size, and what it shows."""

    caption: str
    picture: UInt8[np.ndarray, "h w 3"]
    flat: bool
    """Colours that stand for something, which must not be mixed when it is enlarged."""


def comparison_figure(
    title: str,
    panels: Sequence[Panel],
    insets: Sequence[Inset],
    labels: Sequence[UInt8[np.ndarray, "h w"]],
    classes: Sequence[str],
    palette: Palette,
    of: Difference,
) -> Figure:
    """Panels side by side, insets framed in each of them and enlarged in a row each, and the classes of `labels`."""
    height, width = panels[0].picture.shape[:2]
    shape = min(max(height / width, 0.25), 3.0)
    wide = (_AREA / shape) ** 0.5
    rows, columns = 1 + len(insets), len(panels)
    size = (columns * (wide + 0.08), rows * (wide * shape + 0.08) + 1.25)
    tight = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    figure = Figure(figsize=size, dpi=DPI, layout=tight)
    figure.suptitle(title, fontsize=13, parse_math=False)
    for column, panel in enumerate(panels):
        axes = _drawn(figure, (rows, columns, column + 1), panel.picture, "auto")
        axes.set_title(panel.caption, fontsize=11, parse_math=False)
        for number, inset in enumerate(insets, start=1):
            _framed(axes, number, inset)
            below = (rows, columns, number * columns + column + 1)
            enlarged = _drawn(figure, below, inset.cut(panel.picture), "nearest" if panel.flat else "bicubic")
            _numbered(enlarged, number)
    unlabelled = [("not labelled", (0, 0, 0))] * any((one >= len(classes)).any() for one in labels)
    known = [one[one < len(classes)] for one in labels]
    class_legend(figure, known, classes, palette, [*unlabelled, *of.colours])
    return figure


def figure_bytes(figure: Figure, kind: Format) -> bytes:
    """The figure as a file; the same figure gives the same bytes. Text in a PDF is of fonts that publishers accept."""
    file = io.BytesIO()
    undated = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "gffnet"}):
        figure.savefig(file, format=kind, metadata=undated)
    return file.getvalue()


def _drawn(figure: Figure, place: tuple[int, int, int], picture: UInt8[np.ndarray, "h w 3"], how: str) -> Axes:
    """A picture without axes."""
    axes: Axes = figure.add_subplot(*place)
    axes.imshow(picture, interpolation=how)
    axes.set_axis_off()
    return axes


def _framed(axes: Axes, number: int, inset: Inset) -> None:
    """A frame around a window, white in black, which is seen on any colours."""
    corner = (inset.column - 0.5, inset.row - 0.5)
    frame = Rectangle(corner, inset.width, inset.height, fill=False, edgecolor="white", linewidth=1.4)
    frame.set_path_effects([withStroke(linewidth=3.2, foreground="black")])
    axes.add_patch(frame)
    _tag(axes, number, (inset.column, inset.row), 8)


def _numbered(axes: Axes, number: int) -> None:
    """The number of a window in its corner."""
    _tag(axes, number, (-0.5, -0.5), 11)


def _tag(axes: Axes, number: int, corner: tuple[float, float], size: int) -> None:
    axes.annotate(
        str(number),
        corner,
        xytext=(4, -4),
        textcoords="offset points",
        va="top",
        fontsize=size,
        fontweight="bold",
        color="white",
        path_effects=[withStroke(linewidth=2.5, foreground="black")],
    )

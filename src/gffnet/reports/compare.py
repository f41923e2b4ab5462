"""Results of several models on the same images side by side, and what the last refines over the first.

`write_comparison` writes a figure for every image (the paper's Figures 1, 4, 5 and 8: pictures in a row, enlarged
windows below) and `compare.json`. With labels `y`, a first prediction `a` and a last one `b`, over the labelled pixels:

    refined = (b = y) and (a ≠ y)          lost = (a = y) and (b ≠ y)

so that the pixel accuracy of `b` minus that of `a` is the fraction of refined pixels minus that of lost ones.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import matplotlib
import numpy as np
from jaxtyping import Bool, Int8, Integer, Num, Shaped, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image
from PIL.Image import Resampling

from gffnet.data.colors import MARK, Palette, colorize, displayable, highlight
from gffnet.data.dataset import Truth, class_difference
from gffnet.data.io import write_image
from gffnet.errors import RunFailed, UserError
from gffnet.evaluation.evaluate import absent_rule, plain
from gffnet.evaluation.results import score_image
from gffnet.files import COMPARISON, atomic_write, compared, exists, utf8, write_json
from gffnet.gates.figures import LOST, REFINED, class_legend
from gffnet.gates.write import refuse_replacing, result_folders
from gffnet.inference.batch import for_each_readable
from gffnet.inference.predictor import Predictor
from gffnet.metrics.confusion import ConfusionMatrix
from gffnet.recipe import ModelRecipe

CHANGED = MARK


@dataclass(frozen=True, eq=False)
class Difference:
    """Where two predictions differ, as masks of the image's size."""

    changed: Bool[np.ndarray, "h w"]
    """The predictions differ, labelled or not."""
    known: Bool[np.ndarray, "h w"] | None
    """The pixel is labelled; None without labels."""
    refined: Bool[np.ndarray, "h w"]
    """The last prediction is right and the first is wrong; empty without labels."""
    lost: Bool[np.ndarray, "h w"]
    """The first prediction is right and the last is wrong."""

    @property
    def marks(self) -> Int8[np.ndarray, "h w"]:
        """1 where refined and -1 where lost; without labels 1 where changed."""
        better = self.changed if self.known is None else self.refined
        marks: np.ndarray = better.astype(np.int8) - self.lost
        return marks

    @property
    def caption(self) -> str:
        """Fractions of pixels in words; refined and lost ones are of the labelled pixels."""
        if self.known is None:
            return f"{self.changed.mean():.2%} of the pixels differ"
        return f"refined {_fraction(self.refined, self.known):.2%}, lost {_fraction(self.lost, self.known):.2%}"

    @property
    def colors(self) -> list[tuple[str, tuple[int, int, int]]]:
        """The legend of `picture`."""
        return [("differ", CHANGED)] if self.known is None else [("refined", REFINED), ("lost", LOST)]

    def picture(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """The image, dark and grey, with the differing pixels in bright colors."""
        if self.known is None:
            return highlight(image, self.changed, CHANGED)
        picture: np.ndarray = highlight(image, self.refined, REFINED)
        picture[self.lost] = LOST
        return picture


def difference(
    first: UInt8[np.ndarray, "h w"],
    last: UInt8[np.ndarray, "h w"],
    labels: UInt8[np.ndarray, "h w"] | None,
    classes: int,
) -> Difference:
    """Compare two predictions; labels of `classes` and above are ignored."""
    changed: np.ndarray = first != last
    if labels is None:
        nothing = np.zeros_like(changed)
        return Difference(changed, None, nothing, nothing)
    known: np.ndarray = labels < classes
    return Difference(changed, known, known & changed & (last == labels), known & changed & (first == labels))


def difference_numbers(of: Difference, by: UInt8[np.ndarray, "h w"], names: Sequence[str]) -> dict[str, Any]:
    """Fractions of pixels, for JSON: `changed` of all pixels; with labels, `refined` and `lost` of the labelled ones.

    `by_class` has the same for every class that occurs in `by` (the labels, or the first prediction).
    """
    masks = {"changed": of.changed} if of.known is None else {"refined": of.refined, "lost": of.lost}
    pixels = np.bincount(by.ravel(), minlength=256)[: len(names)]
    counts = {what: np.bincount(by[mask], minlength=256)[: len(names)] for what, mask in masks.items()}
    return {
        "changed": float(of.changed.mean()),
        "refined": None if of.known is None else _fraction(of.refined, of.known),
        "lost": None if of.known is None else _fraction(of.lost, of.known),
        "by_class": {
            name: {"pixels": int(pixels[k]), **{what: int(count[k]) / int(pixels[k]) for what, count in counts.items()}}
            for k, name in enumerate(names)
            if pixels[k]
        },
    }


def _fraction(part: Bool[np.ndarray, "h w"], whole: Bool[np.ndarray, "h w"]) -> float:
    """Pixels of `part` as a fraction of those of `whole`; 0 where `whole` is empty."""
    return int(part.sum()) / max(int(whole.sum()), 1)


# ----------------------------------------------------------------------------------------------------------------------
# Insets: windows in which differing pixels are dense, to be enlarged


INSET_FRACTION = 4
"""The image's sides over those of an inset."""
MIN_INSET = 24
"""Least side of an inset in pixels, in images that are as large."""
MIN_DENSITY = 0.05
"""Insets whose density is a smaller fraction of the greatest one are left out."""


class Inset(NamedTuple):
    """A window of an image, in pixels."""

    row: int
    column: int
    height: int
    width: int

    def cut(self, picture: Shaped[np.ndarray, "h w *c"]) -> Shaped[np.ndarray, "_h _w *c"]:
        """Crop a picture of the image's size."""
        part: np.ndarray = picture[self.row : self.row + self.height, self.column : self.column + self.width]
        return part


def find_insets(marks: Integer[np.ndarray, "h w"], count: int) -> list[Inset]:
    """Find up to `count` windows that do not overlap, the densest first.

    Args:
        marks: weight of every pixel; a negative one counts against its surroundings.
        count: of windows.

    The density is a tent-shaped mean (two box filters of half a window's size in turn), so that a window is centred on
    the pixels that it was chosen for.
    """
    height, width = marks.shape
    size = tuple(min(side, max(MIN_INSET, round(side / INSET_FRACTION))) for side in (height, width))
    rows, columns = height - size[0] + 1, width - size[1] + 1
    top, left = size[0] // 2, size[1] // 2
    box = (max(1, left) | 1, max(1, top) | 1)  # odd: no shift
    blurred = cv2.blur(marks.astype(np.float32), box, borderType=cv2.BORDER_CONSTANT)
    blurred = cv2.blur(blurred, box, borderType=cv2.BORDER_CONSTANT)
    density = blurred[top : top + rows, left : left + columns].copy()  # of windows that start there
    found: list[Inset] = []
    faintest = MIN_DENSITY * max(float(density.max()), 0.0)
    for _ in range(count):
        row, column = divmod(int(density.argmax()), columns)
        if density[row, column] <= faintest:
            break
        found.append(Inset(row, column, *size))
        density[max(0, row - size[0] + 1) : row + size[0], max(0, column - size[1] + 1) : column + size[1]] = -np.inf
    return found


# ----------------------------------------------------------------------------------------------------------------------
# The figure


Format = Literal["png", "pdf", "svg"]

_PANEL_AREA = 7.5
"""Square inches."""
DPI = 160
"""Of raster content, also in PDF and SVG."""


class Panel(NamedTuple):
    """A picture of the image's size with its caption."""

    caption: str
    picture: UInt8[np.ndarray, "h w 3"]
    flat: bool
    """Colors stand for classes: enlarge it without interpolation."""
    file: str = ""
    """Its name as a file of its own."""


def comparison_figure(
    title: str,
    panels: Sequence[Panel],
    insets: Sequence[Inset],
    labels: Sequence[UInt8[np.ndarray, "h w"]],
    classes: Sequence[str],
    palette: Palette,
    of: Difference,
) -> Figure:
    """Panels side by side with framed insets, a row for each enlarged, and a legend of the classes in `labels`."""
    height, width = panels[0].picture.shape[:2]
    shape = min(max(height / width, 0.25), 3.0)
    wide = (_PANEL_AREA / shape) ** 0.5
    rows, columns = 1 + len(insets), len(panels)
    size = (columns * (wide + 0.08), rows * (wide * shape + 0.08) + 1.25)
    tight = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    figure = Figure(figsize=size, dpi=DPI, layout=tight)
    figure.suptitle(title, fontsize=13, parse_math=False)
    for column, panel in enumerate(panels):
        for row, inset in enumerate([None, *insets]):
            axes = figure.add_subplot(rows, columns, row * columns + column + 1)
            axes.set_axis_off()
            if inset is None:
                axes.imshow(panel.picture)
                axes.set_title(panel.caption, fontsize=11, parse_math=False)
                for number, framed in enumerate(insets, start=1):
                    _frame(axes, number, framed)
            else:
                axes.imshow(inset.cut(panel.picture), interpolation="nearest" if panel.flat else "bicubic")
                _tag(axes, row, (-0.5, -0.5), 11)
    unlabelled = [("not labelled", (0, 0, 0))] * any((one >= len(classes)).any() for one in labels)
    known = [one[one < len(classes)] for one in labels]
    class_legend(figure, known, classes, palette, [*unlabelled, *of.colors])
    return figure


def figure_bytes(figure: Figure, kind: Format) -> bytes:
    """The figure as a file, reproducibly; PDFs embed TrueType fonts, as publishers ask."""
    file = io.BytesIO()
    undated = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[kind]
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "gffnet"}):
        figure.savefig(file, format=kind, metadata=undated)
    return file.getvalue()


def _frame(axes: Axes, number: int, inset: Inset) -> None:
    """Frame an inset in white with a black outline, visible on any color, and number it."""
    corner = (inset.column - 0.5, inset.row - 0.5)
    frame = Rectangle(corner, inset.width, inset.height, fill=False, edgecolor="white", linewidth=1.4)
    frame.set_path_effects([withStroke(linewidth=3.2, foreground="black")])
    axes.add_patch(frame)
    _tag(axes, number, (inset.column, inset.row), 8)


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


# ----------------------------------------------------------------------------------------------------------------------
# Comparing


class NamedModel(NamedTuple):
    """A model and its name in figures and tables."""

    name: str
    predictor: Predictor


@dataclass(frozen=True)
class FigureOptions:
    """Format and content of the figures."""

    kind: Format = "png"
    insets: int = 3
    """Enlarged windows at most."""
    panels: bool = False
    """Also write every picture and every enlarged window as a file of its own."""


class Comparison:
    """Compares models image by image and accumulates scores."""

    def __init__(self, models: Sequence[NamedModel], truth: Truth, out: Path, options: FigureOptions) -> None:
        """Results go into the folder `out`; `truth` gives the labels of images, where it has them.

        Raises:
            UserError: there are fewer than two models, two share a name, or their classes differ.
        """
        _check_models(models)
        self.models, self.truth, self.out, self.options = models, truth, out, options
        config = models[0].predictor.config
        self.classes, self.palette = config.classes, config.palette
        self.records: list[dict[str, Any]] = []
        self.written: set[str] = set()
        """Names of figures, and of folders with panels, in `out`: those of earlier comparisons, and of this one."""
        self._counts = [ConfusionMatrix(len(self.classes)) for _ in models]

    def add(self, path: Path, image: Num[np.ndarray, "h w c"], name: str) -> None:
        """Compare one image, as the first model takes it, and write its figure as `name`.

        Raises:
            UserError: its labels cannot be read, or a model cannot take it.
            CannotWrite: a result cannot be written.
        """
        labels, picture = self.truth.labels(path), displayable(image)
        first = self.models[0].predictor.config.model
        # As `evaluate` does, predict labelled images at their own size: a protocol that is given downscales none.
        predicted = [
            model.predict(
                image if _same_images(model.config.model, first) else path,
                None if labels is None else model.protocol,
            )
            for model in (one.predictor for one in self.models)
        ]
        of = difference(predicted[0], predicted[-1], labels, len(self.classes))
        insets = find_insets(of.marks, self.options.insets)
        panels = [Panel("image", picture, False, "image")]
        accuracy: dict[str, float | None] = {}
        miou: dict[str, float | None] = {}
        if labels is not None:
            panels.append(Panel("ground truth", colorize(labels, self.palette), True, "truth"))
        for number, (model, answer) in enumerate(zip(self.models, predicted, strict=True), start=1):
            caption = model.name
            if labels is not None:
                score = score_image(labels, answer, len(self.classes))
                accuracy[caption] = score.correct / score.pixels if score.pixels else None
                miou[caption] = score.miou if score.pixels else None
                if score.pixels:
                    caption += f"\nmIoU {score.miou:.1%}, pixels {score.correct / score.pixels:.1%}"
            panels.append(Panel(caption, colorize(answer, self.palette), True, f"model{number}"))
        over = "difference"
        if len(self.models) > 2:
            one, last = self.models[0].name, self.models[-1].name
            over = f"{one} and {last}" if labels is None else f"{last} over {one}"
        panels.append(Panel(f"{over}\n{of.caption}", of.picture(picture), True, "difference"))
        shown = predicted if labels is None else [*predicted, labels]
        figure = comparison_figure(utf8(path.name).decode(), panels, insets, shown, self.classes, self.palette, of)
        file = f"{name}.{self.options.kind}"
        self.written |= {file, *([name] if self.options.panels else [])}
        if not self.records:  # before any figure: by this file, a later comparison knows those of an interrupted one
            write_json(self.out / COMPARISON, self.numbers())
        atomic_write(self.out / file, figure_bytes(figure, self.options.kind))
        if self.options.panels:
            _write_panels(self.out / name, panels, insets)
        for counts, answer in zip(self._counts, predicted, strict=True):
            if labels is not None:
                counts.update(labels, answer)
        self.records.append(
            {
                "image": str(path),
                "figure": file,
                "size": list(image.shape[:2]),
                "pixel_accuracy": accuracy or None,
                "miou": miou or None,
                **difference_numbers(of, predicted[0] if labels is None else labels, self.classes),
                "insets": [inset._asdict() for inset in insets],
            }
        )

    def numbers(self) -> dict[str, Any]:
        """The content of `compare.json`: models, images (the most improved first), and `all` labelled images."""
        absent, _ = absent_rule(self.models[0].predictor.config.dataset)
        scores = {one.name: counts.scores(absent) for one, counts in zip(self.models, self._counts, strict=True)}
        some = any(of.pixels for of in scores.values())
        return {
            "models": [
                {
                    "name": name,
                    "recipe": predictor.config.recipe,
                    "dataset": predictor.config.dataset,
                    "protocol": plain(predictor.config.evaluation),
                    "precision": predictor.precision.name,
                    "weights_sha256": predictor.weights,
                }
                for name, predictor in self.models
            ],
            "refined_by": {"of": self.models[-1].name, "over": self.models[0].name},
            "images": sorted(self.records, key=_most_improved),
            "written": sorted(self.written),
            "all": {
                "images": len(self.records),
                "labelled": sum(record["refined"] is not None for record in self.records),
                "pixel_accuracy": {name: of.pixel_accuracy for name, of in scores.items()} if some else None,
                "miou": {name: of.miou for name, of in scores.items()} if some else None,
            },
        }


def _write_panels(folder: Path, panels: Sequence[Panel], insets: Sequence[Inset]) -> None:
    """Write every panel, and its insets enlarged to its width, as PNG."""
    for old in folder.glob("*.png"):
        if re.fullmatch(r"(image|truth|model\d+|difference)(-inset\d+)?", old.stem):
            old.unlink()  # of an earlier comparison
    for panel in panels:
        write_image(folder / f"{panel.file}.png", panel.picture)
        width, how = panel.picture.shape[1], Resampling.NEAREST if panel.flat else Resampling.BICUBIC
        for number, inset in enumerate(insets, start=1):
            size = (width, round(inset.height * width / inset.width))
            enlarged = Image.fromarray(inset.cut(panel.picture)).resize(size, how)
            write_image(folder / f"{panel.file}-inset{number}.png", np.asarray(enlarged))


def write_comparison(
    models: Sequence[NamedModel],
    image_paths: Sequence[Path],
    truth: Truth,
    out: Path,
    options: FigureOptions | None = None,
) -> dict[str, Any]:
    """Compare models on images, each by its own protocol, and write a figure per image and `compare.json` into `out`.

    Returns:
        What `compare.json` holds.

    Raises:
        UserError: as `Comparison`, files of others would be replaced, or every image was left out.
        RunFailed: some images were left out; the others are written, and its `result`.
    """
    comparison = Comparison(models, truth, out, options or FigureOptions())
    folders = result_folders(image_paths, out)
    figures = [folder.with_name(f"{folder.name}.{comparison.options.kind}") for folder in folders.values()]
    panels = [*folders.values()] if comparison.options.panels else []
    refuse_replacing(image_paths, [out / COMPARISON, *figures], panels)
    comparison.written = compared(out).union(path.name for path in (*figures, *panels))
    try:
        for_each_readable(
            models[0].predictor,
            list(folders),
            "comparing",
            out,
            lambda path, image: comparison.add(path, image, folders[path].name),
        )
    except RunFailed as failed:
        failed.result = comparison.numbers()
        raise
    finally:
        comparison.written = {name for name in comparison.written if exists(out / name)}
        if comparison.records:
            write_json(out / COMPARISON, comparison.numbers())
    return comparison.numbers()


def _same_images(one: ModelRecipe, other: ModelRecipe) -> bool:
    """Whether two networks take images of the same channels and white level."""
    return (one.backbone.in_channels, one.white_level) == (other.backbone.in_channels, other.white_level)


def _check_models(models: Sequence[NamedModel]) -> None:
    """Raise `UserError` unless the models can be compared."""
    names = [one.name for one in models]
    if len(models) < 2:
        raise UserError(f"--models names {len(models)} model: a comparison needs two or more.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two models are named {twice[0]!r}: give each its own name with --names.")
    first = models[0]
    for other in models[1:]:
        one, two = first.predictor.config.classes, other.predictor.config.classes
        if one != two:
            raise UserError(
                f"models {first.name} and {other.name} have different classes: "
                f"{class_difference(one, two, first.name, other.name)}. Compare models of one data set."
            )


def _most_improved(record: dict[str, Any]) -> tuple[bool, float, str]:
    """Sort key: refined minus lost pixels, descending; images without labels last, by changed pixels."""
    known = record["refined"] is not None
    gain = record["refined"] - record["lost"] if known else record["changed"]
    return not known, -gain, record["image"]

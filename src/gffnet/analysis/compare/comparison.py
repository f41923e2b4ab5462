"""Results of several models on the same images, side by side, with what the last refines over the first.

`write_comparison` writes a figure for every image, its panels one by one if they are wanted, and `compare.json`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.Image import Resampling

from gffnet.analysis.compare.difference import Difference, difference, difference_numbers
from gffnet.analysis.compare.figure import Format, Panel, comparison_figure, figure_bytes
from gffnet.analysis.compare.insets import Inset, find_insets
from gffnet.analysis.gates import result_folders
from gffnet.data.colour import colourise
from gffnet.data.images import write_image
from gffnet.data.truth import Truth
from gffnet.errors import UserError
from gffnet.evaluation.images import score_image
from gffnet.evaluation.protocol import plain
from gffnet.files import write_whole
from gffnet.inference.predict_files import readable
from gffnet.inference.predictor import Predictor
from gffnet.metrics.confusion import ConfusionMatrix

NUMBERS = "compare.json"


class Contender(NamedTuple):
    """A model, and what it is called in figures and tables."""

    name: str
    predictor: Predictor


@dataclass(frozen=True)
class Look:
    """How comparisons are drawn."""

    kind: Format = "png"
    insets: int = 3
    """Enlarged windows, at most."""
    panels: bool = False
    """Write every picture, and every enlarged window of it, as a file of its own too."""


class Comparison:
    """Models that are compared, and what is counted over all images."""

    def __init__(self, contenders: Sequence[Contender], truth: Truth, out: Path, look: Look) -> None:
        """Results go into the folder `out`; `truth` knows the labels of some images, or of none.

        Raises:
            UserError: there are fewer than two models, two are called the same, or they know different classes.
        """
        _comparable(contenders)
        self.contenders, self.truth, self.out, self.look = contenders, truth, out, look
        config = contenders[0].predictor.config
        self.classes, self.palette = config.classes, config.palette
        self._records: list[dict[str, Any]] = []
        self._counts = [ConfusionMatrix(len(self.classes)) for _ in contenders]

    def add(self, path: Path, image: UInt8[np.ndarray, "h w 3"], name: str) -> None:
        """Compare one image, and write its figure as `name`.

        Raises:
            UserError: its labels cannot be read, or a model cannot take it.
            CannotWrite: a result cannot be written.
        """
        labels = self.truth.labels(path)
        predicted = [one.predictor.predict(image) for one in self.contenders]
        first, last = predicted[0], predicted[-1]
        of = difference(first, last, labels, len(self.classes))
        insets = find_insets(of.marks, self.look.insets)
        scores = self._scored(labels, predicted)
        panels = self._panels(image, labels, predicted, scores, of)
        shown = predicted if labels is None else [*predicted, labels]
        figure = comparison_figure(path.name, panels, insets, shown, self.classes, self.palette, of)
        file = f"{name}.{self.look.kind}"
        write_whole(self.out / file, figure_bytes(figure, self.look.kind))
        if self.look.panels:
            self._write_panels(self.out / name, panels, insets)
        self._records.append(
            {
                "image": str(path),
                "figure": file,
                "size": list(image.shape[:2]),
                **scores,
                **difference_numbers(of, first if labels is None else labels, self.classes),
                "insets": [inset._asdict() for inset in insets],
            }
        )

    def numbers(self) -> dict[str, Any]:
        """All numbers as plain values, the most improved image first, and `all`: those of labelled images together."""
        matrices = [counts.scores() for counts in self._counts]
        names = [one.name for one in self.contenders]
        some = bool(matrices[0].pixels)
        return {
            "models": [_record(one) for one in self.contenders],
            "refined_by": {"of": names[-1], "over": names[0]},
            "images": sorted(self._records, key=_most_improved),
            "all": {
                "images": len(self._records),
                "labelled": sum(record["refined"] is not None for record in self._records),
                "pixel_accuracy": dict(zip(names, (m.pixel_accuracy for m in matrices), strict=True)) if some else None,
                "miou": dict(zip(names, (m.miou for m in matrices), strict=True)) if some else None,
            },
        }

    def _scored(self, labels: np.ndarray | None, predicted: Sequence[np.ndarray]) -> dict[str, Any]:
        """The scores of one image by model, which are added to those of all."""
        if labels is None:
            return {"pixel_accuracy": None, "miou": None}
        accuracy, miou = {}, {}
        for (name, _), counts, answer in zip(self.contenders, self._counts, predicted, strict=True):
            counts.update(labels, answer)
            score = score_image(labels, answer, len(self.classes))
            accuracy[name] = score.correct / score.pixels if score.pixels else None
            miou[name] = score.miou if score.pixels else None
        return {"pixel_accuracy": accuracy, "miou": miou}

    def _panels(
        self,
        image: np.ndarray,
        labels: np.ndarray | None,
        predicted: Sequence[np.ndarray],
        scores: dict[str, Any],
        of: Difference,
    ) -> list[Panel]:
        """Image, labels if they are known, predictions, and where the last refines the first."""
        panels = [Panel("image", image, flat=False)]
        if labels is not None:
            panels.append(Panel("ground truth", colourise(labels, self.palette), flat=True))
        for (name, _), answer in zip(self.contenders, predicted, strict=True):
            caption = name
            if scores["miou"] and scores["miou"][name] is not None:
                caption += f"\nmIoU {scores['miou'][name]:.1%}, pixels {scores['pixel_accuracy'][name]:.1%}"
            panels.append(Panel(caption, colourise(answer, self.palette), flat=True))
        over = f"{self.contenders[-1].name} over {self.contenders[0].name}" if len(predicted) > 2 else "difference"
        return [*panels, Panel(f"{over}\n{of.caption}", of.picture(image), flat=True)]

    def _write_panels(self, folder: Path, panels: Sequence[Panel], insets: Sequence[Inset]) -> None:
        """Every panel, and every inset of it enlarged to the same size, as PNG."""
        truth = panels[1].caption == "ground truth"
        models = [f"model{number}" for number in range(1, len(self.contenders) + 1)]
        names = ["image", *["truth"] * truth, *models, "difference"]
        for old in folder.glob("*.png"):
            old.unlink()  # of an earlier call: it would not belong to these
        for name, panel in zip(names, panels, strict=True):
            write_image(folder / f"{name}.png", panel.picture)
            for number, inset in enumerate(insets, start=1):
                write_image(folder / f"{name}-inset{number}.png", _enlarged(panel, inset))


def write_comparison(
    contenders: Sequence[Contender], image_paths: Sequence[Path], truth: Truth, out: Path, look: Look | None = None
) -> dict[str, Any]:
    """Compare models on images, each by its own protocol, and write a figure per image and `compare.json` into `out`.

    Returns:
        What `compare.json` holds.

    Raises:
        UserError: as `Comparison`, or not one image could be read.
        RunFailed: some images could not be read; all the others are written.
    """
    comparison = Comparison(contenders, truth, out, look or Look())
    folders = result_folders(image_paths, out)
    compared = False
    try:
        for path, image in readable(list(folders), "comparing", out):
            comparison.add(path, image, folders[path].name)
            compared = True
    finally:
        if compared:
            write_whole(out / NUMBERS, (json.dumps(comparison.numbers(), indent=1) + "\n").encode())
    return comparison.numbers()


def _comparable(contenders: Sequence[Contender]) -> None:
    """Whether models can be compared."""
    names = [one.name for one in contenders]
    if len(contenders) < 2:
        raise UserError(f"--models names {len(contenders)} model: a comparison takes two or more.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two models are called {twice[0]!r}: give each a name of its own with --names.")
    first = contenders[0]
    for other in contenders[1:]:
        one, two = first.predictor.config.classes, other.predictor.config.classes
        if one != two:
            raise UserError(
                f"models {first.name} and {other.name} know different classes: {len(one)} ({', '.join(one[:4])}, ...) "
                f"and {len(two)} ({', '.join(two[:4])}, ...). Compare models of one data set."
            )


def _record(of: Contender) -> dict[str, Any]:
    """What a model is, and how it predicted."""
    config = of.predictor.config
    return {
        "name": of.name,
        "recipe": config.recipe,
        "dataset": config.dataset,
        "protocol": plain(config.evaluation),
        "precision": of.predictor.precision.name,
        "weights_sha256": of.predictor.weights,
    }


def _most_improved(record: dict[str, Any]) -> tuple[bool, float, str]:
    """By pixels refined less those lost; images without labels last, by pixels changed."""
    known = record["refined"] is not None
    gain = record["refined"] - record["lost"] if known else record["changed"]
    return not known, -gain, record["image"]


def _enlarged(panel: Panel, inset: Inset) -> UInt8[np.ndarray, "_h _w 3"]:
    """A window of a panel at the panel's width."""
    width = panel.picture.shape[1]
    size = (width, round(inset.height * width / inset.width))
    resampling = Resampling.NEAREST if panel.flat else Resampling.BICUBIC
    return np.asarray(Image.fromarray(inset.cut(panel.picture)).resize(size, resampling))

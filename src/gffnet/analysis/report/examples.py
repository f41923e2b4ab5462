"""The images of a report: the worst, the best and some between, what the network makes of them, and its gates."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from gffnet.analysis.charts import Chart, Line, draw
from gffnet.analysis.gated_image import GatedImage
from gffnet.analysis.pictures import Picture, gate_picture, label_picture, marked_picture, photo
from gffnet.data.base import Sample
from gffnet.data.colour import Palette, legend
from gffnet.evaluation.images import ImageScore
from gffnet.inference.predictor import Predictor
from gffnet.models.fusion.base import GatedFusion
from gffnet.recipe import EvaluationRecipe

NARROW = 400
"""Width in pixels of the pictures that stand four in a row and have a large one above them."""

ClosedGate = tuple[int, Bool[np.ndarray, "h w"], float]
"""A level, where closing its gate changes the prediction, and the share of such pixels."""


@dataclass(frozen=True, eq=False)
class Example:
    """One image, and what the network makes of it."""

    name: str
    image: UInt8[np.ndarray, "h w 3"]
    labels: UInt8[np.ndarray, "h w"] | None
    """The ground truth, 255 where there is none; `None`: it is not known at all."""
    prediction: UInt8[np.ndarray, "h w"]
    gates: tuple[Float[np.ndarray, "h w"], ...] | None = None
    """`G_1..G_L` at the image's size, finest first; `None` for a network without gates."""
    closed: Sequence[ClosedGate] | None = None
    why: str = ""
    """Why it is shown, such as `worst of 40`."""
    miou: float | None = None
    """Of the image by itself."""


class Choice(NamedTuple):
    """An image to show."""

    place: int
    """In the data set."""
    why: str
    miou: float | None


class Shown(NamedTuple):
    """One picture of an example, with its words."""

    caption: str
    alt: str
    picture: Picture
    sharp: bool = False
    """Whether its pixels stand for classes, and are not to be mixed."""
    level: int | None = None
    """Of the gate that it is about."""


def choose(images: Sequence[tuple[str, ImageScore]], count: int) -> list[Choice]:
    """Of scored images, in the order of a data set: three eighths of `count` the worst, as many the best, the rest from
    between, all from worst to best. Where nothing is labelled there is no score, and nothing to choose."""
    scored = [i for i, (_, score) in enumerate(images) if not isnan(score.miou)]
    order = sorted(scored, key=lambda i: images[i][1].miou)
    count = min(count, len(order))
    ends = (count + 1) * 3 // 8
    between = order[ends : len(order) - ends]
    middle = count - 2 * ends
    places = [(2 * i + 1) * len(between) // (2 * middle) for i in range(middle)]
    chosen = [
        *((i, _rank("worst", place, len(order))) for place, i in enumerate(order[:ends], 1)),
        *((between[place], f"typical: number {ends + place + 1} of {len(order)}") for place in places),
        *((i, _rank("best", place, len(order))) for place, i in zip(range(ends, 0, -1), order[-ends:], strict=False)),
    ]
    return [Choice(i, why, images[i][1].miou) for i, why in chosen]


def spread(images: int, count: int) -> list[Choice]:
    """Images evenly from a data set, where their scores are unknown."""
    count = min(count, images)
    return [Choice(i * (images - 1) // max(count - 1, 1), "", None) for i in range(count)]


def make_example(predictor: Predictor, sample: Sample, protocol: EvaluationRecipe, choice: Choice) -> Example:
    """What the report shows of an image: the prediction that was scored, gates, and what closing each of them changes.

    Gates are those of the whole image at one scale.
    """
    image = sample.image.permute(1, 2, 0).numpy()
    labels, prediction = sample.labels.numpy(), predictor.predict(image, protocol)
    plain = Example(sample.name, image, labels, prediction, None, None, choice.why, choice.miou)
    if not isinstance(predictor.network.fusion, GatedFusion):
        return plain
    gated = GatedImage(predictor, image, scale=1.0)  # as the evaluation sees it
    closings = [gated.close([level]) for level in range(1, len(gated.learned.maps) + 1)]
    closed = [(closing.levels[0], closing.changed, closing.share) for closing in closings]
    return Example(sample.name, image, labels, prediction, gated.learned.maps, closed, choice.why, choice.miou)


def image_chart(images: Sequence[tuple[str, ImageScore]]) -> Chart | None:
    """The scores of all images, from the worst to the best."""
    values = sorted(score.miou for _, score in images if not isnan(score.miou))
    points = [(rank, 100 * value) for rank, value in enumerate(values, 1)]
    line = Line("mean IoU", points, ends=False)
    return draw("Images from the worst to the best", "image", "mean IoU (%)", [line], top=100)


def example_content(example: Example, palette: Palette) -> dict[str, Any]:
    """The pictures of one example in rows, for the template."""
    image, name = example.image, example.name
    seen = [Shown("image", f"The image {name}.", photo(image))]
    if example.labels is not None:
        truth = label_picture(example.labels, palette)
        seen.append(Shown("ground truth", f"Ground truth of {name}.", truth, sharp=True))
    predicted = label_picture(example.prediction, palette)
    seen.append(Shown("prediction", f"Predicted classes of {name}.", predicted, sharp=True))
    if example.labels is not None:
        known = example.labels < len(palette)
        wrong = known & (example.labels != example.prediction)
        share = f"{wrong.sum() / max(int(known.sum()), 1):.1%}".replace("%", " %")
        alt = f"Wrongly classified pixels of {name}, {share}."
        seen.append(Shown(f"wrong: {share}", alt, marked_picture(image, wrong)))
    gates = [
        Shown(
            f", mean {gate.mean():.2f}",
            f"Gate map G_{level} of {name}: mean {gate.mean():.2f}.",
            gate_picture(gate, NARROW),
            level=level,
        )
        for level, gate in enumerate(example.gates or (), start=1)
    ]
    closed = [
        Shown(
            f" closed: {share:.1%} of pixels change".replace("%", " %"),
            f"Pixels of {name} that change with G_{level} closed: {share:.1%}.",
            marked_picture(image, changed, NARROW),
            level=level,
        )
        for level, changed, share in example.closed or ()
    ]
    rows = [row for row in (seen, gates, closed) if row]
    return {"name": name, "why": example.why, "miou": example.miou, "rows": rows}


def seen_classes(examples: Sequence[Example], classes: Sequence[str], palette: Palette) -> list[tuple[str, str]]:
    """Names and colours of the classes that the examples show, in labels or predictions."""
    there: set[int] = set()
    for example in examples:
        there |= set(np.unique(example.prediction).tolist())
        there |= set() if example.labels is None else set(np.unique(example.labels).tolist())
    return [entry for k, entry in enumerate(legend(classes, palette)) if k in there]


def _rank(which: str, place: int, count: int) -> str:
    """Such as `worst of 40`, `second worst of 40` or `number 4 from the worst, of 40`."""
    if place <= 3:
        return f"{('', 'second ', 'third ')[place - 1]}{which} of {count}"
    return f"number {place} from the {which}, of {count}"

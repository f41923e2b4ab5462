"""What scoring costs: the confusion matrix of a label map of 1024x2048, and the scores at boundaries and by size.

    python -m pip install -c constraints.txt -e '.[bench]'
    python benchmarks/confusion.py [--rounds 15] [--images 4] [--out FILE]

Three ways to count the pairs of label and prediction take turns on the same maps of eight bits, on one core: ours, the
usual `numpy.bincount(n * labels[valid].astype(int) + predicted[valid])`, and torchmetrics' MulticlassConfusionMatrix,
its checks of the values off, which favours it. Labels of 19 classes are those of procedural streets; of 150, patches of
40 pixels with winding borders, more than real images have. Predictions are the labels with winding borders and one
patch in twelve wrong. All three must count the same before they are timed. Reading the files is left out.
"""

import os
from collections.abc import Callable
from functools import partial

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from gffnet.data.cityscapes import TRAIN_IDS
from gffnet.metrics.boundary import band_counts, boundary_hits
from gffnet.metrics.confusion import ConfusionMatrix
from gffnet.metrics.objects import size_counts
from gffnet.metrics.scores import BANDS, SIZES, TOLERANCES, ScoreAccumulator
from gffnet.streets import render_street
from harness import add_count, add_out, interleaved, machine, make_parser, one_core, ratios, report, run, spread, timing

try:
    from torchmetrics.classification import MulticlassConfusionMatrix
except ImportError as error:
    raise SystemExit(f"error: {error}: run python -m pip install -c constraints.txt -e '.[bench]'") from None

SIZE, CLASSES, IGNORED = (1024, 2048), (19, 150), 255
Map = NDArray[np.uint8]
Pairs = list[tuple[Map, Map]]
Ways = dict[str, Callable[[], NDArray[np.int64]]]


def main() -> None:
    """Check that all count the same, time them, and print the tables."""
    parser = make_parser(__doc__)
    add_count(parser, "--rounds", 15)
    add_count(parser, "--images", 4)
    add_out(parser)
    options = parser.parse_args()
    one_core()
    cv2.setNumThreads(1)
    lines = [machine("numpy", "opencv-python-headless", "torchmetrics")]
    lines += [f"{options.rounds} rounds of {options.images} images of {SIZE[0]}x{SIZE[1]}, milliseconds an image"]
    for classes in CLASSES:
        pairs = [maps(classes, seed) for seed in range(options.images)]
        ways, parts = counters(classes, pairs), details(classes, pairs)
        counts = [way() for way in ways.values()]
        assert all(np.array_equal(counts[0], other) for other in counts[1:]), "the counts differ"
        seconds = interleaved({**ways, **parts}, options.rounds, warm_up=1)
        milliseconds = {name: [1e3 * one / options.images for one in values] for name, values in seconds.items()}
        lines += ["", f"**{classes} classes**", "", "| confusion matrix | ms | times ours |", "|---|---|---|"]
        for name in ways:
            ratio = ratios(milliseconds[name], milliseconds["ours"])
            lines.append(f"| {name} | {spread(timing(milliseconds[name]), 2)} | {spread(ratio, 1)} |")
        lines += ["", "| scored | ms |", "|---|---|"]
        lines += [f"| {name} | {spread(timing(milliseconds[name]), 1)} |" for name in parts]
    report(lines, options.out)


def counters(classes: int, pairs: Pairs) -> Ways:
    """The three ways to count all pairs of maps."""

    def ours() -> NDArray[np.int64]:
        matrix = ConfusionMatrix(classes)
        for labels, predicted in pairs:
            matrix.update(labels, predicted)
        return matrix.counts[:, :classes].numpy()

    def bincount() -> NDArray[np.int64]:
        counts = np.zeros((classes, classes), np.int64)
        for labels, predicted in pairs:
            valid = (labels >= 0) & (labels < classes)
            places = classes * labels[valid].astype(int) + predicted[valid]
            counts += np.bincount(places, minlength=classes**2).reshape(classes, classes)
        return counts

    tensors = [(torch.from_numpy(predicted), torch.from_numpy(labels)) for labels, predicted in pairs]
    metric = MulticlassConfusionMatrix(classes, ignore_index=IGNORED, validate_args=False)

    def torchmetrics() -> NDArray[np.int64]:
        metric.reset()
        for predicted, labels in tensors:
            metric.update(predicted, labels)
        counts: NDArray[np.int64] = metric.compute().numpy()
        return counts

    return {"ours": ours, "numpy.bincount": bincount, "torchmetrics": torchmetrics}


def details(classes: int, pairs: Pairs) -> dict[str, Callable[[], object]]:
    """The scores beyond the matrix, one by one and all in one pass."""
    clipped = [(np.minimum(a, classes), np.where(a < classes, b, classes).astype(np.uint8)) for a, b in pairs]
    parts = {
        f"boundary F, tolerances {TOLERANCES}": partial(boundary_hits, num_classes=classes, tolerances=TOLERANCES),
        f"IoU by distance, bands {BANDS}": partial(band_counts, num_classes=classes, edges=BANDS),
        f"IoU by size, bins {SIZES}": partial(size_counts, num_classes=classes, edges=SIZES),
    }
    calls: dict[str, Callable[[], object]] = {
        name: partial(lambda part: [part(*pair) for pair in clipped], part) for name, part in parts.items()
    }
    scores = ScoreAccumulator(classes)
    calls["all, with the matrix"] = lambda: [scores.update(*pair) for pair in pairs]
    return calls


def maps(classes: int, seed: int) -> tuple[Map, Map]:
    """Labels and predictions of one image."""
    rng = np.random.default_rng(seed)
    labels = streets(seed) if classes == 19 else winding(rng, patches(rng, 40, classes), 32, 10)
    wrong = winding(rng, patches(rng, 64, 12), 32, 10) == 0
    predicted = np.where(wrong, winding(rng, patches(rng, 64, classes), 32, 10), winding(rng, labels, 16, 2.5))
    return labels, np.where(predicted < classes, predicted, 0).astype(np.uint8)


def streets(seed: int) -> Map:
    """Labels of a procedural street."""
    table = np.array([TRAIN_IDS.get(label, IGNORED) for label in range(256)], np.uint8)
    found: Map = table[render_street(seed, SIZE).label_ids]
    return found


def patches(rng: np.random.Generator, side: int, kinds: int) -> Map:
    """Random values below `kinds`, the same over squares."""
    coarse = rng.integers(0, kinds, (SIZE[0] // side, SIZE[1] // side)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)


def winding(rng: np.random.Generator, labels: Map, scale: int, pixels: float) -> Map:
    """The map with every pixel taken from some pixels away, smoothly over `scale` pixels."""
    coarse = rng.normal(0, pixels, (SIZE[0] // scale, SIZE[1] // scale, 2)).astype(np.float32)
    away = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    moved = cv2.remap(labels, x + away[..., 0], y + away[..., 1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


if __name__ == "__main__":
    run(main)

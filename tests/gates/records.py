"""Records of closed gates, of scores made by hand."""

from itertools import combinations
from typing import Any

import numpy as np

from gffnet.gates.ablation import difference, observe
from gffnet.metrics.scores import ScoreAccumulator, Scores

SIZE = (60, 90)


def prediction(labels: np.ndarray, wrong: float, seed: int, classes: int) -> np.ndarray:
    """Labels, of which a share is wrong."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, classes, labels.shape, dtype=np.uint8)
    return np.where(random.random(labels.shape) < wrong, noise, labels)


def scored(wrong: float, seed: int, names: list[str]) -> Scores:
    """Scores of a prediction of which about a share is wrong."""
    classes = len(names)
    blocks = np.arange(40, dtype=np.uint8).reshape(5, 8) * (classes - 1) // 39
    labels = np.kron(blocks, np.ones((12, 12), np.uint8))[: SIZE[0], : SIZE[1]]
    accumulator = ScoreAccumulator(classes)
    accumulator.update(labels, prediction(labels, wrong, seed, classes))
    return accumulator.compute(names)


def record(classes: int = 7, levels: int = 4, pairs: bool = True, value: float = 0.0) -> dict[str, Any]:
    """That of a data set of one image: closing gate l makes about 5 l more percent wrong."""
    names = [f"class <{k}>$_" for k in range(classes)]
    closings = [(level,) for level in range(1, levels + 1)]
    if pairs:
        closings += combinations(range(1, levels + 1), 2)
    learned = scored(0.1, 0, names)
    reports = {closed: scored(0.1 + 0.05 * sum(closed), 1 + i, names) for i, closed in enumerate(closings)}
    labelled = np.full((9, 9), 1000)
    right = np.stack([labelled - 100, labelled], 1)
    worse = {level: right - np.array([[10 * level] * 9, [0] * 9]) for level in range(1, levels + 1)}
    return {
        "protocol": {"recipe": "cam_vid/r18", "dataset": "camvid", "split": "val", "value": value},
        "images": 9,
        "of_images": 101,
        "learned": learned.to_json(),
        "closings": [
            {"levels": list(closed), "scores": report.to_json(), "difference": difference(report, learned)}
            for closed, report in reports.items()
        ],
        "observation": observe(right, worse),
    }

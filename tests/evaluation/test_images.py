"""Scores of single images."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from gffnet.evaluation.images import ImageScore, score_image, write_images


def test_an_image_is_scored_over_the_classes_that_its_labels_hold() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 2, 3, 255], (30, 40)).astype(np.uint8)
    predicted = rng.integers(0, 5, labels.shape, dtype=np.uint8)
    score = score_image(labels, predicted, 5)
    known = labels < 5
    wanted = jaccard_score(labels[known], predicted[known], labels=[0, 2, 3], average="macro")
    assert score == (known.sum(), (labels == predicted)[known].sum(), pytest.approx(wanted))


def test_an_image_without_a_label_has_no_score(tmp_path: Path) -> None:
    unlabelled = score_image(np.full((2, 3), 255, np.uint8), np.zeros((2, 3), np.uint8), 4)
    assert unlabelled[:2] == (0, 0)
    assert math.isnan(unlabelled.miou)
    write_images(tmp_path / "new/images.csv", [("a, b", ImageScore(4, 3, 0.5)), ("c", unlabelled)])
    with (tmp_path / "new/images.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["name", "pixels", "pixel_accuracy", "miou"], ["a, b", "4", "0.75", "0.5"], ["c", "0", "", ""]]

"""Scores of single images."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from gffnet.errors import UserError
from gffnet.evaluation.results import ImageScore, read_images, score_image, write_images


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


def test_scores_are_read_as_they_were_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 10**9, 50)
    rows = [("void", ImageScore(0, 0, math.nan))]
    rows += [
        (f'"{i}",', ImageScore(int(n), int(rng.integers(0, n + 1)), float(rng.random()))) for i, n in enumerate(sizes)
    ]
    write_images(tmp_path / "images.csv", rows)
    read = read_images(tmp_path / "images.csv")
    assert read[1:] == rows[1:]
    assert (read[0][0], read[0][1][:2], math.isnan(read[0][1].miou)) == ("void", (0, 0), True)


@pytest.mark.parametrize("text", ["name,pixels\na,3\n", "name,pixels,pixel_accuracy,miou\na,three,1,1\n"])
def test_a_file_without_scores_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text(text)
    with pytest.raises(UserError, match=r"images.csv holds no scores of images"):
        read_images(tmp_path / "images.csv")

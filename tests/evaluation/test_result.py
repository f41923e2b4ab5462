"""The folder of an evaluation: written and read again."""

import json
from pathlib import Path

import numpy as np
import pytest

from gffnet.errors import UserError
from gffnet.evaluation.results import Result, read_result, score_image, write_result, write_scores
from tests.evaluation.test_tables import NAMES, scores


def result() -> Result:
    """Of the image that `scores` is of, and one without labels."""
    labels = np.zeros((20, 30), np.uint8)
    labels[:, 12:] = 1
    predicted = np.roll(labels, 2, axis=1)
    unlabelled = score_image(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), 3)
    confusion = np.array([[(predicted[labels == i] == j).sum() for j in range(4)] for i in range(3)], np.int64)
    return Result(scores(), [("a, b", score_image(labels, predicted, 3)), ("void", unlabelled)], confusion)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    whole = result()
    write_result(tmp_path / "out", whole)
    names = {"scores.json", "scores.md", "scores.html", "images.csv", "confusion.csv"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    read = read_result(tmp_path / "out")
    assert read.scores == json.loads(json.dumps(whole.scores))
    assert str(read.images) == str(whole.images), "also that a score is not a number"
    assert read.confusion is not None
    assert np.array_equal(read.confusion, whole.confusion)
    assert (tmp_path / "out/confusion.csv").read_text().splitlines()[0].split(",")[1] == NAMES[0]
    alone = read_result(tmp_path / "out/scores.json")
    assert (alone.scores, alone.images, alone.confusion) == (read.scores, [], None)


def test_an_older_evaluation_has_scores_alone(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.json", scores())
    read = read_result(tmp_path)
    assert (read.images, read.confusion) == ([], None)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"protocol": {}, "per_class": {}, "miou": 0}'])
def test_what_holds_no_scores_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    with pytest.raises(UserError, match="does not exist"):
        read_result(tmp_path)
    path.write_text(text)
    with pytest.raises(UserError, match=f"{path} does not hold scores"):
        read_result(tmp_path)

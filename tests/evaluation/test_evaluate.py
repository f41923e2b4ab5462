"""Scores of a data set against a loop over its images."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from gffnet.data.base import Dataset
from gffnet.data.build import open_dataset
from gffnet.data.catalog import Classes
from gffnet.data.labels import LabelTable
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import evaluate, write_scores
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.data.trees import camvid_tree

PROTOCOL = EvaluationRecipe(scales=(1.0, 1.5), flip=True)


@pytest.fixture
def val(tmp_path: Path) -> Dataset:
    return open_dataset("camvid", camvid_tree(tmp_path), "val")


def test_scores_are_of_all_pixels_of_all_images_together(val: Dataset) -> None:
    predictor = tiny.predictor()
    scores = evaluate(predictor, val, "camvid", "val", PROTOCOL)
    labels = np.concatenate([val[i].labels.numpy().ravel() for i in range(len(val))])
    predicted = np.concatenate(
        [predictor.predict(val[i].image.permute(1, 2, 0).numpy(), PROTOCOL).ravel() for i in range(len(val))]
    )
    counts = confusion_matrix(labels[labels != 255], predicted[labels != 255], labels=range(11)).astype(float)
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    iou = counts.diagonal() / union
    assert scores["miou"] == pytest.approx(iou.mean())
    assert scores["pixel_accuracy"] == pytest.approx(counts.trace() / counts.sum())
    assert list(scores["per_class"].values()) == pytest.approx(iou.tolist())
    assert list(scores["per_class"]) == list(val.classes.names)
    assert scores["images"] == 3
    assert scores["pixels"] == counts.sum()
    assert scores["absent"] == []


def test_the_protocol_stands_beside_the_scores(val: Dataset, tmp_path: Path) -> None:
    scores = evaluate(tiny.predictor(), val, "camvid", "val", PROTOCOL)
    wanted = {"scales": [1.0, 1.5], "flip": True, "crop": None, "dataset": "camvid", "split": "val"}
    assert wanted.items() <= scores["protocol"].items()
    assert {"recipe": "tests/tiny", "precision": "float32", "device": "cpu"}.items() <= scores["protocol"].items()
    write_scores(tmp_path / "new/scores.json", scores)
    assert json.loads((tmp_path / "new/scores.json").read_text()) == scores


def test_the_data_set_scored_is_named_and_not_the_one_trained_on(val: Dataset) -> None:
    scores = evaluate(tiny.predictor(), val, "folder", "test", EvaluationRecipe((32, 48)))
    assert (scores["protocol"]["dataset"], scores["protocol"]["split"]) == ("folder", "test")
    assert scores["protocol"]["crop"] == [32, 48]


def test_the_protocol_given_is_the_one_used(val: Dataset) -> None:
    """And not the one that the model came with."""
    predictor = tiny.predictor(dataclasses.replace(tiny.recipe(), evaluation=EvaluationRecipe(scales=(0.5,))))
    given, own = (evaluate(predictor, val, "camvid", "val", p) for p in (PROTOCOL, predictor.config.evaluation))
    plain = evaluate(tiny.predictor(), val, "camvid", "val", PROTOCOL)
    assert given["per_class"] == plain["per_class"] != own["per_class"]


def test_an_image_that_cannot_be_read_is_an_error_and_no_lower_score(val: Dataset) -> None:
    path = val.files[1][0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"cannot read image {path}"):
        evaluate(tiny.predictor(), val, "camvid", "val", PROTOCOL)


def test_a_perfect_prediction_scores_one(val: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = tiny.predictor()
    answers = iter([val[i].labels.clamp(max=10).numpy() for i in range(len(val))])
    monkeypatch.setattr(predictor, "predict", lambda image, protocol: next(answers))
    scores = evaluate(predictor, val, "camvid", "val", PROTOCOL)
    assert scores["miou"] == scores["pixel_accuracy"] == 1
    assert set(scores["per_class_accuracy"].values()) == {1.0}


def test_other_classes_are_refused(val: Dataset) -> None:
    val.classes = Classes(("tree", "sky"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(UserError, match=r"knows 11 classes .*, but camvid has 2 \(tree, sky"):
        evaluate(tiny.predictor(), val, "camvid", "val", PROTOCOL)


def test_a_class_that_occurs_nowhere_has_no_score(val: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = tiny.predictor()
    sky = torch.zeros_like(val[0].labels)
    monkeypatch.setattr(predictor, "predict", lambda image, protocol: sky.numpy())
    val.table = LabelTable(dict.fromkeys(range(12), 0), legal="0..11")
    scores = evaluate(predictor, val, "camvid", "val", PROTOCOL)
    assert scores["per_class"]["sky"] == scores["miou"] == 1
    assert scores["per_class"]["car"] is None
    assert "car" in scores["absent"]

"""Scores of a data set against a loop over its images; in one process or more, at once or after breaking off."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

import gffnet.evaluation.evaluate as evaluation
from gffnet.data.catalog import Classes
from gffnet.data.dataset import Dataset, LabelTable
from gffnet.data.datasets import open_dataset
from gffnet.errors import RunFailed, Stopped, UserError
from gffnet.evaluation.evaluate import Task, evaluate, evaluate_share, forget_kept
from gffnet.evaluation.results import Result, score_image, write_scores
from gffnet.inference.predictor import Predictor
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.data.trees import camvid_tree
from tests.evaluation.processes import together

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


def test_absent_classes_count_as_zero_where_the_official_code_does_so(
    val: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = tiny.predictor()
    monkeypatch.setattr(predictor, "predict", lambda image, protocol: np.zeros(image.shape[:2], np.uint8))
    val.table = LabelTable(dict.fromkeys(range(12), 0), legal="0..11")
    scores = evaluate(predictor, val, "ade20k", "val", PROTOCOL)
    assert scores["miou"] == pytest.approx(1 / 11)
    assert scores["per_class"]["car"] is None
    assert scores["protocol"]["absent"] == "zero"


def test_details_are_scored_unless_they_are_not_wanted(val: Dataset) -> None:
    full, plain = (evaluate(tiny.predictor(), val, "camvid", "val", PROTOCOL, details) for details in (True, False))
    assert {"boundary_f", "iou_by_distance", "iou_by_size"} == full.keys() - plain.keys()
    assert all(full[key] == plain[key] for key in plain if key != "images_per_second")


def test_every_image_has_a_score_of_its_own_in_order(val: Dataset) -> None:
    predictor = tiny.predictor()
    result = evaluate_share(Task(predictor, val, "camvid", "val", PROTOCOL))
    assert result is not None
    assert [name for name, _ in result.images] == [val.name(i) for i in range(len(val))]
    for (_, score), sample in zip(result.images, val, strict=True):  # type: ignore[call-overload]
        image = sample.image.permute(1, 2, 0).numpy()
        assert score == score_image(sample.labels.numpy(), predictor.predict(image, PROTOCOL), 11)
    assert sum(score.pixels for _, score in result.images) == result.scores["pixels"]


def test_the_confusion_matrix_is_kept(val: Dataset) -> None:
    predictor = tiny.predictor()
    result = evaluate_share(Task(predictor, val, "camvid", "val", PROTOCOL, details=False))
    assert result is not None
    assert result.confusion is not None
    counts = np.zeros((11, 12), np.int64)
    for i in range(len(val)):
        labels = val[i].labels.numpy()
        predicted = predictor.predict(val[i].image.permute(1, 2, 0).numpy(), PROTOCOL)
        counts += confusion_matrix(labels.ravel(), predicted.ravel(), labels=range(12))[:11]
    assert np.array_equal(result.confusion, counts)


# Many processes


def task(data: Dataset, predictor: Predictor | None = None, **other: Any) -> Task:
    return Task(predictor or tiny.predictor(), data, "camvid", "val", PROTOCOL, **other)


def shared(size: int, data: Dataset, out: Path | None, resume: bool = False) -> list[Result | BaseException | None]:
    """What comes of an evaluation in every process; they are threads here."""
    tasks = [task(data) for _ in range(size)]
    return together(size, lambda group: evaluate_share(tasks[group.rank], group, out, resume))


def same(one: Result | BaseException | None, other: Result | BaseException | None) -> bool:
    """Equal but for the speed."""
    assert isinstance(one, Result)
    assert isinstance(other, Result)
    a, b = ({**of.scores, "images_per_second": 0} for of in (one, other))
    assert one.confusion is not None
    assert other.confusion is not None
    return a == b and one.images == other.images and np.array_equal(one.confusion, other.confusion)


@pytest.mark.parametrize("size", [2, 5])
def test_processes_together_score_what_one_does(size: int, val: Dataset, tmp_path: Path) -> None:
    """Also where there are more of them than images."""
    first, *others = shared(size, val, tmp_path / "out")
    assert same(first, evaluate_share(task(val)))
    assert others == [None] * (size - 1)
    forget_kept(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_one_process_fails_at_ends_all_and_is_gone_on_from(val: Dataset, tmp_path: Path) -> None:
    torn = val.files[1][0]  # rank 1's
    whole = torn.read_bytes()
    torn.write_bytes(whole[:-100])
    results = shared(2, val, tmp_path / "out")
    assert isinstance(results[0], RunFailed)
    assert f"stopped, since process 1 failed: cannot read image {torn}" in str(results[0])
    assert isinstance(results[1], UserError)
    torn.write_bytes(whole)
    assert same(shared(3, val, tmp_path / "out", resume=True)[0], evaluate_share(task(val)))


# Going on


def breaking(error: BaseException, after: int) -> tuple[Predictor, list[int]]:
    """A predictor that fails at the image after so many, and what it predicted."""
    predictor, seen = tiny.predictor(), []
    predict = predictor.predict

    def counting(image: Any, protocol: Any) -> Any:
        if len(seen) == after:
            raise error
        seen.append(int(image.sum()))
        return predict(image, protocol)

    predictor.predict = counting  # type: ignore[method-assign]
    return predictor, seen


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Stopped("stopped by SIGTERM."), ValueError("any")], ids=repr)
@pytest.mark.parametrize("after", [0, 2])
def test_after_breaking_off_only_the_rest_is_predicted(
    error: BaseException, after: int, val: Dataset, tmp_path: Path
) -> None:
    predictor, seen = breaking(error, after)
    with pytest.raises(type(error)) as raised:
        evaluate_share(task(val, predictor), out=tmp_path)
    assert "any" in str(raised.value) or f"{after} of 3 images are scored and kept; go on with --resume" in str(
        raised.value
    )
    rest, seen_then = breaking(error, 9)
    assert same(evaluate_share(task(val, rest), out=tmp_path, resume=True), evaluate_share(task(val)))
    assert (len(seen), len(seen_then), len({*seen, *seen_then})) == (after, 3 - after, 3)


def test_without_resume_it_starts_anew(val: Dataset, tmp_path: Path) -> None:
    predictor, _ = breaking(KeyboardInterrupt(), 2)
    with pytest.raises(KeyboardInterrupt):
        evaluate_share(task(val, predictor), out=tmp_path)
    rest, seen = breaking(KeyboardInterrupt(), 9)
    assert same(evaluate_share(task(val, rest), out=tmp_path), evaluate_share(task(val)))
    assert len(seen) == 3


def test_all_was_scored_before(val: Dataset, tmp_path: Path) -> None:
    """It was killed between the last image and the writing of the scores."""
    before = evaluate_share(task(val), out=tmp_path)
    predictor, seen = breaking(KeyboardInterrupt(), 0)
    assert same(evaluate_share(task(val, predictor), out=tmp_path, resume=True), before)
    assert seen == []


def test_another_model_does_not_go_on(val: Dataset, tmp_path: Path) -> None:
    evaluate_share(task(val), out=tmp_path)
    with pytest.raises(UserError, match="another model"):
        evaluate_share(task(val, tiny.predictor(seed=1)), out=tmp_path, resume=True)
    with pytest.raises(UserError, match="details True then, False now"):
        evaluate_share(task(val, details=False), out=tmp_path, resume=True)


def test_it_is_kept_as_it_goes_on(val: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "SAVE_EVERY", 0.0)
    saved = []
    monkeypatch.setattr(evaluation.Kept, "save", lambda self, scored: saved.append(len(scored.images)))
    evaluate_share(task(val), out=tmp_path)
    assert saved == [0, 1, 2, 3, 3]

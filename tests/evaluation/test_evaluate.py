"""Scores of a data set against a loop over its images, at once or after an interruption; the protocol beside them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

import gffnet
import gffnet.evaluation.evaluate as evaluation
from gffnet.data.camvid import CAMVID
from gffnet.data.dataset import Classes, Dataset, LabelTable
from gffnet.data.datasets import open_dataset
from gffnet.errors import Stopped, UserError
from gffnet.evaluation.evaluate import PARTIAL_FOLDER, absent_rule, protocol_record, remove_partial, score_dataset
from gffnet.evaluation.results import Result, score_image, write_scores
from gffnet.inference.predictor import Predictor
from gffnet.metrics.scores import Scores
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.data.trees import camvid_tree

PROTOCOL = EvaluationRecipe(scales=(1.0, 1.5), flip=True)


@pytest.fixture
def val(tmp_path: Path) -> Dataset:
    return open_dataset("camvid", camvid_tree(tmp_path), "val")


def scores_of(val: Dataset, predictor: Predictor | None = None, name: str = "camvid", **options: Any) -> Scores:
    return score_dataset(predictor or tiny.predictor(), val, name, "val", PROTOCOL, **options).scores


def test_scores_are_of_all_pixels_of_all_images_together(val: Dataset) -> None:
    predictor = tiny.predictor()
    result = score_dataset(predictor, val, "camvid", "val", PROTOCOL)
    scores, labels, predicted = result.scores, [], []
    for i in range(len(val)):
        labels.append(val[i].labels.numpy().ravel())
        predicted.append(predictor.predict(val[i].image, PROTOCOL).ravel())
    whole = confusion_matrix(np.concatenate(labels), np.concatenate(predicted), labels=range(12))[:11]
    assert np.array_equal(result.confusion, whole)
    counts = whole[:, :11].astype(float)
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    iou = counts.diagonal() / union
    assert scores.miou == pytest.approx(iou.mean())
    assert scores.pixel_accuracy == pytest.approx(counts.trace() / counts.sum())
    assert list(scores.per_class.values()) == pytest.approx(iou.tolist())
    assert list(scores.per_class) == list(val.classes.names)
    assert scores.images == 3
    assert scores.pixels == counts.sum()
    assert scores.absent == []


def test_every_image_has_a_score_of_its_own_in_order(val: Dataset) -> None:
    predictor = tiny.predictor()
    result = score_dataset(predictor, val, "camvid", "val", PROTOCOL)
    assert [name for name, _ in result.images] == [val.name(i) for i in range(len(val))]
    for (_, score), sample in zip(result.images, val, strict=True):  # type: ignore[call-overload]
        assert score == score_image(sample.labels.numpy(), predictor.predict(sample.image, PROTOCOL), 11)
    assert sum(score.pixels for _, score in result.images) == result.scores.pixels


def test_data_that_draw_random_numbers_are_scored_alike_each_time() -> None:
    """As the validation of a training does; the random numbers of the caller do not matter."""

    class Drawing:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.randint(256, (3, 40, 48)).byte(), torch.randint(11, (40, 48))

    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        results.append(gffnet.evaluate(tiny.predictor(), Drawing()))
    assert np.array_equal(results[0].confusion, results[1].confusion)
    pixels = results[0].confusion.sum(1)
    assert pixels.min() > 0.9 * pixels.mean()


def test_the_protocol_stands_beside_the_scores(val: Dataset, tmp_path: Path) -> None:
    scores = scores_of(val)
    assert scores.protocol == protocol_record(tiny.predictor(), PROTOCOL, "camvid", "val")
    write_scores(tmp_path / "new/scores.json", scores)
    assert json.loads((tmp_path / "new/scores.json").read_text()) == scores.to_json()


def test_the_record_has_everything_as_plain_values() -> None:
    protocol = EvaluationRecipe(crop=(32, 48), scales=(0.5, 1.0), flip=True)
    record = protocol_record(tiny.predictor(), protocol, "ade20k", "val")
    assert json.loads(json.dumps(record)) == record
    assert record == {
        "crop": [32, 48],
        "overlap": pytest.approx(1 / 3),
        "scales": [0.5, 1.0],
        "flip": True,
        "dataset": "ade20k",
        "split": "val",
        "recipe": "tests/tiny",
        "precision": "float32",
        "device": "cpu",
        "labels_at": "native size",
        "absent": "zero",
        "absent_source": absent_rule("ade20k")[1],
        "gffnet": gffnet.__version__,
        "weights_sha256": tiny.predictor().weights,
    }


def test_absent_classes_are_left_out_unless_official_code_counts_them() -> None:
    rules = {name: absent_rule(name)[0] for name in ("ade20k", "cityscapes", "camvid", "pascal_context", "folder")}
    assert rules.pop("ade20k") == "zero"
    assert set(rules.values()) == {"left out"}
    assert "official code" in absent_rule("cityscapes")[1]


@pytest.mark.parametrize("dataset", ["", "mine.Shapes"])
def test_data_are_needed_where_the_model_was_trained_on_ones_own(dataset: str) -> None:
    predictor = tiny.predictor()
    predictor.config = dataclasses.replace(predictor.config, dataset=dataset)
    with pytest.raises(UserError, match=f"data is missing: the model was trained on {dataset or 'data'}.*camvid"):
        gffnet.evaluate(predictor, root="data")


def test_the_data_set_scored_is_named_and_not_the_one_trained_on(val: Dataset) -> None:
    scores = score_dataset(tiny.predictor(), val, "folder", "test", EvaluationRecipe((32, 48))).scores
    assert (scores.protocol["dataset"], scores.protocol["split"]) == ("folder", "test")
    assert scores.protocol["crop"] == [32, 48]


def test_the_given_protocol_is_used_rather_than_the_models_own(val: Dataset) -> None:
    predictor = tiny.predictor(dataclasses.replace(tiny.recipe(), evaluation=EvaluationRecipe(scales=(0.5,))))
    given, own = (
        score_dataset(predictor, val, "camvid", "val", p).scores for p in (PROTOCOL, predictor.config.evaluation)
    )
    assert given.per_class == scores_of(val).per_class != own.per_class


def test_an_unreadable_image_is_an_error_and_no_lower_score(val: Dataset) -> None:
    path = val.files[1][0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=f"cannot read image {path}"):
        scores_of(val)


def test_a_perfect_prediction_scores_one(val: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = tiny.predictor()
    answers = iter([val[i].labels.clamp(max=10).numpy() for i in range(len(val))])
    monkeypatch.setattr(predictor, "predict", lambda image, protocol: next(answers))
    scores = scores_of(val, predictor)
    assert scores.miou == scores.pixel_accuracy == 1
    assert set(scores.per_class_accuracy.values()) == {1.0}


def test_other_classes_are_refused(val: Dataset) -> None:
    val.classes = Classes(("tree", "sky"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(UserError, match=r"the model has 11 classes and camvid 2: class 0, .* 'sky' .* and 'tree' in"):
        scores_of(val)
    names = ("Sky", *CAMVID.names[1:])
    val.classes = Classes(names, CAMVID.palette)
    with pytest.raises(UserError, match=r"class 0, .* 'sky' .* 'Sky' .* Name the classes as the model does"):
        scores_of(val)


@pytest.mark.parametrize(("name", "miou"), [("camvid", 1), ("ade20k", 1 / 11)])
def test_absent_classes_count_as_in_the_official_code(
    name: str, miou: float, val: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = tiny.predictor()
    monkeypatch.setattr(predictor, "predict", lambda image, _: torch.zeros(image.shape[-2:], dtype=torch.uint8).numpy())
    val.table = LabelTable(dict.fromkeys(range(12), 0), legal="0..11")
    scores = scores_of(val, predictor, name)
    assert scores.miou == pytest.approx(miou)
    assert scores.per_class["sky"] == 1
    assert scores.per_class["car"] is None
    assert "car" in scores.absent


def test_details_are_scored_unless_they_are_not_wanted(val: Dataset) -> None:
    full, plain = (scores_of(val, details=details).to_json() for details in (True, False))
    assert {"boundary_f", "iou_by_distance", "iou_by_size"} == full.keys() - plain.keys()
    assert all(full[key] == plain[key] for key in plain if key != "images_per_second")


# Resuming


def evaluated(val: Dataset, predictor: Predictor | None = None, **options: Any) -> Result:
    return score_dataset(predictor or tiny.predictor(), val, "camvid", "val", PROTOCOL, **options)


def same(one: Result, other: Result) -> bool:
    """Whether results are equal but for the speed."""
    a, b = (dataclasses.replace(of.scores, images_per_second=0) for of in (one, other))
    return a == b and one.images == other.images and np.array_equal(one.confusion, other.confusion)


def failing(error: BaseException, after: int) -> tuple[Predictor, list[int]]:
    """A predictor that fails after so many images, and what it predicted."""
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
def test_after_an_interruption_only_the_rest_is_predicted(
    error: BaseException, after: int, val: Dataset, tmp_path: Path
) -> None:
    predictor, seen = failing(error, after)
    message = "any" if isinstance(error, ValueError) else f"{after} of 3 images are scored and saved; .*--resume"
    with pytest.raises(type(error), match=message):
        evaluated(val, predictor, out=tmp_path)
    rest, seen_then = failing(error, 9)
    assert same(evaluated(val, rest, out=tmp_path, resume=True), evaluated(val))
    assert (len(seen), len(seen_then), len({*seen, *seen_then})) == (after, 3 - after, 3)


def test_an_image_that_was_being_added_is_counted_once(
    val: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal may come between the counts of an image and what else is kept of it."""
    score, calls = evaluation.score_image, []

    def interrupted(*given: Any) -> Any:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score(*given)

    monkeypatch.setattr(evaluation, "score_image", interrupted)
    monkeypatch.setattr(evaluation, "SAVE_EVERY", 0)
    with pytest.raises(KeyboardInterrupt, match="1 of 3 images are scored and saved"):
        evaluated(val, out=tmp_path)
    assert same(evaluated(val, out=tmp_path, resume=True), evaluated(val))


def test_without_resume_it_starts_again(val: Dataset, tmp_path: Path) -> None:
    predictor, _ = failing(KeyboardInterrupt(), 2)
    with pytest.raises(KeyboardInterrupt):
        evaluated(val, predictor, out=tmp_path / "out")
    rest, seen = failing(KeyboardInterrupt(), 9)
    assert same(evaluated(val, rest, out=tmp_path / "out"), evaluated(val))
    assert len(seen) == 3
    remove_partial(tmp_path / "out" / PARTIAL_FOLDER)
    assert list((tmp_path / "out").iterdir()) == []


def test_everything_was_scored_before(val: Dataset, tmp_path: Path) -> None:
    """It was killed between the last image and the writing of the scores."""
    before = evaluated(val, out=tmp_path)
    predictor, seen = failing(KeyboardInterrupt(), 0)
    assert same(evaluated(val, predictor, out=tmp_path, resume=True), before)
    assert seen == []


def test_another_evaluation_is_not_resumed(val: Dataset, tmp_path: Path) -> None:
    evaluated(val, out=tmp_path)
    with pytest.raises(UserError, match="another model"):
        evaluated(val, tiny.predictor(seed=1), out=tmp_path, resume=True)
    with pytest.raises(UserError, match="details True then, False now"):
        evaluated(val, details=False, out=tmp_path, resume=True)


def test_partial_results_are_saved_on_the_way(val: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "SAVE_EVERY", 0.0)
    saved = []
    monkeypatch.setattr(evaluation.PartialResults, "save", lambda self, parts: saved.append(len(parts[0].images)))
    evaluated(val, out=tmp_path)
    assert saved == [0, 1, 2, 3, 3]

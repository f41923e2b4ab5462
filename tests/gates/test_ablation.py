"""Closing gates in every window of an image, and over a data set, against `evaluate` with networks so closed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gffnet.evaluation.evaluate as evaluation
import gffnet.gates.ablation as ablation
from gffnet.data.dataset import Classes, Dataset
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import remove_partial, score_dataset
from gffnet.gates.ablation import PARTIAL_FOLDER, ablate, difference, predict_edited
from gffnet.gates.edit import GateEdit
from gffnet.inference.predictor import Predictor
from gffnet.inference.tiling import tile_memory
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.gates import closing, records

WHOLE = EvaluationRecipe()

# One image


IMAGE = tiny.picture(7, *closing.SIZE)
PADDED = EvaluationRecipe(crop=(48, 48))


@pytest.mark.parametrize(("protocol", "batch"), [(WHOLE, 1), (PADDED, 1), (closing.WINDOWS, 3)])
def test_closed_gates_are_those_of_a_network_that_answers_zero(protocol: EvaluationRecipe, batch: int) -> None:
    """Bit for bit, and so are the learned ones, before and after."""
    network = closing.network()
    levels = [(), (1,), (2, 4), ()]
    edits = [{level: GateEdit(value=0.0) for level in some} for some in levels]
    maps = list(predict_edited(closing.predictor(network, batch=batch), IMAGE, protocol, edits))
    for some, found in zip(levels, maps, strict=True):
        other = closing.predictor(closing.forced(network, dict.fromkeys(some, -1e4)), batch=batch)
        assert np.array_equal(found, other.predict(IMAGE, protocol))
    assert np.array_equal(maps[0], maps[3])
    assert len({found.tobytes() for found in maps}) == 3, "closing must do something"


def test_a_gate_at_a_constant() -> None:
    network = closing.network()
    value = float(torch.sigmoid(torch.tensor(0.7)))
    edits = [{3: GateEdit(value=value)}]
    (found,) = predict_edited(closing.predictor(network), IMAGE, closing.WINDOWS, edits)
    expected = closing.predictor(closing.forced(network, {3: 0.7})).predict(IMAGE, closing.WINDOWS)
    assert np.array_equal(found, expected)


def test_five_gates_of_a_gated_fpn() -> None:
    network = closing.network("gated_fpn")
    edits = [{level: GateEdit(value=0.0)} for level in range(1, 6)]
    maps = predict_edited(closing.predictor(network, "gated_fpn"), IMAGE, WHOLE, edits)
    for level, found in enumerate(maps, start=1):
        other = closing.predictor(closing.forced(network, {level: -1e4}), "gated_fpn")
        assert np.array_equal(found, other.predict(IMAGE, WHOLE)), level


def test_the_backbone_runs_once_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, seen = closing.predictor(closing.network()), []
    features = predictor.network.features
    monkeypatch.setattr(predictor.network, "features", lambda x: seen.append(len(x)) or features(x))
    predictor.predict(IMAGE, closing.WINDOWS)
    windows = len(seen)
    assert windows > 4
    list(predict_edited(predictor, IMAGE, closing.WINDOWS, [{}, {1: GateEdit(value=0.0)}, {}]))
    assert len(seen) == 2 * windows


def test_with_little_memory_windows_are_encoded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that is predicted in several blocks gives the same maps as one that is not."""
    network, protocol = closing.network(), EvaluationRecipe(crop=(16, 48), overlap=0.0)
    free, tight = closing.predictor(network), closing.predictor(network)
    image, size = tiny.picture(8, 96, 48), (96, 48)
    tight.memory = 16 * 96 * 48 + tile_memory(size, (48, 48), 11, protocol)
    monkeypatch.setattr(tight, "_reserved", lambda protocol: 0)
    assert len(tight.window(protocol, size).layout(tight.tensor(image)).rows) == 2
    edits = [{}, {2: GateEdit(value=1.0)}]
    for one, other in zip(*(predict_edited(p, image, protocol, edits) for p in (free, tight)), strict=True):
        assert (one == other).mean() > 0.999


def test_levels_and_models_without_them() -> None:
    with pytest.raises(UserError, match="gate level 5 does not exist"):
        list(predict_edited(closing.predictor(closing.network()), IMAGE, WHOLE, [{5: GateEdit(value=0.0)}]))
    with pytest.raises(UserError, match="has no gates: its fusion is 'none'"):
        list(predict_edited(tiny.predictor(), IMAGE, WHOLE, [{}]))


# A data set


@pytest.fixture
def val(tmp_path: Path) -> Dataset:
    return closing.val(tmp_path / "CamVid")


@pytest.fixture
def two(tmp_path: Path) -> Dataset:
    return closing.val(tmp_path / "CamVid", 2)


def ablated(
    data: Dataset, predictor: Predictor | None = None, protocol: EvaluationRecipe = WHOLE, **options: Any
) -> Any:
    predictor = predictor or closing.learned()
    return ablate(predictor, data, "camvid", "val", protocol, **{"pairs": False, **options})


def evaluated(predictor: Predictor, data: Dataset, protocol: EvaluationRecipe) -> dict[str, Any]:
    """The scores of `gffnet evaluate` without images, speed and protocol."""
    scores = score_dataset(predictor, data, "camvid", "val", protocol).scores.to_json()
    return {key: value for key, value in scores.items() if key not in {"images", "images_per_second", "protocol"}}


@pytest.mark.parametrize(
    ("protocol", "pairs"), [(WHOLE, True), pytest.param(closing.WINDOWS, False, marks=pytest.mark.slow)]
)
def test_every_closing_is_an_evaluation_of_a_network_with_such_gates(
    two: Dataset, protocol: EvaluationRecipe, pairs: bool
) -> None:
    """Number for number: all scores there are, with the gates as learned and with each closed, alone and in pairs."""
    network = closing.network()
    record = ablated(two, protocol=protocol, pairs=pairs)
    assert record["learned"] == evaluated(closing.learned(), two, protocol)
    alone, paired = [[1], [2], [3], [4]], [[1, 2], [1, 3], [1, 4], [2, 3], [2, 4], [3, 4]]
    assert [of["levels"] for of in record["closings"]] == alone + paired * pairs
    for of in record["closings"]:
        forced = closing.forced(network, dict.fromkeys(of["levels"], -1e4))
        assert of["scores"] == evaluated(closing.predictor(forced), two, protocol), of["levels"]
        assert of["scores"] != record["learned"]


def test_gates_held_at_a_value(two: Dataset) -> None:
    network = closing.network()
    for of in ablated(two, value=0.5)["closings"]:
        forced = closing.predictor(closing.forced(network, {of["levels"][0]: 0.0}))  # sigmoid(0) is one half
        assert of["scores"] == evaluated(forced, two, WHOLE)


def test_a_gated_fpn_has_five_gates_and_ten_pairs(val: Dataset) -> None:
    predictor = closing.predictor(closing.network("gated_fpn"), "gated_fpn")
    assert len(ablated(val, predictor, pairs=True, limit=1)["closings"]) == 5 + 10


def test_two_gates_are_closed_together_as_well(val: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "gate_count", lambda predictor: 2)
    assert [of["levels"] for of in ablated(val, pairs=True, limit=1)["closings"]] == [[1], [2], [1, 2]]


def test_models_that_cannot_be_ablated(val: Dataset) -> None:
    with pytest.raises(UserError, match="has no gates"):
        ablated(val, tiny.predictor())
    val.classes = Classes(("tree", "sky"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(UserError, match="the model has 11 classes"):
        ablated(val)


@pytest.mark.parametrize(
    ("limit", "chosen"), [(None, [0, 1, 2, 3, 4]), (2, [0, 2]), (3, [0, 1, 3]), (9, [0, 1, 2, 3, 4])]
)
def test_limits_are_spread_over_the_data_set(
    limit: int | None, chosen: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = closing.val(tmp_path, 5)
    read, seen = type(data).__getitem__, []
    monkeypatch.setattr(type(data), "__getitem__", lambda self, i: seen.append(i) or read(self, i))
    record = ablated(data, limit=limit)
    assert seen == chosen
    assert (record["images"], record["of_images"]) == (len(chosen), 5)


def test_the_record_says_what_was_measured_and_how(val: Dataset) -> None:
    record = ablated(val, protocol=EvaluationRecipe(crop=(32, 32)), value=1.0)
    expected = {"value": 1.0, "crop": [32, 32], "dataset": "camvid", "split": "val", "recipe": "tests/tiny"}
    assert expected.items() <= record["protocol"].items()
    assert [gate["level"] for gate in record["observation"]["gates"]] == [1, 2, 3, 4]
    for of, gate in zip(record["closings"], record["observation"]["gates"], strict=True):
        assert gate["loss"] == pytest.approx(-of["difference"]["pixel_accuracy"])


def test_differences_are_closed_less_learned() -> None:
    scores = [records.scored(wrong, seed, ["a", "b"]) for wrong, seed in ((0.1, 0), (0.3, 1))]
    of, (learned, closed) = difference(scores[1], scores[0]), (one.to_json() for one in scores)
    assert of["miou"] == closed["miou"] - learned["miou"] < -0.1
    assert of["pixel_accuracy"] == closed["pixel_accuracy"] - learned["pixel_accuracy"]
    assert of["per_class"] == {name: closed["per_class"][name] - learned["per_class"][name] for name in "ab"}
    means = [one["boundary_f"]["3"]["mean"] for one in (closed, learned)]
    assert of["boundary_f"]["3"] == means[0] - means[1]
    for key, name in (("iou_by_distance", "pixel_accuracy"), ("iou_by_distance", "miou"), ("iou_by_size", "miou")):
        for less, one, other in zip(of[key], closed[key], learned[key], strict=True):
            assert (less["from"], less["to"]) == (other["from"], other["to"])
            expected = None if other[name] is None else one[name] - other[name]
            assert less[name] == expected


def test_undefined_scores_have_no_difference() -> None:
    learned, closed = records.scored(0.1, 0, ["a", "b"]), records.scored(0.1, 0, ["a", "b"])
    closed.per_class["a"] = learned.per_class["b"] = None  # type: ignore[index]
    assert difference(closed, learned)["per_class"] == {"a": None, "b": None}


# Resuming


def failing(monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException) -> list[int]:
    """Prediction fails at the closing after so many; what it predicted."""
    seen: list[int] = []
    predict = ablation.predict_edited

    def counting(predictor: Predictor, image: Any, protocol: Any, edits: Any) -> Iterator[Any]:
        for found in predict(predictor, image, protocol, edits):
            if len(seen) == after:
                raise error
            seen.append(int(image.sum()))
            yield found

    monkeypatch.setattr(ablation, "predict_edited", counting)
    return seen


@pytest.mark.parametrize(("error", "after"), [(KeyboardInterrupt(), 7), (ValueError("any"), 0)], ids=repr)
def test_after_an_interruption_only_the_rest_is_predicted(
    error: BaseException, after: int, val: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image counts when all of its closings are scored."""
    whole, out = ablated(val), tmp_path / "out"
    with monkeypatch.context() as broken:
        seen = failing(broken, after, error)
        with pytest.raises(type(error), match="any" if isinstance(error, ValueError) else "resume with --resume"):
            ablated(val, out=out)
    seen_then = failing(monkeypatch, 99, error)
    assert ablated(val, out=out, resume=True) == whole
    assert (len(seen), len(seen_then)) == (after, 15 - after // 5 * 5)
    remove_partial(out / PARTIAL_FOLDER)
    assert list(out.iterdir()) == []


def test_an_interruption_between_two_closings_of_an_image(
    val: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second image is scored with two closings of five when the signal comes."""
    whole, update, calls = ablated(val), evaluation.PartialScores.update, []

    def interrupted(*given: Any) -> None:
        calls.append(given)
        if len(calls) == 8:
            raise KeyboardInterrupt
        update(*given)

    with monkeypatch.context() as broken:
        broken.setattr(evaluation.PartialScores, "update", interrupted)
        broken.setattr(evaluation, "SAVE_EVERY", 0.0)
        with pytest.raises(KeyboardInterrupt, match="1 of 3 images are scored and saved"):
            ablated(val, out=tmp_path)
    assert ablated(val, out=tmp_path, resume=True) == whole


def test_other_ablations_are_not_resumed(val: Dataset, tmp_path: Path) -> None:
    ablated(val, out=tmp_path / "out")
    with pytest.raises(UserError, match=r"value 0\.0 then, 1\.0 now"):
        ablated(val, value=1.0, out=tmp_path / "out", resume=True)
    with pytest.raises(UserError, match="limit 3 then, 2 now"):
        ablated(val, limit=2, out=tmp_path / "out", resume=True)
    assert ablated(val, value=1.0, out=tmp_path / "out") == ablated(val, value=1.0), "anew"


def test_partial_results_are_saved_on_the_way(val: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "SAVE_EVERY", 0.0)
    saved: list[list[int]] = []
    monkeypatch.setattr(
        evaluation.PartialResults, "save", lambda self, parts: saved.append([len(part.images) for part in parts])
    )
    ablated(val, out=tmp_path)
    assert saved == [[count] * 5 for count in (0, 1, 2, 3, 3)]

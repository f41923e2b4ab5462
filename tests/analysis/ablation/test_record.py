"""Differences against subtraction by hand. The scores themselves: `test_ablation`."""

import pytest

from gffnet.gates.ablation import count_ablation, difference, plan_ablation, record_of
from gffnet.recipe import EvaluationRecipe
from tests.analysis import closing, records


def test_differences_are_closed_less_learned() -> None:
    learned, closed = records.scored(0.1, 0, ["a", "b"]), records.scored(0.3, 1, ["a", "b"])
    of = difference(closed, learned)
    assert of["miou"] == closed["miou"] - learned["miou"] < -0.1
    assert of["pixel_accuracy"] == closed["pixel_accuracy"] - learned["pixel_accuracy"]
    assert of["per_class"] == {name: closed["per_class"][name] - learned["per_class"][name] for name in "ab"}
    means = [scores["boundary_f"]["3"]["mean"] for scores in (closed, learned)]
    assert of["boundary_f"]["3"] == means[0] - means[1]
    for key, name in (("iou_by_distance", "pixel_accuracy"), ("iou_by_distance", "miou"), ("iou_by_size", "miou")):
        for less, one, other in zip(of[key], closed[key], learned[key], strict=True):
            assert (less["from"], less["to"]) == (other["from"], other["to"])
            expected = None if other[name] is None else one[name] - other[name]
            assert less[name] == expected


def test_no_score_no_difference() -> None:
    learned, closed = records.scored(0.1, 0, ["a", "b"]), records.scored(0.1, 0, ["a", "b"])
    closed["per_class"]["a"] = learned["per_class"]["b"] = None
    assert difference(closed, learned)["per_class"] == {"a": None, "b": None}


def test_the_record_says_what_was_measured_and_how(tmp_path) -> None:
    protocol = EvaluationRecipe(crop=(32, 32))
    plan = plan_ablation(closing.task(closing.learned(), closing.val(tmp_path, 4), protocol), False, 1.0, 2)
    counts = count_ablation(plan)
    record = record_of(plan, counts)
    assert (record["images"], record["of_images"]) == (2, 4)
    wanted = {"value": 1.0, "crop": [32, 32], "dataset": "camvid", "split": "val", "recipe": "tests/tiny"}
    assert wanted.items() <= record["protocol"].items()
    assert [gate["level"] for gate in record["observation"]["gates"]] == [1, 2, 3, 4]
    for of, gate in zip(record["closings"], record["observation"]["gates"], strict=True):
        assert gate["loss"] == pytest.approx(-of["difference"]["pixel_accuracy"])

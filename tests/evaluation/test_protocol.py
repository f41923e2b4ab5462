"""The record of what scores were measured with."""

import json

import pytest

import gffnet
from gffnet.evaluation.evaluate import absent_rule, protocol_record
from gffnet.recipe import EvaluationRecipe
from tests import tiny


def test_the_record_says_all_and_is_plain() -> None:
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

"""The record of what scores were measured with."""

import hashlib
import json
from pathlib import Path

import pytest

import gffnet
from gffnet.errors import UserError
from gffnet.evaluation.protocol import absent_rule, protocol_record, weights_digest
from gffnet.inference.model_folder import save_model
from gffnet.recipe import EvaluationRecipe
from tests import tiny


def test_the_record_says_all_and_is_plain() -> None:
    protocol = EvaluationRecipe(crop=(32, 48), scales=(0.5, 1.0), flip=True)
    record = protocol_record(tiny.predictor(), protocol, "ade20k", "val", "f00d")
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
        "weights_sha256": "f00d",
    }


def test_absent_classes_are_left_out_unless_official_code_counts_them() -> None:
    rules = {name: absent_rule(name)[0] for name in ("ade20k", "cityscapes", "camvid", "pascal_context", "folder")}
    assert rules.pop("ade20k") == "zero"
    assert set(rules.values()) == {"left out"}
    assert "official code" in absent_rule("cityscapes")[1]


def test_the_digest_is_that_of_the_file_of_weights(tmp_path: Path) -> None:
    recipe = tiny.recipe()
    save_model(tmp_path / "run/model", tiny.network(recipe), tiny.config(recipe))
    file = tmp_path / "run/model/model.safetensors"
    wanted = hashlib.sha256(file.read_bytes()).hexdigest()
    assert weights_digest(tmp_path / "run") == weights_digest(str(tmp_path / "run/model")) == wanted
    (tmp_path / "last.ckpt").write_bytes(b"checkpoint")
    assert weights_digest(tmp_path / "last.ckpt") == hashlib.sha256(b"checkpoint").hexdigest()
    with pytest.raises(UserError, match="does not exist"):
        weights_digest(tmp_path / "none")

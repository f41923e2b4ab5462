"""What an exported file says of itself comes back, and nothing else is taken for it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from gffnet.errors import UserError
from gffnet.inference.exported import ExportRecord, read_record
from gffnet.recipe import EvaluationRecipe
from tests import tiny

PATH = Path("model.onnx")


def record() -> ExportRecord:
    config = dataclasses.replace(
        tiny.config(tiny.recipe()), evaluation=EvaluationRecipe((32, 48), 0.5, (0.75, 1.0), True)
    )
    return ExportRecord("1.2.3", "ab" * 32, "bfloat16", 64, "an image", "its labels", "its probabilities", config)


def test_it_comes_back_whole() -> None:
    assert read_record(record().to_text(), PATH) == record()


@pytest.mark.parametrize("text", [None, ""])
def test_a_file_that_says_nothing_is_not_ours(text: str | None) -> None:
    with pytest.raises(UserError, match=r"model model\.onnx says nothing of its classes .* was not written by gffnet"):
        read_record(text, PATH)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "int8"}, r"model\.onnx: precision: expected one of float32, bfloat16, float16, got 'int8'"),
        ({"smalest": 16}, r"model\.onnx: smalest is unknown\. Did you mean 'smallest'\?"),
        ({"config": {"classes": []}}, r"model\.onnx: config\.model is missing"),
    ],
)
def test_one_of_another_version(change: dict[str, Any], message: str) -> None:
    said = {**json.loads(record().to_text()), **change}
    with pytest.raises(UserError, match=message):
        read_record(json.dumps(said), PATH)


def test_no_json() -> None:
    with pytest.raises(UserError, match=r"model model\.onnx: what it says of itself is not valid: .* Export it again"):
        read_record("{", PATH)

"""The page docs/export.md: its block runs, and its tables are true."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gffnet.export.export import TOLERANCES, smallest_side
from gffnet.inference.predictor import load
from gffnet.recipe import ModelRecipe
from tests import tiny
from tests.export.networks import exported_file, network

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()


def test_the_block_runs_without_gffnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported_file("onnx", tmp_path)
    Image.fromarray(tiny.picture(3, 75, 131)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert "gffnet" not in block.replace('["gffnet"]', "")
    names: dict = {}
    exec(compile(block, "docs/export.md", "exec"), names)
    expected = load(tmp_path / "model.onnx").predict(tmp_path / "photo.jpg")
    assert (names["labels"][0] == expected).mean() >= 0.9999
    assert len(names["classes"]) == len(np.unique(expected))
    assert names["labels"].shape == (1, 75, 131)


def test_the_tolerances() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) %[^|]*\| ([\d.]+) \|$", PAGE, flags=re.MULTILINE)
    told = {name: (float(agreement) / 100, float(difference)) for name, agreement, difference in rows}
    assert told == {name: pytest.approx(tuple(tolerance)) for name, tolerance in TOLERANCES.items()}


@pytest.mark.parametrize(("stride", "least"), [(8, 16), (16, 32), (32, 64)])
def test_the_smallest_images(stride: int, least: int) -> None:
    assert f"{least} pixels for an output stride of {stride}" in PAGE or f"{least} for {stride}" in PAGE
    assert smallest_side(network(ModelRecipe(context="none"), (4, 8, min(16, stride), stride))) == least

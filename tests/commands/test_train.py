"""What `gffnet train` says and passes on."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from gffnet.cli.main import main, make_parser
from gffnet.cli.train import next_commands
from tests import tiny
from tests.data.trees import folder_tree

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The recipes that would have been trained."""
    recipes: list[Any] = []
    monkeypatch.setattr("gffnet.training.train.train", lambda recipe, *_, **__: recipes.append(recipe))
    return recipes


def test_the_recipe_is_fitted_to_the_data(trained: list[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, out = folder_tree(tmp_path / "data"), tmp_path / "run"
    words = ["train", "folder/gffnet_r18", "--root", str(root), "--out", str(out)]
    assert main([*words, "--set", "training.batch=4"]) == 0
    (recipe,) = trained
    assert (recipe.training.iterations, recipe.training.crop, recipe.evaluation.crop) == (1000, (32, 32), (32, 32))
    said = [record.message for record in caplog.records]
    assert said[0].startswith("fitted to 4 images of 12x16: training.iterations 1000, training.crop 32x32, ")
    assert said[1:] == next_commands(out, "folder", root)
    out.mkdir()
    (out / "recipe.yaml").write_text(yaml.safe_dump({**recipe.to_mapping(), "training": {"iterations": 77}}))
    assert main([*words, "--resume"]) == 0
    assert trained[-1].training.iterations == 77


def test_learning_by_heart_is_fitted_too(trained: list[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = folder_tree(tmp_path / "data")
    assert main(["train", "folder/gffnet_r18", "--root", str(root), "--overfit", "2"]) == 0
    (recipe,) = trained
    assert (recipe.training.iterations, recipe.training.batch, recipe.training.crop) == (300, 2, (32, 32))
    assert not any("score it" in record.message for record in caplog.records)  # such a run is a check


def test_a_plan_is_fitted(tmp_path: Path, capsys: Captured) -> None:
    root, recipe = folder_tree(tmp_path / "data"), tmp_path / "mine.yaml"
    recipe.write_text(f"base: folder/gffnet_r18\nmodel: {tiny.PSPNET}\n")
    words = ["train", str(recipe), "--root", str(root), "--plan", "--throughput", "10"]
    assert main(words) == 0
    assert "1,000 iterations of 8 images of 32x32" in capsys.readouterr().out


def test_the_next_commands_are_ones(tmp_path: Path) -> None:
    run, root = tmp_path / "my run", tmp_path / "my data"
    lines = [line.partition(": ")[2].strip() for line in next_commands(run, "folder", root)]
    evaluate, predict = (make_parser().parse_args(shlex.split(line)[1:]) for line in lines)
    assert (evaluate.model, evaluate.dataset, evaluate.root) == (str(run), "folder", root)
    assert (predict.model, predict.inputs) == (str(run), [Path("IMAGE")])

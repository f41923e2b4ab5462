"""What `gffnet train` passes on and says."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from gffnet.cli.main import main, make_parser
from gffnet.cli.train import next_commands
from tests import tiny


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments with which `train` would have been called; it leaves a recipe in the run folder."""
    calls: list[dict[str, Any]] = []

    def train(recipe: str, root: Path, out: Path, **options: Any) -> Path:
        calls.append({"recipe": recipe, "root": root, "out": out, **options})
        out.mkdir(parents=True)
        (out / "recipe.yaml").write_text(yaml.safe_dump(tiny.recipe().to_mapping()))
        return out

    monkeypatch.setattr("gffnet.training.train.train", train)
    return calls


def test_the_arguments(
    calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--root", "data", "--set", "training.batch=4", "--resume", "--devices", "2", "--wandb", "mine"]
    with caplog.at_level("INFO", logger="gffnet"):
        assert main(["train", "camvid/gffnet_r18", *words]) == 0
    assert calls[0] == {
        "recipe": "camvid/gffnet_r18",
        "root": Path("data"),
        "out": Path("runs/camvid/gffnet_r18"),
        "overrides": ["training.batch=4"],
        "resume": True,
        "cache": None,
        "devices": 2,
        "overfit": None,
        "wandb": "mine",
    }
    assert [record.message for record in caplog.records] == next_commands(calls[0]["out"], Path("data"))


def test_overfitting_is_a_run_of_its_own_without_next_commands(
    calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO", logger="gffnet"):
        assert main(["train", "mine/tiny.yaml", "--root", "data", "--overfit", "2"]) == 0
    assert (calls[0]["out"], calls[0]["overfit"]) == (Path("runs/tiny_overfit_2"), 2)
    assert caplog.records == []


def test_the_next_commands_are_valid(tmp_path: Path) -> None:
    run, root = tmp_path / "my run", tmp_path / "my data"
    run.mkdir()
    (run / "recipe.yaml").write_text(yaml.safe_dump(tiny.recipe().to_mapping()))
    lines = [line.partition(": ")[2].strip() for line in next_commands(run, root)]
    evaluate, predict = (make_parser().parse_args(shlex.split(line)[1:]) for line in lines)
    assert (evaluate.model, evaluate.dataset, evaluate.root) == (str(run), "camvid", root)
    assert (predict.model, predict.inputs) == (str(run), [Path("IMAGE")])

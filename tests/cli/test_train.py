"""What `gffnet train` passes on and says."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from gffnet.cli.main import main, make_parser
from gffnet.training.train import default_out
from tests import tiny


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments with which `train` would have been called; it leaves a recipe in the run folder."""
    calls: list[dict[str, Any]] = []

    def train(recipe: str, root: Path, out: Path | None, **options: Any) -> Path:
        out = default_out(recipe, options["overfit"]) if out is None else out
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
    words = ["--root", "my data", "--set", "training.batch=4", "--resume", "--devices", "2", "--wandb", "mine"]
    with caplog.at_level("INFO", logger="gffnet"):
        assert main(["train", "camvid/gffnet_r18", *words]) == 0
    assert calls[0] == {
        "recipe": "camvid/gffnet_r18",
        "root": Path("my data"),
        "out": Path("runs/camvid/gffnet_r18"),
        "overrides": ["training.batch=4"],
        "resume": True,
        "cache": None,
        "devices": 2,
        "overfit": None,
        "wandb": "mine",
    }
    evaluate, predict = (
        make_parser().parse_args(shlex.split(line.partition("gffnet ")[2])) for line in caplog.messages
    )
    assert (evaluate.model, evaluate.dataset, evaluate.root) == ("runs/camvid/gffnet_r18", "camvid", Path("my data"))
    assert (predict.model, predict.inputs) == ("runs/camvid/gffnet_r18", [Path("IMAGE")])


def test_overfitting_is_a_run_of_its_own_without_next_commands(
    calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO", logger="gffnet"):
        assert main(["train", "mine/tiny.yaml", "--root", "data", "--overfit", "2"]) == 0
    assert (calls[0]["out"], calls[0]["overfit"]) == (Path("runs/tiny_overfit_2"), 2)
    assert caplog.records == []

"""The demo, whole, on scenes and a network of a moment."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import gffnet.cli.demo
from gffnet.cli.demo import demo
from gffnet.errors import UserError
from gffnet.streets import write_streets
from gffnet.training.task import SegmentationTask
from gffnet.training.train import train
from tests import tiny


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes and three iterations instead of minutes; the recipe that the demo trains."""
    mapping = tiny.recipe(tiny.GFFNET, iterations=3, crop=[64, 128]).to_mapping()
    mapping["data"]["name"] = "streets"
    path = tmp_path_factory.mktemp("recipe") / "demo.yaml"
    path.write_text(yaml.safe_dump(mapping))
    small = {"RECIPE": str(path), "TRAIN_SCENES": 2, "VAL_SCENES": 1, "SIZE": (64, 128), "EXAMPLES": 1}
    for name, value in small.items():
        monkeypatch.setattr(gffnet.cli.demo, name, value)
    return path


def test_it_ends_with_a_report_and_a_second_run_shows_the_same(tmp_path: Path, recipe: Path) -> None:
    report = demo(tmp_path)
    scores = json.loads((tmp_path / "run/scores/scores.json").read_text())
    page = report.read_text(encoding="utf-8")
    assert f"{100 * scores['miou']:.1f} %" in page
    assert "minutes in all" in page
    assert scores["images"] == 1
    assert scores["protocol"]["dataset"] == "streets"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "run", "streets"]
    assert page.count("data:image") > 4

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert demo(tmp_path) == report
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before

    mapping = yaml.safe_load(recipe.read_text())
    mapping["training"]["learning_rate"] = 0.5
    recipe.write_text(yaml.safe_dump(mapping))
    with pytest.raises(UserError, match=r"learning_rate"):
        demo(tmp_path)


@pytest.mark.slow
def test_interrupted_at_every_stage(tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While scenes are drawn, in the last iteration, and while the report is written: each is resumed or repeated."""
    out, step = tmp_path / "demo", SegmentationTask.training_step

    def drawing(out: Path, train: int, val: int, size: tuple[int, int], **_: Any) -> None:
        write_streets(out, 1, 0, size)
        raise KeyboardInterrupt

    def training(self: SegmentationTask, batch: Any, index: int) -> Any:
        if self.global_step == 2:
            raise KeyboardInterrupt
        return step(self, batch, index)

    def writing(*_: Any) -> None:
        raise KeyboardInterrupt

    for place, interrupting, left in (
        ("gffnet.streets.write_streets", drawing, []),
        ("gffnet.training.task.SegmentationTask.training_step", training, ["run", "streets"]),
        ("gffnet.reports.report.write_report", writing, ["run", "streets"]),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, interrupting)
            with pytest.raises(KeyboardInterrupt):
                demo(out)
        assert sorted(path.name for path in out.iterdir()) == left
    assert "minutes since it was resumed" in demo(out).read_text(encoding="utf-8")
    whole = train(str(recipe), out / "streets", tmp_path / "whole", progress=False)
    first, second = (run / "model/model.safetensors" for run in (whole, out / "run"))
    assert first.read_bytes() == second.read_bytes()


def test_the_folder_is_a_file(tmp_path: Path, recipe: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^cannot write .*file/streets: "):
        demo(tmp_path / "file")


@pytest.mark.slow
def test_without_imagenet_weights_it_starts_from_scratch(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And stays with what it began with, though weights are installed later."""
    mapping = yaml.safe_load(recipe.read_text())
    mapping["model"]["backbone"]["weights"] = "imagenet"
    recipe.write_text(yaml.safe_dump(mapping))

    def nowhere(name: str) -> Path:
        raise UserError(f"weights 'imagenet' of backbone {name!r} are nowhere.")

    monkeypatch.setattr("gffnet.models.weights.pretrained_file", nowhere)
    caplog.set_level("INFO", "gffnet")
    report = demo(tmp_path)
    assert "test_resnet' are nowhere. The demo starts from random weights" in caplog.text
    assert "from scratch" in report.read_text(encoding="utf-8")
    assert yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())["model"]["backbone"]["weights"] == "none"
    monkeypatch.setattr("gffnet.models.weights.pretrained_file", lambda name: tmp_path / "weights.pth")
    assert demo(tmp_path) == report

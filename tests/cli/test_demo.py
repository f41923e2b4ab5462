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
from tests import tiny


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scenes and three iterations instead of minutes; the recipe that the demo trains."""
    mapping = tiny.recipe(tiny.GFFNET, iterations=3, crop=[64, 128]).to_mapping()
    mapping["data"]["name"] = "streets"
    path = tmp_path_factory.mktemp("recipe") / "demo.yaml"
    path.write_text(yaml.safe_dump(mapping))
    for name, value in {
        "RECIPE": str(path),
        "TRAIN_SCENES": 3,
        "VAL_SCENES": 2,
        "SIZE": (64, 128),
        "EXAMPLES": 2,
    }.items():
        monkeypatch.setattr(gffnet.cli.demo, name, value)
    return path


def test_it_ends_with_a_report_and_a_second_run_shows_the_same(tmp_path: Path, recipe: Path) -> None:
    report = demo(tmp_path)
    scores = json.loads((tmp_path / "run/scores/scores.json").read_text())
    page = report.read_text(encoding="utf-8")
    assert f"{100 * scores['miou']:.1f} %" in page
    assert "minutes in all" in page
    assert scores["images"] == 2
    assert scores["protocol"]["dataset"] == "streets"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "run", "streets"]
    assert page.count("data:image") > 2 * 4
    weights = tmp_path / "run/model/model.safetensors"
    trained, made = weights.read_bytes(), (tmp_path / "streets/leftImg8bit/val").stat().st_mtime_ns

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert demo(tmp_path) == report
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert report.read_text(encoding="utf-8") == page
    assert weights.read_bytes() == trained
    assert (tmp_path / "streets/leftImg8bit/val").stat().st_mtime_ns == made
    assert json.loads((tmp_path / "run/scores/scores.json").read_text())["miou"] == scores["miou"]

    mapping = yaml.safe_load(recipe.read_text())
    mapping["training"]["learning_rate"] = 0.5
    recipe.write_text(yaml.safe_dump(mapping))
    with pytest.raises(UserError, match=r"learning_rate"):
        demo(tmp_path)


def stop(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_interrupted_while_scenes_are_drawn(tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenes count as drawn once all of them are."""
    real = write_streets

    def interrupting(out: Path, train: int, val: int, *more: Any, **options: Any) -> None:
        real(out, train, val - 1, *more, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gffnet.streets.write_streets", interrupting)
        with pytest.raises(KeyboardInterrupt):
            demo(tmp_path)
    demo(tmp_path)
    assert len(list((tmp_path / "streets/leftImg8bit").rglob("*.png"))) == 3 + 2
    assert json.loads((tmp_path / "run/scores/scores.json").read_text())["images"] == 2


@pytest.mark.parametrize("part", ["report_of", "write_report"])
def test_interrupted_after_training(part: str, tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(f"gffnet.reports.report.{part}", stop)
        with pytest.raises(KeyboardInterrupt):
            demo(tmp_path)
    weights = tmp_path / "run/model/model.safetensors"
    trained = weights.stat().st_mtime_ns
    page = demo(tmp_path).read_text(encoding="utf-8")
    assert weights.stat().st_mtime_ns == trained
    assert "minutes since it was resumed" in page


def test_interrupted_in_training(tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = demo(tmp_path / "whole").parent
    step, trained = SegmentationTask.training_step, []

    def interrupting(self: SegmentationTask, batch: Any, index: int) -> Any:
        if self.global_step == 2 and trained.count(2) == 0:
            trained.append(2)
            raise KeyboardInterrupt
        trained.append(self.global_step)
        return step(self, batch, index)

    monkeypatch.setattr(SegmentationTask, "training_step", interrupting)
    with pytest.raises(KeyboardInterrupt):
        demo(tmp_path / "broken")
    demo(tmp_path / "broken")
    assert trained == [0, 1, 2, 2]
    first, second = (path / "run/model/model.safetensors" for path in (whole, tmp_path / "broken"))
    assert first.read_bytes() == second.read_bytes()


def test_the_folder_is_a_file(tmp_path: Path, recipe: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^cannot write .*file/streets: "):
        demo(tmp_path / "file")

"""The demo, whole, on scenes and a network of a moment."""

import json
from pathlib import Path
from typing import Any

import pytest

import gffnet.cli.demo
from gffnet.cli.demo import demo
from gffnet.errors import UserError
from gffnet.recipe import Recipe
from gffnet.training.task import SegmentationTask
from tests import tiny


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recipe]:
    """Four scenes and three iterations instead of minutes; what the demo trains can be changed."""
    streets = tiny.recipe(tiny.GFFNET, iterations=3, crop=[64, 128])
    mapping = streets.to_mapping()
    mapping["data"]["name"] = "streets"
    chosen = {"recipe": tiny.recipe_from_mapping(mapping, "tests")}
    real = gffnet.cli.demo.load_recipe
    monkeypatch.setattr(gffnet.cli.demo, "TRAIN_SCENES", 3)
    monkeypatch.setattr(gffnet.cli.demo, "VAL_SCENES", 2)
    monkeypatch.setattr(gffnet.cli.demo, "SIZE", (64, 128))
    monkeypatch.setattr(gffnet.cli.demo, "EXAMPLES", 2)
    monkeypatch.setattr(
        gffnet.cli.demo, "load_recipe", lambda name: chosen["recipe"] if name == gffnet.cli.demo.RECIPE else real(name)
    )
    return chosen


def test_it_ends_with_a_report_and_a_second_run_shows_the_same(tmp_path: Path, small: dict[str, Recipe]) -> None:
    report = demo(tmp_path)
    scores = json.loads((tmp_path / "run/scores/scores.json").read_text())
    page = report.read_text(encoding="utf-8")
    assert f"{100 * scores['miou']:.1f} %" in page
    assert "minutes for all of it" in page
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

    mapping = small["recipe"].to_mapping()
    mapping["training"]["learning_rate"] = 0.5
    small["recipe"] = tiny.recipe_from_mapping(mapping, "tests")
    with pytest.raises(UserError, match=r"learning_rate"):
        demo(tmp_path)


def stop(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_broken_off_while_scenes_are_drawn(
    tmp_path: Path, small: dict[str, Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenes are taken for drawn when all of them are, not when the first of them lie there."""
    real = gffnet.cli.demo.write_streets

    def breaks_off(out: Path, train: int, val: int, *more: Any, **options: Any) -> None:
        real(out, train, val - 1, *more, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gffnet.cli.demo, "write_streets", breaks_off)
        with pytest.raises(KeyboardInterrupt):
            demo(tmp_path)
    demo(tmp_path)
    assert len(list((tmp_path / "streets/leftImg8bit").rglob("*.png"))) == 3 + 2
    assert json.loads((tmp_path / "run/scores/scores.json").read_text())["images"] == 2


@pytest.mark.parametrize("part", ["report_of", "write_report"])
def test_broken_off_after_training(
    part: str, tmp_path: Path, small: dict[str, Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(gffnet.cli.demo, part, stop)
        with pytest.raises(KeyboardInterrupt):
            demo(tmp_path)
    weights = tmp_path / "run/model/model.safetensors"
    trained = weights.stat().st_mtime_ns
    page = demo(tmp_path).read_text(encoding="utf-8")
    assert weights.stat().st_mtime_ns == trained
    assert "minutes since it went on after an interruption" in page


def test_broken_off_in_training(tmp_path: Path, small: dict[str, Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = demo(tmp_path / "whole").parent
    step, trained = SegmentationTask.training_step, []

    def breaks_off(self: SegmentationTask, batch: Any, index: int) -> Any:
        if self.global_step == 2 and trained.count(2) == 0:
            trained.append(2)
            raise KeyboardInterrupt
        trained.append(self.global_step)
        return step(self, batch, index)

    monkeypatch.setattr(SegmentationTask, "training_step", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        demo(tmp_path / "broken")
    demo(tmp_path / "broken")
    assert trained == [0, 1, 2, 2]
    first, second = (path / "run/model/model.safetensors" for path in (whole, tmp_path / "broken"))
    assert first.read_bytes() == second.read_bytes()


def test_the_folder_is_a_file(tmp_path: Path, small: dict[str, Recipe]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^--out: cannot write .*file/streets: "):
        demo(tmp_path / "file")

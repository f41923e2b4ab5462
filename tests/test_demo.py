"""The demo, whole, on scenes and a network of a moment."""

import json
from pathlib import Path

import pytest

import gffnet.demo
from gffnet.demo import demo
from gffnet.errors import UserError
from gffnet.recipe import Recipe
from tests import tiny


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recipe]:
    """Four scenes and three iterations instead of minutes; what the demo trains can be changed."""
    streets = tiny.recipe(tiny.GFFNET, iterations=3, crop=[64, 128])
    mapping = streets.to_mapping()
    mapping["data"]["name"] = "streets"
    chosen = {"recipe": tiny.recipe_from_mapping(mapping, "tests")}
    real = gffnet.demo.load_recipe
    monkeypatch.setattr(gffnet.demo, "TRAIN_SCENES", 3)
    monkeypatch.setattr(gffnet.demo, "VAL_SCENES", 2)
    monkeypatch.setattr(gffnet.demo, "SIZE", (64, 128))
    monkeypatch.setattr(gffnet.demo, "EXAMPLES", 2)
    monkeypatch.setattr(
        gffnet.demo, "load_recipe", lambda name: chosen["recipe"] if name == gffnet.demo.RECIPE else real(name)
    )
    return chosen


def test_it_ends_with_a_report_and_a_second_run_shows_the_same(tmp_path: Path, small: dict[str, Recipe]) -> None:
    report = demo(tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    page = report.read_text(encoding="utf-8")
    assert f"{scores['miou']:.1%}" in page
    assert page.count("data:image") > 2 * 4
    weights = tmp_path / "run/model/model.safetensors"
    trained, made = weights.read_bytes(), (tmp_path / "streets/leftImg8bit/val").stat().st_mtime_ns

    demo(tmp_path)
    assert weights.read_bytes() == trained
    assert (tmp_path / "streets/leftImg8bit/val").stat().st_mtime_ns == made
    assert json.loads((tmp_path / "scores.json").read_text())["miou"] == scores["miou"]

    mapping = small["recipe"].to_mapping()
    mapping["training"]["learning_rate"] = 0.5
    small["recipe"] = tiny.recipe_from_mapping(mapping, "tests")
    with pytest.raises(UserError, match=r"learning_rate"):
        demo(tmp_path)

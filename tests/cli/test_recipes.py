"""`gffnet recipes`: the list, and a recipe that is printed as YAML."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gffnet.cli.main import main
from gffnet.recipe import StrictLoader, load_recipe, load_unresolved, recipe_from_mapping, recipe_names

Captured = pytest.CaptureFixture[str]


def printed(captured: Captured, *words: str) -> str:
    assert main(["recipes", *words]) == 0
    out, err = captured.readouterr()
    assert err == ""
    return out


def refused(captured: Captured, *words: str) -> str:
    assert main(["recipes", *words]) == 2
    out, err = captured.readouterr()
    assert out == ""
    return err


def test_every_shipped_recipe_has_a_line(capsys: Captured) -> None:
    lines = printed(capsys).splitlines()
    found = {line.split()[0]: line for line in lines if line.split()[:1] and line.split()[0] in recipe_names()}
    assert sorted(found) == list(recipe_names())
    line = "camvid/gffnet_r18 PSPNet + GFF + DFP, resnet18 30000 x 16 352x352"
    assert " ".join(found["camvid/gffnet_r18"].split()) == line
    assert "auto x 8" in found["folder/gffnet_r18"]


def test_the_list_fits_a_narrow_terminal(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # as on a terminal
    lines = [line for line in printed(capsys).splitlines() if " x " in line]
    assert len(lines) >= len(recipe_names())
    assert max(map(len, lines)) <= 80
    assert not any("/" in line.split()[0] for line in lines)


def test_the_list_as_json(capsys: Captured) -> None:
    rows = json.loads(printed(capsys, "--json"))
    assert [row["recipe"] for row in rows] == list(recipe_names())
    (row,) = [row for row in rows if row["recipe"] == "camvid/gffnet_r18"]
    assert row == {
        "recipe": "camvid/gffnet_r18",
        "dataset": "camvid",
        "network": "PSPNet + GFF + DFP",
        "backbone": "resnet18",
        "iterations": 30000,
        "batch": 16,
        "crop": [352, 352],
    }


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("name", ["camvid/gffnet_r18", "folder/gffnet_r18", "cityscapes/gffnet_r101_trainval"])
def test_what_is_printed_is_the_recipe(
    name: str, width: int, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = printed(capsys, name, "--set", "training.loss.ohem=0.7")
    limit = max(width, 44)  # the longest word
    assert max(map(len, text.splitlines())) <= limit
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert load_unresolved(file, inputs=True) == load_unresolved(name, ["training.loss.ohem=0.7"], inputs=True)


def test_a_section_alone(capsys: Captured) -> None:
    text = printed(capsys, "camvid/gffnet_r18", "--keys", "training.loss")
    mapping = yaml.load(text, StrictLoader)
    assert list(mapping) == ["training"]
    assert list(mapping["training"]) == ["loss"]
    assert mapping["training"]["loss"]["class_weights"][0] == 2.367
    assert recipe_from_mapping(mapping, "test").training.loss == load_recipe("camvid/gffnet_r18").training.loss
    assert yaml.safe_load(printed(capsys, "camvid/gffnet_r18", "--keys", "training.crop")) == {
        "training": {"crop": [352, 352]}
    }
    assert yaml.safe_load(printed(capsys, "--keys", "seed")) == {"seed": 0}


def test_what_differs_from_the_default_says_so(capsys: Captured) -> None:
    words = " ".join(printed(capsys, "camvid/gffnet_r18", "--keys", "training").replace("#", " ").split())
    assert "batch: 16 Images per iteration, over all devices. (integer; 1 or more; default 8)" in words
    assert "flip: true Random horizontal flip. (true or false)" in words


def test_a_recipe_as_json(capsys: Captured) -> None:
    (row,) = json.loads(printed(capsys, "camvid/gffnet_r18", "--keys", "training.batch", "--json"))
    assert row == {
        "key": "training.batch",
        "value": 16,
        "type": "integer",
        "allowed": "1 or more",
        "default": 8,
        "meaning": "Images per iteration, over all devices.",
    }


def test_mistakes(capsys: Captured) -> None:
    assert "Did you mean 'camvid/gffnet_r18'?" in refused(capsys, "camvid/gffnet_18")
    assert "--keys lr is unknown. Did you mean training.learning_rate?" in refused(capsys, "--keys", "lr")
    assert "name it" in refused(capsys, "--set", "seed=1")
    assert "must be a valid integer" in refused(capsys, "camvid/gffnet_r18", "--set", "seed=x")


def test_the_list_needs_no_torch() -> None:
    code = "import sys; from gffnet.cli.main import main; main(['recipes']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0

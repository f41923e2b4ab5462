"""The section "From Python" of docs/training.md: its blocks run in order, with a miniature network."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import gffnet
from gffnet.training.callbacks import read_history
from tests import tiny
from tests.data.trees import ids, picture, save
from tests.docs.pages import blocks, read_page


def in_section(page: str, section: str) -> list[str]:
    return blocks(read_page(page).split(f"\n## {section}\n")[1].split("\n## ")[0], "python")


def pascal_voc(root: Path) -> None:
    """Three samples in the layout of torchvision's data set."""
    for i in range(3):
        save(root / f"JPEGImages/{i}.jpg", picture(i))
        save(root / f"SegmentationClass/{i}.png", ids(i, 21))
    for split in ("train", "val"):
        (root / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("0\n1\n2\n")


def test_training_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    small = tiny.recipe(tiny.GFFNET, iterations=2, validate_every=2)
    Path("tiny.yaml").write_text(yaml.safe_dump(small.to_mapping()))
    pascal_voc(tmp_path / "data/VOCdevkit/VOC2012")
    names: dict[str, Any] = {"__name__": "docs.training"}
    for block in [*in_section("training.md", "From Python"), *in_section("own_data.md", "A torch Dataset")]:
        exec(compile(block.replace("folder/gffnet_lite0", "tiny.yaml"), "docs/training.md", "exec"), names)
    miou, square = map(float, capsys.readouterr().out.splitlines()[0].split())
    assert 0 <= square <= 1
    assert 0 < miou < 1
    used = {
        run.parent.name: set(json.loads(run.read_text())["python"]) - {"train_data", "val_data"}
        for run in sorted(tmp_path.glob("runs/*/run.json"))
    }
    assert used == {
        "squares": set(),
        "focal": {"loss"},
        "affine": {"transform"},
        "one_cycle": {"task"},
        "voc": set(),
    }
    assert "confidence" in read_history(tmp_path / "runs/one_cycle/history.jsonl")[0]["logged"]
    assert gffnet.load("runs/voc").config.classes[:2] == ("background", "aeroplane")

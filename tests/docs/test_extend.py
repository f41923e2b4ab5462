"""The page docs/extend.md: its files, written into a folder, work with the package unchanged."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.data.trees import picture, save
from tests.docs.pages import read_page
from tests.training.processes import forked

ROOT = Path(__file__).parents[2]
PAGE = read_page("extend.md")
FILE = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)

TINY = {
    "model.backbone": "{name: test_resnet, weights: none}",
    "model.context": "none",
    "training.iterations": "1",
    "training.batch": "2",
    "training.crop": "[32, 32]",
    "training.workers": "0",
    "evaluation.crop": "null",
    "precision": "float32",
}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program in the folder of the page's files, which is not on its path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT)))}
    python = [sys.executable, "-P", *command]
    return subprocess.run(python, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def gffnet(folder: Path, *arguments: str) -> str:
    """What a command prints."""
    done = forked(arguments, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page, and a small release of the data set."""
    folder = tmp_path_factory.mktemp("extended")
    for name, text in FILE.findall(PAGE):
        (folder / name).write_text(text, encoding="utf-8")
    mask = np.repeat(np.arange(4, dtype=np.uint8), 4)[None].repeat(12, 0)
    for split in ("train", "val"):
        for i in range(2):
            save(folder / f"data/orchard/photos/{split}/{i}.jpg", picture(i))
            save(folder / f"data/orchard/masks/{split}/{i}.png", mask)
    return folder


def test_the_test_of_the_fusion_passes(folder: Path) -> None:
    some = "equation or shapes or every_parameter"
    options = ["-q", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".", "-k", some]
    result = forked([*options, "test_sender_gated.py"], folder, pytest.main)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed
    assert int(passed[1]) >= 4


def test_commands_know_the_fusion_and_the_data_set(folder: Path) -> None:
    changes = [
        word for change in {**TINY, "model.fusion": "sender_gated"}.items() for word in ("--set", "=".join(change))
    ]
    plugins = ["--plugin", "orchard", "--plugin", "sender_gated.py"]
    gffnet(folder, "train", "orchard.yaml", "--root", "data/orchard", "--devices", "1", *plugins, *changes)
    recipe = yaml.safe_load((folder / "runs/orchard/recipe.yaml").read_text())
    assert recipe["plugins"] == [str(folder / name) for name in ("orchard.py", "sender_gated.py")]
    config = json.loads((folder / "runs/orchard/model/config.json").read_text())
    assert (config["model"]["fusion"], config["plugins"]) == ("sender_gated", ["sender_gated.py"])

    model = ["--model", "runs/orchard", "--device", "cpu", "--precision", "float32"]
    data = ["--dataset", "orchard", "--root", "data/orchard"]
    scores = json.loads(gffnet(folder, "evaluate", *model, *plugins, *data, "--out", "runs/orchard/scores", "--json"))
    assert (list(scores["per_class"]), scores["images"]) == (["ground", "trunk", "leaves"], 2)


def test_the_data_set_is_checked(folder: Path) -> None:
    check = ["data", "check", "orchard", "--plugin", "orchard", "--workers", "1", "--json", "--root"]
    splits = json.loads(gffnet(folder, *check, "data/orchard"))["splits"]
    assert {name: split["samples"] for name, split in splits.items()} == {"train": 2, "val": 2}
    assert splits["val"]["ids"] == {str(i): 96 for i in range(4)}
    assert [each["pixels"] for each in splits["val"]["classes"]] == [96, 96, 96]

    save(folder / "wrong/photos/train/0.jpg", picture(0))
    result = forked([*check, "wrong"], folder)
    assert result.returncode == 1
    assert "masks/train/0.png" in result.stdout


def test_the_backbone_and_the_loss_train(folder: Path) -> None:
    changes = [word for key in list(TINY)[1:] for word in ("--set", f"{key}={TINY[key]}")]
    gffnet(
        folder,
        "train",
        "small.yaml",
        "--out",
        "small",
        "--devices",
        "1",
        *changes,
        "--plugin",
        "orchard",
        "--set",
        "data.name=orchard",
        "--set",
        "training.loss.class_weights=null",
        "--root",
        "data/orchard",
    )
    assert json.loads((folder / "small/model/config.json").read_text())["plugins"] == ["small.py"]


def test_the_code_passes_ruff(folder: Path) -> None:
    files = [name for name, _ in FILE.findall(PAGE) if name.endswith(".py") and not name.startswith("test_")]
    assert sorted(files) == ["orchard.py", "sender_gated.py", "small.py"]
    settings = ["--config", str(ROOT / "pyproject.toml"), "--config", "lint.isort.known-first-party=['gffnet']"]
    for command in (["check"], ["format", "--check"]):
        result = run(folder, "-m", "ruff", *command, "--no-cache", *settings, *files)
        assert result.returncode == 0, result.stdout

"""The page docs/extend.md: its files, written into a folder, work with the package unchanged."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.trees import picture, save

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
FILE = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)

COMMANDS = """
import json

import orchard
import sender_gated
import torch
from gffnet.cli.main import main
from gffnet.models.gffnet import build_network
from gffnet.recipe import load_recipe

TINY = {
    "model.backbone": "{name: test_resnet, weights: none}",
    "model.context": "none",
    "model.fusion": "sender_gated",
    "training.iterations": "1",
    "training.batch": "2",
    "training.workers": "0",
    "precision": "float32",
}


def test_recipes_know_the_fusion():
    with torch.device("meta"):
        network = build_network(load_recipe("sender_gated.yaml").model, 11)
    assert isinstance(network.fusion, sender_gated.SenderGated)


def test_the_commands_know_both(capsys):
    changes = [word for change in TINY.items() for word in ("--set", "=".join(change))]
    assert main(["train", "orchard.yaml", "--root", "data/orchard", "--devices", "1", *changes]) == 0
    capsys.readouterr()
    model = ["--model", "runs/orchard", "--device", "cpu", "--precision", "float32"]
    assert main(["evaluate", *model, "--dataset", "orchard", "--root", "data/orchard", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (list(scores["per_class"]), scores["images"]) == (["ground", "trunk", "leaves"], 2)
"""


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, (folder, ROOT / "src", ROOT)))
    environment = {**os.environ, "PYTHONPATH": path}
    python = [sys.executable, *command]
    return subprocess.run(python, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page, and a small release of the data set."""
    folder = tmp_path_factory.mktemp("extended")
    for name, text in FILE.findall(PAGE):
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "test_commands.py").write_text(COMMANDS, encoding="utf-8")
    mask = np.repeat(np.arange(4, dtype=np.uint8), 4)[None].repeat(12, 0)
    for split in ("train", "val"):
        for i in range(2):
            save(folder / f"data/orchard/photos/{split}/{i}.jpg", picture(i))
            save(folder / f"data/orchard/masks/{split}/{i}.png", mask)
    return folder


def test_its_tests_pass(folder: Path) -> None:
    some = "equation or shapes or every_parameter or know"
    options = ["-q", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", ".", "-k", some]
    result = run(folder, "-m", "pytest", *options, "test_sender_gated.py", "test_commands.py")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed
    assert int(passed[1]) >= 6


def test_the_file_of_a_data_set_is_a_command(folder: Path) -> None:
    check = ["orchard.py", "data", "check", "orchard", "--workers", "2", "--json", "--root"]
    result = run(folder, *check, "data/orchard")
    assert result.returncode == 0, result.stderr
    splits = json.loads(result.stdout)["splits"]
    assert {name: split["samples"] for name, split in splits.items()} == {"train": 2, "val": 2}
    assert splits["val"]["ids"] == {str(i): 96 for i in range(4)}
    assert [each["pixels"] for each in splits["val"]["classes"]] == [96, 96, 96]

    save(folder / "wrong/photos/train/0.jpg", picture(0))
    result = run(folder, *check, "wrong")
    assert result.returncode == 1
    assert "masks/train/0.png" in result.stdout


def test_the_code_passes_ruff(folder: Path) -> None:
    files = [name for name, _ in FILE.findall(PAGE) if name.endswith(".py") and not name.startswith("test_")]
    assert sorted(files) == ["orchard.py", "sender_gated.py"]
    settings = ["--config", str(ROOT / "pyproject.toml"), "--config", "lint.isort.known-first-party=['gffnet']"]
    for command in (["check"], ["format", "--check"]):
        result = run(folder, "-m", "ruff", *command, "--no-cache", *settings, *files)
        assert result.returncode == 0, result.stdout

"""The page docs/extend.md, followed to the letter in a copy of the package: what comes out works."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
STEP = re.compile(r"^(?:`([\w./]+)`:\n\n)?```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

FOLLOWED = """
import json

import torch

from gffnet.cli import main
from gffnet.data.datasets import open_dataset
from gffnet.models.gffnet import build_network
from gffnet.recipe import load_recipe
from tests.data.test_orchard import orchard


def test_recipes_and_commands_know_both(tmp_path, capsys):
    with torch.device("meta"):
        network = build_network(load_recipe("sender_gated.yaml").model, 11)
    assert type(network.fusion).__name__ == "SenderGated"
    assert load_recipe("orchard.yaml").data.name == "orchard"
    root = orchard(tmp_path)
    assert open_dataset("orchard", root, "train").classes.names == ("ground", "trunk", "leaves")
    main(["data", "check", "orchard", "--root", str(root), "--workers", "1", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert {split: found["samples"] for split, found in report["splits"].items()} == {"train": 2, "val": 2}
"""


def edited(text: str, diff: str) -> str:
    """`text` with a hunk applied: its context and removed lines must follow one another, once."""
    lines = diff.splitlines()
    before = "".join(f"{line[1:]}\n" for line in lines if line[0] != "+")
    after = "".join(f"{line[1:]}\n" for line in lines if line[0] != "-")
    assert text.count(before) == 1, f"not there once:\n{before}"
    return text.replace(before, after)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its tests after every step of the page."""
    copy = tmp_path_factory.mktemp("followed")
    ignore = shutil.ignore_patterns("*.egg-info", "*.pyc.*")  # what is compiled already need not be compiled again
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    path = ""
    for named, language, text in STEP.findall(PAGE):
        path = named or path
        if language == "diff":
            file = copy / path
            file.write_text(edited(file.read_text(encoding="utf-8"), text), encoding="utf-8")
        elif named:
            assert not (copy / named).exists(), f"{named} is there already"
            (copy / named).write_text(text, encoding="utf-8")
    (copy / "tests" / "test_followed.py").write_text(FOLLOWED, encoding="utf-8")
    return copy


def test_what_comes_out_passes_its_tests(followed: Path) -> None:
    tests = ["tests/models/test_sender_gated.py", "tests/data/test_orchard.py", "tests/test_followed.py"]
    some = "equation or shapes or every_parameter or labels or unknown or missing or recipes"
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", followed, "-k", some, *tests],
        cwd=followed,
        env={**os.environ, "PYTHONPATH": str(followed / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
    passed = re.search(r"(\d+) passed", result.stdout)
    assert passed
    assert int(passed[1]) >= 8


def test_the_code_is_as_the_rest_of_the_house(followed: Path) -> None:
    files = [named for named, _, _ in STEP.findall(PAGE) if named.endswith(".py")]
    assert len(set(files)) == 8
    shutil.copy(ROOT / "pyproject.toml", followed)
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["check"], ["format", "--check"]):
        result = subprocess.run(
            [*ruff, *command, "--no-cache", *set(files)], cwd=followed, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout

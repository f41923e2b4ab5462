"""README and pages: their Python runs, their commands parse, their links are valid, the tree is complete."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from gffnet.cli.main import make_parser
from gffnet.models.fusion import FUSIONS
from gffnet.models.gffnet import build_network, save_model
from gffnet.models.model_io import ModelConfig
from gffnet.recipe import load_recipe, recipe_names
from tests.docs.pages import blocks, read_page

ROOT = Path(__file__).parents[1]
RUN = [ROOT / "README.md", ROOT / "docs/index.md", ROOT / "docs/predict.md"]
"""Pages whose Python blocks run by themselves; those of other pages have tests of their own, in tests/docs."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the photo and the run that the examples name. What they register is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    small = ["model.backbone.name=test_resnet", "model.channels=32"]
    model = load_recipe("streets/gffnet_r18", small).model
    config = ModelConfig(model, ("road", "sky"), ((128, 64, 128), (70, 130, 180)), "streets", "streets/gffnet_r18")
    save_model(tmp_path / "runs/streets/gffnet_r18/model", build_network(model, 2), config)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    with patch.dict(FUSIONS):
        yield tmp_path


@pytest.mark.usefixtures("working_folder")
@pytest.mark.parametrize(
    ("page", "number"),
    [(page, i) for page in RUN for i in range(len(blocks(read_page(page), "python")))],
    ids=lambda value: value.stem if isinstance(value, Path) else str(value),
)
def test_python_blocks_run(page: Path, number: int) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(blocks(read_page(page), "python")[number], names)
    if "predictor" in names:
        assert names["labels"].shape == (48, 64)
        assert names["labels"].max() < len(names["predictor"].config.classes)
    elif "segment" in names:
        assert tuple(names["labels"].shape) == (100, 150)
    elif "fused" in names:
        assert [tuple(x.shape) for x in names["fused"]] == [(1, 64, s, s) for s in (32, 16, 8, 4)]
        assert tuple(names["logits"].shape) == (1, 5, 64, 96)
    else:
        logits, gates = names["net"].eval()(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
        assert (tuple(logits.shape), gates) == ((1, 11, 64, 64), None)


def joined(block: str) -> list[str]:
    """The lines of a block; a line that ends with a backslash includes the next one."""
    return block.replace("\\\n", " ").splitlines()


def commands() -> list[str]:
    lines = [line for page in PAGES for block in blocks(read_page(page), "bash") for line in joined(block)]
    return sorted({re.split("[#>]", line)[0].strip() for line in lines if line.startswith("gffnet ")})


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command: str) -> None:
    arguments = make_parser().parse_args(shlex.split(command)[1:])
    named = [arguments.recipe] if hasattr(arguments, "recipe") else getattr(arguments, "recipes", [])
    assert {name for name in named if name and not name.endswith(".yaml")} <= set(recipe_names())


def test_there_are_commands_and_blocks_to_test() -> None:
    assert len(commands()) >= 6
    assert len(blocks(read_page(ROOT / "README.md"), "python")) == 3


def test_the_tree_is_complete() -> None:
    tree = next(block for block in blocks(read_page(ROOT / "README.md"), "") if block.startswith("src/gffnet/"))
    named = {
        name.strip("/") for line in tree.splitlines() if line.startswith("  ") for name in line.split("  ")[1].split()
    }
    package = ROOT / "src/gffnet"
    there = {path.name for path in package.iterdir() if path.name not in {"__init__.py", "__pycache__", "py.typed"}}
    assert named == there


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_are_valid(page: Path) -> None:
    for target, place in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", read_page(page)):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not place or file.suffix != ".md" or place in anchors(file), f"{target}#{place}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", read_page(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

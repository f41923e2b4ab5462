"""Evaluations on disk, as `gffnet evaluate --out` and the run folder around them leave them, with made-up scores."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gffnet.data.datasets import image_count
from gffnet.evaluation.evaluate import plain
from gffnet.recipe import load_recipe

MULTI = [0.75, 1.0, 1.25, 1.5, 1.75]
COST = {
    name: {"params": 60.0 + i, "gmac_512": 200.0 + 10 * i, "gmac_768": 500.0 + 20 * i, "executed": 480.0 + 15 * i}
    for i, name in enumerate(("cityscapes/pspnet_r101", "cityscapes/pspnet_r101_gff", "cityscapes/gffnet_r101"))
}
"""Of the networks of Table 3, made up."""


def save_scores(folder: Path, of: str, miou: float, other: Mapping[str, Any] | None = None, **changes: Any) -> Path:
    """A `scores.json` of a recipe's own protocol but for `changes` to it; `other` scores beside the mIoU, in 0..1."""
    recipe = load_recipe(of)
    record = {**plain(recipe.evaluation), "dataset": recipe.data.name, "split": recipe.data.val_split, "recipe": of}
    images = image_count(recipe.data.name, recipe.data.val_split) or 1
    scores = {"miou": miou, "pixel_accuracy": 0.9, "per_class": {"road": 0.5}, "images": images, **(other or {})}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "scores.json"
    path.write_text(json.dumps({**scores, "protocol": {**record, "weights_sha256": str(folder), **changes}}))
    return path


def save_run(
    folder: Path, recipe: str, miou: float, *overrides: str, other: Mapping[str, Any] | None = None, **changes: Any
) -> Path:
    """A run folder with its scores in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(load_recipe(recipe, overrides).to_mapping()))
    (folder / "run.json").write_text(json.dumps({"recipe": recipe, "sessions": []}))
    save_scores(folder / "scores", recipe, miou, other, **changes)
    return folder

"""Run folders as training leaves them, of networks of a moment."""

import json
from pathlib import Path
from typing import Any

import yaml

from gffnet.data.datasets import dataset_classes
from gffnet.models.gffnet import save_model
from gffnet.models.model_io import ModelConfig
from gffnet.recipe import recipe_from_mapping
from tests import tiny

RECORD: dict[str, Any] = {
    "gffnet": "0.1.0",
    "recipe": "tests/tiny",
    "parameters": 1234567,
    "data": {"name": "camvid", "splits": {"train": {"split": "train", "samples": 5, "fingerprint": "f"}}},
    "sessions": [
        {
            "started": "2026-01-02T03:04:05+00:00",
            "ended": "2026-01-02T04:09:05+00:00",
            "outcome": "interrupted",
            "from_iteration": 0,
            "to_iteration": 4,
            "command": "gffnet train mine.yaml --root data",
            "versions": {"python": "3.12.1", "torch": "2.8.0", "cuda": None},
            "git": {"commit": "0123456789abcdef0123", "changes": True},
            "hardware": {"cpu": "A CPU", "cores": 8, "memory": 16e9, "gpus": [{"name": "A GPU", "memory": 80e9}] * 2},
            "processes": 2,
            "devices": 2,
            "nodes": 1,
            "precision": {"name": "bfloat16", "reason": "the GPU has it"},
            "images_per_second": 12.345,
            "memory": 3.21e9,
        },
        {
            "started": "2026-01-03T03:04:05+00:00",
            "ended": None,
            "outcome": None,
            "from_iteration": 4,
            "to_iteration": None,
            "command": "gffnet train mine.yaml --root data --resume",
            "versions": {"python": "3.12.1", "torch": "2.8.0", "cuda": None},
            "git": None,
            "hardware": {"cpu": "Another CPU", "cores": 4, "memory": None, "gpus": []},
            "processes": 1,
            "devices": 1,
            "nodes": 1,
            "precision": {"name": "bfloat16", "reason": "the GPU has it"},
            "images_per_second": None,
            "memory": None,
        },
    ],
}
"""Of a run that went on, on another machine, and is not done."""

HISTORY: list[dict[str, Any]] = [
    {"iteration": 2, "loss": 2.0, "auxiliary_loss": 3.0, "learning_rate": 0.1, "images_per_second": 9.0},
    {"iteration": 4, "loss": 1.0, "auxiliary_loss": 2.0, "learning_rate": 0.05, "images_per_second": 9.0},
    {"iteration": 4, "miou": 0.25, "pixel_accuracy": 0.5, "iou": [0.5, *[None] * 9, 0.0], "seconds": 1.0},
]


def make_run(
    folder: Path, model: dict[str, Any] = tiny.GFFNET, seed: int = 0, trained: bool = True, dataset: str = "camvid"
) -> Path:
    """A run of a tiny network."""
    mapping = tiny.recipe(model).to_mapping()
    mapping["data"]["name"] = dataset
    recipe, classes = recipe_from_mapping(mapping, "tests"), dataset_classes(dataset)
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_mapping()))
    (folder / "run.json").write_text(json.dumps(RECORD))
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in HISTORY))
    if trained:
        config = ModelConfig(recipe.model, classes.names, classes.palette, dataset, "tests/tiny", recipe.evaluation)
        save_model(folder / "model", tiny.network(recipe, len(classes.names), seed), config)
    return folder

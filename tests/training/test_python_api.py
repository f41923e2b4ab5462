"""`gffnet.train` and `gffnet.evaluate` with data, loss, transform and task of the user's own."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gffnet.inference.predictor import load
from gffnet.training.callbacks import read_history
from gffnet.training.train import train
from tests import tiny

LEARNS = tiny.recipe(iterations=40, validate_every=40, optimizer="adamw", learning_rate=1e-3, new_layers_multiplier=1.0)


class Shapes:
    """Bright squares (1) on a dark ground (0); (array, tensor) pairs."""

    def __init__(self, count: int = 6, size: tuple[int, int] = (40, 56)) -> None:
        self.count, self.size_ = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rng = np.random.default_rng(index)
        image = rng.integers(0, 90, (*self.size_, 3), dtype=np.uint8)
        labels = np.zeros(self.size_, np.int64)
        top, left = rng.integers(0, 20, 2)
        image[top : top + 16, left : left + 16] += 150
        labels[top : top + 16, left : left + 16] = 1
        labels[:2] = -1
        return image, torch.from_numpy(labels)


def sha(run: Path, name: str = "model") -> str:
    return hashlib.sha256((run / name / "model.safetensors").read_bytes()).hexdigest()


def fit(out: Path, **options: Any) -> Path:
    options = {"train_data": Shapes(), "val_data": Shapes(2), "classes": ["ground", "square"], **options}
    recipe = options.pop("recipe", None) or tiny.recipe()
    return train(recipe, out=out, progress=False, **options)


def test_own_data_train_a_model_that_predicts_them(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", recipe=LEARNS)
    record = json.loads((run / "run.json").read_text())
    assert record["python"] == {
        "train_data": "tests.training.test_python_api.Shapes, 6 samples",
        "val_data": "tests.training.test_python_api.Shapes, 2 samples",
    }
    assert record["data"]["name"] == "Shapes"
    predictor = load(run)
    assert predictor.config.classes == ("ground", "square")
    assert predictor.config.dataset == "Shapes"
    assert read_history(run / "history.jsonl")[-1]["miou"] > 0.55  # 0.44 where all is ground

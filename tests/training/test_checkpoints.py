"""When the best and the last network are written."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from safetensors.torch import load_file

from gffnet.metrics.confusion import ConfusionMatrix
from gffnet.training.checkpoints import KeepLast
from gffnet.training.train import train
from tests import tiny
from tests.data.trees import camvid_tree


@pytest.mark.parametrize(("every", "wanted"), [(3, [2, 3, 4, 6]), (1, [1, 2, 3, 4, 5, 6]), (100, [2, 4, 6])])
def test_the_last_is_written_every_so_often_and_after_validations(
    every: int, wanted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    save = Trainer.save_checkpoint

    def saved(self: Trainer, path: Any, *more: Any, **options: Any) -> None:
        steps.append(self.global_step)
        save(self, path, *more, **options)

    monkeypatch.setattr(Trainer, "save_checkpoint", saved)
    real = KeepLast.__init__
    monkeypatch.setattr(KeepLast, "__init__", lambda self, path, _, validate: real(self, path, every, validate))
    train(tiny.recipe(), "x", camvid_tree(tmp_path / "CamVid"), tmp_path / "run", progress=False)
    assert steps == wanted


def test_the_best_is_that_of_the_best_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.2, 0.7, 0.4])
    real = ConfusionMatrix.scores

    def scored(self: ConfusionMatrix) -> Any:
        known = real(self)
        return type(known)(**{**vars(known), "miou": next(scores)})

    monkeypatch.setattr(ConfusionMatrix, "scores", scored)
    root = camvid_tree(tmp_path / "CamVid")
    run = train(tiny.recipe(), "x", root, tmp_path / "run", progress=False)
    best, last = (load_file(run / name / "model.safetensors") for name in ("best", "model"))
    assert best["backbone.bn1.num_batches_tracked"] == 4  # the second validation, after iteration 4
    assert last["backbone.bn1.num_batches_tracked"] == 6
    assert not torch.equal(best["head.classifier.weight"], last["head.classifier.weight"])

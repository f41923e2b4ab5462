"""When the best and the last network are written."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Trainer
from safetensors.torch import load_file

from gffnet.cli.main import main
from gffnet.errors import CannotWrite, RunFailed, UserError
from gffnet.inference.predictor import load
from gffnet.metrics.confusion import ConfusionMatrix
from gffnet.models.gffnet import load_model
from gffnet.training.callbacks import DivergenceCheck
from gffnet.training.checkpoint import AtomicCheckpointIO, LastCheckpoint
from gffnet.training.train import train
from tests import tiny
from tests.training.test_callbacks import At


@pytest.mark.parametrize(("every", "wanted"), [(3, [2, 3, 4, 6]), (100, [2, 4, 6])])
def test_the_last_is_written_every_so_often_and_after_validations(
    every: int, wanted: list[int], tmp_path: Path, camvid: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    save = Trainer.save_checkpoint

    def saved(self: Trainer, path: Any, *more: Any, **options: Any) -> None:
        steps.append(self.global_step)
        save(self, path, *more, **options)

    monkeypatch.setattr(Trainer, "save_checkpoint", saved)
    recipe = tiny.recipe(checkpoint_every=every)
    train(recipe, camvid, tmp_path / "run", progress=False)
    assert steps == wanted


def test_checkpoints_that_are_never_replaced(tmp_path: Path, camvid: Path) -> None:
    """Before, after and at validations; a run resumes from them as from the last."""
    run = train(tiny.recipe(keep_every=3, validate_every=6), camvid, tmp_path / "run", progress=False)
    kept = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert kept == ["iteration_3.ckpt", "iteration_6.ckpt", "last.ckpt"]
    whole = load_file(run / "model/model.safetensors")
    again = tmp_path / "again"
    (again / "checkpoints").mkdir(parents=True)
    shutil.copy(run / "recipe.yaml", again / "recipe.yaml")
    shutil.copy(run / "checkpoints/iteration_3.ckpt", again / "checkpoints/last.ckpt")
    train(tiny.recipe(keep_every=3, validate_every=6), camvid, again, resume=True, progress=False)
    other = load_file(again / "model/model.safetensors")
    assert all(torch.equal(value, other[key]) for key, value in whole.items())


def test_a_copied_checkpoint_has_its_recipe_and_gets_a_best_network(tmp_path: Path, camvid: Path) -> None:
    """Although no later validation is better than the best of the run that it is of."""
    recipe = tiny.recipe(keep_every=4, learning_rate=1e-9)  # scores stay, and the first is the best
    run = train(recipe, camvid, tmp_path / "run", name="mine/tiny", progress=False)
    again = tmp_path / "again"
    (again / "checkpoints").mkdir(parents=True)
    shutil.copy(run / "recipe.yaml", again / "recipe.yaml")
    shutil.copy(run / "checkpoints/iteration_4.ckpt", again / "checkpoints/last.ckpt")
    assert main(["train", "--resume", str(again), "--root", str(camvid)]) == 0
    assert json.loads((again / "run.json").read_text())["recipe"] == "mine/tiny"
    assert json.loads((again / "best/config.json").read_text())["recipe"] == "mine/tiny"


def test_a_checkpoint_never_holds_what_a_bad_loss_made(tmp_path: Path) -> None:
    """On a GPU losses are looked at later than they come: at the latest before a checkpoint is written."""
    last = LastCheckpoint(tmp_path / "last.ckpt", 1, 10)
    divergence = DivergenceCheck(2)
    divergence._pending.append((0, torch.tensor([float("nan"), 1.0]), ("a",)))
    with pytest.raises(RunFailed, match="iteration 1 is not finite"):
        last.save(At(1), SimpleNamespace(divergence=divergence))
    assert list(tmp_path.iterdir()) == []


class Unwilling:
    """What no pickle can hold."""

    def __reduce__(self) -> Any:
        raise OSError(28, "No space left on device")


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    before = path.read_bytes()
    with pytest.raises(CannotWrite, match=r"last\.ckpt: No space left on device"):
        AtomicCheckpointIO().save_checkpoint({"step": 2, "x": Unwilling()}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_best_is_that_of_the_best_validation(tmp_path: Path, camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.2, 0.7, 0.4])
    real = ConfusionMatrix.scores

    def scored(self: ConfusionMatrix) -> Any:
        known = real(self)
        return type(known)(**{**vars(known), "miou": next(scores)})

    monkeypatch.setattr(ConfusionMatrix, "scores", scored)
    run = train(tiny.recipe(), camvid, tmp_path / "run", progress=False)
    best, last = (load_file(run / name / "model.safetensors") for name in ("best", "model"))
    assert best["backbone.bn1.num_batches_tracked"] == 4  # the second validation, after iteration 4
    assert last["backbone.bn1.num_batches_tracked"] == 6
    assert not torch.equal(best["head.classifier.weight"], last["head.classifier.weight"])


def test_a_checkpoint_is_a_model(tmp_path: Path, camvid: Path) -> None:
    """The one that the run would keep at that moment: the averaged network, where there is one."""
    run = train(tiny.recipe(ema=0.9, iterations=2), camvid, tmp_path / "run", progress=False)
    wanted, config = load_model(run)
    got, same_config = load_model(run / "checkpoints/last.ckpt")
    assert same_config == config
    assert all(torch.equal(value, got.state_dict()[key]) for key, value in wanted.state_dict().items())
    assert not got.training
    assert all(p.requires_grad for p in got.parameters())
    assert load(run / "checkpoints/last.ckpt").config == config


class Harm:
    """What a pickle could do to those who open it."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("harmed"),)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", {"state_dict": {}}, {"config": "{}", "state_dict": Harm()}])
def test_what_is_no_checkpoint_is_refused_and_nothing_is_executed(
    content: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    cause = "is no checkpoint of gffnet" if content else "is empty"
    with pytest.raises(UserError, match=rf"^checkpoint {path} {cause}\. Copy it again, or give the run folder"):
        load_model(path)
    assert not (tmp_path / "harmed").exists()

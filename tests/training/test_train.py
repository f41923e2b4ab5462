"""Whole runs of a moment: what a run folder holds, and that interruptions leave no trace."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from gffnet.cli.main import main
from gffnet.data.cache import build_cache
from gffnet.data.datasets import open_dataset, open_files
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import evaluate
from gffnet.inference.predictor import load
from gffnet.recipe import Recipe, recipe_from_mapping
from gffnet.training.callbacks import read_history
from gffnet.training.task import SegmentationTask
from gffnet.training.train import train
from tests import tiny
from tests.data.trees import camvid_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return camvid_tree(tmp_path / "CamVid")


def gffnet(**training: Any) -> Recipe:
    return tiny.recipe(tiny.GFFNET, **training)


def weights(run: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(run / "model/model.safetensors")
    return found


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def stop_before(iteration: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt training when it comes to an iteration."""
    step = SegmentationTask.training_step

    def interrupted(self: SegmentationTask, batch: Any, index: int) -> Any:
        if self.global_step == iteration:
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(SegmentationTask, "training_step", interrupted)


def test_a_run_folder_tells_the_story(tmp_path: Path, root: Path) -> None:
    recipe = gffnet(validate_every=4, learning_rate=0.02, power=0.9)
    run = train(recipe, "tests/tiny", root, tmp_path / "run", progress=False)
    assert recipe_from_mapping(yaml.safe_load((run / "recipe.yaml").read_text()), "run") == recipe
    lines = read_history(run / "history.jsonl")
    assert [line["iteration"] for line in lines if "miou" in line] == [4, 6]  # every fourth, and the last
    predictor = load(run, precision="float32")
    assert predictor.config.recipe == "tests/tiny"
    assert predictor.config.learned_from == open_dataset("camvid", root, "train")[0].labels.shape
    assert not any("auxiliary" in key for key in weights(run))
    scores = evaluate(predictor, open_dataset("camvid", root, "val"), "camvid", "val", recipe.evaluation).scores
    assert scores.miou == lines[-1]["miou"]
    assert load(run / "best").config == predictor.config


@pytest.mark.parametrize("iteration", [1, 2, 3, 5])
def test_an_interrupted_run_ends_as_an_unbroken_one(
    iteration: int, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(gffnet(), "tests/tiny", root, tmp_path / "whole", progress=False)
    with monkeypatch.context() as patch:
        stop_before(iteration, patch)
        with pytest.raises(KeyboardInterrupt, match="--resume"):
            train(gffnet(), "tests/tiny", root, tmp_path / "broken", progress=False)
    last = tmp_path / "broken/checkpoints/last.ckpt"
    kept = torch.load(last, weights_only=True)["global_step"] if last.is_file() else 0
    assert kept == iteration - iteration % 2  # a checkpoint follows every validation: it goes on, not over again
    broken = train(gffnet(), "tests/tiny", root, tmp_path / "broken", resume=True, progress=False)
    assert same(weights(whole), weights(broken))
    scores = [
        [line["miou"] for line in read_history(run / "history.jsonl") if "miou" in line] for run in (whole, broken)
    ]
    assert scores[0] == scores[1]


def test_a_seed_fixes_everything(tmp_path: Path, root: Path) -> None:
    first, second = (train(gffnet(), "x", root, tmp_path / name, progress=False) for name in "ab")
    assert same(weights(first), weights(second))
    other = recipe_from_mapping({**gffnet().to_mapping(), "seed": 1}, "tests")
    assert not same(weights(first), weights(train(other, "x", root, tmp_path / "c", progress=False)))


def test_a_run_is_not_written_over(tmp_path: Path, root: Path) -> None:
    run = train(gffnet(iterations=2), "x", root, tmp_path / "run", progress=False)
    with pytest.raises(UserError, match=r"holds a run already.*--resume"):
        train(gffnet(iterations=2), "x", root, run, progress=False)
    with pytest.raises(UserError, match=r"training\.iterations, training\.learning_rate"):
        train(gffnet(iterations=4, learning_rate=0.5), "x", root, run, resume=True, progress=False)
    before = weights(run)
    train(gffnet(iterations=2), "x", root, run, resume=True, progress=False)
    assert same(before, weights(run))


def test_a_run_to_start_from_needs_no_pretrained_weights(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be fetched, and then replaced by the run's."""
    first = train(tiny.recipe(iterations=1), "x", root, tmp_path / "first", progress=False)
    pretrained = {"backbone": {"name": "test_resnet", "weights": "imagenet"}}

    def unreachable(name: str) -> Path:
        raise UserError(f"{name} cannot be fetched")

    monkeypatch.setattr("gffnet.models.backbones.pretrained_file", unreachable)
    with pytest.raises(UserError, match="test_resnet cannot be fetched"):
        train(tiny.recipe(pretrained, iterations=1), "x", root, tmp_path / "a", progress=False)
    train(tiny.recipe(pretrained, iterations=1, init_from=str(first)), "x", root, tmp_path / "b", progress=False)
    assert (tmp_path / "b/model").is_dir()


def test_the_second_stage_starts_from_the_first(tmp_path: Path, root: Path) -> None:
    first = train(tiny.recipe(iterations=2), "x", root, tmp_path / "psp", progress=False)
    # A rate of almost nothing: what was taken over stays.
    recipe = gffnet(iterations=1, init_from=str(first), learning_rate=1e-30)
    second = train(recipe, "x", root, tmp_path / "gff", progress=False)
    old, new = weights(first), weights(second)
    taken = [
        key for key in old if key.startswith(("backbone.", "context.")) and "running" not in key and "num" not in key
    ]
    assert len(taken) > 20
    assert all(torch.allclose(old[key], new[key], atol=1e-12) for key in taken)


DIE = """
import os, signal, sys
from torch.utils.data import get_worker_info
from gffnet.cli import main
from gffnet.data.camvid import CamVid

read_sample, read = CamVid.read, []

def die(self, index):
    read.append(index)
    if get_worker_info() and len(read) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_sample(self, index)

CamVid.read = die
sys.exit(main(sys.argv[1:]))
"""


def test_a_dead_worker_is_reported_and_the_run_goes_on_with_fewer(tmp_path: Path, root: Path) -> None:
    """In a process of its own: torch raises that a worker died wherever the training process happens to be."""
    whole = train(gffnet(), "r", root, tmp_path / "whole", progress=False)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(gffnet(workers=1).to_mapping()))
    command = [sys.executable, "-c", DIE, "train", str(recipe), "--root", str(root), "--out", str(tmp_path / "dead")]
    dead = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert dead.returncode == 1
    last = dead.stderr.strip().splitlines()[-1]
    assert last.startswith("error: a process that loads data died: it was killed, or ran out of memory. Go on by the")
    assert last.endswith("with --resume, and with fewer of them: --set training.workers=0.")
    resumed = train(gffnet(workers=0), "r", root, tmp_path / "dead", resume=True, progress=False)
    assert same(weights(resumed), weights(whole))


def test_a_cache_changes_nothing_but_the_time(tmp_path: Path, root: Path) -> None:
    whole = train(gffnet(class_balance=0.5), "r", root, tmp_path / "whole", progress=False)
    for split in ("train", "val"):
        build_cache(open_files("camvid", root, split), split, tmp_path / "cache", workers=1)
    cached = train(gffnet(class_balance=0.5), "r", root, tmp_path / "cached", progress=False, cache=tmp_path / "cache")
    assert same(weights(cached), weights(whole))


@pytest.mark.parametrize(
    "options",
    [
        {"ema": 0.9, "decay_norms_and_biases": False},
        {"loss": {"ohem": 0.7, "class_weighting": "median_frequency"}, "optimizer": "lion", "learning_rate": 1e-4},
        {"loss": {"class_weighting": "enet", "label_smoothing": 0.1}, "optimizer": "lamb", "class_balance": 0.5},
        {"loss": {"class_weights": [1.0] * 11}, "optimizer": "nesterov", "clip_gradients": 1.0, "device_batch": 1},
    ],
)
def test_options_train_and_resume(
    options: dict[str, Any], tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(gffnet(**options), "x", root, tmp_path / "whole", progress=False)
    with monkeypatch.context() as patch:
        stop_before(3, patch)
        with pytest.raises(KeyboardInterrupt, match="--resume"):
            train(gffnet(**options), "x", root, tmp_path / "broken", progress=False)
    broken = train(gffnet(**options), "x", root, tmp_path / "broken", resume=True, progress=False)
    assert same(weights(whole), weights(broken))
    assert not same(weights(whole), weights(train(gffnet(), "x", root, tmp_path / "plain", progress=False)))


def test_options_that_cannot_be(tmp_path: Path, root: Path) -> None:
    with pytest.raises(UserError, match=r"training\.loss\.class_weights"):
        train(gffnet(loss={"class_weights": [1.0, 2.0]}), "x", root, tmp_path / "run", progress=False)
    half = recipe_from_mapping({**gffnet().to_mapping(), "precision": "float16"}, "tests")
    with pytest.raises(UserError, match=r"'float16' trains on NVIDIA GPUs only\. Here, set precision to bfloat16"):
        train(half, "x", root, tmp_path / "run", progress=False)
    with pytest.raises(UserError, match=r"training\.batch 2 cannot be shared evenly by 3 processes"):
        train(gffnet(), "x", root, tmp_path / "run", devices=3, progress=False)
    assert not (tmp_path / "run").exists()


def test_the_record_of_a_run_and_of_its_going_on(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        stop_before(3, patch)
        with pytest.raises(KeyboardInterrupt):
            train(gffnet(), "tests/tiny", root, tmp_path / "run", progress=False)
    camvid_tree(root, train=6)  # the data set grows while the run stands still
    with caplog.at_level("WARNING", logger="gffnet"):
        run = train(gffnet(), "tests/tiny", root, tmp_path / "run", resume=True, progress=False)
    assert "it has 6 samples and had 5" in caplog.text
    record = json.loads((run / "run.json").read_text())
    assert record["recipe"] == "tests/tiny"
    assert record["data"]["splits"]["train"]["samples"] == 5
    first, second = record["sessions"]
    assert (first["from_iteration"], first["outcome"]) == (0, "interrupted")
    assert (second["from_iteration"], second["to_iteration"], second["outcome"]) == (2, 6, "finished")
    assert second["images_per_second"] > 0
    for name in ("losses.csv", "scores.csv"):
        assert (run / name).is_file()
    assert len(list((run / "tensorboard").iterdir())) == 2


def test_an_overfit_check(tmp_path: Path, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Four images, trained on and scored on; the verdict comes with the score that the history has."""
    with caplog.at_level("INFO", logger="gffnet"):
        run = train(gffnet(), "x", root, tmp_path / "run", overfit=4, progress=False)
    score = [line["miou"] for line in read_history(run / "history.jsonl") if "miou" in line][-1]
    assert f"mIoU {score:.1%} on the 4 images that it was trained on" in caplog.text
    splits = json.loads((run / "run.json").read_text())["data"]["splits"]
    assert splits["train"] == {**splits["val"], "split": "train"}
    assert splits["val"]["samples"] == 4


def test_the_command_line_sets_up_the_overfit_check(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(gffnet(jitter=7).to_mapping()))
    more = ["--set", "training.iterations=2", "--set", "training.validate_every=2"]
    assert main(["train", "tiny.yaml", "--root", str(root), "--overfit", "3", *more]) == 0
    used = yaml.safe_load((tmp_path / "runs/tiny_overfit_3/recipe.yaml").read_text())["training"]
    assert (used["jitter"], used["batch"], used["iterations"]) == (0, 2, 2)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_on_a_gpu(precision: str, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every number format, broken off and resumed: the losses of both parts are near those of an unbroken run."""
    recipe = recipe_from_mapping({**gffnet(iterations=12, clip_gradients=5).to_mapping(), "precision": precision}, "x")
    whole = train(recipe, "x", root, tmp_path / "whole", devices=1, progress=False)
    with monkeypatch.context() as patch:
        stop_before(5, patch)
        with pytest.raises(KeyboardInterrupt, match="--resume"):
            train(recipe, "x", root, tmp_path / "broken", devices=1, progress=False)
    broken = train(recipe, "x", root, tmp_path / "broken", resume=True, devices=1, progress=False)
    losses = [
        [line["loss"] for line in read_history(run / "history.jsonl") if "loss" in line] for run in (whole, broken)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)

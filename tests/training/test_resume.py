"""Interrupted runs: what they save, where they resume, and that the result is that of an uninterrupted run."""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gffnet.errors import Stopped, UserError
from gffnet.recipe import Recipe
from gffnet.training.callbacks import read_history
from gffnet.training.task import SegmentationTask
from gffnet.training.train import train
from tests import tiny
from tests.training import kills
from tests.training.processes import Forked

TIMES = {"images_per_second", "seconds", "memory"}


class PowerCut(Exception):
    """Ends a run at a given place."""


def run(out: Path, root: Path, recipe: Recipe | None = None, resume: bool = False) -> Path:
    return train(recipe or tiny.recipe(), root, out, resume=resume, progress=False)


def history(run_folder: Path) -> list[dict[str, Any]]:
    """The history without what depends on the clock."""
    lines = read_history(run_folder / "history.jsonl")
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def weights(run_folder: Path) -> dict[str, bytes]:
    return {name: (run_folder / name / "model.safetensors").read_bytes() for name in ("model", "best")}


def saved_iteration(run_folder: Path) -> int:
    return int(torch.load(run_folder / "checkpoints/last.ckpt", weights_only=True)["global_step"])


def assert_same(one: Path, other: Path) -> None:
    assert history(one) == history(other)
    assert weights(one) == weights(other)


def before_step(patch: pytest.MonkeyPatch, step: str, iteration: int, index: int | None, act: Any) -> None:
    """Call `act` before a step of the task at an iteration and, of a validation, at an image."""
    real = getattr(SegmentationTask, step)

    def patched(self: SegmentationTask, batch: Any, i: int) -> Any:
        if self.global_step == iteration and index in {None, i}:
            act()
        return real(self, batch, i)

    patch.setattr(SegmentationTask, step, patched)


def interrupt(
    out: Path, root: Path, recipe: Recipe | None, iteration: int, step: str = "training_step", image: int | None = None
) -> None:
    """Train, or resume, until an iteration."""

    def fail() -> None:
        raise PowerCut

    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):  # noqa: PT012
        before_step(patch, step, iteration, image, fail)
        run(out, root, recipe, resume=True)


def record_iterations(patch: pytest.MonkeyPatch) -> list[int]:
    """A list to which every iteration that is trained from now on is added."""
    trained: list[int] = []
    real = SegmentationTask.training_step

    def recording(self: SegmentationTask, batch: Any, i: int) -> Any:
        trained.append(self.global_step)
        return real(self, batch, i)

    patch.setattr(SegmentationTask, "training_step", recording)
    return trained


@pytest.mark.parametrize(
    ("step", "iteration", "image", "saved"),
    [
        ("training_step", 0, None, 0),
        ("training_step", 3, None, 2),
        ("validation_step", 4, 1, 2),
        ("validation_step", 6, 2, 4),
    ],
)
def test_a_resumed_run_ends_like_an_uninterrupted_one(
    step: str,
    iteration: int,
    image: int | None,
    saved: int,
    tmp_path: Path,
    camvid: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt(tmp_path, camvid, None, iteration, step, image)
    assert not (tmp_path / "model").exists()
    assert (saved_iteration(tmp_path) if saved else 0) == saved
    trained = record_iterations(monkeypatch)
    run(tmp_path, camvid, resume=True)
    assert trained == [*range(saved, 6)]
    assert_same(tmp_path, whole)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["last.ckpt"]


def test_interrupted_at_every_iteration(tmp_path: Path, camvid: Path) -> None:
    """With checkpoints between validations and within the iterations of one line of the history."""
    recipe = tiny.recipe(tiny.GFFNET, validate_every=4, checkpoint_every=1, ema=0.9, device_batch=1, clip_gradients=1)
    for iteration in (1, 3, 5):
        interrupt(tmp_path / "broken", camvid, recipe, iteration)
        assert saved_iteration(tmp_path / "broken") == iteration
    run(tmp_path / "broken", camvid, recipe, resume=True)
    assert_same(tmp_path / "broken", run(tmp_path / "whole", camvid, recipe))


OPTIONS: list[dict[str, Any]] = [
    {"loss": {"ohem": 0.7, "class_weighting": "median_frequency"}, "optimizer": "lion", "learning_rate": 1e-4},
    {"loss": {"class_weighting": "enet", "label_smoothing": 0.1}, "optimizer": "lamb", "class_balance": 0.5},
    {"loss": {"class_weights": [1.0] * 11}, "optimizer": "nesterov", "decay_norms_and_biases": False, "ema": 0.9},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_trains_and_resumes(options: dict[str, Any], tmp_path: Path, camvid: Path, whole: Path) -> None:
    recipe = tiny.recipe(**{"iterations": 4, "validate_every": 2, **options})
    one = run(tmp_path / "whole", camvid, recipe)
    interrupt(tmp_path / "broken", camvid, recipe, 3)
    run(tmp_path / "broken", camvid, recipe, resume=True)
    assert_same(tmp_path / "broken", one)
    assert history(one)[0] != history(whole)[0]


def test_a_seed_determines_everything(tmp_path: Path, camvid: Path, whole: Path) -> None:
    assert_same(run(tmp_path / "again", camvid, resume=True), whole)  # `resume` of nothing starts
    other = tiny.recipe_from_mapping({**tiny.recipe().to_mapping(), "seed": 1}, "tests")
    assert weights(run(tmp_path / "other", camvid, other)) != weights(whole)


def test_a_run_folder_may_be_moved(tmp_path: Path, camvid: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(tmp_path / "here", camvid, None, 5)
    (tmp_path / "here").rename(tmp_path / "there")
    trained = record_iterations(monkeypatch)
    assert_same(run(tmp_path / "there", camvid, resume=True), whole)
    assert trained == [4, 5]


def test_interrupted_after_the_last_iteration(tmp_path: Path, camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.recipe(validate_every=4)  # so that the last validation comes after training
    one = run(tmp_path / "whole", camvid, recipe)
    interrupt(tmp_path / "broken", camvid, recipe, 6, "validation_step", 1)
    trained = record_iterations(monkeypatch)
    assert_same(run(tmp_path / "broken", camvid, recipe, resume=True), one)
    assert trained == []


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if its checkpoint was deleted to save space, and its data set is gone."""
    finished = run(tmp_path / "run", camvid, tiny.recipe(iterations=2))
    before = weights(finished), history(finished)
    (finished / "checkpoints/last.ckpt").unlink()
    trained = record_iterations(monkeypatch)
    assert run(finished, tmp_path / "gone", tiny.recipe(iterations=2), resume=True) == finished
    assert (trained, weights(finished), history(finished)) == ([], *before)
    with pytest.raises(UserError, match=r"already holds a run\. Resume it with --resume"):
        run(finished, camvid, tiny.recipe(iterations=2))
    with pytest.raises(UserError, match=r"training\.iterations, training\.learning_rate"):
        run(finished, camvid, tiny.recipe(iterations=4, learning_rate=0.5), resume=True)


def test_the_run_that_initialized_it_may_be_gone(tmp_path: Path, camvid: Path, whole: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    (first / "model").symlink_to(whole / "model")
    recipe = tiny.recipe(tiny.GFFNET, init_from=str(first), iterations=2, validate_every=1)
    one = run(tmp_path / "whole", camvid, recipe)
    interrupt(tmp_path / "broken", camvid, recipe, 1)
    first.rename(tmp_path / "elsewhere")
    assert_same(run(tmp_path / "broken", camvid, recipe, resume=True), one)


# Signals


def send(*numbers: int) -> Any:
    return lambda: [os.kill(os.getpid(), number) for number in numbers]


@pytest.mark.parametrize(
    ("number", "error", "received", "saved"),
    [(signal.SIGTERM, Stopped, 1, 1), (signal.SIGINT, KeyboardInterrupt, 2, 3)],
)
def test_the_iteration_is_finished_and_saved(
    number: int,
    error: type[BaseException],
    received: int,
    saved: int,
    tmp_path: Path,
    camvid: Path,
    whole: Path,
) -> None:
    """Where a validation follows the iteration (2), the next one is the last."""
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(error, match=r"--resume"):  # noqa: PT012
        before_step(patch, "training_step", received - 1, None, send(number))
        run(tmp_path, camvid)
    assert {name: signal.getsignal(name) for name in before} == before
    assert saved_iteration(tmp_path) == saved
    assert_same(run(tmp_path, camvid, resume=True), whole)


def test_a_second_interrupt_stops_at_once(tmp_path: Path, camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    before_step(monkeypatch, "training_step", 3, None, send(signal.SIGINT, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match=rf"resume {tmp_path} with the same command and --resume"):
        run(tmp_path, camvid)
    assert saved_iteration(tmp_path) == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_loading_processes_outlive_a_signal_to_the_group(tmp_path: Path, camvid: Path) -> None:
    """A terminal and a scheduler send the signal to all processes of the group."""
    file, out, ready = tmp_path / "tiny.yaml", tmp_path / "run", tmp_path / "ready"
    file.write_text(yaml.safe_dump(tiny.recipe(workers=1, iterations=20, validate_every=20).to_mapping()))

    def wait() -> None:
        ready.touch()
        time.sleep(0.5)

    process = Forked(
        ["train", file, "--root", camvid, "--out", out],
        tmp_path / "log",
        lambda: before_step(pytest.MonkeyPatch(), "training_step", 2, None, wait),
    )
    while not ready.exists():
        assert process.process.is_alive()
        time.sleep(0.02)
    process.kill(signal.SIGTERM)
    code, output = process.wait()
    assert code == 1, output
    assert "Traceback" not in output
    last = output.strip().splitlines()[-1]
    assert "stopped by SIGTERM" in last
    assert "--resume" in last
    assert saved_iteration(out) == 3
    assert json.loads((out / "run.json").read_text())["sessions"][0]["outcome"] == "interrupted"


def test_a_killed_run_ends_like_an_uninterrupted_one(tmp_path: Path, camvid: Path) -> None:
    """`python -m tests.training.kills` does this with twenty kills."""
    recipe = kills.recipe(iterations=20)
    one, killed = run(tmp_path / "whole", camvid, recipe), tmp_path / "killed"
    struck = list(kills.kills(2, killed, camvid, recipe, random.Random(3)))
    assert [kill.writing for kill in struck] == [False, True]
    assert kills.same(one, killed)

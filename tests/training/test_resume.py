"""Runs that were broken off: what they leave, what they go on from, and that nothing of it shows in the end."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from gffnet.errors import UserError
from gffnet.recipe import Recipe
from gffnet.training.callbacks import read_history
from gffnet.training.optim import poly
from gffnet.training.task import SegmentationTask
from gffnet.training.train import train
from tests import tiny
from tests.data.trees import camvid_tree

TIMES = {"images_per_second", "seconds", "memory"}


class Power(Exception):
    """It went out."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return camvid_tree(tmp_path / "CamVid")


def run(out: Path, root: Path, recipe: Recipe | None = None, resume: bool = False) -> Path:
    return train(recipe or tiny.recipe(), "tests/tiny", root, out, resume, progress=False)


def story(run_folder: Path) -> list[dict[str, Any]]:
    """The history without what depends on the clock."""
    return [
        {key: value for key, value in line.items() if key not in TIMES}
        for line in read_history(run_folder / "history.jsonl")
    ]


def result(run_folder: Path) -> dict[str, bytes]:
    return {name: (run_folder / name / "model.safetensors").read_bytes() for name in ("model", "best")}


def iteration_of(run_folder: Path) -> int:
    return int(torch.load(run_folder / "checkpoints/last.ckpt", weights_only=True)["global_step"])


def fail_at(
    patch: pytest.MonkeyPatch, step: str, iteration: int, index: int | None, error: type[BaseException]
) -> None:
    """Have a step of the task fail at an iteration, and, of a validation, at an image."""
    real = getattr(SegmentationTask, step)

    def failing(self: SegmentationTask, batch: Any, i: int) -> Any:
        if self.global_step == iteration and index in {None, i}:
            raise error
        return real(self, batch, i)

    patch.setattr(SegmentationTask, step, failing)


def trained_iterations(patch: pytest.MonkeyPatch) -> list[int]:
    """Filled with every iteration that is trained from now on."""
    trained: list[int] = []
    real = SegmentationTask.training_step

    def noting(self: SegmentationTask, batch: Any, i: int) -> Any:
        trained.append(self.global_step)
        return real(self, batch, i)

    patch.setattr(SegmentationTask, "training_step", noting)
    return trained


@pytest.mark.parametrize(
    ("step", "iteration", "image", "kept"),
    [
        ("training_step", 0, None, 0),
        ("training_step", 1, None, 0),
        ("training_step", 3, None, 2),
        ("training_step", 4, None, 4),
        ("validation_step", 2, 0, 0),
        ("validation_step", 4, 1, 2),
        ("validation_step", 6, 2, 4),
    ],
)
def test_a_broken_run_goes_on_as_if_it_had_not_been(
    step: str, iteration: int, image: int | None, kept: int, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", root)
    broken = tmp_path / "broken"
    with monkeypatch.context() as patch:
        fail_at(patch, step, iteration, image, Power)
        with pytest.raises(Power):
            run(broken, root)
    assert not (broken / "model").exists()
    assert (iteration_of(broken) if kept else 0) == kept
    trained = trained_iterations(monkeypatch)
    run(broken, root, resume=True)
    assert trained == [*range(kept, 6)]
    assert story(broken) == story(whole)
    assert result(broken) == result(whole)
    assert sorted(path.name for path in (broken / "checkpoints").iterdir()) == ["last.ckpt"]


def test_broken_at_every_turn(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints between validations, in the midst of what a line of the history sums up, and one after another."""
    recipe = tiny.recipe(tiny.GFFNET, validate_every=4, checkpoint_every=1, ema=0.9, device_batch=1, clip_gradients=1)
    whole = run(tmp_path / "whole", root, recipe)
    broken = tmp_path / "broken"
    for iteration in range(1, 6):
        with monkeypatch.context() as patch:
            fail_at(patch, "training_step", iteration, None, Power)
            with pytest.raises(Power):
                run(broken, root, recipe, resume=True)
        assert iteration_of(broken) == iteration
    run(broken, root, recipe, resume=True)
    assert story(broken) == story(whole)
    assert result(broken) == result(whole)


def test_a_run_folder_may_be_moved(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole", root)
    for place, iteration in (("here", 3), ("there", 5)):
        with monkeypatch.context() as patch:
            fail_at(patch, "training_step", iteration, None, Power)
            with pytest.raises(Power):
                run(tmp_path / place, root, resume=True)
        (tmp_path / place).rename(tmp_path / {"here": "there", "there": "end"}[place])
    trained = trained_iterations(monkeypatch)
    run(tmp_path / "end", root, resume=True)
    assert trained == [4, 5]
    assert result(tmp_path / "end") == result(whole)


def test_an_interrupt_says_how_to_go_on_and_may_be_repeated(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    fail_at(monkeypatch, "training_step", 3, None, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt, match=rf"go on with {tmp_path}/run by the same command with --resume"):
        run(tmp_path / "run", root)
    assert signal.getsignal(signal.SIGINT) is before


def test_broken_after_the_last_iteration(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.recipe(validate_every=4)  # so that the last validation comes after training
    whole = run(tmp_path / "whole", root, recipe)
    with monkeypatch.context() as patch:
        fail_at(patch, "validation_step", 6, 1, Power)
        with pytest.raises(Power):
            run(tmp_path / "broken", root, recipe)
    trained = trained_iterations(monkeypatch)
    run(tmp_path / "broken", root, recipe, resume=True)
    assert trained == []
    assert story(tmp_path / "broken") == story(whole)
    assert result(tmp_path / "broken") == result(whole)


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where its checkpoint was deleted to save room, and its data set is gone."""
    finished = run(tmp_path / "run", root)
    before, told = result(finished), story(finished)
    (finished / "checkpoints/last.ckpt").unlink()
    trained = trained_iterations(monkeypatch)
    assert run(finished, tmp_path / "gone", resume=True) == finished
    assert (trained, result(finished), story(finished)) == ([], before, told)
    with pytest.raises(UserError, match="holds a run already"):
        run(finished, root)


def test_what_a_run_started_from_may_be_gone(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(tmp_path / "first", root)
    recipe = tiny.recipe(tiny.GFFNET, init_from=str(first))
    whole = run(tmp_path / "whole", root, recipe)
    with monkeypatch.context() as patch:
        fail_at(patch, "training_step", 5, None, Power)
        with pytest.raises(Power):
            run(tmp_path / "broken", root, recipe)
    first.rename(tmp_path / "elsewhere")
    run(tmp_path / "broken", root, recipe, resume=True)
    assert result(tmp_path / "broken") == result(whole)


def test_resume_of_nothing_starts(tmp_path: Path, root: Path) -> None:
    whole = run(tmp_path / "whole", root)
    assert result(run(tmp_path / "new", root, resume=True)) == result(whole)


# What the history says


def test_the_history_of_a_run(tmp_path: Path, root: Path) -> None:
    """A line every ten iterations and at the end, with the rate of the poly schedule; one for every validation."""
    recipe = tiny.recipe(iterations=25, validate_every=8, learning_rate=0.02, power=0.9, new_layers_multiplier=10)
    lines = read_history(run(tmp_path / "run", root, recipe) / "history.jsonl")
    losses, scores = ([line for line in lines if key in line] for key in ("loss", "miou"))
    assert [line["iteration"] for line in losses] == [10, 20, 25]
    assert [line["iteration"] for line in scores] == [8, 16, 24, 25]
    assert [line["iteration"] for line in lines] == sorted(line["iteration"] for line in lines)
    assert [line["learning_rate"] for line in losses] == pytest.approx(
        [0.02 * (1 - i / 25) ** 0.9 for i in (10, 20, 25)]
    )
    for line in losses:
        assert 1 < line["loss"] < 10
        assert 1 < line["auxiliary_loss"] < 10
        assert line["images_per_second"] > 0
    for line in scores:
        known = [iou for iou in line["iou"] if iou is not None]
        assert len(line["iou"]) == 11
        assert line["miou"] == pytest.approx(sum(known) / len(known))
        assert 0 <= line["pixel_accuracy"] <= 1


@pytest.mark.parametrize("warm_up", [0, 3])
def test_every_iteration_has_its_rate(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, warm_up: int
) -> None:
    """Those that the optimiser takes its steps with: of the backbone, and ten times that of the new layers."""
    rates: list[list[float]] = []
    real = torch.optim.SGD.step

    def noting(self: torch.optim.SGD, closure: Any = None) -> Any:
        rates.append([group["lr"] for group in self.param_groups])
        return real(self, closure)

    noting.hooked = True  # type: ignore[attr-defined]  # as torch marks steps that it has wrapped
    monkeypatch.setattr(torch.optim.SGD, "step", noting)
    changes: dict[str, Any] = {"learning_rate": 0.02, "power": 0.9, "new_layers_multiplier": 10, "warm_up": warm_up}
    run(tmp_path / "run", root, tiny.recipe(**changes))
    rise = [1 / 3, 2 / 3, 1, 1, 1, 1] if warm_up else [1] * 6
    factors = [share * poly(i, 6, 0.9) for i, share in enumerate(rise)]
    assert rates == [pytest.approx([0.02 * factor, 0.2 * factor]) for factor in factors]

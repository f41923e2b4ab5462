"""A run that is asked to stop: what it saves, what it says, and that it goes on as if nothing had been."""

import os
import signal
from pathlib import Path

import pytest
import torch

from gffnet.errors import RunFailed
from gffnet.training.task import ParsingTask
from gffnet.training.train import train
from tests import tiny
from tests.data.trees import camvid_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return camvid_tree(tmp_path / "CamVid")


def ask_at(patch: pytest.MonkeyPatch, iteration: int, number: int) -> None:
    """Send this process a signal in the midst of an iteration."""
    step = ParsingTask.training_step

    def asked(self: ParsingTask, batch: object, index: int) -> object:
        if self.global_step == iteration - 1:
            os.kill(os.getpid(), number)
        return step(self, batch, index)

    patch.setattr(ParsingTask, "training_step", asked)


def weights(run: Path) -> bytes:
    return (run / "model/model.safetensors").read_bytes()


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, RunFailed), (signal.SIGINT, KeyboardInterrupt)])
@pytest.mark.parametrize(("asked", "saved"), [(1, 1), (3, 3), (2, 3)])
def test_the_iteration_is_finished_and_saved(
    number: int,
    error: type[BaseException],
    asked: int,
    saved: int,
    tmp_path: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a validation follows the iteration (2), the next one is the last."""
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}
    whole = train(tiny.recipe(), "x", root, tmp_path / "whole", progress=False)
    with monkeypatch.context() as patch:
        ask_at(patch, asked, number)
        with pytest.raises(error, match=r"--resume"):
            train(tiny.recipe(), "x", root, tmp_path / "run", progress=False)
    assert {name: signal.getsignal(name) for name in before} == before
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == saved
    train(tiny.recipe(), "x", root, tmp_path / "run", resume=True, progress=False)
    assert weights(tmp_path / "run") == weights(whole)


def test_a_second_interrupt_stops_at_once(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = ParsingTask.training_step

    def asked_twice(self: ParsingTask, batch: object, index: int) -> object:
        if self.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, index)

    monkeypatch.setattr(ParsingTask, "training_step", asked_twice)
    with pytest.raises(KeyboardInterrupt, match=r"--resume"):
        train(tiny.recipe(), "x", root, tmp_path / "run", progress=False)
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2

"""A run that is asked to stop: what it saves, what it says, and that it goes on as if nothing had been."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from gffnet.errors import Stopped
from gffnet.training.task import SegmentationTask
from gffnet.training.train import train
from tests import tiny
from tests.data.trees import camvid_tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return camvid_tree(tmp_path / "CamVid")


def ask_at(patch: pytest.MonkeyPatch, iteration: int, number: int) -> None:
    """Send this process a signal in the midst of an iteration."""
    step = SegmentationTask.training_step

    def asked(self: SegmentationTask, batch: object, index: int) -> object:
        if self.global_step == iteration - 1:
            os.kill(os.getpid(), number)
        return step(self, batch, index)

    patch.setattr(SegmentationTask, "training_step", asked)


def weights(run: Path) -> bytes:
    return (run / "model/model.safetensors").read_bytes()


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, Stopped), (signal.SIGINT, KeyboardInterrupt)])
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
    step = SegmentationTask.training_step

    def asked_twice(self: SegmentationTask, batch: object, index: int) -> object:
        if self.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch, index)

    monkeypatch.setattr(SegmentationTask, "training_step", asked_twice)
    with pytest.raises(KeyboardInterrupt, match=r"--resume"):
        train(tiny.recipe(), "x", root, tmp_path / "run", progress=False)
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2


WAIT = """
import sys, time
from gffnet.cli import main
from gffnet.training.task import SegmentationTask

step = SegmentationTask.training_step

def waiting(self, batch, index):
    if self.global_step == 2:
        print("ready", flush=True)
        time.sleep(1)
    return step(self, batch, index)

SegmentationTask.training_step = waiting
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGTERM, 1, "stopped by SIGTERM"), (signal.SIGINT, 130, "")]
)
def test_processes_that_load_data_are_asked_too(number: int, code: int, said: str, tmp_path: Path, root: Path) -> None:
    """A terminal and a scheduler send the signal to the whole group of processes."""
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(tiny.recipe(workers=1, iterations=20, validate_every=20).to_mapping()))
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", WAIT, "train", str(recipe), "--root", str(root), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, number)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    last = errors.strip().splitlines()[-1]
    assert said in last
    assert "--resume" in last
    assert torch.load(out / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 3
    assert json.loads((out / "run.json").read_text())["sessions"][0]["outcome"] == "interrupted"

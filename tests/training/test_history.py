"""The history file: what survives a torn line and a resume."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning import Trainer

from gffnet.training.history import HISTORY, History, read_history


class At(Trainer):
    """A trainer that is at an iteration and does nothing."""

    global_step = 0
    max_steps = 5
    optimizers = (SimpleNamespace(param_groups=[{"lr": 0.25}]),)

    def __init__(self, step: int) -> None:
        self.global_step = step


def write(path: Path, lines: list[dict[str, Any]], torn: str = "") -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    lines = [{"iteration": 10, "loss": 1.5}, {"iteration": 20, "miou": 0.5}]
    write(tmp_path / HISTORY, lines, torn='{"iteration": 30, "lo')
    assert read_history(tmp_path / HISTORY) == lines


def test_no_file_is_no_history(tmp_path: Path) -> None:
    assert read_history(tmp_path / HISTORY) == []


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / HISTORY, [{"iteration": i} for i in (10, 20, 30)], torn='{"it')
    History(tmp_path, batch=2).on_train_start(At(20), None)
    assert read_history(tmp_path / HISTORY) == [{"iteration": 10}, {"iteration": 20}]


def test_losses_are_means_over_the_iterations_since_the_last_line(tmp_path: Path) -> None:
    history = History(tmp_path, batch=2, every=2)
    trainer = At(0)
    history.on_train_start(trainer, None)
    for step in range(1, 6):
        trainer.global_step = step
        outputs = {"main": torch.tensor(float(step)), "auxiliary": torch.tensor(10.0 * step)}
        history.on_train_batch_end(trainer, None, outputs, None, step - 1)
    lines = read_history(tmp_path / HISTORY)
    assert [line["iteration"] for line in lines] == [2, 4, 5]
    assert [line["loss"] for line in lines] == [1.5, 3.5, 5.0]
    assert [line["auxiliary_loss"] for line in lines] == [15, 35, 50]
    assert all(line["learning_rate"] == 0.25 and line["images_per_second"] > 0 for line in lines)

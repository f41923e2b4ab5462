"""The history file: what it tells, and what survives a torn line and a resume."""

import errno
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Trainer

from gffnet.errors import CannotWrite
from gffnet.metrics.confusion import ClassScores
from gffnet.training.callbacks import HISTORY, History, Log, read_history

TIMES = {"images_per_second", "seconds", "memory"}
TASK = SimpleNamespace(device=torch.device("cpu"), val_scores=ClassScores(0.5, 0.75, (0.25, None, 0.75), (1, 1, 1), 10))


class At(Trainer):
    """A trainer that is at an iteration and does nothing."""

    global_step = 0
    max_steps = 5
    is_global_zero = True
    optimizers = (SimpleNamespace(param_groups=[{"lr": 0.25}]),)

    def __init__(self, step: int = 0, first: bool = True) -> None:
        self.global_step = step
        self.is_global_zero = first


class Told:
    """A log that keeps what it is told, and fails where it is to."""

    def __init__(self, fails: Exception | None = None, at: str = "write") -> None:
        self.calls: list[Any] = []
        self.fails = fails
        self.at = at

    def start(self, iteration: int) -> None:
        self._note("start", iteration)

    def write(self, event: dict[str, Any]) -> None:
        self._note("write", event)

    def close(self, failed: bool = False) -> None:
        self._note("close", failed)

    def _note(self, what: str, value: Any) -> None:
        self.calls.append((what, value))
        if self.fails is not None and what == self.at:
            raise self.fails


def write(path: Path, lines: list[dict[str, Any]], torn: str = "") -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)


def go_on(history: History, trainer: At, until: int, norm: bool = False) -> None:
    """Train up to an iteration, whose loss is its number."""
    for step in range(trainer.global_step + 1, until + 1):
        trainer.global_step = step
        outputs = {"main": torch.tensor(float(step)), "auxiliary": torch.tensor(10.0 * step)}
        if norm:
            outputs["gradient_norm"] = torch.tensor(100.0 * step)
        history.on_train_batch_end(trainer, TASK, outputs, None, step - 1)


def validate(history: History, trainer: At) -> None:
    history.on_validation_start(trainer, TASK)
    history.on_validation_end(trainer, TASK)


def story(folder: Path) -> list[dict[str, Any]]:
    lines = read_history(folder / HISTORY)
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    lines = [{"iteration": 10, "loss": 1.5}, {"iteration": 20, "miou": 0.5}]
    write(tmp_path / HISTORY, lines, torn='{"iteration": 30, "lo')
    assert read_history(tmp_path / HISTORY) == lines


def test_no_file_is_no_history(tmp_path: Path) -> None:
    assert read_history(tmp_path / HISTORY) == []


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / HISTORY, [{"iteration": i} for i in (10, 20, 30)], torn='{"it')
    told = Told()
    History(tmp_path, batch=2, logs=[told]).on_train_start(At(20), TASK)
    assert read_history(tmp_path / HISTORY) == [{"iteration": 10}, {"iteration": 20}]
    assert told.calls == [("start", 20)]


def test_a_resumed_run_knows_the_newest_values_but_for_those_of_its_machine(tmp_path: Path) -> None:
    lines = [
        {"iteration": 10, "loss": 2.0, "memory": 5},
        {"iteration": 10, "miou": 0.5},
        {"iteration": 20, "loss": 1.0},
    ]
    write(tmp_path / HISTORY, [*lines, {"iteration": 30, "loss": 0.5}])
    history = History(tmp_path, batch=2)
    history.on_train_start(At(20), TASK)
    assert history.newest == {"iteration": 20, "loss": 1.0, "miou": 0.5}


def test_losses_are_means_over_the_iterations_since_the_last_line(tmp_path: Path) -> None:
    history, trainer = History(tmp_path, batch=2, every=2), At()
    history.on_train_start(trainer, TASK)
    go_on(history, trainer, 5)
    lines = read_history(tmp_path / HISTORY)
    assert [list(line) for line in lines] == 3 * [
        ["iteration", "loss", "auxiliary_loss", "learning_rate", "images_per_second", "memory"]
    ]
    assert [line["iteration"] for line in lines] == [2, 4, 5]
    assert [line["loss"] for line in lines] == [1.5, 3.5, 5.0]
    assert [line["auxiliary_loss"] for line in lines] == [15, 35, 50]
    assert all(line["learning_rate"] == 0.25 and line["images_per_second"] > 0 for line in lines)
    assert all(10e6 < line["memory"] < 1e12 for line in lines)
    assert history.memory == max(line["memory"] for line in lines)
    assert history.iteration == 5


def test_the_norm_of_the_gradients_is_told_where_they_are_clipped(tmp_path: Path) -> None:
    history, trainer = History(tmp_path, batch=2, every=2), At()
    history.on_train_start(trainer, TASK)
    go_on(history, trainer, 4, norm=True)
    assert [line["gradient_norm"] for line in read_history(tmp_path / HISTORY)] == [150, 350]


def test_losses_are_read_when_a_line_is_written_and_not_before(tmp_path: Path) -> None:
    read: list[float] = []

    class Loss(torch.Tensor):
        def __float__(self) -> float:
            read.append(1)
            return 1.0

    history, trainer = History(tmp_path, batch=2, every=4), At()
    history.on_train_start(trainer, TASK)
    loss = torch.zeros(()).as_subclass(Loss)
    for trainer.global_step in range(1, 5):
        assert read == []
        history.on_train_batch_end(trainer, TASK, {"main": loss, "auxiliary": loss}, None, 0)
    assert len(read) == 8


def test_scores_are_told_and_the_clock_of_training_stands_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    history, trainer = History(tmp_path, batch=6, every=2), At()
    assert history.images_per_second is None
    history.on_train_start(trainer, TASK)
    now[0] += 3
    go_on(history, trainer, 1)
    history.on_validation_start(trainer, TASK)
    now[0] += 50
    history.on_validation_end(trainer, TASK)
    now[0] += 1
    go_on(history, trainer, 2)
    now[0] += 2
    go_on(history, trainer, 4)
    scores, first, second = read_history(tmp_path / HISTORY)
    assert scores == {
        **{"iteration": 1, "miou": 0.5, "pixel_accuracy": 0.75, "iou": [0.25, None, 0.75], "seconds": 50.0}
    }
    assert first["images_per_second"] == 12 / 4
    assert second["images_per_second"] == 12 / 2
    assert history.images_per_second == 24 / 6
    assert history.newest["miou"] == 0.5
    assert history.newest["loss"] == 3.5


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_resumed_run_tells_what_an_unbroken_one_does(at: int, tmp_path: Path) -> None:
    def run(folder: Path, told: Told, breaks: int | None) -> None:
        folder.mkdir()
        history, trainer = History(folder, batch=2, logs=[told], every=3), At()
        history.on_train_start(trainer, TASK)
        if breaks is not None:
            go_on(history, trainer, breaks)
            state = json.loads(json.dumps(history.state_dict()))
            go_on(history, trainer, 5)  # of which nothing is kept
            history, trainer = History(folder, batch=2, logs=[told], every=3), At(breaks)
            history.load_state_dict(state)
            history.on_train_start(trainer, TASK)
        go_on(history, trainer, 5)
        validate(history, trainer)

    run(tmp_path / "whole", Told(), None)
    told = Told()
    run(tmp_path / "broken", told, at)
    assert story(tmp_path / "broken") == story(tmp_path / "whole")
    assert told.calls[-1] == ("write", read_history(tmp_path / "broken" / HISTORY)[-1])
    assert ("start", at) in told.calls


def test_checkpoints_of_older_versions_know_no_norms(tmp_path: Path) -> None:
    history, trainer = History(tmp_path, batch=2, every=2), At(1)
    history.load_state_dict({"main": [1.0], "auxiliary": [10.0]})
    history.on_train_start(trainer, TASK)
    go_on(history, trainer, 2)
    assert read_history(tmp_path / HISTORY)[0]["loss"] == 1.5


def test_a_validation_that_is_done_again_is_told_once(tmp_path: Path) -> None:
    """After the last iteration there is nothing to train, so that a run which goes on there begins with it."""
    for session in range(2):
        told = Told()
        history, trainer = History(tmp_path, batch=2, logs=[told]), At(5)
        validate(history, trainer)
        assert [call[0] for call in told.calls] == ["start", "write"][: 2 - session]
        assert history.newest["miou"] == 0.5
    assert len(read_history(tmp_path / HISTORY)) == 1


def test_processes_but_the_first_write_and_read_nothing(tmp_path: Path) -> None:
    told = Told()
    history, trainer = History(tmp_path, batch=2, logs=[told], every=2), At(first=False)
    history.on_train_start(trainer, TASK)
    go_on(history, trainer, 3)
    validate(history, trainer)
    assert list(tmp_path.iterdir()) == []
    assert told.calls == []
    assert history.state_dict() == {"main": [3.0], "auxiliary": [30.0], "gradient_norm": []}
    assert history.iteration == 3
    assert history.images_per_second is not None


@pytest.mark.parametrize(
    ("error", "at"), [(RuntimeError("no network\nat all"), "write"), (OSError(errno.EACCES, "Permission"), "start")]
)
def test_a_log_that_fails_is_left_out(
    error: Exception, at: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failing, other = Told(error, at), Told()
    history, trainer = History(tmp_path, batch=2, logs=[failing, other], every=1), At()
    with caplog.at_level(logging.WARNING, "gffnet"):
        history.on_train_start(trainer, TASK)
        go_on(history, trainer, 3)
    assert failing.calls[-1][0] == at
    assert [call[0] for call in other.calls] == ["start", "write", "write", "write"]
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith("Told is left out from now on: ")
    assert "\n" not in caplog.records[0].message
    assert len(read_history(tmp_path / HISTORY)) == 3


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), CannotWrite("x")])
def test_a_full_disk_is_an_error(error: Exception, tmp_path: Path) -> None:
    history, trainer = History(tmp_path, batch=2, logs=[Told(error)], every=1), At()
    history.on_train_start(trainer, TASK)
    with pytest.raises(type(error)):
        go_on(history, trainer, 1)


@pytest.mark.parametrize("failed", [False, True])
def test_logs_are_closed_once_whatever_they_say(failed: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logs = [Told(RuntimeError("gone"), "close"), Told()]
    history = History(tmp_path, batch=2, logs=logs)
    history.close(failed)
    history.close()
    assert [log.calls for log in logs] == [[("close", failed)], [("close", failed)]]
    assert [record.message for record in caplog.records] == ["Told: gone"]


def test_told_is_a_log() -> None:
    log: Callable[[], Log] = Told
    assert isinstance(log(), Log)

"""The bar says what the history knows, how long it takes yet, and leaves lines where there is no terminal."""

import io
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console

from gffnet.training import callbacks as progress_bar
from gffnet.training.callbacks import History, ProgressBar

TASK = SimpleNamespace(device=torch.device("cpu"), val_scores=None)


class At(Trainer):
    """A trainer that is at an iteration and does nothing."""

    global_step = 0
    max_steps = 1000
    is_global_zero = True
    num_val_batches = (4,)
    state = SimpleNamespace(fn=TrainerFn.FITTING)

    def __init__(self, step: int = 0, first: bool = True) -> None:
        self.global_step = step
        self.is_global_zero = first
        self.state = SimpleNamespace(fn=TrainerFn.FITTING)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [5000.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def shown_on(monkeypatch: pytest.MonkeyPatch, terminal: bool, width: int = 200) -> io.StringIO:
    """What appears on a screen from now on."""
    file = io.StringIO()
    screen = Console(
        file=file, force_terminal=terminal, width=width, highlight=False, markup=False, soft_wrap=True, _environ={}
    )
    monkeypatch.setattr(progress_bar, "screen", screen)
    return file


def step(bar: ProgressBar, trainer: At, clock: list[float], seconds: float, steps: int = 1) -> None:
    for _ in range(steps):
        trainer.global_step += 1
        clock[0] += seconds
        bar.on_train_batch_end(trainer, TASK, {}, None, 0)


def validate(bar: ProgressBar, trainer: At, clock: list[float], seconds: float = 0.0, images: int = 4) -> None:
    bar.on_validation_start(trainer, TASK)
    for i in range(images):
        clock[0] += seconds
        bar.on_validation_batch_end(trainer, TASK, None, None, i)
    bar.on_validation_end(trainer, TASK)


def test_its_words_grow_with_what_is_known(tmp_path: Path) -> None:
    history = History(tmp_path, batch=2)
    bar = ProgressBar(history)
    assert bar.state() == ""
    history.newest |= {"loss": 0.51234, "learning_rate": 0.0012, "images_per_second": 6.54, "memory": None}
    assert bar.state() == "loss 0.512  rate 0.0012  6.5 images/s"
    history.newest |= {"miou": 0.4444, "iteration": 7, "memory": 3_210_000_000}
    assert bar.state().endswith("6.5 images/s  mIoU 44.4%  3.2 GB")


def test_the_time_left_follows_from_this_session(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation counts; iterations of before, and the wait for the first one, do not."""
    shown_on(monkeypatch, terminal=False)
    bar, trainer = ProgressBar(History(tmp_path, batch=2)), At(900)
    bar.on_train_start(trainer, TASK)
    assert bar.left(900, 1000) == ""
    step(bar, trainer, clock, 300)
    assert bar.left(901, 1000) == ""
    step(bar, trainer, clock, 2, steps=4)
    assert bar.left(905, 1000) == "0:03:10 left"
    validate(bar, trainer, clock, seconds=10)
    assert bar.left(905, 1000) == "0:19:00 left"  # (8 + 40) / 4 seconds an iteration
    step(bar, trainer, clock, 1000, steps=94)
    assert bar.left(999, 1000) == "0:16:00 left"  # (48 + 94 000) / 98
    assert bar.left(1000, 1000) == ""


def test_days_are_said(tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    shown_on(monkeypatch, terminal=False)
    bar, trainer = ProgressBar(History(tmp_path, batch=2)), At()
    bar.on_train_start(trainer, TASK)
    step(bar, trainer, clock, 200, steps=2)
    assert bar.left(2, 1000) == "2 days, 7:26:40 left"


def test_without_a_terminal_there_is_a_line_a_validation_and_one_a_minute(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shown_on(monkeypatch, terminal=False)
    history = History(tmp_path, batch=2)
    history.newest["loss"] = 0.5
    bar, trainer = ProgressBar(history), At()
    bar.on_train_start(trainer, TASK)
    step(bar, trainer, clock, 7, steps=20)  # 140 seconds
    assert file.getvalue().splitlines() == [
        "iteration 9 of 1000: loss 0.500  1:55:37 left",
        "iteration 18 of 1000: loss 0.500  1:54:34 left",
    ]
    history.newest["miou"] = 0.25
    validate(bar, trainer, clock, seconds=25)
    first, second = file.getvalue().splitlines()[2:]
    assert first.startswith("iteration 20 of 1000, validating 2/4: loss 0.500  mIoU 25.0%  ")
    assert second.startswith("iteration 20 of 1000: loss 0.500  mIoU 25.0%  ")
    step(bar, trainer, clock, 59.9)
    assert len(file.getvalue().splitlines()) == 4


def test_a_validation_after_training_is_said(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shown_on(monkeypatch, terminal=False)
    history, trainer = History(tmp_path, batch=2), At(999)
    bar = ProgressBar(history)
    bar.on_train_start(trainer, TASK)
    step(bar, trainer, clock, 1)
    bar.on_train_end(trainer, TASK)
    history.newest["miou"] = 0.25
    trainer.state.fn = TrainerFn.VALIDATING
    validate(bar, trainer, clock)
    assert file.getvalue() == "iteration 1000 of 1000: mIoU 25.0%\n"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_on_a_terminal_there_is_one_bar(
    width: int, tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shown_on(monkeypatch, terminal=True, width=width)
    history, trainer = History(tmp_path, batch=2), At(900)
    bar = ProgressBar(history)
    bar.on_train_start(trainer, TASK)
    history.newest |= {"loss": 0.51234, "learning_rate": 0.0012, "images_per_second": 6.54, "memory": 3.2e9}
    step(bar, trainer, clock, 2, steps=40)
    bar.on_validation_start(trainer, TASK)
    bar.on_validation_batch_end(trainer, TASK, None, None, 1)
    assert bar._bar is not None
    bar._bar.refresh()
    bar.on_validation_end(trainer, TASK)
    bar.on_train_end(trainer, TASK)
    text = file.getvalue()
    words = " ".join(text.split("\x1b[?25h")[0].split())
    assert "validating 2/4" in text
    assert "iteration" not in text
    assert "…" not in text
    for part in ("940/1000", "loss 0.512 rate 0.0012 6.5 images/s 3.2 GB", "0:02:00 left"):
        assert part in words


def test_a_validation_after_training_has_a_bar_that_goes_and_a_line_that_stays(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shown_on(monkeypatch, terminal=True)
    history, trainer = History(tmp_path, batch=2), At(1000)
    bar = ProgressBar(history)
    trainer.state.fn = TrainerFn.VALIDATING
    history.newest["miou"] = 0.25
    validate(bar, trainer, clock)
    assert "iteration 1000 of 1000: mIoU 25.0%" in file.getvalue()
    assert bar._bar is None


@pytest.mark.parametrize("terminal", [False, True])
def test_processes_but_the_first_show_nothing(
    terminal: bool, tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shown_on(monkeypatch, terminal)
    bar, trainer = ProgressBar(History(tmp_path, batch=2)), At(first=False)
    bar.on_train_start(trainer, TASK)
    step(bar, trainer, clock, 100, steps=3)
    validate(bar, trainer, clock, seconds=100)
    bar.on_train_end(trainer, TASK)
    trainer.state.fn = TrainerFn.VALIDATING
    validate(bar, trainer, clock, seconds=100)
    assert file.getvalue() == ""


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt()])
def test_an_error_leaves_the_terminal_in_order(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shown_on(monkeypatch, terminal=True)
    bar, trainer = ProgressBar(History(tmp_path, batch=2)), At()
    bar.on_train_start(trainer, TASK)
    assert "\x1b[?25l" in file.getvalue()  # the cursor is hidden
    bar.on_exception(trainer, TASK, error)
    assert file.getvalue().rindex("\x1b[?25h") > file.getvalue().rindex("\x1b[?25l")
    bar.on_exception(trainer, TASK, error)


def test_nothing_is_shown_of_what_never_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shown_on(monkeypatch, terminal=True)
    bar: Any = ProgressBar(History(tmp_path, batch=2))
    bar.on_exception(At(), TASK, RuntimeError("before training"))
    assert file.getvalue() == ""

"""History, loggers, progress, waiting for data, and the divergence check."""

import errno
import importlib.util
import io
import itertools
import json
import logging
import math
import struct
import sys
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest
import torch
from lightning import Trainer
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from torch import Tensor

from gffnet.data.loader import TrainingStream
from gffnet.errors import CannotWrite, RunFailed, UserError
from gffnet.metrics.confusion import ClassScores
from gffnet.training import callbacks
from gffnet.training.callbacks import (
    HISTORY,
    DataWait,
    DivergenceCheck,
    History,
    Logger,
    ProgressBar,
    TensorBoard,
    WeightsAndBiases,
    read_history,
    series,
)
from gffnet.training.task import SegmentationTask
from gffnet.training.train import train
from tests import tiny

TIMES = {"images_per_second", "seconds", "memory"}


TASK = SimpleNamespace(device=torch.device("cpu"), val_scores=ClassScores(0.5, 0.75, (0.25, None, 0.75), (1, 1, 1), 10))


class At(Trainer):
    """A trainer that is at an iteration and does nothing."""

    optimizers = (SimpleNamespace(param_groups=[{"lr": 0.25}]),)
    callback_metrics: ClassVar[dict[str, Any]] = {}
    num_val_batches = (4,)
    global_step = 0
    max_steps = 5
    is_global_zero = True

    def __init__(self, step: int = 0, first: bool = True, last: int = 5) -> None:
        self.global_step = step
        self.max_steps = last
        self.is_global_zero = first


class Recorder(Logger):
    """A logger that records its calls, and fails where it is to."""

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


def advance(history: History, trainer: At, until: int, norm: bool = False) -> None:
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


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / HISTORY, [{"iteration": i} for i in (10, 20, 30)], torn='{"it')
    recorder = Recorder()
    History(tmp_path, batch=2, loggers=[recorder]).on_train_start(At(20), TASK)
    assert read_history(tmp_path / HISTORY) == [{"iteration": 10}, {"iteration": 20}]
    assert recorder.calls == [("start", 20)]


def test_a_resumed_run_knows_the_newest_values_but_not_the_measured_ones(tmp_path: Path) -> None:
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
    advance(history, trainer, 5)
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


def test_the_gradient_norm_is_logged_if_gradients_are_clipped(tmp_path: Path) -> None:
    history, trainer = History(tmp_path, batch=2, every=2), At()
    history.on_train_start(trainer, TASK)
    advance(history, trainer, 4, norm=True)
    assert [line["gradient_norm"] for line in read_history(tmp_path / HISTORY)] == [150, 350]


@pytest.mark.parametrize("norm", [math.inf, math.nan])
def test_what_json_does_not_have_is_null(norm: float, tmp_path: Path) -> None:
    """Such as the norm of a gradient that float16 cannot hold, and what a task logs."""
    history, trainer = History(tmp_path, batch=2, every=1), At(1)
    trainer.callback_metrics = {"ratio": torch.tensor(norm), "sum": torch.tensor(2.0)}
    history.on_train_start(trainer, TASK)
    history.on_train_batch_end(trainer, TASK, {"main": torch.ones(()), "gradient_norm": torch.tensor(norm)}, None, 0)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    line = json.loads((tmp_path / HISTORY).read_text(), parse_constant=refuse)
    assert (line["loss"], line["gradient_norm"], line["logged"]) == (1, None, {"ratio": None, "sum": 2})
    assert "gradient_norm" not in series(line, [])
    assert series(line, [])["sum"] == 2


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


def test_scores_are_logged_and_validation_does_not_count_for_the_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    history, trainer = History(tmp_path, batch=6, every=2), At()
    assert history.images_per_second is None
    history.on_train_start(trainer, TASK)
    now[0] += 3
    advance(history, trainer, 1)
    history.on_validation_start(trainer, TASK)
    now[0] += 50
    history.on_validation_end(trainer, TASK)
    now[0] += 1
    advance(history, trainer, 2)
    now[0] += 2
    advance(history, trainer, 4)
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
def test_a_resumed_run_has_the_history_of_an_uninterrupted_one(at: int, tmp_path: Path) -> None:
    def run(folder: Path, recorder: Recorder, breaks: int | None) -> None:
        folder.mkdir()
        history, trainer = History(folder, batch=2, loggers=[recorder], every=3), At()
        history.on_train_start(trainer, TASK)
        if breaks is not None:
            advance(history, trainer, breaks)
            state = json.loads(json.dumps(history.state_dict()))
            advance(history, trainer, 5)  # of which nothing is kept
            history, trainer = History(folder, batch=2, loggers=[recorder], every=3), At(breaks)
            history.load_state_dict(state)
            history.on_train_start(trainer, TASK)
        advance(history, trainer, 5)
        validate(history, trainer)

    run(tmp_path / "whole", Recorder(), None)
    recorder = Recorder()
    run(tmp_path / "broken", recorder, at)
    assert story(tmp_path / "broken") == story(tmp_path / "whole")
    assert recorder.calls[-1] == ("write", read_history(tmp_path / "broken" / HISTORY)[-1])
    assert ("start", at) in recorder.calls


def test_checkpoints_of_older_versions_know_no_norms(tmp_path: Path) -> None:
    history, trainer = History(tmp_path, batch=2, every=2), At(1)
    history.load_state_dict({"main": [1.0], "auxiliary": [10.0]})
    history.on_train_start(trainer, TASK)
    advance(history, trainer, 2)
    assert read_history(tmp_path / HISTORY)[0]["loss"] == 1.5


def test_a_repeated_validation_is_logged_once(tmp_path: Path) -> None:
    """After the last iteration there is nothing to train, so that a run that is resumed there starts with it."""
    for session in range(2):
        recorder = Recorder()
        history, trainer = History(tmp_path, batch=2, loggers=[recorder]), At(5)
        validate(history, trainer)
        assert [call[0] for call in recorder.calls] == ["start", "write"][: 2 - session]
        assert history.newest["miou"] == 0.5
    assert len(read_history(tmp_path / HISTORY)) == 1


def test_other_ranks_write_and_read_nothing(tmp_path: Path) -> None:
    recorder = Recorder()
    history, trainer = History(tmp_path, batch=2, loggers=[recorder], every=2), At(first=False)
    history.on_train_start(trainer, TASK)
    advance(history, trainer, 3)
    validate(history, trainer)
    assert list(tmp_path.iterdir()) == []
    assert recorder.calls == []
    assert history.state_dict() == {"main": [3.0], "auxiliary": [30.0]}
    assert history.iteration == 3
    assert history.images_per_second is not None


@pytest.mark.parametrize(
    ("error", "at"), [(RuntimeError("no network\nat all"), "write"), (OSError(errno.EACCES, "Permission"), "start")]
)
def test_a_logger_that_fails_is_dropped(
    error: Exception, at: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failing, other = Recorder(error, at), Recorder()
    history, trainer = History(tmp_path, batch=2, loggers=[failing, other], every=1), At()
    with caplog.at_level(logging.WARNING, "gffnet"):
        history.on_train_start(trainer, TASK)
        advance(history, trainer, 3)
    assert failing.calls[-1][0] == at
    assert [call[0] for call in other.calls] == ["start", "write", "write", "write"]
    assert len(caplog.records) == 1
    assert caplog.records[0].message.startswith("Recorder is dropped: ")
    assert "\n" not in caplog.records[0].message
    assert len(read_history(tmp_path / HISTORY)) == 3


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), CannotWrite("x")])
def test_a_full_disk_is_an_error(error: Exception, tmp_path: Path) -> None:
    history, trainer = History(tmp_path, batch=2, loggers=[Recorder(error)], every=1), At()
    history.on_train_start(trainer, TASK)
    with pytest.raises(type(error)):
        advance(history, trainer, 1)


@pytest.mark.parametrize("failed", [False, True])
def test_loggers_are_closed_once_whatever_they_raise(
    failed: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logs = [Recorder(RuntimeError("gone"), "close"), Recorder()]
    history = History(tmp_path, batch=2, loggers=logs)
    history.close(failed)
    history.close()
    assert [log.calls for log in logs] == [[("close", failed)], [("close", failed)]]
    assert [record.message for record in caplog.records] == ["Recorder: gone"]


# Loggers


ROOT = Path(__file__).parents[2]


CLASSES = ("road", "traffic light", 'a, "b"')


def losses(iteration: int, **more: Any) -> dict[str, Any]:
    return {
        **{"iteration": iteration, "loss": 1 / iteration, "auxiliary_loss": 2 / iteration, "learning_rate": 0.5},
        **{"images_per_second": 8.0, "memory": 10**9, **more},
    }


def scores(iteration: int) -> dict[str, Any]:
    iou = [0.25, None, iteration / 100]
    return {"iteration": iteration, "miou": iteration / 50, "pixel_accuracy": 0.75, "iou": iou, "seconds": 3.5}


STORY = [losses(10), losses(20), scores(20), losses(30), losses(40), scores(40)]


def tell(log: Logger, first: int = 0, last: int = 40) -> Logger:
    log.start(first)
    for event in STORY:
        if first < event["iteration"] <= last:
            log.write(event)
    return log


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions follow each other by seconds at least: event files are read in the order of that."""
    count = itertools.count(1_700_000_000)
    monkeypatch.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: float(next(count))))


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.usefixtures("seconds")
def test_tensorboard_shows_every_series(tmp_path: Path) -> None:
    tell(TensorBoard(tmp_path, CLASSES)).close()
    shown = points(tmp_path)
    assert shown["loss/main"] == [(i, pytest.approx(1 / i)) for i in (10, 20, 30, 40)]
    assert shown["score/miou"] == [(20, pytest.approx(0.4)), (40, pytest.approx(0.8))]
    assert shown["iou/road"] == [(20, 0.25), (40, 0.25)]
    assert set(shown) == {
        *("loss/main", "loss/auxiliary", "learning_rate", "throughput/images_per_second", "memory"),
        *("score/miou", "score/pixel_accuracy", "throughput/validation_seconds", "iou/road", 'iou/a, "b"'),
    }


@pytest.mark.usefixtures("seconds")
def test_tensorboard_is_up_to_date_after_every_event(tmp_path: Path) -> None:
    """As where the process is killed."""
    board = tell(TensorBoard(tmp_path, CLASSES), last=20)
    assert points(tmp_path)["score/miou"] == [(20, pytest.approx(0.4))]
    board.close()


@pytest.mark.usefixtures("seconds")
@pytest.mark.parametrize("at", [0, 10, 20, 40])
def test_tensorboard_shows_a_resumed_run_as_an_uninterrupted_one(at: int, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    tell(TensorBoard(whole, CLASSES)).close()
    tell(TensorBoard(broken, CLASSES)).close(failed=True)
    tell(TensorBoard(broken, CLASSES), first=at).close()
    assert points(broken) == points(whole)


def wandb_log(folder: Path) -> WeightsAndBiases:
    return WeightsAndBiases(folder, CLASSES, "tests", {"training": {"batch": 2}}, name="a run")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without messages or a network, and nothing outside the folder of the test."""
    wandb = pytest.importorskip("wandb")
    for name, value in {
        **{"WANDB_MODE": "offline", "WANDB_X_DISABLE_STATS": "true", "WANDB_X_DISABLE_MACHINE_INFO": "true"},
        **{f"WANDB_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "CACHE", "DATA")},
    }.items():
        monkeypatch.setenv(name, value)
    yield
    wandb.teardown()


def sent(folder: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """What every offline run in a run folder would send: its history, row by row."""
    from wandb.proto.wandb_internal_pb2 import Record

    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        rows = []
        for data in records(path.read_bytes()):
            if items := Record.FromString(data).history.item:
                rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
        yield path, rows


def records(log: bytes) -> Iterator[bytes]:
    """Of a log in LevelDB's format after a header of 7 bytes, as far as it is one block of 32 KiB of whole records."""
    at = 7
    while at + 7 <= len(log):
        _, length, kind = struct.unpack_from("<IHB", log, at)
        assert kind == 1, "a record that is whole"
        yield log[at + 7 : at + 7 + length]
        at += 7 + length


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_resumed_run_continues_its_run_at_weights_and_biases(tmp_path: Path) -> None:
    tell(wandb_log(tmp_path), last=20).close(failed=True)
    identity = (tmp_path / "wandb_id").read_text()
    tell(wandb_log(tmp_path), first=20).close()
    assert (tmp_path / "wandb_id").read_text() == identity
    pytest.importorskip("wandb").teardown()  # writes the files to their end
    (first, before), (second, after) = sent(tmp_path)
    assert first.name == second.name == f"run-{identity}.wandb"
    rows = [{key: value for key, value in row.items() if key[0] != "_"} for row in (*before, *after)]
    assert rows == [{"iteration": event["iteration"], **series(event, CLASSES)} for event in STORY]
    assert [row["_step"] for row in (*before, *after)] == [20, 40, 41, 60, 80, 81]


class Server:
    """In place of the package: a server that knows the last step that it received."""

    Settings = type("Settings", (SimpleNamespace,), {"model_fields": ()})

    def __init__(self) -> None:
        self.step = 0
        self.rows: list[dict[str, Any]] = []
        self.url = "https://example.org/run"
        self.options: list[dict[str, Any]] = []
        self.exit_codes: list[int] = []

    def setup(self, settings: Any) -> None:
        """Settings for all runs."""

    def init(self, **options: Any) -> "Server":
        self.options.append(options)
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "iteration")

    def log(self, row: dict[str, Any], step: int) -> None:
        assert step >= self.step
        self.rows.append(row)
        self.step = step + 1

    def finish(self, exit_code: int) -> None:
        self.exit_codes.append(exit_code)


@pytest.mark.parametrize("at", [10, 20, 30])
def test_weights_and_biases_gets_no_event_twice(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("wandb")
    server = Server()
    monkeypatch.setitem(sys.modules, "wandb", server)
    monkeypatch.setattr("gffnet.training.callbacks.find_spec", lambda name: SimpleNamespace(origin=name))
    with caplog.at_level(logging.INFO, "gffnet"):
        log = tell(wandb_log(tmp_path), last=30)
        log.close(failed=True)
        tell(wandb_log(tmp_path), first=at).close()
    assert server.rows == [{"iteration": event["iteration"], **series(event, CLASSES)} for event in STORY]
    assert server.exit_codes == [1, 0]
    first, second = server.options
    assert first["id"] == second["id"] == (tmp_path / "wandb_id").read_text()
    assert (first["project"], first["name"], first["config"]) == ("tests", "a run", {"training": {"batch": 2}})
    assert [record.message for record in caplog.records] == 2 * ["Weights & Biases: https://example.org/run"]


def test_a_missing_package_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        assert name == "wandb"

    monkeypatch.setattr("gffnet.training.callbacks.find_spec", missing)
    with pytest.raises(UserError, match=r"needs the package wandb, which is missing: `pip install 'gffnet\[wandb\]'`"):
        wandb_log(tmp_path)


def test_a_folder_called_wandb_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder_of_no_package").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    found = importlib.util.find_spec("folder_of_no_package")
    assert found is not None
    monkeypatch.setattr("gffnet.training.callbacks.find_spec", lambda name: found)
    with pytest.raises(UserError, match="is missing"):
        wandb_log(tmp_path)


def test_nothing_is_written_before_the_start(tmp_path: Path) -> None:
    TensorBoard(tmp_path / "run", CLASSES).close()
    assert not (tmp_path / "run").exists()


def test_unknown_values_have_no_series() -> None:
    assert "memory" not in series(losses(10, memory=None), CLASSES)
    assert "iou/traffic light" not in series(scores(10), CLASSES)


# Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [5000.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def shown_on(monkeypatch: pytest.MonkeyPatch, clock: list[float], terminal: bool, width: int = 200) -> io.StringIO:
    """What appears on a screen from now on."""
    file = io.StringIO()
    screen = Console(
        file=file,
        force_terminal=terminal,
        width=width,
        highlight=False,
        markup=False,
        soft_wrap=True,
        get_time=lambda: clock[0],
        _environ={},
    )
    monkeypatch.setattr(callbacks, "screen", screen)
    return file


def step(bar: ProgressBar, trainer: At, clock: list[float], seconds: float, steps: int = 1) -> None:
    for _ in range(steps):
        trainer.global_step += 1
        clock[0] += seconds
        bar.on_train_batch_end(trainer, TASK, {}, None, 0)


def show_validation(bar: ProgressBar, trainer: At, clock: list[float], seconds: float = 0.0) -> None:
    bar.on_validation_start(trainer, TASK)
    for i in range(4):
        clock[0] += seconds
        bar.on_validation_batch_end(trainer, TASK, None, None, i)
    bar.on_validation_end(trainer, TASK)


def test_lines_without_a_terminal(tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """One per validation and one a minute. The time left is that at the speed of this session, with its validations."""
    file = shown_on(monkeypatch, clock, terminal=False)
    history = History(tmp_path, batch=2)
    history.newest |= {"loss": 0.51234, "learning_rate": 0.0012, "images_per_second": 6.54, "memory": None}
    bar, trainer = ProgressBar(history), At(900, last=1000)
    bar.on_train_start(trainer, TASK)
    step(bar, trainer, clock, 300)  # waits for the first batch
    step(bar, trainer, clock, 2, steps=29)
    known = "loss 0.512  rate 0.0012  6.5 images/s"
    assert file.getvalue().splitlines() == [f"iteration 901 of 1000: {known}"]
    step(bar, trainer, clock, 2)
    assert file.getvalue().splitlines()[1] == f"iteration 931 of 1000: {known}  0:02:18 left"
    history.newest |= {"miou": 0.4444, "iteration": 7, "memory": 3_210_000_000}
    show_validation(bar, trainer, clock, seconds=25)
    first, second = file.getvalue().splitlines()[2:]
    assert first.startswith(f"iteration 931 of 1000, validating 3/4: {known}  mIoU 44.4%  3.2 GB  ")
    assert second.startswith(f"iteration 931 of 1000: {known}  mIoU 44.4%  3.2 GB  ")
    step(bar, trainer, clock, 2)
    history.newest["loss"] = 0.25
    step(bar, trainer, clock, 2, steps=60)
    assert file.getvalue().splitlines()[-1].endswith("left")
    assert "left" in file.getvalue().splitlines()[4]
    step(bar, trainer, clock, 2, steps=8)
    bar.teardown(trainer, TASK, "fit")
    show_validation(bar, trainer, clock)
    last = file.getvalue().splitlines()[-1]
    assert last.startswith("iteration 1000 of 1000: loss 0.250")
    assert "left" not in last


@pytest.mark.parametrize("width", [80, 200])
def test_one_bar_on_a_terminal(width: int, tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    file = shown_on(monkeypatch, clock, terminal=True, width=width)
    history, trainer = History(tmp_path, batch=2), At(900, last=1000)
    bar = ProgressBar(history)
    bar.on_train_start(trainer, TASK)
    history.newest |= {"loss": 0.51234, "learning_rate": 0.0012, "images_per_second": 6.54, "memory": 3.2e9}
    step(bar, trainer, clock, 2, steps=40)
    bar.on_validation_start(trainer, TASK)
    bar.on_validation_batch_end(trainer, TASK, None, None, 1)
    assert bar.bar is not None
    bar.bar.refresh()
    bar.on_validation_end(trainer, TASK)
    bar.teardown(trainer, TASK, "fit")
    text = file.getvalue()
    words = " ".join(text.split("\x1b[?25h")[0].split())
    assert "validating 2/4" in text
    assert "iteration" not in text
    assert "…" not in text
    for part in ("940/1000", "loss 0.512 rate 0.0012 6.5 images/s 3.2 GB", "0:02:00 left"):
        assert part in words


@pytest.mark.parametrize("terminal", [False, True])
def test_other_ranks_show_nothing(
    terminal: bool, tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shown_on(monkeypatch, clock, terminal)
    bar, trainer = ProgressBar(History(tmp_path, batch=2)), At(first=False, last=1000)
    bar.on_exception(trainer, TASK, RuntimeError("before training"))
    bar.on_train_start(trainer, TASK)
    step(bar, trainer, clock, 100, steps=3)
    show_validation(bar, trainer, clock, seconds=100)
    bar.teardown(trainer, TASK, "fit")
    show_validation(bar, trainer, clock, seconds=100)
    assert file.getvalue() == ""


def test_an_error_restores_the_terminal(tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    file = shown_on(monkeypatch, clock, terminal=True)
    bar, trainer = ProgressBar(History(tmp_path, batch=2)), At(last=1000)
    bar.on_train_start(trainer, TASK)
    assert "\x1b[?25l" in file.getvalue()  # the cursor is hidden
    bar.on_exception(trainer, TASK, KeyboardInterrupt())
    assert file.getvalue().rindex("\x1b[?25h") > file.getvalue().rindex("\x1b[?25l")
    bar.on_exception(trainer, TASK, RuntimeError("x"))


# Waiting for data


TRAINER: Any = Mock(spec=Trainer)


def watched(waits: DataWait, monkeypatch: pytest.MonkeyPatch, *steps: tuple[str, float]) -> None:
    """Let a callback see events, each so many seconds after the one before."""
    clock = iter(accumulate((seconds for _, seconds in steps), initial=100.0))
    next(clock)
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    for event, now in zip((event for event, _ in steps), clock, strict=True):  # noqa: B007
        more = {"start": (None, 0), "end": (None, None, 0), "validated": ()}[event]
        hook = {"start": "on_train_batch_start", "end": "on_train_batch_end", "validated": "on_validation_end"}[event]
        getattr(waits, hook)(TRAINER, None, *more)


def test_the_time_between_iterations_counts_but_for_validation_and_the_first_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = DataWait(4, 8)
    events = [("start", 50), ("end", 3), ("start", 2), ("end", 5), ("validated", 1000), ("start", 1), ("end", 4)]
    watched(waits, monkeypatch, *events, ("start", 1))
    assert (waits.waited, waits.trained) == (2 + 1, 3 + 5 + 4)


@pytest.mark.parametrize(("workers", "more"), [(4, "a higher training.workers (4 now, 8 at most here), "), (8, "")])
def test_the_advice_fits_the_hardware(workers: int, more: str, caplog: pytest.LogCaptureFixture) -> None:
    waits = DataWait(workers, 8)
    waits.waited, waits.trained = 20.0, 20.0
    waits.on_train_end(At(), TASK)
    assert caplog.messages == [
        f"training waited for data 50% of the time. What helps: {more}a cache (`gffnet data cache`), or a faster disk."
    ]


@pytest.mark.parametrize("slow", ["data", "training"])
def test_a_run_warns_at_its_end(
    slow: str, tmp_path: Path, camvid: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    part: Any = {"data": TrainingStream, "training": SegmentationTask}[slow]
    name = {"data": "__getitem__", "training": "training_step"}[slow]
    real = getattr(part, name)

    def slowly(self: Any, *arguments: Any) -> Any:
        time.sleep(0.2)
        return real(self, *arguments)

    monkeypatch.setattr(part, name, slowly)
    monkeypatch.setattr(DataWait, "MIN_SECONDS", 0.3)
    with caplog.at_level(logging.WARNING, "gffnet"):
        train(tiny.recipe(iterations=3, validate_every=3, workers=0), camvid, tmp_path / "run", progress=False)
    assert ("training waited for data" in caplog.text) == (slow == "data")


# Divergence


def two_losses(main: float, auxiliary: float = 1.0) -> Tensor:
    return torch.tensor([main, auxiliary])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_a_loss_that_is_not_finite_names_the_iteration_and_its_images(bad: float, which: int) -> None:
    check = DivergenceCheck(19)
    check.add(0, two_losses(2.0), ("a", "b"))
    values = [2.0, 1.0]
    values[which] = bad
    with pytest.raises(RunFailed, match=r"^the loss of iteration 2 is not finite .* Its images: c, d\. The previous"):
        check.add(1, torch.tensor(values), ("c", "d"))


def test_a_guess_and_a_short_peak_are_no_divergence() -> None:
    check = DivergenceCheck(19)
    for i in range(50):
        check.add(i, two_losses(100.0 if i % DivergenceCheck.WINDOW == 3 else math.log(19)), ("a",))


def test_a_loss_of_larger_weights_has_a_larger_guess() -> None:
    check = DivergenceCheck(19, weights=20.0)
    for i in range(50):
        check.add(i, two_losses(20 * math.log(19)), ("a",))


def test_a_diverging_loss_is_stopped() -> None:
    check = DivergenceCheck(2)
    said = r"the loss has diverged: its mean over the last 10 iterations up to (\d+) is"
    with pytest.raises(RunFailed, match=said) as e:  # noqa: PT012
        for i in range(100):
            check.add(i, two_losses(math.log(2) * 1.1**i), ("a",))
    mean = [
        sum(1.1**j for j in range(i - DivergenceCheck.WINDOW + 1, i + 1)) / DivergenceCheck.WINDOW for i in range(100)
    ]
    first = next(i for i in range(DivergenceCheck.WINDOW - 1, 100) if mean[i] > 10)
    assert f"up to {first + 1} is {math.log(2) * mean[first]:.3g}" in str(e.value)


def test_on_a_gpu_losses_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device stands in for one: a loss on it cannot be read, so nothing may try before the time."""
    check = DivergenceCheck(19)
    for i in range(DivergenceCheck.WINDOW - 1):
        check.add(i, torch.empty(2, device="meta"), ("a",))
    looked: list[bool] = []
    monkeypatch.setattr(check, "check", lambda: looked.append(True))
    check.add(DivergenceCheck.WINDOW - 1, torch.empty(2, device="meta"), ("a",))
    assert looked == [True]

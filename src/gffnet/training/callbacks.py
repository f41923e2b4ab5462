"""Callbacks of a run: history and logs, progress, time spent waiting for data, divergence, stopping on request.

The history of a run is RUN/history.jsonl, one JSON object per event:

    {"iteration", "loss", "auxiliary_loss", "learning_rate", "images_per_second", "memory"[, "gradient_norm"]}
    {"iteration", "miou", "pixel_accuracy", "iou", "seconds"}

Losses are means over the iterations since the previous line, `iou` has one value per class (null for a class that
occurs nowhere), `memory` is in bytes. TensorBoard and Weights & Biases get the same events. After a resume, all of them
show what an uninterrupted run would have.
"""

import json
import logging
import math
import os
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from lightning import Callback, Trainer
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text
from torch import Tensor

from gffnet.console import screen
from gffnet.errors import CannotWrite, RunFailed, Stopped, UserError
from gffnet.files import NO_ROOM, atomic_write
from gffnet.inference.tiling import most_resident
from gffnet.training.checkpoint import LastCheckpoint

HISTORY = "history.jsonl"
SERIES = {
    "loss": "loss/main",
    "auxiliary_loss": "loss/auxiliary",
    "learning_rate": "learning_rate",
    "gradient_norm": "gradient_norm",
    "images_per_second": "throughput/images_per_second",
    "seconds": "throughput/validation_seconds",
    "memory": "memory",
    "miou": "score/miou",
    "pixel_accuracy": "score/pixel_accuracy",
}
"""Names of an event's values in TensorBoard and Weights & Biases; those of the classes are `iou/CLASS`."""
_MEASURED = {"images_per_second", "memory", "seconds"}
"""Values of a previous session that say nothing about this one."""

log = logging.getLogger("gffnet")


# Loggers


@runtime_checkable
class Logger(Protocol):
    """A record of a run beside its history; only rank 0 has any. Nothing is written before `start`."""

    def start(self, iteration: int) -> None:
        """Begin, or resume from an iteration: remove or hide the events of later ones."""

    def write(self, event: dict[str, Any]) -> None:
        """Log an event of the history."""

    def close(self, failed: bool = False) -> None:
        """Finish; `failed`: the run was interrupted or failed. May be called without `start`."""


def series(event: Mapping[str, Any], classes: Sequence[str]) -> dict[str, float]:
    """The known values of an event by the names of their series."""
    named = {name: event.get(key) for key, name in SERIES.items()}
    named |= {f"iou/{name}": value for name, value in zip(classes, event.get("iou", ()), strict=False)}
    return {name: value for name, value in named.items() if value is not None}


class TensorBoard:
    """Event files in RUN/tensorboard, for `tensorboard --logdir RUN`."""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        """Initialise with the run folder and the names of the classes."""
        self.folder = folder / "tensorboard"
        self.classes = tuple(classes)
        self._writer: Any = None

    def start(self, iteration: int) -> None:
        """Begin a new file, which hides the later events of the previous ones."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self._writer = SummaryWriter(str(self.folder), purge_step=iteration + 1)

    def write(self, event: dict[str, Any]) -> None:
        """Write a point of every series. Raises `OSError` if the disk is full."""
        for name, value in series(event, self.classes).items():
            self._writer.add_scalar(name, value, event["iteration"])
        self._writer.flush()

    def close(self, failed: bool = False) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases:
    """A run at Weights & Biases; with WANDB_MODE=offline in RUN/wandb, for `wandb sync`.

    Its id is stored in RUN/wandb_id, with which a resumed run continues the same run there.
    """

    def __init__(
        self, folder: Path, classes: Sequence[str], project: str, config: Mapping[str, Any], name: str | None = None
    ) -> None:
        """Initialise.

        Args:
            folder: the run folder.
            classes: names of the classes.
            project: at Weights & Biases.
            config: the recipe as nested plain values.
            name: that is shown.

        Raises:
            UserError: wandb is not installed.
        """
        found = find_spec("wandb")
        if found is None or found.origin is None:  # a folder of that name, such as wandb itself writes, is no package
            raise UserError(
                "logging to Weights & Biases needs the package wandb, which is missing: `pip install 'gffnet[wandb]'`."
            )
        self.folder = folder
        self.classes = tuple(classes)
        self.project = project
        self.config = dict(config)
        self.name = name
        self._run: Any = None

    def start(self, iteration: int) -> None:
        """Begin a run, or continue that of the run folder.

        Raises:
            wandb.Error: the server cannot be reached, or there is no login.
        """
        import wandb  # optional, and slow to import

        # The login asks for a key on a terminal; elsewhere it must not wait for one forever.
        wandb.setup(wandb.Settings(silent=True, login_timeout=60))
        self.folder.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {"silent": True, "console": "off"}  # the progress bar would fill the log of the run
        if "finish_timeout" in wandb.Settings.model_fields:
            settings["finish_timeout"] = 300
        self._run = wandb.init(
            project=self.project,
            name=self.name,
            config=self.config,
            dir=str(self.folder),
            id=self._id(iteration),
            resume="allow",
            settings=wandb.Settings(**settings),
        )
        self._run.define_metric("*", step_metric="iteration")
        log.info("Weights & Biases: %s", self._run.url or f"offline, in {self.folder / 'wandb'}")

    def write(self, event: dict[str, Any]) -> None:
        """Send the values of an event, unless an interrupted session has sent them."""
        # Steps must grow, and an iteration may have both losses and scores: two steps per iteration.
        step = 2 * event["iteration"] + ("miou" in event)
        if step >= self._run.step:
            self._run.log({"iteration": event["iteration"], **series(event, self.classes)}, step=step)

    def close(self, failed: bool = False) -> None:
        """Send the rest, for at most five minutes, and report how the run ended."""
        if self._run is not None:
            self._run.finish(exit_code=int(failed))

    def _id(self, iteration: int) -> str:
        """The id of the run at Weights & Biases: the stored one when resuming, else a new one."""
        path = self.folder / "wandb_id"
        known = path.read_text(encoding="utf-8").strip() if iteration and path.is_file() else ""
        if not known:
            known = secrets.token_hex(4)
            atomic_write(path, known.encode())
        return known


# The history


class History(Callback):
    """Write losses, learning rate and speed every few iterations, and the scores of every validation.

    Only rank 0 writes. A logger that fails is dropped with a warning; a full disk is an error.
    """

    def __init__(self, folder: Path, batch: int, loggers: Sequence[Logger] = (), every: int = 10) -> None:
        """Initialise.

        Args:
            folder: the run folder.
            batch: images per iteration.
            loggers: get every event.
            every: iterations per line.
        """
        self.path = folder / HISTORY
        self.batch = batch
        self.loggers = list(loggers)
        self.every = every
        self.newest: dict[str, Any] = {}
        """The latest of all values."""
        self.iteration = 0
        self.memory: int | None = None
        """The largest `memory` of this session."""
        self._pending = _no_losses()
        self._clock = _Clock()
        self._images = 0
        self._previous = (0, 0.0)  # images and seconds at the previous line
        self._scored: int | None = None
        self._started = False

    @property
    def images_per_second(self) -> float | None:
        """The mean over this session without validation; None before its first iteration."""
        return self._images / max(self._clock.seconds, 1e-9) if self._images else None

    def state_dict(self) -> dict[str, Any]:
        """The losses that are not written yet, for resuming."""
        return {name: [float(value) for value in values] for name, values in self._pending.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the losses that an interrupted run had not written."""
        self._pending = _no_losses() | {name: [torch.tensor(v) for v in values] for name, values in state.items()}

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Start or resume the history, and the clock."""
        self._start(trainer)
        self._clock.resume()

    def _start(self, trainer: Trainer) -> None:
        """Remove the lines after the iteration that a run resumes from, and start the loggers; only once."""
        self.iteration = trainer.global_step
        if trainer.is_global_zero and not self._started:
            lines = [line for line in read_history(self.path) if line["iteration"] <= self.iteration]
            atomic_write(self.path, "".join(json.dumps(line) + "\n" for line in lines).encode())
            self._scored = max((line["iteration"] for line in lines if "miou" in line), default=None)
            for line in lines:
                self.newest |= {key: value for key, value in line.items() if key not in _MEASURED}
            self._call_loggers(lambda logger: logger.start(self.iteration))
        self._started = True

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Collect losses; every few iterations write their mean."""
        self.iteration = trainer.global_step
        self._images += self.batch
        for name, values in self._pending.items():
            if name in outputs:
                values.append(outputs[name])
        if len(self._pending["main"]) < self.every and self.iteration < (trainer.max_steps or 0):
            return
        if trainer.is_global_zero:
            # Reading the losses waits for the GPU: the speed computed next is that of finished work.
            means = {name: sum(map(float, values)) / len(values) for name, values in self._pending.items() if values}
            (images, seconds), self._previous = self._previous, (self._images, self._clock.seconds)
            memory = memory_in_use(task.device)
            self.memory = max((value for value in (self.memory, memory) if value is not None), default=None)
            self._write(
                loss=means["main"],
                auxiliary_loss=means["auxiliary"],
                learning_rate=trainer.optimizers[0].param_groups[0]["lr"],
                images_per_second=(self._images - images) / max(self._clock.seconds - seconds, 1e-9),
                memory=memory,
                **{name: means[name] for name in means.keys() & {"gradient_norm"}},
            )
        self._pending = _no_losses()

    def on_validation_start(self, trainer: Trainer, task: Any) -> None:
        """Stop the clock. A run that is resumed after its last iteration starts here."""
        self._start(trainer)
        self._clock.stop()

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Write the scores, and resume the clock."""
        seconds = self._clock.resume()
        scores = task.val_scores
        if scores is None or not trainer.is_global_zero:
            return
        values = {"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy, "iou": list(scores.iou)}
        if self._scored == trainer.global_step:  # repeated by a run that was interrupted after its last validation
            self.newest |= values
        else:
            self._write(**values, seconds=seconds)
        self._scored = trainer.global_step

    def close(self, failed: bool = False) -> None:
        """Close the loggers; `failed`: the run was interrupted or failed."""
        for logger in self.loggers:
            try:
                logger.close(failed)
            except Exception as error:  # the run's own error matters more, and the history is complete
                log.warning("%s: %s", type(logger).__name__, error)
        self.loggers = []

    def _write(self, **values: Any) -> None:
        event = {"iteration": self.iteration, **values}
        self.newest |= event
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
        self._call_loggers(lambda logger: logger.write(event))

    def _call_loggers(self, call: Callable[[Logger], None]) -> None:
        """Call every logger and drop those that fail, unless the disk is full."""
        for logger in list(self.loggers):
            try:
                call(logger)
            except Exception as error:
                full = isinstance(error, OSError) and error.errno in NO_ROOM
                if full or isinstance(error, CannotWrite):
                    raise
                self.loggers.remove(logger)
                log.warning("%s is dropped: %s", type(logger).__name__, " ".join(str(error).split()))


class _Clock:
    """Seconds of training, without those of validation."""

    def __init__(self) -> None:
        self._before = 0.0
        self._since: float | None = None
        self._stopped = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._before + (0.0 if self._since is None else time.perf_counter() - self._since)

    def stop(self) -> None:
        self._before, self._since = self.seconds, None
        self._stopped = time.perf_counter()

    def resume(self) -> float:
        """Resume, and return how long it stood."""
        self._since = time.perf_counter()
        return self._since - self._stopped


def _no_losses() -> dict[str, list[Tensor]]:
    return {"main": [], "auxiliary": [], "gradient_norm": []}


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a history file, oldest first, without an incomplete last line; empty if there is no file."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def memory_in_use(device: torch.device) -> int | None:
    """Peak bytes of tensors on an NVIDIA GPU, else the resident memory of the process; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return most_resident()  # the peak, where the system does not report the present value


# Progress


class _Bar(Progress):
    """A progress bar with its state on a second line, so that both fit a narrow terminal."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield from (Text(task.fields["state"]) for task in self.tasks if task.fields["state"])


class ProgressBar(Callback):
    """Progress on standard error: a bar, or without a terminal a line per validation and at most one a minute between.

    Lightning's `RichProgressBar` counts epochs, writes to standard output, and prints nothing without a terminal.
    """

    SECONDS_PER_LINE = 60.0

    def __init__(self, history: History) -> None:
        """Initialise with the history of the run, which must be called first."""
        self.history = history
        self._bar: _Bar | None = None
        self._task = TaskID(0)
        self._printed = 0.0

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Show the bar, at the iteration that a run resumes from."""
        if not trainer.is_global_zero:
            return
        columns = TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn()
        # An estimate over up to 1000 iterations and the validations among them, not over the last seconds.
        bar = _Bar(
            *columns,
            TextColumn("{task.fields[left]}"),
            console=screen,
            disable=not screen.is_terminal,
            speed_estimate_period=math.inf,
        )
        bar.start()
        step, total = trainer.global_step, trainer.max_steps
        self._task = bar.add_task("training", total=total, completed=step, state="", left="")
        self._bar, self._printed = bar, time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Advance."""
        self._update(trainer, "training")

    def on_validation_start(self, trainer: Trainer, task: Any) -> None:
        """Show the bar for a validation after training."""
        if self._bar is None:
            self.on_train_start(trainer, task)

    def on_validation_batch_end(
        self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int, loader: int = 0
    ) -> None:
        """Show how many images are validated."""
        self._update(trainer, f"validating {index + 1}/{trainer.num_val_batches[loader]}")

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Show the score."""
        self._update(trainer, "training", print_line=not screen.is_terminal)
        if trainer.global_step >= trainer.max_steps:
            self.stop()

    def on_train_end(self, trainer: Trainer, task: Any) -> None:
        """Leave the bar as it is."""
        self.stop()

    def on_exception(self, trainer: Trainer, task: Any, exception: BaseException) -> None:
        """Restore the terminal."""
        self.stop()

    def stop(self) -> None:
        """Stop the bar, if it is shown."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _update(self, trainer: Trainer, activity: str, print_line: bool = False) -> None:
        """Update the bar, and print a line if asked to or if it is time."""
        if self._bar is None:
            return
        step, state = trainer.global_step, self._state()
        task = self._bar.tasks[0]
        if step != task.completed:
            self._bar.update(self._task, completed=step)
        rest = None if task.finished else task.time_remaining
        left = "" if rest is None else f"{timedelta(seconds=round(rest))} left"
        self._bar.update(self._task, description=activity, state=state, left=left)
        now = time.perf_counter()
        if print_line or (not screen.is_terminal and now - self._printed >= self.SECONDS_PER_LINE):
            self._printed = now
            where = f"iteration {step} of {trainer.max_steps}" + (f", {activity}" if activity != "training" else "")
            known = "  ".join(part for part in (state, left) if part)
            screen.print(f"{where}: {known}" if known else where)

    def _state(self) -> str:
        """Loss, learning rate, speed, score and memory, as far as they are known."""
        formats = {
            "loss": "loss {:.3f}",
            "learning_rate": "rate {:.2g}",
            "images_per_second": "{:.1f} images/s",
            "miou": "mIoU {:.1%}",
        }
        newest = {key: value for key, value in self.history.newest.items() if value is not None}
        parts = [text.format(newest[key]) for key, text in formats.items() if key in newest]
        return "  ".join([*parts, *([f"{newest['memory'] / 1e9:.1f} GB"] if "memory" in newest else [])])


class DataWait(Callback):
    """Measure how long training waits for data, and warn at the end if it is a large part of the time.

    It must be the last callback: then only the loading of a batch lies between `on_train_batch_end` and
    `on_train_batch_start`. (A GPU is waited for when the history reads the losses.) Validation is not counted, nor is
    the first batch, for which the loading processes start.
    """

    WARN_FRACTION = 0.2
    MIN_SECONDS = 20.0
    """Shorter runs are not judged."""

    def __init__(self, workers: int, max_workers: int) -> None:
        """Initialise with the number of loading processes, now and at most on this machine."""
        self.workers = workers
        self.max_workers = max_workers
        self.waited = 0.0
        self.seconds = 0.0
        """Of waiting and training."""
        self._ended: float | None = None
        self._started: float | None = None

    @property
    def fraction(self) -> float:
        """Waiting over all time."""
        return self.waited / self.seconds if self.seconds else 0.0

    def on_train_batch_start(self, trainer: Trainer, task: Any, batch: Any, index: int) -> None:
        """The batch is loaded."""
        now = time.perf_counter()
        if self._ended is not None:
            self.waited += now - self._ended
            self.seconds += now - self._ended
        self._started = now

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Waiting for the next batch begins."""
        self._ended = time.perf_counter()
        if self._started is not None:
            self.seconds += self._ended - self._started

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """The time since the last iteration was validation."""
        self._ended = None

    def on_train_end(self, trainer: Trainer, task: Any) -> None:
        """Warn if the run waited too long."""
        if trainer.is_global_zero and self.seconds >= self.MIN_SECONDS and self.fraction >= self.WARN_FRACTION:
            log.warning("%s", self.advice())

    def advice(self) -> str:
        """The fraction of the time, and what reduces it."""
        more = f"a higher training.workers ({self.workers} now, {self.max_workers} at most here), "
        return (
            f"training waited for data {self.fraction:.0%} of the time. What helps: "
            f"{more if self.workers < self.max_workers else ''}a cache (`gffnet data cache`), or a faster disk."
        )


# Divergence


class _Losses(NamedTuple):
    iteration: int
    values: Tensor
    names: Sequence[str]


class DivergenceCheck:
    """Stop a run whose loss is not finite or has diverged: a mean over 10 iterations above `10 ln(classes)`.

    (`ln(classes)` is the loss of a uniform guess.) On the CPU every iteration is checked before its step. On a GPU
    losses are read together, every 10 iterations and before a checkpoint is written, so that the GPU does not wait and
    no checkpoint contains the effect of a bad loss.
    """

    FACTOR = 10.0
    WINDOW = 10
    ADVICE = (
        "The previous checkpoint is unchanged. Train again with a lower training.learning_rate, with "
        "training.clip_gradients=1, or with precision=float32; `gffnet data check` finds damaged images."
    )

    def __init__(self, num_classes: int) -> None:
        self.guess = math.log(max(num_classes, 2))
        self._pending: list[_Losses] = []
        self._recent: deque[float] = deque(maxlen=self.WINDOW)

    def add(self, iteration: int, losses: Tensor, names: Sequence[str]) -> None:
        """Add main and auxiliary loss (2,) of an iteration, counted from 0, and the names of its images."""
        self._pending.append(_Losses(iteration, losses.detach(), names))
        if losses.device.type == "cpu" or len(self._pending) >= self.WINDOW:
            self.check()

    def check(self) -> None:
        """Check all losses that were added since the last time.

        Raises:
            RunFailed: a loss is not finite, or the loss has diverged.
        """
        if not self._pending:
            return
        values = torch.stack([losses.values for losses in self._pending]).tolist()
        pending, self._pending = self._pending, []
        for losses, (main, auxiliary) in zip(pending, values, strict=True):
            if not (math.isfinite(main) and math.isfinite(auxiliary)):
                raise RunFailed(
                    f"the loss of iteration {losses.iteration + 1} is not finite (main {main:g}, auxiliary "
                    f"{auxiliary:g}). Its images: {', '.join(_of_all_ranks(losses.names))}. {self.ADVICE}"
                )
            self._recent.append(main)
            mean = sum(self._recent) / len(self._recent)
            if len(self._recent) == self.WINDOW and mean > self.FACTOR * self.guess:
                raise RunFailed(
                    f"the loss has diverged: its mean over the last {self.WINDOW} iterations up to "
                    f"{losses.iteration + 1} is {mean:.3g}, that of a uniform guess {self.guess:.3g}. {self.ADVICE}"
                )


def _of_all_ranks(names: Sequence[str]) -> list[str]:
    """The names of all ranks, which call this together: all see the same losses."""
    if not torch.distributed.is_initialized():
        return list(names)
    gathered: list[Sequence[str]] = [()] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, tuple(names))
    return [name for part in gathered for name in part]


# Stopping


class StopOnSignal(Callback):
    """On SIGTERM or Ctrl-C, finish the iteration, write its checkpoint and stop; must come after `LastCheckpoint`.

    Schedulers send SIGTERM some time before they take a machine away. A second Ctrl-C stops at once; `--resume` then
    repeats what came after the last checkpoint.
    """

    def __init__(self, last: LastCheckpoint) -> None:
        self.last = last
        self.received = 0
        """The signal, or 0."""
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            self._handlers = {n: signal.signal(n, self._receive) for n in (signal.SIGTERM, signal.SIGINT)}

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Stop all ranks, unless a validation follows, which has to come before its checkpoint."""
        may_stop = trainer.global_step % self.last.validate_every
        if not (may_stop and trainer.strategy.reduce_boolean_decision(bool(self.received), all=False)):
            return
        self.last.save(trainer, task)
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(
            f"stopped by SIGTERM after iteration {trainer.global_step}, which is saved. "
            "Resume with the same command and --resume."
        )

    def teardown(self, trainer: Trainer, task: Any, stage: str) -> None:
        """Restore the previous handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _receive(self, number: int, _: object) -> None:
        self.received = number
        if number == signal.SIGINT:
            log.info("stopping after this iteration; press Ctrl-C again to stop at once")
            signal.signal(signal.SIGINT, self._handlers[number])

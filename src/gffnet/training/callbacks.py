"""Callbacks of a run: history and logs, progress, time spent waiting for data, divergence, stopping on request.

The history of a run is RUN/history.jsonl, one JSON object per event:

    {"iteration", "loss", "auxiliary_loss", "learning_rate", "images_per_second", "memory"[, "gradient_norm", "logged"]}
    {"iteration", "miou", "pixel_accuracy", "iou", "seconds"[, "logged"]}

Losses are means over the iterations since the previous line, `iou` has one value per class (null for a class that
occurs nowhere), `memory` is in bytes, `logged` holds what a task of the user's own logs with `self.log`, by name (in
training as means, too); such a task may have no auxiliary loss. TensorBoard and Weights & Biases get the same events.
After a resume, all of them show what an uninterrupted run would have.
"""

import json
import logging
import math
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text
from torch import Tensor

from gffnet.console import screen
from gffnet.errors import CannotWrite, RunFailed, Stopped, UserError, one_line
from gffnet.files import NO_ROOM, atomic_write
from gffnet.inference.tiling import most_resident
from gffnet.parallel import all_gather
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

_LOGGED = "logged/"
"""Begins the names of values that a task has logged, among those that are not written yet."""

log = logging.getLogger("gffnet")


# Loggers


def series(event: Mapping[str, Any], classes: Sequence[str]) -> dict[str, float]:
    """The known values of an event by the names of their series."""
    named = {name: event.get(key) for key, name in SERIES.items()}
    named |= {f"iou/{name}": value for name, value in zip(classes, event.get("iou", ()), strict=False)}
    named |= event.get("logged", {})
    return {name: value for name, value in named.items() if value is not None}


class Logger:
    """A record of a run beside its history, on rank 0. Nothing is written before `start`."""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        """Initialise with the run folder and the names of the classes."""
        self.folder = folder
        self.classes = classes
        self.target: Any = None
        """What events are written to, after `start`."""

    def start(self, iteration: int) -> None:
        """Begin, or resume from an iteration: remove or hide the events of later ones."""

    def write(self, event: dict[str, Any]) -> None:
        """Log an event of the history."""

    def close(self, failed: bool = False) -> None:
        """Finish; `failed`: the run was interrupted or failed. May be called without `start`."""


class TensorBoard(Logger):
    """Event files in RUN/tensorboard, for `tensorboard --logdir RUN`."""

    def start(self, iteration: int) -> None:
        """Begin a new file, which hides the later events of the previous ones."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self.target = SummaryWriter(str(self.folder / "tensorboard"), purge_step=iteration + 1)

    def write(self, event: dict[str, Any]) -> None:
        for name, value in series(event, self.classes).items():
            self.target.add_scalar(name, value, event["iteration"])
        self.target.flush()

    def close(self, failed: bool = False) -> None:
        if self.target is not None:
            self.target.close()


class WeightsAndBiases(Logger):
    """A run at Weights & Biases; with WANDB_MODE=offline in RUN/wandb, for `wandb sync`.

    Its id is stored in RUN/wandb_id, with which a resumed run continues the same run there.
    """

    def __init__(self, folder: Path, classes: Sequence[str], project: str, config: dict[str, Any], name: str) -> None:
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
        super().__init__(folder, classes)
        found = find_spec("wandb")
        if found is None or found.origin is None:  # a folder of that name, such as wandb itself writes, is no package
            raise UserError(
                "logging to Weights & Biases needs the package wandb, which is missing: `pip install 'gffnet[wandb]'`."
            )
        self.options: dict[str, Any] = {"project": project, "config": config, "name": name}

    def start(self, iteration: int) -> None:
        """Begin a run, or continue that of the run folder.

        Raises:
            wandb.Error: the server cannot be reached, or there is no login.
        """
        import wandb  # optional, and slow to import

        # The login asks for a key on a terminal; elsewhere it must not wait for one forever.
        wandb.setup(wandb.Settings(silent=True, login_timeout=60))
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "wandb_id"
        if not (iteration and path.is_file()):
            atomic_write(path, secrets.token_hex(4))
        more: Any = {"finish_timeout": 300} if "finish_timeout" in wandb.Settings.model_fields else {}
        settings = wandb.Settings(silent=True, console="off", **more)  # the progress bar would fill the run's log
        run_id = path.read_text(encoding="utf-8").strip()
        self.target = wandb.init(dir=str(self.folder), id=run_id, resume="allow", settings=settings, **self.options)
        self.target.define_metric("*", step_metric="iteration")
        log.info("Weights & Biases: %s", self.target.url or f"offline, in {self.folder / 'wandb'}")

    def write(self, event: dict[str, Any]) -> None:
        """Send the values of an event, unless an interrupted session has sent them."""
        # Steps must grow, and an iteration may have both losses and scores: two steps per iteration.
        step = 2 * event["iteration"] + ("miou" in event)
        if step >= self.target.step:
            self.target.log({"iteration": event["iteration"], **series(event, self.classes)}, step=step)

    def close(self, failed: bool = False) -> None:
        if self.target is not None:
            self.target.finish(exit_code=int(failed))


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
        self._pending: dict[str, list[Tensor]] = {}
        self._logged: dict[str, set[str]] = {"train": set(), "val": set()}
        """Names of the values that the task logs in training, and of those that it logs in validation."""
        self._began = 0.0  # later by the time that validations took
        self._paused: float | None = None
        self._images = 0
        self._previous = (0, 0.0)  # images and seconds at the previous line
        self.best = -1.0
        """The best mIoU of earlier sessions, once this one has started; on rank 0."""
        self._scored: int | None = None
        self._started = False

    @property
    def _seconds(self) -> float:
        """Of training in this session, without validation."""
        return (time.perf_counter() if self._paused is None else self._paused) - self._began

    @property
    def images_per_second(self) -> float | None:
        """The mean over this session without validation; None before its first iteration."""
        return self._images / max(self._seconds, 1e-9) if self._images else None

    def state_dict(self) -> dict[str, Any]:
        """The losses that are not written yet, for resuming."""
        return {name: [float(value) for value in values] for name, values in self._pending.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the losses that an interrupted run had not written."""
        self._pending = {name: [torch.tensor(v) for v in values] for name, values in state.items()}

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        self._start(trainer)
        self._began = time.perf_counter()

    def _start(self, trainer: Trainer) -> None:
        """Remove the lines after the iteration that a run resumes from, and start the loggers; only once."""
        self.iteration = trainer.global_step
        if trainer.is_global_zero and not self._started:
            lines = [line for line in read_history(self.path) if line["iteration"] <= self.iteration]
            atomic_write(self.path, "".join(json.dumps(line) + "\n" for line in lines))
            scored = [line for line in lines if "miou" in line]
            self._scored = max((line["iteration"] for line in scored), default=None)
            self.best = max((line["miou"] for line in scored if line["miou"] is not None), default=-1.0)
            for line in lines:
                self.newest |= {key: value for key, value in line.items() if key not in _MEASURED}
            self._call_loggers(lambda logger: logger.start(self.iteration))
        self._started = True

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Collect losses; every few iterations write their mean."""
        self.iteration = trainer.global_step
        self._images += self.batch
        for name, value in self._values(trainer, task, outputs).items():
            self._pending.setdefault(name, []).append(value)
        if self.iteration % self.every and self.iteration < trainer.max_steps:
            return
        if trainer.is_global_zero:
            # Reading the losses waits for the GPU: the speed computed next is that of finished work.
            means = {name: sum(map(float, values)) / len(values) for name, values in self._pending.items() if values}
            (images, seconds), self._previous = self._previous, (self._images, self._seconds)
            on_gpu = task.device.type == "cuda"
            memory = torch.cuda.max_memory_allocated(task.device) if on_gpu else most_resident()
            self.memory = max(self.memory or 0, memory or 0) or None
            logged = {name.removeprefix(_LOGGED): means.pop(name) for name in list(means) if name.startswith(_LOGGED)}
            losses = {"loss": means.pop("main", None)}
            losses |= {"auxiliary_loss": means.pop("auxiliary")} if "auxiliary" in means else {}
            self._write(
                **losses,
                learning_rate=trainer.optimizers[0].param_groups[0]["lr"],
                images_per_second=(self._images - images) / max(self._previous[1] - seconds, 1e-9),
                memory=memory,
                **means,
                **({"logged": logged} if logged else {}),
            )
        self._pending = {}

    def _values(self, trainer: Trainer, task: Any, outputs: Any) -> dict[str, Tensor]:
        """The losses of an iteration, the norm of its gradient, and what the task has logged."""
        known = dict(outputs or {})
        if (norm := getattr(task, "gradient_norm", None)) is not None:
            known["gradient_norm"] = norm
        values = {name: known[name].detach() for name in ("main", "auxiliary", "gradient_norm") if name in known}
        logged = {name: v for name, v in trainer.callback_metrics.items() if name not in self._logged["val"]}
        self._logged["train"] |= logged.keys()
        return values | {f"{_LOGGED}{name}": value.detach().clone() for name, value in logged.items()}

    def on_validation_start(self, trainer: Trainer, task: Any) -> None:
        self._start(trainer)  # a run that is resumed after its last iteration starts here
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Write the scores, unless a run that was interrupted after its last validation repeats it."""
        assert self._paused is not None
        seconds = time.perf_counter() - self._paused
        self._began, self._paused = self._began + seconds, None
        scores = task.val_scores
        if scores is None or not trainer.is_global_zero:
            return
        values = {"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy, "iou": list(scores.iou)}
        logged = {n: float(v) for n, v in trainer.callback_metrics.items() if n not in self._logged["train"]}
        self._logged["val"] |= logged.keys()
        values |= {"logged": logged} if logged else {}
        if self._scored == trainer.global_step:
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
        event = {"iteration": self.iteration, **_finite(values)}
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
                log.warning("%s is dropped: %s", type(logger).__name__, one_line(error))


def _finite(values: Any) -> Any:
    """The values with None in place of NaN and infinity, which JSON does not have."""
    if isinstance(values, Mapping):
        return {name: _finite(value) for name, value in values.items()}
    return None if isinstance(values, float) and not math.isfinite(values) else values


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a history file, oldest first, without an incomplete last line; empty if there is no file."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


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
        self.bar: _Bar | None = None
        self._printed = 0.0

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Show the bar, at the iteration that a run resumes from."""
        if not trainer.is_global_zero:
            return
        columns = TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn()
        left = TextColumn("{task.fields[left]}")
        # An estimate over up to 1000 iterations and the validations among them, not over the last seconds.
        options: dict[str, Any] = {"disable": not screen.is_terminal, "speed_estimate_period": math.inf}
        self.bar = _Bar(*columns, left, console=screen, **options)
        self.bar.start()
        self.bar.add_task("training", total=trainer.max_steps, completed=trainer.global_step, state="", left="")
        self._printed = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        self._update(trainer, "training")

    def on_validation_start(self, trainer: Trainer, task: Any) -> None:
        if self.bar is None:  # after training
            self.on_train_start(trainer, task)

    def on_validation_batch_end(
        self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int, loader: int = 0
    ) -> None:
        self._update(trainer, f"validating {index + 1}/{trainer.num_val_batches[loader]}")

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        self._update(trainer, "training", print_line=not screen.is_terminal)

    def teardown(self, trainer: Trainer, task: Any, stage: str) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def on_exception(self, trainer: Trainer, task: Any, exception: BaseException) -> None:
        """Restore the terminal."""
        self.teardown(trainer, task, "")

    def _update(self, trainer: Trainer, activity: str, print_line: bool = False) -> None:
        """Update the bar, and print a line if asked to or if it is time."""
        if self.bar is None:
            return
        step, task, newest = trainer.global_step, self.bar.tasks[0], self.history.newest
        formats = {
            "loss": "loss {:.3f}",
            "learning_rate": "rate {:.2g}",
            "images_per_second": "{:.1f} images/s",
            "miou": "mIoU {:.1%}",
        }
        parts = [text.format(newest[key]) for key, text in formats.items() if newest.get(key) is not None]
        parts += [f"{newest['memory'] / 1e9:.1f} GB"] if newest.get("memory") else []
        state = "  ".join(parts)
        if step != task.completed:
            self.bar.update(task.id, completed=step)
        rest = None if task.finished else task.time_remaining
        left = "" if rest is None else f"{timedelta(seconds=round(rest))} left"
        self.bar.update(task.id, description=activity, state=state, left=left)
        now = time.perf_counter()
        if print_line or (not screen.is_terminal and now - self._printed >= self.SECONDS_PER_LINE):
            self._printed = now
            where = f"iteration {step} of {trainer.max_steps}" + (f", {activity}" if activity != "training" else "")
            known = "  ".join(filter(None, (state, left)))
            screen.print(f"{where}: {known}" if known else where)


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
        self.waited = self.trained = 0.0
        """Seconds."""
        self._started = self._ended = math.nan

    def on_train_batch_start(self, trainer: Trainer, task: Any, batch: Any, index: int) -> None:
        self._started = time.perf_counter()
        if not math.isnan(self._ended):
            self.waited += self._started - self._ended

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        self._ended = time.perf_counter()
        self.trained += self._ended - self._started

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        self._ended = math.nan  # the time since the last iteration was validation

    def on_train_end(self, trainer: Trainer, task: Any) -> None:
        seconds = self.waited + self.trained
        if trainer.is_global_zero and seconds >= self.MIN_SECONDS and self.waited >= self.WARN_FRACTION * seconds:
            more = f"a higher training.workers ({self.workers} now, {self.max_workers} at most here), "
            log.warning(
                "training waited for data %.0f%% of the time. What helps: %sa cache (`gffnet data cache`), or a faster "
                "disk.",
                100 * self.waited / seconds,
                more if self.workers < self.max_workers else "",
            )


# Divergence


class DivergenceCheck:
    """Stop a run whose loss is not finite or has diverged: a mean over 10 iterations above `10 ln(classes)`.

    `ln(classes)` is the loss of a uniform guess, times the weights of the loss's terms if they are more than 1. On the
    CPU every iteration is checked before its step. On a GPU losses are read together, every 10 iterations and before a
    checkpoint is written, so that the GPU does not wait and no checkpoint contains the effect of a bad loss.
    """

    FACTOR = 10.0
    WINDOW = 10
    ADVICE = (
        "The previous checkpoint is unchanged. Train again with a lower training.learning_rate, with "
        "training.clip_gradients=1, or with precision=float32; `gffnet data check` finds damaged images."
    )

    def __init__(self, num_classes: int | None, weights: float = 1.0) -> None:
        """Initialise.

        Args:
            num_classes: None: a loss of unknown scale, which must only be finite.
            weights: the sum of those of the loss's terms.
        """
        self.guess = math.inf if num_classes is None else math.log(max(num_classes, 2)) * max(weights, 1.0)
        self._pending: list[tuple[int, Tensor, Sequence[str]]] = []
        self._recent: deque[float] = deque(maxlen=self.WINDOW)

    def add(self, iteration: int, losses: Tensor, names: Sequence[str]) -> None:
        """Add main and auxiliary loss (2,) of an iteration, counted from 0, and the names of its images."""
        self._pending.append((iteration, losses.detach(), names))
        if losses.device.type == "cpu" or len(self._pending) >= self.WINDOW:
            self.check()

    def check(self) -> None:
        """Check all losses that were added since the last time.

        Raises:
            RunFailed: a loss is not finite, or the loss has diverged.
        """
        if not self._pending:
            return
        values = torch.stack([losses for _, losses, _ in self._pending]).tolist()
        pending, self._pending = self._pending, []
        for (iteration, _, names), (main, auxiliary) in zip(pending, values, strict=True):
            if not (math.isfinite(main) and math.isfinite(auxiliary)):
                images = [name for part in all_gather(names) for name in part]  # all ranks have the same losses
                raise RunFailed(
                    f"the loss of iteration {iteration + 1} is not finite (main {main:g}, auxiliary "
                    f"{auxiliary:g}). Its images: {', '.join(images)}. {self.ADVICE}"
                )
            self._recent.append(main)
            mean = sum(self._recent) / len(self._recent)
            if len(self._recent) == self.WINDOW and mean > self.FACTOR * self.guess:
                raise RunFailed(
                    f"the loss has diverged: its mean over the last {self.WINDOW} iterations up to "
                    f"{iteration + 1} is {mean:.3g}, that of a uniform guess {self.guess:.3g}. {self.ADVICE}"
                )


class CheckLoss(Callback):
    """Check the loss of a training step of the user's own, which does not do so before its optimiser steps.

    It must come before what records and saves: `History`, `BestModel` and `LastCheckpoint`.
    """

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Add the mean loss over all ranks to those that are checked, and to the outputs, as the base class does."""
        loss = (outputs or {}).get("loss")
        if loss is not None and "main" not in outputs:
            outputs["main"] = loss = trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean")
            task.divergence.add(trainer.global_step - 1, torch.stack([loss, torch.zeros_like(loss)]), batch.names)


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
        if threading.current_thread() is threading.main_thread():
            self._handlers = {n: signal.signal(n, self._receive) for n in (signal.SIGTERM, signal.SIGINT)}

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Stop all ranks, unless a validation follows, which has to come before its checkpoint."""
        may_stop = trainer.global_step % self.last.validate_every
        if not (may_stop and trainer.strategy.reduce_boolean_decision(bool(self.received), all=False)):
            return
        self._stop(trainer, task)

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Stop all ranks after a validation during training."""
        training = trainer.state.fn == TrainerFn.FITTING
        if training and trainer.strategy.reduce_boolean_decision(bool(self.received), all=False):
            self._stop(trainer, task)

    def _stop(self, trainer: Trainer, task: Any) -> None:
        self.last.save(trainer, task)
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(f"stopped by SIGTERM after iteration {trainer.global_step}, which is saved.")

    def teardown(self, trainer: Trainer, task: Any, stage: str) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _receive(self, number: int, _: object) -> None:
        self.received = number
        if number == signal.SIGINT:
            log.info("stopping after this iteration; press Ctrl-C again to stop at once")
            signal.signal(signal.SIGINT, self._handlers[number])

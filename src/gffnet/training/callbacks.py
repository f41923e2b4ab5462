"""The history of a run: one line of JSON an event, in `history.jsonl`, kept whole over interruptions.

    {"iteration", "loss", "auxiliary_loss", "learning_rate", "images_per_second", "memory"[, "gradient_norm"]}
    {"iteration", "miou", "pixel_accuracy", "iou", "seconds"}

Losses are means over the iterations since the line before, `iou` is one value per class (null for a class that occurs
nowhere), `memory` is in bytes. Other records of the same events are its logs; see `gffnet.training.callbacks`.
"""

import csv
import io
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
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from lightning import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text
from torch import Tensor

from gffnet.console import screen
from gffnet.errors import CannotWrite, RunFailed, Stopped, UserError
from gffnet.files import NO_ROOM, atomic_write
from gffnet.training.checkpoint import KeepLast
from gffnet.training.run_folder import memory_in_use

# Records of a run beside its history: tables, TensorBoard, Weights & Biases.
#
# RUN/losses.csv, RUN/scores.csv   one line an event; per-class IoU in columns by the names of the classes
# RUN/tensorboard/                 for `tensorboard --logdir RUN`
# RUN/wandb_id                     the run at Weights & Biases that a resumed run goes on with
#
# An event is a line of the history. A run that goes on from an iteration repeats what came after it, and a log must then
# tell what that of an unbroken run does.


LOSS_COLUMNS = (
    "iteration",
    "loss",
    "auxiliary_loss",
    "learning_rate",
    "images_per_second",
    "memory",
    "gradient_norm",
)
"""Columns of `losses.csv`."""
SCORE_COLUMNS = ("iteration", "miou", "pixel_accuracy", "seconds")
"""First columns of `scores.csv`; the classes follow."""
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
"""Names of an event's values in TensorBoard and at Weights & Biases; those of the classes are `iou/CLASS`."""

log = logging.getLogger("gffnet")


@runtime_checkable
class Log(Protocol):
    """What is told every event of a run, by the one process that writes. Nothing is written before `start`."""

    def start(self, iteration: int) -> None:
        """Begin, or go on from an iteration: drop or hide what was told of later ones."""

    def write(self, event: dict[str, Any]) -> None:
        """Take an event."""

    def close(self, failed: bool = False) -> None:
        """Finish; `failed`: the run was broken off. May be called without `start`."""


def series(event: Mapping[str, Any], classes: Sequence[str]) -> dict[str, float]:
    """The values of an event by the names of their series; what is not known has none."""
    named = {name: event.get(key) for key, name in SERIES.items()}
    named |= {f"iou/{name}": value for name, value in zip(classes, event.get("iou", ()), strict=False)}
    return {name: value for name, value in named.items() if value is not None}


class Tables:
    """`losses.csv` and `scores.csv`: a header, then one line an event. A cell of what is not known is empty."""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        """`folder`: of the run; `classes`: their names."""
        self.losses = folder / "losses.csv"
        self.scores = folder / "scores.csv"
        self.classes = tuple(classes)

    def start(self, iteration: int) -> None:
        """Write the tables anew, with what they told up to `iteration`.

        Raises:
            CannotWrite: there is no room.
        """
        for path, columns in ((self.losses, LOSS_COLUMNS), (self.scores, (*SCORE_COLUMNS, *self.classes))):
            kept = [row for row in _rows(path, columns) if int(row[0]) <= iteration]
            atomic_write(path, _text([columns, *kept]).encode())

    def write(self, event: dict[str, Any]) -> None:
        """Append a line to the table of the event.

        Raises:
            OSError: there is no room.
        """
        if "miou" in event:
            path, row = self.scores, [*(event[key] for key in SCORE_COLUMNS), *event["iou"]]
        else:
            path, row = self.losses, [event.get(key) for key in LOSS_COLUMNS]
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(_text([row]))

    def close(self, failed: bool = False) -> None:
        """Nothing: every line is written when it is told."""


def _text(rows: Sequence[Sequence[Any]]) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def _rows(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """The lines of a table below its header, in the order of `columns`; a torn last line is left out."""
    if not path.is_file():
        return []
    text = path.read_bytes().decode("utf-8", errors="replace")
    rows = [row for row in csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline="")) if row]
    header, lines = (rows[0], rows[1:]) if rows else ([], [])
    if header != list(columns):  # as another version wrote it
        named = (dict(zip(header, line, strict=False)) for line in lines)
        lines = [[line.get(name, "") for name in columns] for line in named]
    return [line for line in lines if line[0].isdecimal()]


class TensorBoard:
    """Event files for TensorBoard, which leaves out what a resumed run repeats."""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        """`folder`: of the run; `classes`: their names."""
        self.folder = folder / "tensorboard"
        self.classes = tuple(classes)
        self._writer: Any = None

    def start(self, iteration: int) -> None:
        """Begin a new file, which says that of the others nothing after `iteration` counts."""
        from torch.utils.tensorboard import SummaryWriter  # takes a while to import

        self._writer = SummaryWriter(str(self.folder), purge_step=iteration + 1)

    def write(self, event: dict[str, Any]) -> None:
        """Write a point of every series.

        Raises:
            OSError: there is no room.
        """
        for name, value in series(event, self.classes).items():
            self._writer.add_scalar(name, value, event["iteration"])
        self._writer.flush()

    def close(self, failed: bool = False) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases:
    """A run at Weights & Biases, or, with WANDB_MODE=offline, in RUN/wandb/ for `wandb sync`."""

    def __init__(
        self, folder: Path, classes: Sequence[str], project: str, config: Mapping[str, Any], name: str | None = None
    ) -> None:
        """`folder`: of the run; `classes`: their names; `config`: the recipe, as nested plain values; `name`: to show.

        Raises:
            UserError: the package is missing.
        """
        found = find_spec("wandb")
        if found is None or found.origin is None:  # a mere folder of that name, such as W&B itself makes, is no package
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
        """Begin a run there, or go on with the one that the run folder knows.

        Raises:
            wandb.Error: the server cannot be reached, or there is no login.
        """
        import wandb  # optional, and slow to import

        # On a terminal the login asks for a key; where nobody answers, it must not wait for ever.
        wandb.setup(wandb.Settings(silent=True, login_timeout=60))
        self.folder.mkdir(parents=True, exist_ok=True)
        # Not the console: the progress bar would fill the log of the run.
        settings: dict[str, Any] = {"silent": True, "console": "off"}
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
        """Send the values of an event, unless the run has them from before it was broken off."""
        # Its steps must grow, and losses and scores may belong to one iteration: two steps an iteration.
        step = 2 * event["iteration"] + ("miou" in event)
        if step >= self._run.step:
            self._run.log({"iteration": event["iteration"], **series(event, self.classes)}, step=step)

    def close(self, failed: bool = False) -> None:
        """Send what is left, for five minutes at most, and say how the run ended."""
        if self._run is not None:
            self._run.finish(exit_code=int(failed))

    def _id(self, iteration: int) -> str:
        """Of the run there: that of before where this one goes on, else a new one."""
        path = self.folder / "wandb_id"
        known = path.read_text(encoding="utf-8").strip() if iteration and path.is_file() else ""
        if not known:
            known = secrets.token_hex(4)
            atomic_write(path, known.encode())
        return known


HISTORY = "history.jsonl"
_OF_SESSIONS = {"images_per_second", "memory", "seconds"}
"""What a resumed run cannot know before it has measured it again."""


class History(Callback):
    """Writes losses, rate and speed every few iterations, and the scores of every validation.

    Of several processes the first one writes. A log that fails is left out from then on; a full disk is an error.
    """

    def __init__(self, folder: Path, batch: int, logs: Sequence[Log] = (), every: int = 10) -> None:
        """`folder`: of the run; `batch`: images an iteration; `logs`: get every event; `every`: iterations a line."""
        self.path = folder / HISTORY
        self.batch = batch
        self.logs = list(logs)
        self.every = every
        self.newest: dict[str, Any] = {}
        """The newest value of everything that was written."""
        self.iteration = 0
        """How far the run is."""
        self.memory: int | None = None
        """The most bytes that a line of this session has told."""
        self._gathered: dict[str, list[Tensor]] = _nothing()
        self._clock = _Clock()
        self._images = 0
        self._line = (0, 0.0)
        self._scored: int | None = None
        self._begun = False

    @property
    def images_per_second(self) -> float | None:
        """The mean over this session, validation left out; None before its first iteration."""
        return self._images / max(self._clock.seconds, 1e-9) if self._images else None

    def state_dict(self) -> dict[str, Any]:
        """The losses that are gathered but not written yet, for resuming."""
        return {name: [float(value) for value in gathered] for name, gathered in self._gathered.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the losses that an interrupted run had gathered."""
        self._gathered = _nothing() | {
            name: [torch.tensor(value) for value in values] for name, values in state.items()
        }

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Drop lines after the iteration that a resumed run starts from, and start the clock."""
        self._begin(trainer)
        self._clock.go_on()

    def _begin(self, trainer: Trainer) -> None:
        """Get ready to write, once."""
        self.iteration = trainer.global_step
        if trainer.is_global_zero and not self._begun:
            kept = [line for line in read_history(self.path) if line["iteration"] <= self.iteration]
            atomic_write(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())
            self._scored = max((line["iteration"] for line in kept if "miou" in line), default=None)
            for line in kept:
                self.newest |= {key: value for key, value in line.items() if key not in _OF_SESSIONS}
            self._tell(lambda one: one.start(self.iteration))
        self._begun = True

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Gather losses; every few iterations write their mean."""
        self.iteration = trainer.global_step
        self._images += self.batch
        for name, gathered in self._gathered.items():
            if name in outputs:
                gathered.append(outputs[name])
        if len(self._gathered["main"]) < self.every and self.iteration < (trainer.max_steps or 0):
            return
        if trainer.is_global_zero:
            means = self._means()  # waits for the GPU, so that the speed after it is that of work that is done
            self._write(
                loss=means["main"],
                auxiliary_loss=means["auxiliary"],
                learning_rate=trainer.optimizers[0].param_groups[0]["lr"],
                images_per_second=self._speed(),
                memory=self._memory(task),
                **{name: means[name] for name in means.keys() & {"gradient_norm"}},
            )
        self._gathered = _nothing()

    def on_validation_start(self, trainer: Trainer, task: Any) -> None:
        """Stop the clock of training. Where all of it was done before, this is where a resumed run begins."""
        self._begin(trainer)
        self._clock.stop()

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Write the scores, and let the clock of training go on."""
        seconds = self._clock.go_on()
        scores = task.val_scores
        if scores is None or not trainer.is_global_zero:
            return
        values = {"miou": scores.miou, "pixel_accuracy": scores.pixel_accuracy, "iou": list(scores.iou)}
        # A run that was broken off between its last validation and its end repeats that one.
        if self._scored == trainer.global_step:
            self.newest |= values
        else:
            self._write(**values, seconds=seconds)
        self._scored = trainer.global_step

    def close(self, failed: bool = False) -> None:
        """Close the logs, after the last event; `failed`: the run was broken off."""
        for one in self.logs:
            try:
                one.close(failed)
            except Exception as error:  # what broke the run off matters more, and the history itself is whole
                log.warning("%s: %s", type(one).__name__, error)
        self.logs = []

    def _means(self) -> dict[str, float]:
        """Of what was gathered."""
        return {name: sum(map(float, values)) / len(values) for name, values in self._gathered.items() if values}

    def _speed(self) -> float:
        """Images a second since the line before."""
        (images, seconds), self._line = self._line, (self._images, self._clock.seconds)
        return (self._images - images) / max(self._line[1] - seconds, 1e-9)

    def _memory(self, task: Any) -> int | None:
        now = memory_in_use(task.device)
        self.memory = max((value for value in (self.memory, now) if value is not None), default=None)
        return now

    def _write(self, **values: Any) -> None:
        event = {"iteration": self.iteration, **values}
        self.newest |= event
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
        self._tell(lambda one: one.write(event))

    def _tell(self, what: Callable[[Log], None]) -> None:
        """Call every log; one that fails is left out from then on, unless the disk is full."""
        for one in list(self.logs):
            try:
                what(one)
            except CannotWrite:
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno in NO_ROOM:
                    raise
                self.logs.remove(one)
                log.warning("%s is left out from now on: %s", type(one).__name__, " ".join(str(error).split()))


class _Clock:
    """Seconds of training: it stands while a run validates."""

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

    def go_on(self) -> float:
        """Returns how long it stood."""
        self._since = time.perf_counter()
        return self._since - self._stopped


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a history file, oldest first; none if there is no file. A torn last line is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _nothing() -> dict[str, list[Tensor]]:
    return {"main": [], "auxiliary": [], "gradient_norm": []}


# The bar of a training run: how far, how fast, how well, and how long yet.


LINE_EVERY = 60.0
"""Seconds between lines, at least, where there is no terminal."""


class _Bar(Progress):
    """A bar with its state in a line below, so that narrow terminals hold both."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield from (Text(task.fields["state"]) for task in self.tasks if task.fields["state"])


class ProgressBar(Callback):
    """One bar on standard error; where that is no terminal, a line a validation, and one a minute in between.

    Of several processes the first one shows it.
    """

    def __init__(self, history: History) -> None:
        """`history`: the one of the run, whose newest values are shown; it must be called before the bar."""
        self.history = history
        self._bar: _Bar | None = None
        self._id = TaskID(0)
        self._first: tuple[int, float] | None = None
        self._said = 0.0

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Show the bar, at the iteration that a resumed run goes on from."""
        self._show(trainer)

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Move on."""
        if self._first is None:
            self._first = trainer.global_step, time.perf_counter()
        self._update(trainer, "training")

    def on_validation_start(self, trainer: Trainer, task: Any) -> None:
        """Show the bar again where the validation comes after training."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._show(trainer, transient=True)

    def on_validation_batch_end(
        self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int, loader: int = 0
    ) -> None:
        """Say how far the validation is."""
        self._update(trainer, f"validating {index + 1}/{trainer.num_val_batches[loader]}")

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Where there is no bar, or it ends here, say the score."""
        after = trainer.state.fn != TrainerFn.FITTING
        self._update(trainer, "training", say=after or not screen.is_terminal)
        if after:
            self._stop()

    def on_train_end(self, trainer: Trainer, task: Any) -> None:
        """Leave the bar as it is."""
        self._stop()

    def on_exception(self, trainer: Trainer, task: Any, exception: BaseException) -> None:
        """Leave the terminal in order."""
        self._stop()

    def state(self) -> str:
        """Loss, speed, the newest score and memory, as far as they are known."""
        known = {key: value for key, value in self.history.newest.items() if value is not None}
        parts = {
            "loss": "loss {:.3f}",
            "learning_rate": "rate {:.2g}",
            "images_per_second": "{:.1f} images/s",
            "miou": "mIoU {:.1%}",
        }
        said = [text.format(known[key]) for key, text in parts.items() if key in known]
        return "  ".join([*said, *([f"{known['memory'] / 1e9:.1f} GB"] if "memory" in known else [])])

    def left(self, iteration: int, iterations: int) -> str:
        """The time that the rest will take, if it goes on as in this session; empty where that is not known yet.

        Validations count. The first iteration does not: it waits for the first batch, or for the network to compile.
        """
        since, start = self._first or (iteration, 0.0)
        if not since < iteration < iterations:
            return ""
        seconds = (time.perf_counter() - start) / (iteration - since) * (iterations - iteration)
        return f"{timedelta(seconds=round(seconds))} left"

    def _show(self, trainer: Trainer, transient: bool = False) -> None:
        """Begin a bar, in the process that shows it."""
        if not trainer.is_global_zero:
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._bar = _Bar(*columns, console=screen, transient=transient, disable=not screen.is_terminal)
        self._bar.start()
        self._id = self._bar.add_task("training", total=trainer.max_steps, state="", left="")
        self._said = time.perf_counter()
        self._update(trainer, "training")

    def _update(self, trainer: Trainer, what: str, say: bool = False) -> None:
        """Bring the bar up to date; also `say` so, which happens every minute where there is no terminal."""
        if self._bar is None:
            return
        step, total = trainer.global_step, trainer.max_steps
        state, left = self.state(), self.left(step, total)
        self._bar.update(self._id, description=what, completed=step, state=state, left=left)
        now = time.perf_counter()
        if say or (not screen.is_terminal and now - self._said >= LINE_EVERY):
            self._said = now
            where = f"iteration {step} of {total}" + (f", {what}" if what != "training" else "")
            known = "  ".join(part for part in (state, left) if part)
            screen.print(f"{where}: {known}" if known else where)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


# How long a run waits for its data: a fast device that is fed too slowly looks like a slow one.


TOO_MUCH_WAITING = 0.2
"""Share of the time from which on it is worth saying."""
ENOUGH_SECONDS = 20.0
"""Seconds that must have been looked at."""


class DataWait(Callback):
    """Measures the time between one iteration and the next, and says at the end what part of all it was.

    It must be the last callback: then nothing else is done in between but fetching the batch. A GPU is waited for
    elsewhere, where the history reads losses. Validation does not count, nor does the first batch, for which the
    loading processes start.
    """

    def __init__(self, workers: int, most_workers: int) -> None:
        """`workers`: processes that load data; `most_workers`: as many as there can be here."""
        self.workers = workers
        self.most_workers = most_workers
        self.waited = 0.0
        """Seconds, so far."""
        self.seconds = 0.0
        """All that were looked at, so far."""
        self._since: float | None = None
        self._fetched: float | None = None

    @property
    def share(self) -> float:
        """Of the time that was looked at."""
        return self.waited / self.seconds if self.seconds else 0.0

    def on_train_batch_start(self, trainer: Trainer, task: Any, batch: Any, index: int) -> None:
        """A batch is there."""
        now = time.perf_counter()
        if self._since is not None:
            self.waited += now - self._since
            self.seconds += now - self._since
        self._fetched = now

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """The next one is waited for."""
        self._since = time.perf_counter()
        if self._fetched is not None:
            self.seconds += self._since - self._fetched

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """What was between was validation."""
        self._since = None

    def on_train_end(self, trainer: Trainer, task: Any) -> None:
        """Say it, if it was much."""
        if trainer.is_global_zero and self.seconds >= ENOUGH_SECONDS and self.share >= TOO_MUCH_WAITING:
            log.warning("%s", self.remedy())

    def remedy(self) -> str:
        """What the wait was, and what would shorten it."""
        more = f"a higher training.workers ({self.workers} now, {self.most_workers} at most here), "
        return (
            f"{self.share:.0%} of the time went by waiting for data. What helps: "
            f"{more if self.workers < self.most_workers else ''}a cache made by `gffnet data cache`, or a faster disk."
        )


# Watching the loss: a run that has broken down is stopped while its last checkpoint is still good.


TOO_MUCH = 10.0
"""A run has diverged where its mean loss is above so many times `ln(classes)`, that of a guess."""
OVER = 10
"""Iterations that the mean is taken over."""


class _Seen(NamedTuple):
    iteration: int
    losses: Tensor
    names: Sequence[str]


class LossWatch:
    """Sees the losses of every iteration and raises where they are no numbers, or far above a guess.

    On the CPU every iteration is looked at before its step is taken. On a GPU losses are looked at together, every few
    iterations and before a checkpoint is written, so that the GPU never waits, and no checkpoint holds what a bad loss
    has made.
    """

    def __init__(self, classes: int) -> None:
        self.limit = TOO_MUCH * math.log(max(classes, 2))
        self._pending: list[_Seen] = []
        self._newest: deque[float] = deque(maxlen=OVER)

    def see(self, iteration: int, losses: Tensor, names: Sequence[str]) -> None:
        """The main and the auxiliary loss (2,) of an iteration, counted from 0, and the names of its images."""
        self._pending.append(_Seen(iteration, losses.detach(), names))
        if losses.device.type == "cpu" or len(self._pending) >= OVER:
            self.check()

    def check(self) -> None:
        """Look at all that was seen since the last time.

        Raises:
            RunFailed: a loss is not finite, or the loss has diverged.
        """
        if not self._pending:
            return
        values = torch.stack([seen.losses for seen in self._pending]).tolist()
        pending, self._pending = self._pending, []
        for seen, (main, auxiliary) in zip(pending, values, strict=True):
            if not (math.isfinite(main) and math.isfinite(auxiliary)):
                raise RunFailed(
                    f"the loss of iteration {seen.iteration + 1} is not finite (main {main:g}, auxiliary "
                    f"{auxiliary:g}). Its images: {', '.join(_of_all_processes(seen.names))}. {REMEDY}"
                )
            self._newest.append(main)
            mean = sum(self._newest) / len(self._newest)
            if len(self._newest) == OVER and mean > self.limit:
                raise RunFailed(
                    f"the loss has diverged: over the last {OVER} iterations up to {seen.iteration + 1} it was "
                    f"{mean:.3g} on average, and a guess has {self.limit / TOO_MUCH:.3g}. {REMEDY}"
                )


def _of_all_processes(names: Sequence[str]) -> list[str]:
    """The names that every process has, together; all of them ask at the same time, for all see the same losses."""
    if not torch.distributed.is_initialized():
        return list(names)
    gathered: list[Sequence[str]] = [()] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, tuple(names))
    return [name for part in gathered for name in part]


REMEDY = (
    "The checkpoint before is kept as it is. Train anew with a lower training.learning_rate, with "
    "training.clip_gradients=1, or with precision=float32; `gffnet data check` finds damaged images."
)


# Stopping when asked to: the iteration is finished, its checkpoint written, and the way on is said.
#
# Schedulers send SIGTERM some time before they take a machine away, and users press Ctrl-C. A second Ctrl-C stops at
# once, and what came after the last checkpoint is then done again by `--resume`.


class StopOnRequest(Callback):
    """Ends training after the iteration in which any process was asked to. Must be called after `KeepLast`."""

    def __init__(self, last: KeepLast) -> None:
        self.last = last
        self.asked = 0
        """The signal that came, or 0."""
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Listen; what listened before is put back in the end."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Stop, unless a validation follows: that would have to be done before a checkpoint is written."""
        may_stop = trainer.global_step % self.last.validate_every
        if not (may_stop and trainer.strategy.reduce_boolean_decision(bool(self.asked), all=False)):
            return
        self.last.save(trainer, task)
        if self.asked == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(
            f"stopped by SIGTERM after iteration {trainer.global_step}, which is saved. "
            "Go on by the same command with --resume."
        )

    def teardown(self, trainer: Trainer, task: Any, stage: str) -> None:
        """Let those listen that did before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, _: object) -> None:
        self.asked = number
        if number == signal.SIGINT:
            log.info("stopping after this iteration; Ctrl-C again stops at once")
            signal.signal(signal.SIGINT, self._before[number])

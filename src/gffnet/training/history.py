"""The history of a run: one line of JSON an event, in `history.jsonl`, kept whole over interruptions.

    {"iteration", "loss", "auxiliary_loss", "learning_rate", "images_per_second", "memory"[, "gradient_norm"]}
    {"iteration", "miou", "pixel_accuracy", "iou", "seconds"}

Losses are means over the iterations since the line before, `iou` is one value per class (null for a class that occurs
nowhere), `memory` is in bytes. Other records of the same events are its logs; see `gffnet.training.logs`.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor

from gffnet.errors import CannotWrite
from gffnet.files import write_whole
from gffnet.training.failures import NO_ROOM
from gffnet.training.logs import Log
from gffnet.training.machine import memory_in_use

HISTORY = "history.jsonl"
_OF_SESSIONS = {"images_per_second", "memory", "seconds"}
"""What a resumed run cannot know before it has measured it again."""

log = logging.getLogger("gffnet")


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
            write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())
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

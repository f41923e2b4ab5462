"""The history of a run: one line of JSON an event, in `history.jsonl`, kept whole over interruptions."""

import json
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor

from gffnet.files import write_whole
from gffnet.training.task import ParsingTask

HISTORY = "history.jsonl"


class History(Callback):
    """Writes losses, rate and speed every few iterations, and the scores of every validation."""

    def __init__(self, folder: Path, batch: int, every: int = 10) -> None:
        """`folder`: of the run; `batch`: images an iteration; `every`: iterations between lines."""
        self.path = folder / HISTORY
        self.batch = batch
        self.every = every
        self._gathered: dict[str, list[Tensor]] = {"main": [], "auxiliary": []}
        self.newest: dict[str, Any] = {}
        """The newest value of everything that was written."""
        self._images = 0
        self._since = 0.0
        self._validating = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The losses that are gathered but not written yet, for resuming."""
        return {name: [float(value) for value in gathered] for name, gathered in self._gathered.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the losses that an interrupted run had gathered."""
        self._gathered = {name: [torch.tensor(value) for value in values] for name, values in state.items()}

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Drop lines after the iteration that a resumed run starts from, and start the clock."""
        kept = [line for line in read_history(self.path) if line["iteration"] <= trainer.global_step]
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Gather losses; every few iterations write their mean."""
        for name, losses in self._gathered.items():
            losses.append(outputs[name])
        self._images += self.batch
        if len(self._gathered["main"]) < self.every and trainer.global_step < (trainer.max_steps or 0):
            return
        now = time.perf_counter()
        self._write(
            iteration=trainer.global_step,
            loss=_mean(self._gathered["main"]),
            auxiliary_loss=_mean(self._gathered["auxiliary"]),
            learning_rate=trainer.optimizers[0].param_groups[0]["lr"],
            images_per_second=self._images / (now - self._since),
        )
        self._gathered = {name: [] for name in self._gathered}
        self._images, self._since = 0, now

    def on_validation_start(self, trainer: Trainer, task: Any) -> None:
        """Stop the clock of training."""
        self._validating = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Write the scores, and let the clock of training go on."""
        assert isinstance(task, ParsingTask)
        if task.val_scores is not None:
            scores = task.val_scores
            self._write(
                iteration=trainer.global_step,
                miou=scores.miou,
                pixel_accuracy=scores.pixel_accuracy,
                iou=list(scores.iou),
                seconds=time.perf_counter() - self._validating,
            )
        self._since += time.perf_counter() - self._validating

    def _write(self, **values: Any) -> None:
        self.newest |= values
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a history file, oldest first; none if there is no file. A torn last line is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _mean(values: list[Tensor]) -> float:
    return sum(float(v) for v in values) / len(values)

"""The bar of a training run: how far, how fast, how well, and how long yet."""

import time
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from gffnet.console import screen
from gffnet.training.history import History

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

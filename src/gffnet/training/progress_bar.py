"""The bar of a training run: how far, how fast, how well."""

from typing import Any

from lightning import Callback, Trainer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gffnet.console import screen
from gffnet.training.history import History


class ProgressBar(Callback):
    """One bar on standard error; where that is no terminal, a line a validation instead."""

    def __init__(self, history: History) -> None:
        """`history`: the one of the run, whose newest values are shown; it must be called before the bar."""
        self.history = history
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        state = TextColumn("{task.fields[state]}")
        self.bar = Progress(TextColumn("training"), *columns, state, console=screen, disable=not screen.is_terminal)

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Show the bar, at the iteration that a resumed run goes on from."""
        self.bar.start()
        self.id = self.bar.add_task("", total=trainer.max_steps, completed=trainer.global_step, state="")

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Move on."""
        self.bar.update(self.id, completed=trainer.global_step, state=self.state())

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Where there is no bar, say the score."""
        if not screen.is_terminal:
            screen.print(f"iteration {trainer.global_step} of {trainer.max_steps}: {self.state()}")

    def on_train_end(self, trainer: Trainer, task: Any) -> None:
        """Leave the bar as it is."""
        self.bar.stop()

    def on_exception(self, trainer: Trainer, task: Any, exception: BaseException) -> None:
        """Leave the terminal in order."""
        self.bar.stop()

    def state(self) -> str:
        """Loss, speed and the newest score, as far as they are known."""
        known = self.history.newest
        parts = {
            "loss": "loss {:.3f}",
            "learning_rate": "rate {:.2g}",
            "images_per_second": "{:.1f} images/s",
            "miou": "mIoU {:.1%}",
        }
        return "  ".join(text.format(known[key]) for key, text in parts.items() if key in known)

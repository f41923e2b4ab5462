"""What a run keeps of its network on the way: the best, the last, and every so many iterations one for good."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from gffnet.files import atomic_file
from gffnet.inference.model_io import save_model


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place, has them on the disk, and moves them there: whole at every moment."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            CannotWrite: there is no room; the checkpoint before is as it was.
        """
        with atomic_file(Path(path), durable=True) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's writer hides the reason that the system gave
                raise OSError(f"{error.__context__ or error}") from None


class KeepBest(Callback):
    """Writes `best/` whenever a validation beats all before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best = -1.0

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Save the network if it is the best so far."""
        if task.val_scores is not None and task.val_scores.miou > self.best:
            self.best = task.val_scores.miou
            if trainer.is_global_zero:
                save_model(self.folder, task.model, task.config)

    def state_dict(self) -> dict[str, Any]:
        """The best score, for resuming."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the best score of an interrupted run."""
        self.best = state["best"]


class KeepLast(Callback):
    """Writes the checkpoint that `--resume` goes on from.

    Where an iteration ends with a validation it is written after that, so that a resumed run repeats an interrupted
    validation and knows the best score of a finished one. `KeepBest` and `History` must be called before.
    """

    def __init__(self, path: Path, every: int, validate_every: int, keep_every: int | None = None) -> None:
        """Iterations between checkpoints, between validations, and between checkpoints that are kept for good."""
        self.path = path
        self.every = every
        self.validate_every = validate_every
        self.keep_every = keep_every
        self.saved = 0

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Know what is saved already where a run goes on."""
        self.saved = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Save, if it is time and no validation follows."""
        step = trainer.global_step
        if (step % self.every == 0 or self._is_kept(step)) and step % self.validate_every:
            self.save(trainer, task)

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Save what a validation during training has changed."""
        if trainer.state.fn == TrainerFn.FITTING:
            self.save(trainer, task)

    def on_train_end(self, trainer: Trainer, task: Any) -> None:
        """Save the last iteration."""
        self.save(trainer, task)

    def save(self, trainer: Trainer, task: Any) -> None:
        """Write the checkpoint of this iteration, unless it is there; on all processes at once.

        Raises:
            RunFailed: the loss has broken down since the last one, which is kept then.
            CannotWrite: there is no room.
        """
        step = trainer.global_step
        if step == self.saved:
            return
        task.watch.check()
        if self._is_kept(step):
            trainer.save_checkpoint(self.path.with_name(f"iteration_{step}{self.path.suffix}"))
        trainer.save_checkpoint(self.path)
        self.saved = step

    def _is_kept(self, step: int) -> bool:
        return self.keep_every is not None and step % self.keep_every == 0

"""Checkpoints and models that a run writes: the best, the last, and every so many iterations one that stays."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from gffnet.files import atomic_file
from gffnet.models.gffnet import save_model


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints atomically: to a file beside their place, synced to disk and then renamed."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            CannotWrite: the disk is full; the previous checkpoint is unchanged.
        """
        with atomic_file(Path(path), durable=True) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch's writer hides the system's reason
                raise error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error)) from None


class BestModel(Callback):
    """Save the network to a model folder whenever a validation has the best mIoU so far."""

    state_key = "KeepBest"  # its name in the checkpoints of version 0.1.0

    def __init__(self, folder: Path, history: Any) -> None:
        """Initialise; `history` is the run's `History`, which comes before this callback."""
        self.folder = folder
        self.history = history
        self.best = -1.0

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """A run that is extended knows the score of the validation at its end, which its checkpoint precedes."""
        self.best = max(self.best, self.history.best)

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Save the network if it is the best so far."""
        best = self.best if self.folder.exists() else -1.0  # a checkpoint may have been copied to another folder
        if task.val_scores is not None and task.val_scores.miou > best:
            self.best = task.val_scores.miou
            if trainer.is_global_zero:
                save_model(self.folder, task.model, task.config)

    def state_dict(self) -> dict[str, Any]:
        """The best score, for resuming."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the best score of an interrupted run."""
        self.best = state["best"]


class LastCheckpoint(Callback):
    """Write the checkpoint that `--resume` loads.

    Where a validation follows an iteration, the checkpoint is written after it: a resumed run repeats an interrupted
    validation, and knows the best score of a finished one. `BestModel` and `History` must come before this callback.
    """

    def __init__(self, path: Path, every: int, validate_every: int, keep_every: int | None = None) -> None:
        """Initialise with iterations between checkpoints, validations, and checkpoints that are never replaced."""
        self.path = path
        self.every = every
        self.validate_every = validate_every
        self.keep_every = keep_every
        self.saved = 0

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """A resumed run starts from a saved iteration."""
        self.saved = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Save if it is time and no validation follows."""
        step = trainer.global_step
        if (step % self.every == 0 or self._stays(step)) and step % self.validate_every:
            self.save(trainer, task)

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Save after a validation during training."""
        if trainer.state.fn == TrainerFn.FITTING:
            self.save(trainer, task)

    def on_train_end(self, trainer: Trainer, task: Any) -> None:
        """Save the last iteration."""
        self.save(trainer, task)

    def save(self, trainer: Trainer, task: Any) -> None:
        """Write the checkpoint of this iteration unless it exists; all ranks must call this together.

        Raises:
            RunFailed: the loss has diverged since the last checkpoint, which is kept.
            CannotWrite: the disk is full.
        """
        step = trainer.global_step
        if step == self.saved:
            return
        task.divergence.check()
        if self._stays(step):
            trainer.save_checkpoint(self.path.with_name(f"iteration_{step}{self.path.suffix}"))
        trainer.save_checkpoint(self.path)
        self.saved = step

    def _stays(self, step: int) -> bool:
        return self.keep_every is not None and step % self.keep_every == 0

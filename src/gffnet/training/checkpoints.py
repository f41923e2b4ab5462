"""What a run keeps of its network on the way: the best, and the last."""

from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from gffnet.inference.model_folder import save_model


class KeepBest(Callback):
    """Writes `best/` whenever a validation beats all before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.best = -1.0

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Save the network if it is the best so far."""
        if task.val_scores is not None and task.val_scores.miou > self.best:
            self.best = task.val_scores.miou
            save_model(self.folder, task.network, task.config)

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

    def __init__(self, path: Path, every: int, validate_every: int) -> None:
        """`every`: iterations between checkpoints; `validate_every`: between validations."""
        self.path = path
        self.every = every
        self.validate_every = validate_every
        self.saved = 0

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Save, if it is time and no validation follows."""
        step = trainer.global_step
        if step % self.every == 0 and step % self.validate_every:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """Save what a validation during training has changed."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, task: Any) -> None:
        """Save the last iteration."""
        if self.saved < trainer.global_step:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        self.saved = trainer.global_step
        trainer.save_checkpoint(self.path)

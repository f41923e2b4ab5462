"""A training run, from a recipe to a run folder.

RUN/recipe.yaml     the recipe, every value written out
RUN/history.jsonl   losses, rates, speed, validation scores
RUN/checkpoints/    last.ckpt: all that `--resume` needs
RUN/model/          the network after the last iteration (safetensors + config): a MODEL
RUN/best/           the network with the best validation mIoU: a MODEL
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from gffnet.data.build import open_dataset
from gffnet.errors import UserError
from gffnet.inference.model_folder import ModelConfig, save_model
from gffnet.inference.precision import pick_device, pick_precision
from gffnet.models.build import build_network
from gffnet.recipe import Recipe
from gffnet.training.data_module import ParsingData
from gffnet.training.history import History
from gffnet.training.initial import start_from
from gffnet.training.progress_bar import ProgressBar
from gffnet.training.task import ParsingTask

LAST = Path("checkpoints/last.ckpt")

log = logging.getLogger("gffnet")


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


def train(recipe: Recipe, name: str, root: Path | None, out: Path, resume: bool = False, progress: bool = True) -> Path:
    """Train `recipe` on the data set under `root`; returns the run folder `out`.

    Args:
        recipe: what to train.
        name: the recipe's name, kept in the model's config.
        root: folder of the data set.
        out: the run folder, which must not hold a run yet unless `resume`.
        resume: go on from the last checkpoint in `out`, or from the start if there is none.
        progress: show a progress bar.

    Raises:
        UserError: data, weights or run folder are not as they should be.
    """
    checkpoint = _checkpoint(out, recipe, resume)
    first = torch.load(checkpoint, weights_only=True)["global_step"] if checkpoint else 0
    if first >= recipe.training.iterations and (out / "model").exists():
        log.info("%s is trained already", out)
        return out
    _quiet_lightning()
    train_set = open_dataset(recipe.data.name, root, recipe.data.train_split)
    val_set = open_dataset(recipe.data.name, root, recipe.data.val_split)
    device = pick_device()
    precision = pick_precision(recipe.precision, device)
    log.info("precision %s: %s", str(precision.dtype).removeprefix("torch."), precision.reason)
    seed_everything(recipe.seed, verbose=False)
    classes = train_set.classes
    network = build_network(recipe.model.without_weights() if checkpoint else recipe.model, len(classes.names))
    if recipe.training.init_from is not None and checkpoint is None:
        whole = recipe.training.init == "all"
        taken = start_from(recipe.training.init_from, network, whole)
        log.info("from %s: %s; fresh: %s", recipe.training.init_from, ", ".join(taken.loaded), ", ".join(taken.fresh))
    config = ModelConfig(recipe.model, classes.names, classes.palette, recipe.data.name, name, recipe.evaluation)
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_mapping(), sort_keys=False), encoding="utf-8")
    task = ParsingTask(network, config, recipe.training, precision, recipe.seed)
    data = ParsingData(recipe, train_set, val_set, first, device.type == "cpu")
    trainer = _trainer(recipe, out, precision.dtype, device, progress)
    try:
        trainer.fit(task, data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:  # what Lightning makes of an interrupt
        raise KeyboardInterrupt(f"the last checkpoint is in {out}; go on by the same command with --resume") from None
    trainer.save_checkpoint(out / LAST)
    if recipe.training.iterations % recipe.training.validate_every:
        trainer.validate(task, data, verbose=False)
    save_model(out / "model", task.network, config)
    return out


def _checkpoint(out: Path, recipe: Recipe, resume: bool) -> Path | None:
    """The checkpoint to go on from, if any; refuses to write over a run, or to go on with another recipe's."""
    last = out / LAST
    if not last.is_file() and not (out / "model").exists():
        return None
    if not resume:
        raise UserError(f"--out {out} holds a run already. Go on with it by --resume, or name another folder.")
    recipe_file = out / "recipe.yaml"
    stored = yaml.safe_load(recipe_file.read_text(encoding="utf-8")) if recipe_file.is_file() else {}
    changed = differences(stored, recipe.to_mapping())
    if changed:
        raise UserError(
            f"--out {out} holds a run of another recipe: it differs in {', '.join(changed)}. "
            "Resume with the recipe and --set of that run, or name another folder."
        )
    return last if last.is_file() else None


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys of the values in which two nested mappings differ."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(prefix + key)
    return found


def _trainer(recipe: Recipe, out: Path, dtype: torch.dtype, device: torch.device, progress: bool) -> Trainer:
    """Lightning's trainer for this recipe on this machine."""
    every = recipe.training.validate_every
    history = History(out, recipe.training.batch)
    callbacks: list[Callback] = [
        history,
        KeepBest(out / "best"),
        ModelCheckpoint(out / "checkpoints", save_last=True, save_top_k=0, every_n_train_steps=min(every, 500)),
    ]
    if progress:
        callbacks.append(ProgressBar(history))
    return Trainer(
        accelerator="cpu" if device.type == "cpu" else "auto",
        max_steps=recipe.training.iterations,
        precision="bf16-mixed" if dtype == torch.bfloat16 else "32-true",
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        default_root_dir=out,
    )


def _quiet_lightning() -> None:
    """Keep Lightning's tips and notices off the screen; errors still show."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")

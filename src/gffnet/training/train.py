"""A training run, from a recipe to a run folder.

RUN/recipe.yaml     the recipe, every value written out
RUN/history.jsonl   losses, rates, speed, validation scores
RUN/checkpoints/    last.ckpt: all that `--resume` needs
RUN/model/          the network after the last iteration (safetensors + config): a MODEL
RUN/best/           the network with the best validation mIoU: a MODEL
"""

import logging
import signal
import warnings
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning import Callback, Trainer, seed_everything

from gffnet.data.build import open_dataset
from gffnet.errors import RunFailed, UserError
from gffnet.files import write_whole
from gffnet.inference.model_folder import CONFIG, ModelConfig, save_model
from gffnet.inference.precision import pick_device, pick_precision
from gffnet.models.build import build_network
from gffnet.models.network import SceneParser
from gffnet.recipe import Recipe
from gffnet.training.checkpoints import KeepBest, KeepLast
from gffnet.training.data_module import ParsingData
from gffnet.training.history import History
from gffnet.training.initial import start_from
from gffnet.training.progress_bar import ProgressBar
from gffnet.training.task import ParsingTask

LAST = Path("checkpoints/last.ckpt")
CHECKPOINT_EVERY = 500
"""Iterations between checkpoints, at most."""

_MAY_CHANGE = {"training.workers"}
"""What another value of leaves a run as it is, so that it may differ when the run is resumed."""

log = logging.getLogger("gffnet")


def train(
    recipe: Recipe,
    name: str,
    root: Path | None,
    out: Path,
    resume: bool = False,
    progress: bool = True,
    cache: Path | None = None,
) -> Path:
    """Train `recipe` on the data set under `root`; returns the run folder `out`.

    Args:
        recipe: what to train.
        name: the recipe's name, kept in the model's config.
        root: folder of the data set.
        out: the run folder, which must not hold a run yet unless `resume`.
        resume: go on from the last checkpoint in `out`, or from the start if there is none; a run that is finished is
            left as it is.
        progress: show a progress bar.
        cache: the folder of the data set's cache; None: the one in `root`, if it is there.

    Raises:
        UserError: data, weights or run folder are not as they should be.
        RunFailed: a process that loads data died.
    """
    checkpoint = _checkpoint(out, recipe, resume)
    if (out / "model" / CONFIG).is_file():  # the last file that a run writes
        log.info("%s is trained already", out)
        return out
    first = _iteration(checkpoint) if checkpoint else 0
    _quiet_lightning()
    train_set = open_dataset(recipe.data.name, root, recipe.data.train_split, cache)
    val_set = open_dataset(recipe.data.name, root, recipe.data.val_split, cache)
    device = pick_device()
    precision = pick_precision(recipe.precision, device)
    log.info("precision %s: %s", precision.name, precision.reason)
    seed_everything(recipe.seed, verbose=False)
    classes = train_set.classes
    network = _network(recipe, len(classes.names), trained=checkpoint is not None)
    config = ModelConfig(recipe.model, classes.names, classes.palette, recipe.data.name, name, recipe.evaluation)
    write_whole(out / "recipe.yaml", yaml.safe_dump(recipe.to_mapping(), sort_keys=False).encode())
    task = ParsingTask(network, config, recipe.training, precision, recipe.seed)
    data = ParsingData(recipe, train_set, val_set, first, device.type == "cpu")
    trainer = _trainer(recipe, out, precision.dtype, device, progress)
    _fit(trainer, task, data, checkpoint, out)
    if recipe.training.iterations % recipe.training.validate_every:
        trainer.validate(task, data, verbose=False)
    save_model(out / "model", task.network, config)
    return out


def _network(recipe: Recipe, classes: int, trained: bool) -> SceneParser:
    """The network to train; if it is `trained`, a checkpoint is about to bring its weights."""
    network = build_network(recipe.model.without_weights() if trained else recipe.model, classes)
    if recipe.training.init_from is not None and not trained:
        taken = start_from(recipe.training.init_from, network, whole=recipe.training.init == "all")
        log.info("from %s: %s; fresh: %s", recipe.training.init_from, ", ".join(taken.loaded), ", ".join(taken.fresh))
    return network


def _fit(trainer: Trainer, task: ParsingTask, data: ParsingData, checkpoint: Path | None, out: Path) -> None:
    """Train, and say how to go on where that is broken off."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(task, data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:  # what Lightning makes of an interrupt; it also turns off all further ones
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt(f"go on with {out} by the same command with --resume") from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RunFailed(
            "a process that loads data died: it was killed, or ran out of memory. Go on by the same command with "
            f"--resume, and with fewer of them: --set training.workers={data.workers // 2}."
        ) from None


def _checkpoint(out: Path, recipe: Recipe, resume: bool) -> Path | None:
    """The checkpoint to go on from, if any; refuses to write over a run, or to go on with another recipe's."""
    last = out / LAST
    if not last.is_file() and not (out / "model").exists():
        return None
    if not resume:
        raise UserError(f"--out {out} holds a run already. Go on with it by --resume, or name another folder.")
    try:
        stored = yaml.safe_load((out / "recipe.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        stored = None
    if not isinstance(stored, dict):
        raise UserError(f"--out {out} holds a run, but its recipe.yaml is gone or damaged. Name another folder.")
    changed = [key for key in differences(stored, recipe.to_mapping()) if key not in _MAY_CHANGE]
    if changed:
        raise UserError(
            f"--out {out} holds a run of another recipe: it differs in {', '.join(changed)}. "
            "Resume with the recipe and --set of that run, or name another folder."
        )
    return last if last.is_file() else None


def _iteration(checkpoint: Path) -> int:
    """How far a checkpoint is."""
    try:
        return int(torch.load(checkpoint, weights_only=True, mmap=True)["global_step"])
    except Exception as error:  # a damaged file makes its parser raise anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"checkpoint {checkpoint} is damaged ({reason}). Delete it to train from the start.") from None


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
        KeepLast(out / LAST, min(every, CHECKPOINT_EVERY), every),
    ]
    if progress:
        callbacks.append(ProgressBar(history))
    return Trainer(
        accelerator="cpu" if device.type == "cpu" else "auto",
        devices=1,  # the recipe's batch is for all of them, and the stream is dealt to one
        max_steps=recipe.training.iterations,
        precision="bf16-mixed" if dtype == torch.bfloat16 else "32-true",
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
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

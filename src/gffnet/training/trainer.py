"""Lightning's trainer as gffnet wants it: our own callbacks and checkpoints, one process a device."""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy
from timm.layers.norm_act import convert_sync_batchnorm

from gffnet.recipe import TrainingRecipe
from gffnet.training.checkpoints import WholeCheckpoints
from gffnet.training.launch import Launch
from gffnet.training.task import ParsingTask

log = logging.getLogger("gffnet")


def make_trainer(
    training: TrainingRecipe, launch: Launch, dtype: torch.dtype, callbacks: Sequence[Callback], out: Path
) -> Trainer:
    """The trainer of a run in the folder `out`."""
    plugins: list[Any] = [WholeCheckpoints()]
    if launch.by == "SLURM":  # its requeueing keeps checkpoints of its own
        plugins.append(SLURMEnvironment(auto_requeue=False))
    # Running statistics need no exchange in training: `ParsingTask` does that before it validates. An exchange in every
    # forward pass would hang where processes validate different numbers of images.
    ddp = DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)
    return Trainer(
        accelerator="cpu" if launch.device.type == "cpu" else "auto",
        devices=launch.devices,
        num_nodes=launch.nodes,
        strategy=ddp if launch.processes > 1 else "auto",
        # The task computes in lower precision by itself; Lightning scales the gradients of float16.
        precision="16-mixed" if dtype == torch.float16 else "32-true",
        max_steps=training.iterations,
        callbacks=list(callbacks),
        plugins=plugins,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        val_check_interval=training.validate_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        default_root_dir=out,
    )


def synchronise_norms(task: ParsingTask, launch: Launch) -> None:
    """Have batch normalisation see the batches of all processes, where that works; say so where it does not."""
    if launch.processes == 1 or task.training_recipe.freeze_norms:
        return
    if launch.device.type != "cuda":
        log.info("batch normalisation is each process's own: it can be synchronised on NVIDIA GPUs only")
        return
    convert: Any = convert_sync_batchnorm  # timm's, which knows its own kinds of batch normalisation, too
    task.network, task.auxiliary = convert(task.network), convert(task.auxiliary)
    log.info("batch normalisation is synchronised over %d processes", launch.processes)


def quiet_lightning() -> None:
    """Keep Lightning's tips and notices off the screen; errors still show."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")

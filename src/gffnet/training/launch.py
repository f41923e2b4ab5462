"""How many processes train, and which of them this one is.

One process a device. They are started by `torchrun`, by SLURM's `srun`, or, on one machine, by the first of them:

    gffnet train RECIPE --devices 4
    torchrun --nproc-per-node 4 --nnodes 2 ... -m gffnet train RECIPE       (on every node)
    srun --ntasks-per-node 4 gffnet train RECIPE                           (in a job of two nodes)

With torchrun and SLURM the numbers come from them, and `--devices` need not be given.
"""

import os
from typing import NamedTuple

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from gffnet.errors import UserError
from gffnet.inference.precision import pick_device


class Launch(NamedTuple):
    """The processes of a run."""

    device: torch.device
    """What this process computes on, without its number: `cpu` or `cuda`."""
    devices: int = 1
    """Processes on every node."""
    nodes: int = 1
    rank: int = 0
    """Which process this is, over all nodes."""
    by: str = "gffnet"
    """Who started them."""

    @property
    def processes(self) -> int:
        """How many there are, over all nodes."""
        return self.devices * self.nodes

    def share(self, batch: int) -> int:
        """Images of a batch that a process takes.

        Raises:
            UserError: the batch cannot be shared evenly.
        """
        if batch % self.processes:
            raise UserError(
                f"training.batch {batch} cannot be shared evenly by {self.processes} processes. Take a batch or a "
                f"--devices of which one divides the other: --devices {_below(batch, self.processes)}."
            )
        return batch // self.processes


def find_launch(devices: int | None = None) -> Launch:
    """The processes of this run, from who started it.

    Args:
        devices: how many on this machine; None: all its GPUs, or one process on the CPU.

    Raises:
        UserError: torchrun or SLURM started another number, or there are not so many GPUs.
    """
    device = pick_device()
    there = torch.cuda.device_count() if device.type == "cuda" else None
    if TorchElasticEnvironment.detect():
        world, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        launch = Launch(device, local, world // local, int(os.environ["RANK"]), "torchrun")
    elif SLURMEnvironment.detect():
        tasks, nodes = int(os.environ["SLURM_NTASKS"]), int(os.environ.get("SLURM_NNODES", "1"))
        launch = Launch(device, tasks // nodes, nodes, int(os.environ["SLURM_PROCID"]), "SLURM")
    else:
        rank = int(os.environ.get("LOCAL_RANK", "0"))  # set where the first process has started this one
        launch = Launch(device, devices or there or 1, 1, rank)
    if devices not in (None, launch.devices):
        raise UserError(f"--devices {devices}: {launch.by} started {launch.devices} on this node. Leave --devices out.")
    if there is not None and launch.devices > there:
        raise UserError(f"--devices {launch.devices}: this machine has {there} GPUs. Take at most so many.")
    return launch


def _below(batch: int, processes: int) -> int:
    """The greatest number of processes up to `processes` that shares `batch` evenly."""
    return next(n for n in range(processes, 0, -1) if batch % n == 0)

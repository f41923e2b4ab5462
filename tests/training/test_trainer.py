"""Several processes against one: the same losses, the same weights, every validation image counted once."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from gffnet.inference.precision import Precision
from gffnet.recipe import Recipe
from gffnet.training.callbacks import read_history
from gffnet.training.launch import Launch
from gffnet.training.task import SegmentationTask
from gffnet.training.train import synchronise_norms, train
from tests import tiny
from tests.data.trees import camvid_tree, ids

TOLERANCE = 2e-5
"""Between the losses of one process and of several, relative: float32 sums in another order."""

FROZEN: dict[str, Any] = {
    "freeze_norms": True,
    "batch": 4,
    "learning_rate": 1e-3,
    "iterations": 14,
    "validate_every": 6,
    "init": "all",
}
"""Normalisation that does not see the batch, so that its parts may lie in several processes."""


def recipe(**training: Any) -> Recipe:
    return tiny.recipe({**tiny.GFFNET, "dropout": 0.0}, **{**FROZEN, **training})


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run to start from: frozen normalisation wants statistics that fit the weights."""
    folder = tmp_path_factory.mktemp("start")
    first = tiny.recipe({**tiny.GFFNET, "dropout": 0.0}, iterations=4, validate_every=4)
    return str(train(first, "x", camvid_tree(folder / "CamVid"), folder / "start", progress=False))


def same_run(one: Path, two: Path) -> None:
    """The same events, losses within the tolerance, weights that are close."""
    lines = [read_history(run / "history.jsonl") for run in (one, two)]
    assert [line["iteration"] for line in lines[0]] == [line["iteration"] for line in lines[1]]
    for a, b in zip(*lines, strict=True):
        if "loss" in a:
            assert (a["loss"], a["auxiliary_loss"]) == pytest.approx((b["loss"], b["auxiliary_loss"]), rel=TOLERANCE)
        else:  # a pixel on the edge may fall to the other side
            assert a["miou"] == pytest.approx(b["miou"], abs=5e-3)
    before, after = (load_file(run / "model/model.safetensors") for run in (one, two))
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.allclose(value, after[name], rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_accumulated_parts_are_one_batch(parts: int, tmp_path: Path, start: str) -> None:
    """In one process: 1, 2, or 3 images (and a rest of 1) at a time."""
    root = camvid_tree(tmp_path / "CamVid")
    whole = train(recipe(init_from=start), "x", root, tmp_path / "whole", progress=False)
    of = recipe(init_from=start, device_batch=parts)
    same_run(whole, train(of, "x", root, tmp_path / "parts", progress=False))


COUNT = """
import json, sys
from pathlib import Path
from gffnet.cli import main
from gffnet.training.task import SegmentationTask

end = SegmentationTask.on_validation_epoch_end

def counted(self):
    end(self)
    file = Path(__file__).with_name(f"counted_{self.global_rank}.json")
    file.write_text(json.dumps(self._matrix.counts.tolist()))

SegmentationTask.on_validation_epoch_end = counted
sys.exit(main(sys.argv[1:]))
"""
"""The command line, but every process writes down what a validation has counted."""


class Launched:
    """A run of two processes on a data set with so many validation images, beside one of one process."""

    def __init__(self, folder: Path, start: str, images: int, **training: Any) -> None:
        self.folder = folder
        self.images = images
        self.root = camvid_tree(folder / "CamVid", val=images)
        self.one = train(recipe(init_from=start), "x", self.root, folder / "one", progress=False)
        self.two = folder / "two"
        self.script = folder / "count.py"
        self.script.write_text(COUNT)
        file = folder / "two.yaml"
        file.write_text(yaml.safe_dump(recipe(init_from=start, **training).to_mapping()))
        self.arguments = ["train", str(file), "--root", str(self.root), "--out", str(self.two)]

    def run(self, commands: Sequence[tuple[Sequence[str], dict[str, str]]]) -> None:
        """Start all commands at once, wait for them, and compare what they did with the run of one process."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes = [
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**environment, **more}
            )
            for command, more in commands
        ]
        said = [process.communicate(timeout=300)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)[-5000:]
        same_run(self.one, self.two)
        self.check_counts()

    def check_counts(self) -> None:
        """Every labelled pixel of every validation image was counted once, and both processes know it."""
        labels = torch.cat([torch.from_numpy(ids(i, 12)).flatten() for i in range(self.images)])
        wanted = torch.bincount(labels, minlength=12)[:11]
        for rank in (0, 1):
            counted = torch.tensor(json.loads((self.folder / f"counted_{rank}.json").read_text()))
            assert torch.equal(counted.sum(1), wanted)


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def test_two_processes_learn_what_one_does(tmp_path: Path, start: str) -> None:
    """Started by the first of them; five images to validate on, which two do not divide."""
    run = Launched(tmp_path, start, images=5)
    run.run([([sys.executable, str(run.script), *run.arguments, "--devices", "2"], {})])
    record = json.loads((run.two / "run.json").read_text())
    assert (record["sessions"][0]["processes"], record["sessions"][0]["outcome"]) == (2, "finished")


def test_two_nodes_learn_what_one_process_does(tmp_path: Path, start: str) -> None:
    """Two nodes of one process each, as torchrun starts them; gradients are accumulated over parts, too.

    One image to validate on: the second process has none.
    """
    run = Launched(tmp_path, start, images=1, device_batch=1)
    port = free_port()
    nodes = [
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"),
            *("--node-rank", str(rank), "--master-addr", "127.0.0.1", "--master-port", port),
            *(str(run.script), *run.arguments),
        ]
        for rank in (0, 1)
    ]
    run.run([(node, {}) for node in nodes])


def test_slurm_starts_two_processes(tmp_path: Path, start: str) -> None:
    """What `srun` leaves in the environment of its tasks, for two of them on one node."""
    run = Launched(tmp_path, start, images=2)
    job = {
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NAME": "gff",
        "SLURM_NODELIST": "localhost",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": free_port(),
    }
    command = [sys.executable, str(run.script), *run.arguments]
    run.run([(command, {**job, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}) for rank in (0, 1)])


def norms(launch: Launch, **training: Any) -> set[type]:
    """The kinds of batch normalisation that a task has on such processes."""
    of = tiny.recipe(tiny.GFFNET, **training)
    precision = Precision(torch.float32, "for tests")
    task = SegmentationTask(tiny.network(of), tiny.config(of), of.training, precision, 0)
    synchronise_norms(task, launch)
    return {type(module) for module in task.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}


def test_norms_are_synchronised_on_gpus_only() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert norms(Launch(cuda, 2)) == {nn.SyncBatchNorm}
    for launch in (Launch(cuda), Launch(cpu, 2), Launch(cpu)):
        assert nn.SyncBatchNorm not in norms(launch)
    assert nn.SyncBatchNorm not in norms(Launch(cuda, 2), freeze_norms=True)

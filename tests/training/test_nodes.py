"""Two nodes, as SLURM starts them: one dies, the job is stopped by SLURM's signal, and what is requeued resumes."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest
import yaml

from tests import tiny
from tests.training.processes import Forked
from tests.training.test_resume import before_step, saved_iteration
from tests.training.test_train import SLURM, same_run

pytestmark = pytest.mark.slow

KILLED, STOPPED = 3, 5
"""The iterations in which a node is killed, and gets SIGTERM."""


def job(folder: Path, root: Path, out: str, number: int = 0, at: int = 0) -> list[tuple[int | None, str]]:
    """Run `srun gffnet train ... --resume` on two nodes; the second gets the signal `number` in iteration `at`."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    place = {**SLURM, "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2", "SLURM_LOCALID": "0"}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    words = ["train", str(folder / "recipe.yaml"), "--root", str(root), "--out", str(folder / out), "--resume"]

    def prepare(rank: int) -> None:
        if number and rank == 1:
            patch = pytest.MonkeyPatch()
            before_step(patch, "training_step", at, None, lambda: os.kill(os.getpid(), number))

    nodes = [
        Forked(
            words,
            folder / f"{out} {rank}.log",
            lambda rank=rank: prepare(rank),  # type: ignore[misc]
            {**place, "SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank)},
        )
        for rank in range(2)
    ]
    while number == signal.SIGKILL and nodes[1].process.is_alive():
        time.sleep(0.05)
    if number == signal.SIGKILL:  # srun ends the tasks of a job of which one died
        nodes[0].process.join(20)
        if nodes[0].process.is_alive():
            nodes[0].kill(signal.SIGKILL)
    return [node.wait() for node in nodes]


def test_a_job_that_is_requeued_ends_like_an_unbroken_one(tmp_path: Path, camvid: Path) -> None:
    recipe = tiny.recipe(tiny.GFFNET, iterations=8, validate_every=8, checkpoint_every=2)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_mapping()))
    assert [code for code, _ in job(tmp_path, camvid, "whole")] == [0, 0]
    killed = job(tmp_path, camvid, "broken", signal.SIGKILL, KILLED)
    assert killed[1][0] == -signal.SIGKILL
    assert saved_iteration(tmp_path / "broken") == KILLED - 1
    stopped = job(tmp_path, camvid, "broken", signal.SIGTERM, STOPPED)
    assert [code for code, _ in stopped] == [1, 1], stopped
    assert "stopped by SIGTERM after iteration" in stopped[0][1]
    assert saved_iteration(tmp_path / "broken") >= STOPPED
    assert [code for code, _ in job(tmp_path, camvid, "broken")] == [0, 0]
    same_run(tmp_path / "whole", tmp_path / "broken")

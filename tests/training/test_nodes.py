"""Two nodes, as SLURM starts them: one dies, the job is stopped by SLURM's signal, and what is requeued resumes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests import tiny
from tests.docs.pages import blocks, read_page
from tests.training.processes import Forked, free_port
from tests.training.test_resume import before_step, saved_iteration
from tests.training.test_train import SLURM, same_run

pytestmark = pytest.mark.slow

KILLED, STOPPED = 3, 5
"""The iterations in which a node is killed, and gets SIGTERM."""


def job(
    folder: Path, root: Path, out: str, number: int = 0, at: int = 0, faster: tuple[str, str] = ("float32", "float32")
) -> list[tuple[int | None, str]]:
    """Run `srun gffnet train ... --resume` on two nodes; the second gets the signal `number` in iteration `at`.

    `faster`: the precision that is the faster one on each node.
    """
    place = {**SLURM, "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2", "SLURM_LOCALID": "0"}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
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
            {**place, "SLURM_PROCID": str(rank), "SLURM_NODEID": str(rank), "GFFNET_PRECISION": faster[rank]},
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


def test_all_nodes_compute_in_the_precision_of_the_first(tmp_path: Path, camvid: Path) -> None:
    recipe = tiny.recipe(tiny.GFFNET, iterations=3, validate_every=3)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**recipe.to_mapping(), "precision": "auto"}))
    for out, faster in (("alike", ("bfloat16", "bfloat16")), ("different", ("bfloat16", "float32"))):
        assert [code for code, _ in job(tmp_path, camvid, out, faster=faster)] == [0, 0]
    same_run(tmp_path / "alike", tmp_path / "different")


STAND_INS = {
    "srun": """
        for rank in 0 1; do SLURM_PROCID=$rank SLURM_NODEID=$rank SLURM_LOCALID=0 "$@" & pids+=($!); done
        echo "${pids[@]}" > $STATE/pids
        for pid in "${pids[@]}"; do wait $pid || code=$?; done
        exit ${code:-0}""",
    "scancel": "test $2 = 17.0 && kill -TERM $(cut -d' ' -f2 $STATE/pids)",  # one of the nodes
    "scontrol": 'echo "$@" >> $STATE/requeued',
    "gffnet": f'exec {sys.executable} -m gffnet "$@"',
}


def test_the_job_of_the_page(tmp_path: Path, camvid: Path) -> None:
    """It is stopped by SLURM's signal, asks to be queued again, and the second time it finishes."""
    script = next(block for block in blocks(read_page("cluster.md"), "bash") if "#SBATCH" in block)
    recipe = tiny.recipe(tiny.GFFNET, iterations=150, validate_every=150, checkpoint_every=2)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_mapping()))
    for old, new in (
        ("cityscapes/gffnet_r101", tmp_path / "recipe.yaml"),
        ("/data/cityscapes", camvid),
        ("/runs/gff", tmp_path / "run"),
    ):
        assert old in script
        script = script.replace(old, str(new))
    (tmp_path / "bin").mkdir()
    for name, text in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    place = {**SLURM, "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2", "MASTER_ADDR": "127.0.0.1"}
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **place, "STATE": str(tmp_path), "PATH": path, "OMP_NUM_THREADS": "1"}
    last = tmp_path / "run/checkpoints/last.ckpt"
    for attempt in range(2):
        environment["MASTER_PORT"] = str(free_port())
        job = subprocess.Popen(["bash", "-c", script], env=environment, stderr=subprocess.PIPE, text=True)
        while attempt == 0 and not last.is_file():
            assert job.poll() is None
            time.sleep(0.05)
        if attempt == 0:
            job.send_signal(signal.SIGUSR1)
        _, said = job.communicate(timeout=120)
        assert ("stopped by SIGTERM after iteration" in said) == (attempt == 0), said
        assert (saved_iteration(tmp_path / "run") == 150) == (attempt == 1)
    assert (tmp_path / "requeued").read_text() == "requeue 17\n"

"""Who started a run, and how many processes it has: from the environment that each of them leaves."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gffnet.errors import UserError
from gffnet.training.launch import Launch, find_launch

CPU = torch.device("cpu")
LAUNCHERS = [
    "LOCAL_RANK",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "TORCHELASTIC_RUN_ID",
    "SLURM_NTASKS",
    "SLURM_NNODES",
    "SLURM_PROCID",
    "SLURM_JOB_NAME",
]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def environment(patch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        patch.setenv(name, value)


def gpus(patch: pytest.MonkeyPatch, number: int) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "device_count", lambda: number)


def test_on_a_cpu_there_is_one_process_unless_more_are_asked_for() -> None:
    assert find_launch() == Launch(CPU, 1, 1, 0, "gffnet")
    assert find_launch(2) == Launch(CPU, 2, 1, 0, "gffnet")


def test_one_started_by_the_first_knows_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, LOCAL_RANK="1")
    assert find_launch(2).rank == 1


def test_all_gpus_are_taken_unless_fewer_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 4)
    assert find_launch() == Launch(torch.device("cuda"), 4, 1, 0, "gffnet")
    assert find_launch(2).devices == 2
    with pytest.raises(UserError, match=r"--devices 8: this machine has 4 GPUs\. Take at most so many\."):
        find_launch(8)


def test_torchrun_on_two_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, TORCHELASTIC_RUN_ID="x", WORLD_SIZE="6", LOCAL_WORLD_SIZE="3", RANK="4", LOCAL_RANK="1")
    launch = find_launch()
    assert launch == Launch(CPU, 3, 2, 4, "torchrun")
    assert launch.processes == 6
    assert find_launch(3) == launch
    with pytest.raises(UserError, match=r"--devices 2: torchrun started 3 on this node\. Leave --devices out\."):
        find_launch(2)


def test_slurm_on_two_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, SLURM_NTASKS="8", SLURM_NNODES="2", SLURM_PROCID="5", SLURM_JOB_NAME="gff")
    assert find_launch() == Launch(CPU, 4, 2, 5, "SLURM")


def test_a_shell_in_a_slurm_job_is_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    environment(monkeypatch, SLURM_NTASKS="8", SLURM_NNODES="2", SLURM_PROCID="0", SLURM_JOB_NAME="interactive")
    assert find_launch().processes == 1


@given(batch=st.integers(1, 64), devices=st.integers(1, 8), nodes=st.integers(1, 4))
def test_a_batch_is_shared_evenly_or_not_at_all(batch: int, devices: int, nodes: int) -> None:
    launch = Launch(CPU, devices, nodes)
    if batch % (devices * nodes) == 0:
        assert launch.share(batch) * launch.processes == batch
        return
    with pytest.raises(UserError, match=rf"training\.batch {batch} cannot be shared evenly") as caught:
        launch.share(batch)
    named = int(str(caught.value).rsplit(" ", 1)[1].rstrip("."))
    assert batch % named == 0
    assert 1 <= named < launch.processes

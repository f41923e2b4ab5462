"""Processes of one job, as `torchrun` starts them; whole evaluations by several: tests/cli/test_evaluate.py."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.multiprocessing import start_processes

from gffnet.errors import RunFailed
from gffnet.parallel import all_gather, broadcast, device_of_rank, process_group, rank_and_world_size
from tests.training.processes import free_port


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with process_group():
        assert rank_and_world_size() == (0, 1)
        assert (broadcast("x"), all_gather(b"y")) == ("x", [b"y"])
    monkeypatch.setenv("WORLD_SIZE", "4")  # as some schedulers set it
    with process_group():
        assert rank_and_world_size() == (0, 1)


@contextmanager
def as_rank(rank: int, world_size: int, port: int) -> Iterator[None]:
    """The environment of a process that `torchrun` started."""
    with pytest.MonkeyPatch.context() as patch:
        settings = {"RANK": rank, "WORLD_SIZE": world_size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in settings.items():
            patch.setenv(name, str(value))
        yield


def work(rank: int, port: int, out: Path) -> None:
    """Exchange values; then rank 1 leaves and the others wait for it."""
    with as_rank(rank, 3, port), process_group():
        assert rank_and_world_size() == (rank, 3)
        assert broadcast({"rank": rank}) == {"rank": 0}
        assert all_gather(b"x" * rank) == [b"", b"x", b"xx"]
        if rank == 1:
            return
        with pytest.raises(RunFailed, match="another process failed"):
            all_gather(0)
    (out / str(rank)).touch()


def groups(rank: int, port: int, out: Path) -> None:
    """Join two groups, one after the other; rank 0 is slow to leave the first."""
    with as_rank(rank, 2, port):
        for turn in range(2):
            with process_group():
                assert all_gather((turn, rank)) == [(turn, 0), (turn, 1)]
                time.sleep(0.3 * (1 - rank))
    (out / str(rank)).touch()


def test_a_rank_may_join_the_next_group_before_the_others_have_left_the_last(tmp_path: Path) -> None:
    start_processes(groups, (free_port(), tmp_path), nprocs=2, start_method="fork")
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}


def test_ranks_exchange_values_and_notice_that_one_is_gone(tmp_path: Path) -> None:
    start_processes(work, (free_port(), tmp_path), nprocs=3, start_method="fork")
    assert {path.name for path in tmp_path.iterdir()} == {"0", "2"}


def test_every_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert device_of_rank("auto") == "auto"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [device_of_rank(name) for name in ("auto", "cuda", "cpu", "cuda:0")] == ["cuda:3", "cuda:3", "cpu", "cuda:0"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of_rank("auto") == "auto"

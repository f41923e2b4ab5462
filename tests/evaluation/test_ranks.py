"""Processes of one job, as `torchrun` starts them; whole evaluations by several: tests/cli/test_evaluate.py."""

import socket
from pathlib import Path

import pytest
import torch
from torch.multiprocessing import start_processes

from gffnet.errors import RunFailed
from gffnet.parallel import all_gather, broadcast, device_of_rank, process_group, rank_and_world_size


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with process_group():
        assert rank_and_world_size() == (0, 1)
        assert (broadcast("x"), all_gather(b"y")) == ("x", [b"y"])
    monkeypatch.setenv("WORLD_SIZE", "4")  # as some schedulers set it
    with process_group():
        assert rank_and_world_size() == (0, 1)


def work(rank: int, port: int, out: Path) -> None:
    """Exchange values; then rank 1 leaves and the others wait for it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RANK": rank, "WORLD_SIZE": 3, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            patch.setenv(name, str(value))
        with process_group():
            assert rank_and_world_size() == (rank, 3)
            assert broadcast({"rank": rank}) == {"rank": 0}
            assert all_gather(b"x" * rank) == [b"", b"x", b"xx"]
            if rank == 1:
                return
            with pytest.raises(RunFailed, match="another process failed"):
                all_gather(0)
    (out / str(rank)).touch()


def test_ranks_exchange_values_and_notice_that_one_is_gone(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_processes(work, (port, tmp_path), nprocs=3, start_method="fork")
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

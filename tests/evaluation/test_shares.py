"""Processes that share images; here they are threads, in tests/commands/test_evaluate.py real ones."""

import time

import pytest
import torch

from gffnet.errors import RunFailed, UserError
from gffnet.evaluation.evaluate import Group, joined, own_device
from tests.evaluation.processes import together


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_shares_are_all_items_each_once(size: int) -> None:
    shares = [Group(rank, size).mine(list("abcde")) for rank in range(size)]
    assert sorted(item for share in shares for item in share) == list("abcde")
    assert list(shares[0]) == list("abcde")[::size]


def test_one_alone_hears_itself() -> None:
    group = Group()
    assert group.announce("x", b"1") == b"1"
    assert group.collect("y", b"2") == [b"2"]
    group.check()
    group.fail(ValueError())


def test_rank_0_tells_all_and_hears_all() -> None:
    def work(group: Group) -> tuple[bytes, list[bytes]]:
        time.sleep(0.05 * group.rank)
        return group.announce("plan", b"all" if group.rank == 0 else b""), group.collect("counts", b"%d" % group.rank)

    assert together(3, work) == [(b"all", [b"0", b"1", b"2"]), (b"all", []), (b"all", [])]


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_ends_all_that_wait_or_work(failing: int) -> None:
    def work(group: Group) -> object:
        if group.rank == failing:
            raise UserError("image x is torn")
        if group.rank == 2:
            while True:
                group.check()
                time.sleep(0.01)
        return group.collect("counts", b"") if group.rank == 0 else group.announce("plan")

    results = together(3, work)
    assert str(results.pop(failing)) == "image x is torn"
    assert [type(result) for result in results] == [RunFailed] * 2
    assert {str(result) for result in results} == {f"stopped, since process {failing} failed: image x is torn"}


def test_a_store_that_is_gone_is_a_failure() -> None:
    class Gone:
        def check(self, keys: list[str]) -> bool:
            raise RuntimeError("connection reset")

    with pytest.raises(RunFailed, match="is gone"):
        Group(1, 2, Gone()).announce("plan")
    Group(1, 2, Gone()).fail(ValueError("x"))


def test_without_torchrun_one_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with joined() as group:
        assert (group.rank, group.size) == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "4")  # as some schedulers set it
    with joined() as group:
        assert group.size == 1


def test_every_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert own_device("auto") == "auto"
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert [own_device(name) for name in ("auto", "cuda", "cpu", "cuda:0")] == ["cuda:3", "cuda:3", "cpu", "cuda:0"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device("auto") == "auto"

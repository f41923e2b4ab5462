"""Cores, processes, prefetching and background writing: complete, bounded, and without threads left behind."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gffnet import parallel
from gffnet.errors import RunFailed, UserError
from gffnet.parallel import (
    available_cores,
    background_writer,
    batches,
    device_count,
    in_processes,
    io_threads,
    limit_threads,
    prefetch,
    restored_threads,
)

# The cores


def set_cores(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(parallel, "CGROUPS", (Path("/nowhere"), Path("/nowhere")))


@pytest.mark.parametrize(("given", "count"), [("1", 1), ("12", 12), (3, 3)])
def test_a_number_of_devices(given: object, count: int) -> None:
    assert device_count(given) == count


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        *[(text, "leave it out") for text in ("-1", "0", "00", "1.5", "abc", "auto", "cpu", "cuda", "", "2 ", "1e3")],
        *[(value, "leave it out") for value in (0, -1, True, 2.0)],
        ("1,2", "--devices 2 with CUDA_VISIBLE_DEVICES=1,2 "),
        ("cuda:9", "--devices 1 with CUDA_VISIBLE_DEVICES=9 "),
        ("cuda:0,cuda:1", "--devices 2 with CUDA_VISIBLE_DEVICES=0,1 "),
        ([0, 1], "--devices 2 with CUDA_VISIBLE_DEVICES=0,1 "),
    ],
)
def test_what_is_no_number_of_devices(given: object, remedy: str) -> None:
    with pytest.raises(UserError) as error:
        device_count(given)
    assert str(error.value).startswith(f"--devices {given}: it must be the number of devices that train, 1 or more. ")
    assert remedy in str(error.value)


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "250000 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "3200000 100000"}, 8),
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/a/b", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "200000 100000"}, 2),
        ("0::/docker/of the host", {"cpu.max": "400000 100000"}, 4),
        (
            "3:cpu,cpuacct:/a",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "150000", "cpu,cpuacct/a/cpu.cfs_period_us": "50000"},
            3,
        ),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("4:memory:/", {"memory/cpu.cfs_quota_us": "100000", "memory/cpu.cfs_period_us": "100000"}, 8),
        ("0::/", {"cpu.max": ""}, 8),
        ("0::/", {"cpu.max": "100000 0"}, 8),
        ("nonsense", {}, 8),
    ],
)
def test_cores_of_a_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, membership: str, files: dict[str, str], cores: int
) -> None:
    set_cores(monkeypatch, 8)
    assert available_cores() == 8
    (tmp_path / "cgroup").write_text(f"7:pids:/x\n{membership}\n")
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(f"{text}\n")
    monkeypatch.setattr(parallel, "CGROUPS", (tmp_path / "cgroup", tmp_path / "fs"))
    assert available_cores() == cores


def test_cores_where_there_is_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cores(monkeypatch, 8)
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, cores in ((3, 3), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert available_cores() == cores


@pytest.mark.parametrize(
    ("before", "given", "after"), [(8, None, 4), (3, None, 3), (8, "8", 8)], ids=["more", "fewer", "given"]
)
def test_threads_are_limited_but_for_what_the_user_set(
    monkeypatch: pytest.MonkeyPatch, before: int, given: str | None, after: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    with restored_threads():
        torch.set_num_threads(before)
        limit_threads(4)
        assert torch.get_num_threads() == after
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("device", "items", "cores", "threads", "found"),
    [
        ("cpu", 9, 1, 1, (0, 0, 1)),
        ("cpu", 9, 2, 2, (0, 0, 2)),
        ("cpu", 9, 2, 1, (0, 1, 1)),
        ("cpu", 9, 4, 4, (0, 1, 3)),
        ("cpu", 9, 8, 8, (1, 1, 6)),
        ("cpu", 9, 64, 64, (2, 2, 48)),
        ("cpu", 1, 64, 64, (0, 0, 64)),
        ("cuda", 9, 8, 8, (2, 4, 8)),
    ],
)
def test_reading_writing_and_computing_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, device: str, items: int, cores: int, threads: int, found: tuple[int, int, int]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    set_cores(monkeypatch, cores)
    with restored_threads():
        torch.set_num_threads(threads)
        with io_threads(device, items) as (readers, writers):
            assert (readers, writers, torch.get_num_threads()) == found
        assert torch.get_num_threads() == threads


# Processes


def square(x: int) -> int:
    return x * x


def process(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def refuse(x: int) -> int:
    if x == 3:
        raise UserError("three is refused")
    return x


def die(x: int) -> int:
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def note(folder: Path, x: int) -> int:
    (folder / str(x)).touch()
    return x


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_result_comes_once(workers: int) -> None:
    assert sorted(in_processes(square, range(40), workers)) == [x * x for x in range(40)]
    assert list(in_processes(square, [], workers)) == []


def test_where_the_work_is_done() -> None:
    assert set(in_processes(process, range(3), 1)) == {os.getpid()}
    there = set(in_processes(process, range(12), 2))
    assert len(there) == 2
    assert os.getpid() not in there


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_work_is_raised_here(workers: int) -> None:
    with pytest.raises(UserError, match="three is refused"):
        list(in_processes(refuse, range(10), workers))


def test_a_process_that_dies_is_reported() -> None:
    start = time.monotonic()
    with pytest.raises(RunFailed, match="a worker process died: it was killed, or ran out of memory"):
        list(in_processes(die, range(10), 2))
    assert time.monotonic() - start < 30


def test_items_are_not_taken_far_ahead(tmp_path: Path) -> None:
    results = in_processes(partial(note, tmp_path), range(1000), 2)
    next(results)
    results.close()
    assert len(list(tmp_path.iterdir())) < 10


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


# Prefetching


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("number", [0, 1, 2, 20])
def test_results_come_in_order(threads: int, number: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.003 * (item % 3))
        return item * item

    assert list(prefetch(work, range(number), threads)) == [item * item for item in range(number)]


def test_the_number_in_flight_is_bounded() -> None:
    begun: list[int] = []
    with closing(prefetch(begun.append, range(100), threads=2)) as results:
        for done in range(1, 10):
            next(results)
            time.sleep(0.01)
            assert done <= len(begun) <= done + 3


def test_an_error_comes_in_its_place() -> None:
    results = prefetch(lambda item: 6 // item, [2, 1, 0, 3], threads=2)
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


# Background writing


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_all_is_done_at_the_end(threads: int) -> None:
    done: list[int] = []
    with background_writer(threads) as later:
        for i in range(50):
            later(done.append, i)
    assert sorted(done) == list(range(50))
    assert threads > 1 or done == sorted(done)


def test_it_waits_while_too_much_is_in_flight() -> None:
    going, waiting = threading.Event(), threading.Event()
    submitted: list[int] = []

    def submit() -> None:
        with background_writer(2) as later:
            for i in range(4):
                later(lambda: going.wait(5) and None)
                submitted.append(i)
                if i == 2:
                    waiting.set()

    thread = threading.Thread(target=submit)
    thread.start()
    assert waiting.wait(5)
    time.sleep(0.03)
    assert len(submitted) == 3
    going.set()
    thread.join()
    assert len(submitted) == 4


@pytest.mark.parametrize("when", ["soon", "last"])
def test_an_error_in_the_thread_is_raised(when: str) -> None:
    calls = 0
    with pytest.raises(ZeroDivisionError), background_writer(1) as later:  # noqa: PT012
        for i in range(100):
            calls += 1
            if i == (3 if when == "soon" else 99):
                later(lambda: 1 // 0)
            else:
                later(lambda: None)
    assert calls == 100 if when == "last" else calls < 20


def test_submitted_work_is_done_even_after_an_error() -> None:
    done: list[int] = []

    def slow(i: int) -> None:
        time.sleep(0.02)
        done.append(i)

    with pytest.raises(KeyboardInterrupt), background_writer(1) as later:  # noqa: PT012
        later(slow, 0)
        later(slow, 1)
        raise KeyboardInterrupt
    assert done == [0, 1]


@given(st.lists(st.sampled_from("abcdef")), st.integers(1, 4))
def test_batches_hold_items_of_one_key_and_few_wait(keys: list[str], most: int) -> None:
    taken: list[int] = []
    items = (taken.append(i) or (i, key) for i, key in enumerate(keys))  # type: ignore[func-returns-value]
    found: list[tuple[int, str]] = []
    for batch in batches(items, lambda item: item[1], lambda item: most):
        assert len({key for _, key in batch}) == 1
        assert 1 <= len(batch) <= most
        found += batch
        assert len(taken) - len(found) < 4 * most
    assert sorted(found) == [*enumerate(keys)]
    for each in set(keys):
        assert [i for i, key in found if key == each] == [i for i, key in enumerate(keys) if key == each]
    if most == 1:
        assert found == [*enumerate(keys)]

"""Cores and signal handlers of a process; work on many items, in processes or in threads beside one that computes."""

import os
import re
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

from gffnet.errors import RunFailed, UserError, first_line

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def restored_signals() -> Iterator[dict[int, Any]]:
    """Give SIGTERM and SIGINT their handlers back afterwards; yields these, none in a thread, which may set none."""
    numbers = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    before: dict[int, Any] = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}
    try:
        yield before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
"""The control groups of this process, and where their limits are."""


def available_cores() -> int:
    """Return how many cores this process may use, at least 1: by its affinity, and the CPU quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_quotas()])))


def _quotas() -> Iterator[float]:
    """Yield the quotas of CPU time, in cores, of this process' control groups and of those that contain them."""
    for folder in control_groups("cpu"):
        yield from _quota(folder)


def control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process' control groups that a controller limits, and of those that contain them."""
    membership, mounted = CGROUPS
    lines: list[str] = []
    with suppress(OSError):
        lines = membership.read_text().splitlines()
    for line in lines:  # number:controllers:/path, without number and controllers in version 2
        with suppress(ValueError):
            _, controllers, group = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            parts = group.strip("/").split("/")
            for depth in range(len(parts) + 1):
                yield mounted.joinpath(controllers, *parts[:depth])


def _quota(folder: Path) -> Iterator[float]:
    """Yield the quota of one control group, in cores, if it has one."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if quota != "max" and int(quota) > 0:  # -1: none
            yield int(quota) / int(period)


def device_count(devices: object) -> int:
    """Return `--devices` as a number.

    Raises:
        UserError: it is none, or below 1.
    """
    if isinstance(devices, int) and not isinstance(devices, bool) and devices >= 1:
        return devices
    if isinstance(devices, str) and re.fullmatch(r"0*[1-9][0-9]{0,5}", devices):
        return int(devices)
    remedy = "To use all GPUs, or the CPU where there is none, leave it out"
    named = re.findall("[0-9]+", str(devices)) if re.search(r",|\[|cuda", str(devices)) else []
    if named:  # `1,2` and `cuda:1` say which, not how many
        remedy = f"To choose GPUs: --devices {len(named)} with CUDA_VISIBLE_DEVICES={','.join(named)} set before"
    raise UserError(f"--devices {devices}: it must be the number of devices that train, 1 or more. {remedy}.")


def limit_threads(most: int) -> None:
    """Let torch compute with at most so many threads, unless OMP_NUM_THREADS says with how many."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > most:
        torch.set_num_threads(most)


@contextmanager
def restored_threads() -> Iterator[None]:
    """Let torch have the number of threads afterwards that it has before."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def io_threads(device: str, items: int) -> Iterator[tuple[int, int]]:
    """Yield how many threads read and how many write while a network computes, for that many items.

    Beside a GPU they are several. On a CPU, computing, reading and writing together take no more than the cores, of
    which at most one of four reads or writes. Of fewer than four none does: the thread that computes reads and writes,
    which takes less time on two cores (docs/speed.md).

    Args:
        device: type of the device that computes.
        items: one is read and written by the thread that computes.
    """
    import torch

    cores = available_cores()
    if items < 2:
        yield 0, 0
    elif device != "cpu":
        yield 2, min(4, cores)
    else:
        with restored_threads():
            limit_threads(cores - cores // 4)
            spare = min(4, max(0, cores - torch.get_num_threads()))
            yield spare // 2, spare - spare // 2


def in_processes(work: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None) -> Iterator[Result]:
    """Yield the results of `work` in the order in which they are finished.

    Args:
        work: picklable, as the items must be. An error that it raises is raised here, after the items that are being
            worked on are finished.
        items: taken only as fast as they are worked on.
        workers: number of processes; None: one per core; 1: this process.

    Raises:
        RunFailed: a process died, for example because it ran out of memory.
    """
    workers = workers or available_cores()
    if workers == 1:
        yield from map(work, items)
        return
    waiting = iter(items)
    # `work` may hold a lot, such as a data set: it is sent to every process once instead of with every item.
    with ProcessPoolExecutor(workers, initializer=_receive, initargs=(work,)) as pool:
        try:
            running = {pool.submit(_call, item) for item in islice(waiting, 2 * workers)}
            while running:
                done = next(as_completed(running))
                running.remove(done)
                yield done.result()
                running |= {pool.submit(_call, item) for item in islice(waiting, 1)}
        except BrokenProcessPool:
            raise RunFailed(
                "a worker process died: it was killed, or ran out of memory. What is finished is kept; run the same "
                "command again, with more memory free."
            ) from None


_work: Callable[[Any], Any]
"""The function that a worker process was started for."""


def _receive(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work


def _call(item: Any) -> Any:
    return _work(item)


# Threads: a bounded number of items is in flight, errors are raised in the caller, and no thread outlives the call.


def prefetch(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Generator[Result, None, None]:
    """Yield the results of `work` in the order of `items`; threads compute up to `threads + 1` of them in advance.

    Without threads, each is computed when it is asked for. Close the generator if it may not be exhausted:
    `with contextlib.closing(prefetch(...)) as results`.
    """
    waiting = iter(items)
    if not threads:
        yield from map(work, waiting)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        running = deque(pool.submit(work, item) for item in islice(waiting, threads + 1))
        while running:
            done = running.popleft().result()
            running.extend(pool.submit(work, item) for item in islice(waiting, 1))
            yield done
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def batches(items: Iterable[Item], key: Callable[[Item], Any], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yield the items in batches of equal `key`, which may be completed out of order.

    Args:
        items: fewer than `4 * size` of them wait for others of their key.
        key: what the items of a batch have in common; hashable.
        size: the largest batch with an item.
    """
    waiting: dict[Any, list[Item]] = {}
    for item in items:
        common, most = key(item), size(item)
        waiting.setdefault(common, []).append(item)
        if len(waiting[common]) >= most:
            yield waiting.pop(common)
        elif sum(map(len, waiting.values())) >= 4 * most:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


@contextmanager
def background_writer(threads: int) -> Iterator[Callable[..., None]]:
    """Yield a function `later(work, *arguments)` that calls `work(*arguments)` in a thread.

    `later` waits while more than `threads` calls are unfinished. All calls are finished when the context ends, even by
    an error, so nothing that was computed is lost. With one thread, they are made in order. Without threads, `later`
    makes the call itself.
    """
    if not threads:
        yield lambda work, *arguments: work(*arguments)
        return
    running: deque[Future[None]] = deque()
    pool = ThreadPoolExecutor(threads)

    def later(work: Callable[..., None], *arguments: Any) -> None:
        while len(running) > threads or (running and running[0].done()):
            running.popleft().result()
        running.append(pool.submit(work, *arguments))

    try:
        yield later
        while running:
            running.popleft().result()
    finally:
        pool.shutdown(wait=True)


# Ranks: processes that `torchrun` started to share one job
#
# torch is imported where it is needed: this module is imported by commands that do without it.


_joined = count()
"""Numbers the groups that this process joins."""

_stores: list[Any] = []
"""The store through which ranks find each other, once it is there.

It lives as long as this process: rank 0 serves it, and a rank that is early for the next group would otherwise connect
to the store of the last one, which is about to close, and both would wait for each other.
"""


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that `torchrun` started, over gloo; without `torchrun`, this process is alone.

    Where a group is joined already, by the caller or by Lightning, it is the one. Groups may follow each other. A rank
    that fails leaves with its error, and `torchrun` stops the others.
    """
    started_by_torchrun = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    if not started_by_torchrun or int(os.environ["WORLD_SIZE"]) == 1:
        yield
        return
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    if dist.is_initialized():
        yield
        return
    if not _stores:
        _stores.append(next(rendezvous("env://")))
    server, rank, world_size = _stores[0]
    store = PrefixStore(f"gffnet {next(_joined)}", server)  # the keys of a group before are still in the store
    day = timedelta(days=1)  # ranks may finish their parts hours apart
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=day)
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of ranks; `(0, 1)` outside `process_group`."""
    import torch.distributed as dist

    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def broadcast(value: Item) -> Item:
    """Return the value of rank 0, in every rank. Raises as `all_gather`."""
    return all_gather(value)[0]


def all_gather(value: Item) -> list[Item]:
    """Return the values of all ranks, by rank, in every rank.

    Raises:
        RunFailed: another rank is gone.
    """
    import torch.distributed as dist

    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    try:
        dist.all_gather_object(values, value)
    except RuntimeError as error:  # gloo lost a connection
        raise RunFailed(f"another process failed, see its error ({first_line(error)}).") from None
    return values


def device_of_rank(device: str) -> str:
    """Return the GPU of this rank for `auto` and `cuda` where `torchrun` started one process a GPU; else `device`."""
    import torch

    local = os.environ.get("LOCAL_RANK")
    if local is None or device not in {"auto", "cuda"} or not torch.cuda.is_available():
        return device
    return f"cuda:{int(local) % torch.cuda.device_count()}"

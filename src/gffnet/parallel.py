"""Work on many items with many processes."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import count, islice
from typing import Any, TypeVar

from gffnet.errors import RunFailed

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(work: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None) -> Iterator[Result]:
    """The results of `work`, as they come, from one process a processor unless `workers` says otherwise.

    With one worker the work is done in this process. `work` and the items must be picklable. An error that it raises is
    raised here. Items that are under way then are finished; no further one is begun.

    Raises:
        RunFailed: a process died, such as one that was killed for want of memory.
    """
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        yield from map(work, items)
        return
    waiting = iter(items)
    # `work` may hold much, such as a data set: it is sent to every process once, not with every item.
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
"""What a worker process was started for."""


def _receive(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work


def _call(item: Any) -> Any:
    return _work(item)


# Reading ahead and writing behind: threads beside the one that computes, which wait where they get too far from it.
#
# Both hold a bounded number of items, pass on the errors of their threads, and leave no thread behind when they end,
# however they end.


def ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Generator[Result, None, None]:
    """The results of `work` in the order of `items`, which threads begin before they are asked for: one more than them.

    Close it where it is not gone through to its end: `with contextlib.closing(ahead(...)) as results`.
    """
    waiting = iter(items)
    pool = ThreadPoolExecutor(threads)
    try:
        running = deque(pool.submit(work, item) for item in islice(waiting, threads + 1))
        while running:
            done = running.popleft().result()
            running.extend(pool.submit(work, item) for item in islice(waiting, 1))
            yield done
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_advance(items: Iterator[Item]) -> Generator[Item, None, None]:
    """`items`, made in a thread while those before are used; to be closed as `ahead`."""
    end = object()
    made = ahead(lambda _: next(items, end), count(), threads=1)
    try:
        for item in made:
            if item is end:
                return
            yield item  # type: ignore[misc]
    finally:
        made.close()


@contextmanager
def behind(threads: int) -> Iterator[Callable[..., None]]:
    """What it yields is called with a function and its arguments, and calls that function in a thread.

    It waits while one more than `threads` are under way. All are done when the context ends, also if it ends with an
    error: nothing that was computed is lost. With one thread they are done in order.
    """
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

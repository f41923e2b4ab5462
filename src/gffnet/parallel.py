"""Work on many items with many processes."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
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

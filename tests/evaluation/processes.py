"""Processes of one evaluation, as threads that share a store."""

import threading
from collections.abc import Callable
from typing import Any

from torch.distributed import HashStore

from gffnet.evaluation.evaluate import Group


def together(size: int, work: Callable[[Group], Any]) -> list[Any]:
    """What `work` returned or raised in every process."""
    store, results = HashStore(), [None] * size

    def run(rank: int) -> None:
        group = Group(rank, size, store)
        try:
            results[rank] = work(group)  # type: ignore[call-overload]
        except BaseException as error:
            group.fail(error)
            results[rank] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    return list(results)

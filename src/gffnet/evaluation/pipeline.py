"""Work beside the network: files are read before it needs them, results are dealt with while it computes the next.

Reading, decoding and counting leave Python's lock to others for most of their time, so threads do. At most `depth`
items wait before the network and as many behind it: memory does not grow with the data set.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(read: Callable[[Item], Result], items: Iterable[Item], depth: int = 2) -> Iterator[Result]:
    """`map(read, items)`, with up to `depth` results read in a thread before they are asked for. Raises as `read`."""
    waiting = iter(items)
    with ThreadPoolExecutor(1, "reading") as pool:
        under_way = deque(pool.submit(read, item) for item in islice(waiting, depth))
        try:
            while under_way:
                result = under_way.popleft().result()
                under_way.extend(pool.submit(read, item) for item in islice(waiting, 1))
                yield result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Behind:
    """A thread that does work in the order it is given, `depth` pieces behind at most."""

    def __init__(self, depth: int = 2) -> None:
        self.depth = depth
        self._pool = ThreadPoolExecutor(1, "behind")
        self._under_way: deque[Future[Any]] = deque()

    def do(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Have `work` done; wait where too much waits already. Raises what an earlier piece raised."""
        self._under_way.append(self._pool.submit(work, *arguments))
        while len(self._under_way) > self.depth:
            self._under_way.popleft().result()

    def __enter__(self) -> "Behind":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Finish what was given. Raises what it raised, unless something else is being raised."""
        self._pool.shutdown(wait=True)
        if error is None:
            for done in self._under_way:
                done.result()

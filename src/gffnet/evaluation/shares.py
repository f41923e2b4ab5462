"""Processes that share the images of a data set, as `torchrun` starts them.

Nothing but a few bytes passes between them, through the store that `torchrun` keeps for its processes: what rank 0
decided goes out, what everyone counted comes in. Waiting looks for failures of others all the while, so that one
process that fails does not leave the rest waiting.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from gffnet.errors import RunFailed

Item = TypeVar("Item")

_STARTED_BY_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_FAILED = "failed"
_PAUSE = 0.02
"""Seconds between two looks into the store."""


class Group:
    """The processes of one evaluation."""

    def __init__(self, rank: int = 0, size: int = 1, store: Any = None) -> None:
        """`store`: torch's, which all of them reach; None for one that is alone."""
        self.rank = rank
        self.size = size
        self._store = store

    def mine(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's share: every `size`-th item, from the `rank`-th. Together they are all, each once."""
        return items[self.rank :: self.size]

    def announce(self, name: str, value: bytes = b"") -> bytes:
        """What rank 0 gives, in every process. Raises `RunFailed` if another process failed."""
        if self._store is None:
            return value
        if self.rank == 0:
            self._store.set(name, value)
            return value
        return self._await(name)

    def collect(self, name: str, value: bytes) -> list[bytes]:
        """In rank 0, what every process gives, by rank; nothing in others. Raises `RunFailed` if another failed."""
        if self._store is None:
            return [value]
        self._store.set(f"{name}/{self.rank}", value)
        return [self._await(f"{name}/{rank}") for rank in range(self.size)] if self.rank == 0 else []

    def check(self) -> None:
        """Raises `RunFailed` if another process has failed."""
        if self._store is not None and self._has(_FAILED):
            raise RunFailed(f"stopped, since {self._store.get(_FAILED).decode()}")

    def fail(self, error: BaseException) -> None:
        """Tell the others that this process has failed; the first to fail is heard."""
        if self._store is None or type(error) is RunFailed:  # as after another's failure
            return
        try:
            if not self._store.check([_FAILED]):
                self._store.set(_FAILED, f"process {self.rank} failed: {error or type(error).__name__}")
        except (RuntimeError, ValueError):
            pass  # they are gone

    def _await(self, name: str) -> bytes:
        while not self._has(name):
            self.check()
            time.sleep(_PAUSE)
        content: bytes = self._store.get(name)
        return content

    def _has(self, name: str) -> bool:
        try:
            return bool(self._store.check([name]))
        except RuntimeError:
            raise RunFailed("stopped, since the process that the others report to is gone.") from None


@contextmanager
def joined() -> Iterator[Group]:
    """The group that `torchrun` started this process in, or one of its own; an error that leaves it is told to all."""
    group = Group()
    if all(name in os.environ for name in _STARTED_BY_TORCHRUN) and int(os.environ["WORLD_SIZE"]) > 1:
        store, rank, size = next(rendezvous("env://"))
        group = Group(rank, size, PrefixStore("gffnet/evaluation", store))
    try:
        yield group
    except BaseException as error:
        group.fail(error)
        raise


def own_device(device: str) -> str:
    """`auto` and `cuda` as the GPU of this process, where `torchrun` started one for every GPU; else as it is."""
    local = os.environ.get("LOCAL_RANK")
    if local is None or device not in {"auto", "cuda"} or not torch.cuda.is_available():
        return device
    return f"cuda:{int(local) % torch.cuda.device_count()}"

"""How long a run waits for its data: a fast device that is fed too slowly looks like a slow one."""

import logging
import time
from typing import Any

from lightning import Callback, Trainer

TOO_MUCH = 0.2
"""Share of the time from which on it is worth saying."""
ENOUGH = 20.0
"""Seconds that must have been looked at."""

log = logging.getLogger("gffnet")


class DataWait(Callback):
    """Measures the time between one iteration and the next, and says at the end what part of all it was.

    It must be the last callback: then nothing else is done in between but fetching the batch. A GPU is waited for
    elsewhere, where the history reads losses. Validation does not count, nor does the first batch, for which the
    loading processes start.
    """

    def __init__(self, workers: int, most_workers: int) -> None:
        """`workers`: processes that load data; `most_workers`: as many as there can be here."""
        self.workers = workers
        self.most_workers = most_workers
        self.waited = 0.0
        """Seconds, so far."""
        self.seconds = 0.0
        """All that were looked at, so far."""
        self._since: float | None = None
        self._fetched: float | None = None

    @property
    def share(self) -> float:
        """Of the time that was looked at."""
        return self.waited / self.seconds if self.seconds else 0.0

    def on_train_batch_start(self, trainer: Trainer, task: Any, batch: Any, index: int) -> None:
        """A batch is there."""
        now = time.perf_counter()
        if self._since is not None:
            self.waited += now - self._since
            self.seconds += now - self._since
        self._fetched = now

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """The next one is waited for."""
        self._since = time.perf_counter()
        if self._fetched is not None:
            self.seconds += self._since - self._fetched

    def on_validation_end(self, trainer: Trainer, task: Any) -> None:
        """What was between was validation."""
        self._since = None

    def on_train_end(self, trainer: Trainer, task: Any) -> None:
        """Say it, if it was much."""
        if trainer.is_global_zero and self.seconds >= ENOUGH and self.share >= TOO_MUCH:
            log.warning("%s", self.remedy())

    def remedy(self) -> str:
        """What the wait was, and what would shorten it."""
        more = f"a higher training.workers ({self.workers} now, {self.most_workers} at most here), "
        return (
            f"{self.share:.0%} of the time went by waiting for data. What helps: "
            f"{more if self.workers < self.most_workers else ''}a cache made by `gffnet data cache`, or a faster disk."
        )

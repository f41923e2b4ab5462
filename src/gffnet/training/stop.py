"""Stopping when asked to: the iteration is finished, its checkpoint written, and the way on is said.

Schedulers send SIGTERM some time before they take a machine away, and users press Ctrl-C. A second Ctrl-C stops at
once, and what came after the last checkpoint is then done again by `--resume`.
"""

import logging
import signal
import threading
from typing import Any

from lightning import Callback, Trainer

from gffnet.errors import Stopped
from gffnet.training.checkpoints import KeepLast

log = logging.getLogger("gffnet")


class StopOnRequest(Callback):
    """Ends training after the iteration in which any process was asked to. Must be called after `KeepLast`."""

    def __init__(self, last: KeepLast) -> None:
        self.last = last
        self.asked = 0
        """The signal that came, or 0."""
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Listen; what listened before is put back in the end."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Stop, unless a validation follows: that would have to be done before a checkpoint is written."""
        may_stop = trainer.global_step % self.last.validate_every
        if not (may_stop and trainer.strategy.reduce_boolean_decision(bool(self.asked), all=False)):
            return
        self.last.save(trainer, task)
        if self.asked == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(
            f"stopped by SIGTERM after iteration {trainer.global_step}, which is saved. "
            "Go on by the same command with --resume."
        )

    def teardown(self, trainer: Trainer, task: Any, stage: str) -> None:
        """Let those listen that did before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, _: object) -> None:
        self.asked = number
        if number == signal.SIGINT:
            log.info("stopping after this iteration; Ctrl-C again stops at once")
            signal.signal(signal.SIGINT, self._before[number])

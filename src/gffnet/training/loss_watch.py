"""Watching the loss: a run that has broken down is stopped while its last checkpoint is still good."""

import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gffnet.errors import RunFailed

TOO_MUCH = 10.0
"""A run has diverged where its mean loss is above so many times `ln(classes)`, that of a guess."""
OVER = 10
"""Iterations that the mean is taken over."""


class _Seen(NamedTuple):
    iteration: int
    losses: Tensor
    names: Sequence[str]


class LossWatch:
    """Sees the losses of every iteration and raises where they are no numbers, or far above a guess.

    On the CPU every iteration is looked at before its step is taken. On a GPU losses are looked at together, every few
    iterations and before a checkpoint is written, so that the GPU never waits, and no checkpoint holds what a bad loss
    has made.
    """

    def __init__(self, classes: int) -> None:
        self.limit = TOO_MUCH * math.log(max(classes, 2))
        self._pending: list[_Seen] = []
        self._newest: deque[float] = deque(maxlen=OVER)

    def see(self, iteration: int, losses: Tensor, names: Sequence[str]) -> None:
        """The main and the auxiliary loss (2,) of an iteration, counted from 0, and the names of its images."""
        self._pending.append(_Seen(iteration, losses.detach(), names))
        if losses.device.type == "cpu" or len(self._pending) >= OVER:
            self.check()

    def check(self) -> None:
        """Look at all that was seen since the last time.

        Raises:
            RunFailed: a loss is not finite, or the loss has diverged.
        """
        if not self._pending:
            return
        values = torch.stack([seen.losses for seen in self._pending]).tolist()
        pending, self._pending = self._pending, []
        for seen, (main, auxiliary) in zip(pending, values, strict=True):
            if not (math.isfinite(main) and math.isfinite(auxiliary)):
                raise RunFailed(
                    f"the loss of iteration {seen.iteration + 1} is not finite (main {main:g}, auxiliary "
                    f"{auxiliary:g}). Its images: {', '.join(_of_all_processes(seen.names))}. {REMEDY}"
                )
            self._newest.append(main)
            mean = sum(self._newest) / len(self._newest)
            if len(self._newest) == OVER and mean > self.limit:
                raise RunFailed(
                    f"the loss has diverged: over the last {OVER} iterations up to {seen.iteration + 1} it was "
                    f"{mean:.3g} on average, and a guess has {self.limit / TOO_MUCH:.3g}. {REMEDY}"
                )


def _of_all_processes(names: Sequence[str]) -> list[str]:
    """The names that every process has, together; all of them ask at the same time, for all see the same losses."""
    if not torch.distributed.is_initialized():
        return list(names)
    gathered: list[Sequence[str]] = [()] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, tuple(names))
    return [name for part in gathered for name in part]


REMEDY = (
    "The checkpoint before is kept as it is. Train anew with a lower training.learning_rate, with "
    "training.clip_gradients=1, or with precision=float32; `gffnet data check` finds damaged images."
)

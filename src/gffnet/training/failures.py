"""What can break a run off, in words: the cause, what is kept, and the way on."""

import errno
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gffnet.errors import CannotWrite, RunFailed
from gffnet.recipe import TrainingRecipe
from gffnet.training.run_folder import LAST

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def explained(out: Path, training: TrainingRecipe, share: int, workers: int) -> Iterator[None]:
    """Raise what breaks off a run in `out` again, as an error that its reader can act on.

    Args:
        out: the run folder.
        training: of the recipe.
        share: images of a batch that a process takes.
        workers: processes that load data.

    Raises:
        RunFailed: memory or disk is full, or a process that loads data died.
        KeyboardInterrupt: the user has had enough.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit:  # what Lightning makes of an interrupt
        raise KeyboardInterrupt(f"go on with {out} by the same command with --resume") from None
    except CannotWrite as error:
        raise RunFailed(f"{error} {_kept(out)}") from None
    except (RuntimeError, MemoryError, OSError) as error:
        reason = _reason(error, out, training, share, workers)
        if reason is None:
            raise
        raise RunFailed(reason) from None
    finally:  # Lightning leaves its own, and turns interrupts off
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _reason(error: Exception, out: Path, training: TrainingRecipe, share: int, workers: int) -> str | None:
    """What an error means, if it is one of those that can be expected."""
    text = str(error)
    if isinstance(error, OSError):
        return f"cannot write to {out}: {error.strerror}. {_kept(out)}" if error.errno in NO_ROOM else None
    if "DataLoader worker" in text:
        return (
            "a process that loads data died: it was killed, or ran out of memory. Go on by the same command with "
            f"--resume, and with fewer of them: --set training.workers={workers // 2}."
        )
    memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text
    return out_of_memory(training, share) if memory else None


def out_of_memory(training: TrainingRecipe, share: int) -> str:
    """Which setting to lower, and to what, where `share` images or `device_batch` of them do not fit."""
    part = min(training.device_batch or share, share)
    height, width = training.crop
    cause = f"out of memory with {part} image{'s' * (part > 1)} of {height}x{width} at a time."
    if part > 1:
        return (
            f"{cause} Take fewer at a time, and the batch stays what it is: --set training.device_batch={part // 2}. "
            "`gffnet train RECIPE --plan` says how many fit."
        )
    smaller = [max(16, side * 7 // 10 // 16 * 16) for side in (height, width)]
    return f"{cause} Take smaller crops: --set training.crop='[{smaller[0]}, {smaller[1]}]'; half the pixels."


def _kept(out: Path) -> str:
    """What is there to go on from."""
    if not (out / LAST).is_file():
        return "No checkpoint was written yet: make room, and begin anew."
    return f"The checkpoint before, {out / LAST}, is whole: make room, and go on by the same command with --resume."

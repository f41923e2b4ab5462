"""What can break a run off, in words: the cause, what is kept, and the way on."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gffnet.errors import CannotWrite, RunFailed
from gffnet.files import NO_ROOM
from gffnet.training.dry_run import Setup, free_memory, is_out_of_memory, plan_memory
from gffnet.training.run_folder import LAST


@contextmanager
def explained(out: Path, setup: Setup, share: int, workers: int) -> Iterator[None]:
    """Raise what breaks off a run in `out` again, as an error that its reader can act on.

    Args:
        out: the run folder.
        setup: what is trained, and how.
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
        reason = _reason(error, out, setup, share, workers)
        if reason is None:
            raise
        raise RunFailed(reason) from None
    finally:  # Lightning leaves its own, and turns interrupts off
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _reason(error: Exception, out: Path, setup: Setup, share: int, workers: int) -> str | None:
    """What an error means, if it is one of those that can be expected."""
    text = str(error)
    if isinstance(error, OSError):
        return f"cannot write to {out}: {error.strerror}. {_kept(out)}" if error.errno in NO_ROOM else None
    if "DataLoader worker" in text:
        return (
            "a process that loads data died: it was killed, or ran out of memory. Go on by the same command with "
            f"--resume, and with fewer of them: --set training.workers={workers // 2}."
        )
    return out_of_memory(setup, share) if is_out_of_memory(error) else None


def out_of_memory(setup: Setup, share: int) -> str:
    """Which setting to lower, and to what, where `share` images or `device_batch` of them do not fit."""
    training = setup.recipe.training
    part = min(training.device_batch or share, share)
    height, width = training.crop
    cause = f"out of memory with {part} image{'s' * (part > 1)} of {height}x{width} at a time."
    fewer = _that_fit(setup, share, part)
    if fewer:
        return (
            f"{cause} Take fewer at a time, and the batch stays what it is: --set training.device_batch={fewer}. "
            "Go on by the same command with it and --resume."
        )
    smaller = [max(16, side * 7 // 10 // 16 * 16) for side in (height, width)]
    return f"{cause} Take smaller crops: --set training.crop='[{smaller[0]}, {smaller[1]}]', of half the pixels."


def _that_fit(setup: Setup, share: int, part: int) -> int | None:
    """The most images at a time, fewer than `part` and dividing the share, that fit as far as it can be reckoned."""
    fewer = [n for n in range(part - 1, 0, -1) if share % n == 0]
    fit: int | None = share
    with suppress(Exception):  # where memory is out, so may it be for reckoning
        free = free_memory(setup.device)
        fit = share if free is None else plan_memory(setup, share).largest_device_batch(free)
    return next((n for n in fewer if n <= (fit or 1)), None)


def _kept(out: Path) -> str:
    """What is there to go on from."""
    if not (out / LAST).is_file():
        return "No checkpoint was written yet: make room, and begin anew."
    return f"The checkpoint before, {out / LAST}, is whole: make room, and go on by the same command with --resume."

"""The run folder: whether a run may begin in it or go on.

RUN/recipe.yaml     the recipe, every value written out
RUN/run.json        what ran: versions, commit, command, data, hardware, one entry for every start
RUN/history.jsonl   losses, rates, speed, validation scores; also losses.csv, scores.csv, tensorboard/
RUN/checkpoints/    last.ckpt: all that `--resume` needs; iteration_N.ckpt, where the recipe keeps some
RUN/model/          the network after the last iteration (safetensors + config): a MODEL
RUN/best/           the network with the best validation mIoU: a MODEL
RUN/.lock           whose the folder is while it is trained in
"""

import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from gffnet.errors import UserError
from gffnet.files import cannot_write
from gffnet.inference.model_folder import CONFIG
from gffnet.recipe import Recipe, recipe_from_mapping

try:
    import fcntl
except ImportError:  # Windows has no such locks: nobody is kept out there
    fcntl = None  # type: ignore[assignment]

LAST = Path("checkpoints/last.ckpt")
LOCK = ".lock"
"""Is in the folder as long as a process trains in it, and after one that was killed."""

_MAY_CHANGE = {
    "training.workers",
    "training.checkpoint_every",
    "training.keep_every",
    "training.compile",
    "training.device_batch",
}
"""What a run may go on with another value of: it changes when things happen, or how the same is reckoned."""


class Start(NamedTuple):
    """Where a run begins or goes on."""

    iteration: int = 0
    checkpoint: Path | None = None
    """What to go on from."""
    classes: tuple[str, ...] | None = None
    """Of the checkpoint."""
    finished: bool = False
    """The run is done: there is nothing to go on with."""


def find_start(out: Path, recipe: Recipe, resume: bool) -> Start:
    """Where `recipe` starts in the folder `out`: anew, or from the last checkpoint if it is to `resume`.

    Raises:
        UserError: there is a run and it is not to be resumed, it is one of another recipe, or it is damaged.
    """
    last = out / LAST
    if not last.is_file() and not (out / "model").exists():
        return Start()
    if not resume:
        raise UserError(f"--out {out} holds a run already. Go on with it by --resume, or name another folder.")
    changed = [key for key in differences(_stored_recipe(out), recipe.to_mapping()) if key not in _MAY_CHANGE]
    if changed:
        raise UserError(
            f"--out {out} holds a run of another recipe: it differs in {', '.join(changed)}. "
            "Resume with the recipe and --set of that run, or name another folder."
        )
    if (out / "model" / CONFIG).is_file():  # the last file that a run writes
        return Start(recipe.training.iterations, finished=True)
    return _read(last) if last.is_file() else Start()


def check_classes(start: Start, names: Sequence[str], dataset: str) -> None:
    """Refuse to go on with a data set of other classes than the run began with.

    Raises:
        UserError: they are others.
    """
    before = start.classes
    if before is not None and tuple(names) != before:
        raise UserError(
            f"checkpoint {start.checkpoint} is of {len(before)} classes ({', '.join(before[:4])}, ...), but data set "
            f"{dataset!r} now has {len(names)} ({', '.join(names[:4])}, ...). Resume with the data that the run began "
            "with, or train anew in another folder with training.init_from."
        )


@contextmanager
def alone(out: Path, writes: bool = True) -> Iterator[None]:
    """Keep other trainings out of the run folder during the `with` block.

    The lock is the process's own: one that is killed loses it at once, whatever becomes of those that load its data.

    Args:
        out: the run folder, which is made.
        writes: whether this process is the one that writes; the others of a run lock nothing.

    Raises:
        UserError: another process trains in it.
        CannotWrite: there is no such folder, and none can be made.
    """
    if not writes or fcntl is None:
        yield
        return
    path = out / LOCK
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+", buffering=0)  # nothing is left to write when it is closed
    except OSError as error:
        raise cannot_write(path, error) from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise UserError(
                f"--out {out}: another training, process {file.read().decode(errors='replace')}, writes to this "
                "folder. Wait for its end, stop it, or name another folder."
            ) from None
        except OSError:  # a file system without locks
            pass
        _sign(file)
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()


def _sign(lock: io.FileIO) -> None:
    """Say in the lock whose it is, for whoever finds it closed."""
    with suppress(OSError):  # a full disk, of which others will complain
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())


def clear(out: Path) -> None:
    """Remove what a run that was killed has left half written."""
    for part in out.rglob(".*.part"):
        part.unlink(missing_ok=True)


def _stored_recipe(out: Path) -> dict[str, Any]:
    """The recipe of the run in `out`; keys that its version did not know have their defaults."""
    try:
        stored = yaml.safe_load((out / "recipe.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        stored = None
    if not isinstance(stored, dict):
        raise UserError(f"--out {out} holds a run, but its recipe.yaml is gone or damaged. Name another folder.")
    try:
        return recipe_from_mapping(stored, str(out / "recipe.yaml")).to_mapping()
    except UserError:  # of a version that knew other keys: the comparison names them
        return stored


def _read(checkpoint: Path) -> Start:
    """How far a checkpoint is, and what its classes are."""
    try:
        stored = torch.load(checkpoint, weights_only=True, mmap=True)
        return Start(int(stored["global_step"]), checkpoint, tuple(json.loads(stored["config"])["classes"]))
    except Exception as error:  # a damaged file makes its parser raise anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"checkpoint {checkpoint} is damaged ({reason}). Delete it to train from the start.") from None


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys of the values in which two nested mappings differ."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(prefix + key)
    return found

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
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

import gffnet
from gffnet.data.dataset import Dataset, fingerprint
from gffnet.errors import UserError
from gffnet.files import cannot_write
from gffnet.inference.model_io import CONFIG
from gffnet.inference.tiling import most_resident
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


# What a run runs on and with: hardware, versions, the commit of the code. Nothing names the machine or its folders.


_PACKAGES = ("gffnet", "torch", "torchvision", "timm", "lightning", "numpy")
_OTHER_CHECKOUTS = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"}
"""Variables by which git takes another checkout for the one around a folder, as it sets them for its hooks."""


def hardware() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in bytes, GPUs. What the system does not tell is None."""
    return {
        "cpu": _cpu_model(),
        "cores": _cores(),
        "memory": _memory(),
        "gpus": [
            {"name": found.name, "memory": found.total_memory}
            for found in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        ],
    }


def versions() -> dict[str, str | None]:
    """Of Python and the packages that decide what a run computes; CUDA and cuDNN where there is a GPU for them."""
    found = {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}
    found["torch"] = torch.__version__  # names its build, too
    gpu = torch.cuda.is_available()
    cudnn = torch.backends.cudnn.version() if gpu and torch.backends.cudnn.is_available() else None
    return {**found, "cuda": torch.version.cuda if gpu else None, "cudnn": None if cudnn is None else str(cudnn)}


def commit(package: Path = Path(gffnet.__file__).parent) -> dict[str, Any] | None:
    """The git commit of the checkout that the package lies in, and whether the checkout has changes.

    None for an installed package, even one that lies in somebody's checkout, and where git is missing or refuses.
    """
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head = _git(package, "rev-parse", "HEAD")
    changed = _git(package, "status", "--porcelain", "--untracked-files=no")  # of the whole checkout
    added = _git(package, "ls-files", "--others", "--exclude-standard")  # in the package: notes and runs do not count
    if head is None or changed is None or added is None:
        return None
    return {"commit": head, "changes": bool(changed or added)}


def memory_in_use(device: torch.device) -> int | None:
    """Bytes: on an NVIDIA GPU the most that tensors ever took, else what the process takes; None: it cannot be told."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return most_resident()  # the system does not tell what it takes now


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    """What a git command says about the checkout around `folder`; None if it fails."""
    environment = {key: value for key, value in os.environ.items() if key not in _OTHER_CHECKOUTS}
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()


# What tells one data set from another, cheaply: nothing is read but the sizes of the files.


def describe_dataset(name: str, splits: Mapping[str, tuple[str, Dataset]]) -> dict[str, Any]:
    """The data set `name`, as the record of a run holds it.

    Args:
        name: such as `camvid`.
        splits: for each use, such as `train`, the name of the split and its samples.
    """
    found = {
        use: {"split": split, "samples": len(samples), "fingerprint": fingerprint(samples)}
        for use, (split, samples) in splits.items()
    }
    return {"name": name, "splits": found}

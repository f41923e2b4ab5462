"""The run folder: whether a run may start or resume in it, its lock, its record, and what interrupts it.

    RUN/recipe.yaml     the recipe with every value
    RUN/run.json        what ran: versions, commit, command, data, hardware, one entry per session
    RUN/history.jsonl   losses, learning rate, speed, validation scores; also in tensorboard/
    RUN/checkpoints/    last.ckpt, all that `--resume` needs; iteration_N.ckpt, if the recipe keeps some
    RUN/model/          the network after the last iteration (safetensors and config): a MODEL; while a run is
                        extended, that of before
    RUN/best/           the network with the best validation mIoU: a MODEL
    RUN/.lock           exists while a process trains in the folder, and after one that was killed

A run resumes from last.ckpt with the recipe that it started with: see `resume_point` and `check_classes`. Other changes
of its data are recorded, with a warning. Only its iterations may become more: see `extended`.
"""

import json
import logging
import os
import platform
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from lightning import Callback, Trainer

import gffnet
from gffnet.data.dataset import Dataset, class_difference, fingerprint
from gffnet.errors import CannotWrite, Damaged, RunFailed, Stopped, UserError, one_line
from gffnet.files import NO_ROOM, atomic_write, cannot_write, remove_parts
from gffnet.inference.precision import Precision
from gffnet.models.model_io import CONFIG, damaged_checkpoint
from gffnet.parallel import available_cores, restored_signals
from gffnet.recipe import Recipe, StrictLoader, dump_yaml, recipe_from_mapping
from gffnet.training.callbacks import History

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

RECIPE, RECORD, LOCK = "recipe.yaml", "run.json", ".lock"
LAST = Path("checkpoints/last.ckpt")

log = logging.getLogger("gffnet")


# Whether a run may start or resume


_MAY_CHANGE = {
    "training.workers",
    "training.checkpoint_every",
    "training.keep_every",
    "training.compile",
    "training.device_batch",
    "plugins",
}
"""Keys that may differ in a resumed run: they change when or how something is computed, not what; but batch
normalisation sees `training.device_batch` images at a time."""


class ResumePoint(NamedTuple):
    """Where a run starts or resumes."""

    iteration: int = 0
    checkpoint: Path | None = None
    """To resume from; None: the run starts."""
    classes: tuple[str, ...] | None = None
    """Of the checkpoint."""
    finished: bool = False
    """There is nothing left to train."""


def resume_point(out: Path, recipe: Recipe, resume: bool, extend: bool = False) -> ResumePoint:
    """Where `recipe` starts in the folder `out`: at iteration 0, or with `resume` at the last checkpoint.

    Args:
        out: the run folder.
        recipe: of the run.
        resume: whether there may be a run.
        extend: whether `recipe` has more iterations than that run.

    Raises:
        UserError: there is a run and `resume` is false, it has another recipe, or it is to be extended and has no
            checkpoint.
        Damaged: its recipe or its checkpoint cannot be read.
    """
    last = out / LAST
    if not last.is_file() and not (out / "model").exists():
        if extend:
            raise UserError(f"--extend: {out} holds no checkpoint. Train first; --extend trains a run further.")
        return ResumePoint()
    if not resume:
        raise UserError(f"--out {out} already holds a run. Resume it with --resume, or name another folder.")
    allowed = _MAY_CHANGE | ({"training.iterations"} if extend else set())
    stored = stored_recipe(out)
    changed = [key for key in differing_keys(stored, recipe.to_mapping()) if key not in allowed]
    if changed == ["training.iterations"]:
        raise _other_iterations(out, int(stored["training"]["iterations"]), recipe.training.iterations)
    if changed:
        longer = " To train it further, use --extend N." if "training.iterations" in changed else ""
        raise UserError(
            f"--out {out} holds a run of another recipe: it differs in {', '.join(changed)}. "
            f"Resume with the recipe and --set of that run, or name another folder.{longer}"
        )
    finished = _has_model(out)
    if not last.is_file():
        if extend:
            raise UserError(
                f"--extend: {last}, with the state of the optimiser, is gone: the run cannot be trained further. "
                f"{_another_from(out)}"
            )
        return ResumePoint(recipe.training.iterations if finished else 0, finished=finished)
    try:
        stored = torch.load(last, map_location="cpu", weights_only=True, mmap=True)
        start = ResumePoint(int(stored["global_step"]), last, tuple(json.loads(stored["config"])["classes"]))
    except Exception:  # a damaged file makes its parser raise anything
        if finished and not extend:
            return ResumePoint(recipe.training.iterations, finished=True)
        raise damaged_checkpoint(last, _another_from(out) if finished else _without(last)) from None
    return start._replace(finished=finished and start.iteration >= recipe.training.iterations)


def _another_from(out: Path) -> str:
    return f"Start another run from its weights, with training.init_from={out} and training.init=all."


def _without(last: Path) -> str:
    """How to resume a run whose last checkpoint is damaged."""
    found = ((re.fullmatch(r"iteration_(\d+)", path.stem), path) for path in last.parent.glob("*.ckpt"))
    kept = {int(name[1]): path for name, path in found if name}
    if not kept:
        return "Delete it, and the run trains from the start."
    newest = max(kept)
    return f"Copy {kept[newest]} over it to resume from iteration {newest}, or delete it to train from the start."


def _other_iterations(out: Path, before: int, now: int) -> UserError:
    """The error for a run of `before` iterations that is to be resumed with `now`: names the way to more of them."""
    if now < before:
        remedy = "It cannot have fewer: leave training.iterations as it was, or name another folder"
    elif recorded_python(out):  # which no command can resume
        remedy = f"To train it further: gffnet.train(..., out={str(out)!r}, resume=True, extend={now - before})"
    else:
        command = shlex.join(["gffnet", "train", "--resume", str(out), "--extend", str(now - before)])
        remedy = f"To train it further, leave training.iterations as it was: {command}"
    return UserError(f"--out {out} holds a run of {before} iterations, and training.iterations is {now}. {remedy}.")


def _has_model(out: Path) -> bool:
    """Whether the run in `out` has written its model; that of before an unfinished extension does not count."""
    if not (out / "model" / CONFIG).is_file():  # the last file of a model
        return False
    record = _read_record(out / RECORD)
    return not record.get("extensions") or any(s["outcome"] == "finished" for s in record["sessions"][-1:])


def extended(out: Path, recipe: Recipe, resume: bool, extend: int | None) -> Recipe:
    """The recipe of the run in `out` with the iterations to which it was extended, and `extend` more.

    `recipe` may have the iterations of before. All ranks must call this before one of them writes recipe.yaml.

    Raises:
        UserError: `extend` is below 1, or the run is not to be resumed.
    """
    if extend is not None and extend < 1:
        raise UserError(f"--extend {extend}: the number of further iterations must be 1 or more.")
    if extend is not None and not resume:
        raise UserError(f"--extend {extend} trains a run further: it goes with --resume.")
    iterations = recipe.training.iterations
    if extend is not None and is_run(out):
        started = {int(stored_recipe(out)["training"]["iterations"])}
        started |= {past["from"] for past in _read_record(out / RECORD).get("extensions", [])}
        if iterations not in started:
            raise UserError(
                f"--extend {extend}: training.iterations is {iterations}, but the run has {max(started)}. Leave "
                f"training.iterations out: --extend is what changes it."
            )
    if resume and any(iterations == past["from"] for past in _read_record(out / RECORD).get("extensions", [])):
        iterations = int(stored_recipe(out)["training"]["iterations"])
    return replace(recipe, training=replace(recipe.training, iterations=iterations + (extend or 0)))


class RecipeFile(Callback):
    """Write RUN/recipe.yaml as soon as all ranks have read the one of before, which may have fewer iterations."""

    def __init__(self, out: Path, recipe: Recipe, extend: int | None) -> None:
        """Initialise with the run folder, its recipe, and the iterations by which it is extended."""
        self.out, self.recipe, self.extend = out, recipe, extend

    def on_fit_start(self, trainer: Trainer, task: Any) -> None:
        """Write the recipe."""
        if trainer.is_global_zero:
            atomic_write(self.out / RECIPE, dump_yaml(self.recipe.to_mapping()))

    def on_train_start(self, trainer: Trainer, task: Any) -> None:
        """Say how the schedule of an extended run continues."""
        if self.extend is None:
            return
        groups = {group.get("name", "all"): group["lr"] for group in trainer.optimizers[0].param_groups}
        rates = ", ".join(f"{rate:.3g} ({name})" for name, rate in groups.items() if "without decay" not in name)
        of = self.recipe.training.iterations
        log.info(
            "extended from %d to %d iterations. The schedule is that of %d from iteration %d on, with learning rate %s",
            *(of - self.extend, of, of, trainer.global_step, rates),
        )


def is_run(folder: Path) -> bool:
    """Whether a folder is a run folder, even of a run that was interrupted before its first checkpoint."""
    return (folder / RECIPE).is_file() and any((folder / name).is_file() for name in (RECORD, LAST))


def recorded_arguments(out: Path) -> dict[str, Any]:
    """The name of the recipe of the run in `out`, and the other arguments of `train` with which it resumes.

    `name`, `root`, `cache`, `devices`, `overfit`; those that were not given are left out, and in a run of 0.1.0 all but
    the name.
    """
    record = _read_record(out / RECORD)
    name = record.get("recipe") or _recipe_of_checkpoint(out / LAST)
    return {**({} if name is None else {"name": name}), **record.get("arguments", {})}


def _recipe_of_checkpoint(last: Path) -> str | None:
    """The name of the recipe in a checkpoint; None if it cannot be read."""
    with suppress(Exception):  # a damaged file makes its parser raise anything
        return str(json.loads(torch.load(last, map_location="cpu", weights_only=True, mmap=True)["config"])["recipe"])
    return None


def check_classes(start: ResumePoint, names: Sequence[str], dataset: str) -> None:
    """Raise `UserError` if the data set now has other classes than the checkpoint."""
    before = start.classes
    if before is not None and tuple(names) != before:
        raise UserError(
            f"checkpoint {start.checkpoint} is of other classes than data set {dataset!r} now has: "
            f"{class_difference(before, names, 'the checkpoint', 'the data set')}. Resume with the data that the run "
            "started with, or train in another folder with training.init_from."
        )


_SECTIONS = {"model", "data", "training", "evaluation", "seed"}
"""What the recipe of every run has; the last is near the end of the file."""


def stored_recipe(out: Path) -> dict[str, Any]:
    """The recipe of the run in `out`; keys that its version did not know have their defaults.

    Raises:
        Damaged: it is missing or damaged.
    """
    try:
        stored = yaml.load((out / RECIPE).read_text(encoding="utf-8"), StrictLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        stored = None
    if not isinstance(stored, dict) or not stored.keys() >= _SECTIONS:
        raise Damaged(
            f"{out / RECIPE} is missing or damaged: what the run was trained with is not known. Copy it again, or "
            f"remove {out} to train again."
        )
    try:
        return recipe_from_mapping(stored, str(out / RECIPE), record=True).to_mapping()
    except UserError:  # of a version with other keys, which the comparison names
        return stored


def differing_keys(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys of the values in which two nested mappings differ."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differing_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(prefix + key)
    return found


# The lock


@contextmanager
def lock(out: Path) -> Iterator[None]:
    """Lock the run folder against other trainings, and remove what a killed one was writing.

    The lock is the process's own: it ends with the process, even where its data loading processes live on.

    Raises:
        UserError: another process trains in the folder.
        CannotWrite: the folder cannot be made.
    """
    path = out / LOCK
    with _locked(path) as file:
        with suppress(OSError):  # a full disk, which raises elsewhere
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        for folder in (LAST.parent, "best", "model"):  # beside them, an export may be writing, too
            remove_parts(out / folder)
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()


def _locked(path: Path) -> FileIO:
    """Open and lock the lock file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = FileIO(path, "ab+")
    except OSError as error:
        raise cannot_write(path, error) from None
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        with file:
            file.seek(0)
            raise UserError(
                f"--out {path.parent}: another training, process {file.read().decode(errors='replace')}, writes to "
                "this folder. Wait for its end, stop it, or name another folder."
            ) from None
    except OSError:  # a file system without locks
        return file
    try:
        removed = not os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        removed = True
    if removed:  # by a training that ended since the file was opened: the lock would keep nobody out
        file.close()
        return _locked(path)
    return file


def is_locked(out: Path) -> bool:
    """Whether another process trains in the folder."""
    if fcntl is None:
        return False
    try:
        with (out / LOCK).open("rb+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until the file is closed
    except (BlockingIOError, PermissionError):
        return True
    except OSError:  # no lock, or a file system without locks
        return False
    return False


# The record: run.json
#
#     {
#       "gffnet": version that the run started with,  "recipe": its name,  "parameters": of the network,
#       "data": {"name": ..., "splits": {"train": {"split": ..., "samples": ..., "fingerprint": ...}, "val": ...}},
#       "python": {"loss": "mine.my_loss", ...}: what was given to `gffnet.train` in place of the recipe's, if anything
#       "arguments": {"root": ..., "cache": ..., "devices": ..., "overfit": ...}: those of `train` that were given
#       "extensions": [{"from": iterations before, "to": iterations after, "at": iteration}, ...], if there are any
#       "sessions": [one entry for the start and for every resume]
#     }
#
# A session that was killed has `"ended": null`.


@dataclass(frozen=True)
class RunInfo:
    """What the record of a run contains beside its environment."""

    recipe: str
    """Its name."""
    dataset: str
    """Its name."""
    splits: Mapping[str, tuple[str, Dataset]]
    """For each use, `train` and `val`, the name of the split and its samples."""
    parameters: int
    precision: Precision
    processes: int = 1
    devices: int = 1
    """Per node."""
    nodes: int = 1
    python: Mapping[str, str] = field(default_factory=dict)
    """What was given to `train` in place of a part of the recipe, by the name of the argument."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of `train`, with which the run resumes: `root`, `cache`, `devices`, `overfit`; those that were given."""
    extension: tuple[int, int] | None = None
    """The iterations before and after, if this session extends the run."""


@contextmanager
def record_session(out: Path, info: RunInfo, history: History, iteration: int = 0) -> Iterator[None]:
    """Record the `with` block as a session of the run, and close the loggers of its history.

    Args:
        out: the run folder.
        info: of the run.
        history: of the run; it knows the iteration, the speed and the memory.
        iteration: that the session starts from.

    Raises:
        CannotWrite: the disk is full; if the session has failed, its own error is raised instead.
    """
    for change in begin_session(out, info, iteration):
        log.warning("%s", change)
    outcome = "finished"
    try:
        yield
    except (KeyboardInterrupt, SystemExit, Stopped):
        outcome = "interrupted"
        raise
    except BaseException as error:
        kind = "" if isinstance(error, UserError | RunFailed) or not str(error) else f"{type(error).__name__}: "
        outcome = f"failed: {kind}{one_line(error)[:1000]}"
        raise
    finally:
        history.close(failed=outcome != "finished")
        with suppress(CannotWrite) if outcome != "finished" else nullcontext():
            record = _read_record(out / RECORD)
            for session in record.get("sessions", [])[-1:]:  # none: deleted meanwhile
                session |= {
                    "ended": _now(),
                    "outcome": outcome,
                    "to_iteration": max(iteration, history.iteration),
                    "images_per_second": history.images_per_second,
                    "memory": history.memory,
                }
                _write_record(out / RECORD, record)


def recorded_python(out: Path) -> dict[str, str]:
    """What the run in `out` was given in Python in place of parts of its recipe, by argument of `train`."""
    return dict(_read_record(out / RECORD).get("python", {}))


def recorded_fingerprints(out: Path) -> dict[str, str]:
    """The fingerprint of each split that the run in `out` last trained on or validated on, by the split's name."""
    record = _read_record(out / RECORD)
    sessions = record.get("sessions") or [{}]
    data = sessions[-1].get("data") or record.get("data", {})  # that of a session, where it had changed
    return {split["split"]: split["fingerprint"] for split in data.get("splits", {}).values()}


def precision_of_run(out: Path, device: torch.device) -> str | None:
    """The dtype in which the run in `out` has last trained on this kind of device, by its name; None: it has not."""
    sessions = _read_record(out / RECORD).get("sessions", [])
    on_gpu = device.type == "cuda"
    return next((s["precision"]["name"] for s in reversed(sessions) if bool(s["hardware"]["gpus"]) == on_gpu), None)


def begin_session(out: Path, info: RunInfo, iteration: int = 0) -> list[str]:
    """Add a session to the record of the run in `out`.

    Returns:
        A sentence for every split that has changed since the run started.

    Raises:
        CannotWrite: the disk is full.
    """
    stored, program = _read_record(out / RECORD), Path(sys.argv[0])
    started = ["python", "-m", program.parent.name] if program.name == "__main__.py" else [program.name]
    splits = {
        use: {"split": split, "samples": len(samples), "fingerprint": fingerprint(samples)}
        for use, (split, samples) in info.splits.items()
    }
    data = {"name": info.dataset, "splits": splits}
    record: dict[str, Any] = {
        "gffnet": gffnet.__version__,
        "recipe": info.recipe,
        "data": data,
        "parameters": info.parameters,
        **({"python": dict(info.python)} if info.python else {}),
    }
    if iteration:  # a resumed run keeps the facts of its start
        record |= {key: stored[key] for key in record.keys() & stored.keys()}
    before = stored if iteration else {}
    record["arguments"] = {**before.get("arguments", {}), **info.arguments}
    extensions = before.get("extensions", [])
    if info.extension is not None:
        extensions = [*extensions, {"from": info.extension[0], "to": info.extension[1], "at": iteration}]
    if extensions:
        record["extensions"] = extensions
    changes = []
    for use, now in splits.items():
        before = record["data"]["splits"].get(use)
        if before is not None and before["fingerprint"] != now["fingerprint"]:
            changes.append(
                f"data set {info.dataset!r}, split {now['split']!r}, has changed since the run started: it has "
                f"{now['samples']} samples and had {before['samples']}; names, sizes or labels differ. The run "
                "continues with the present data."
            )
    session = {
        "started": _now(),
        "ended": None,
        "outcome": None,
        "from_iteration": iteration,
        "to_iteration": None,
        "command": shlex.join([*started, *sys.argv[1:]]),
        "versions": versions(),
        "git": commit(),
        "hardware": hardware(),
        "processes": info.processes,
        "devices": info.devices,
        "nodes": info.nodes,
        "precision": {"name": info.precision.name, "reason": info.precision.reason},
        "data": data if changes else None,
        "images_per_second": None,
        "memory": None,
    }
    _write_record(out / RECORD, {**record, "sessions": [*stored.get("sessions", []), session]})
    return changes


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read_record(path: Path) -> dict[str, Any]:
    """The record; empty if there is none, or, with a warning, if it is damaged."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        record["sessions"], record["data"]["splits"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError):
        log.warning("%s is damaged: it is left out, and starts again where the run resumes", path)
        return {}
    return record


def _write_record(path: Path, record: dict[str, Any]) -> None:
    atomic_write(path, json.dumps(record, indent=2) + "\n", durable=True)


# The environment; it identifies the machine no more than by its hardware


_OTHER_CHECKOUTS = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"}
"""Variables that point git at another checkout, as it sets them for its hooks."""


def hardware() -> dict[str, Any]:
    """Processor, cores available to this process, memory in bytes, GPUs; None for what the system does not report."""
    cpu, memory = "", None
    with suppress(OSError):
        cpu = "".join(re.findall(r"^model name\s*: *(.*)", Path("/proc/cpuinfo").read_text(errors="replace"), re.M)[:1])
    with suppress(AttributeError, ValueError, OSError):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu.strip() or platform.processor() or platform.machine(),
        "cores": available_cores(),
        "memory": memory,
        "gpus": [
            {"name": found.name, "memory": found.total_memory}
            for found in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        ],
    }


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that determine results, and of CUDA and cuDNN where there is a GPU."""
    packages = {name: version(name) for name in ("gffnet", "torchvision", "timm", "lightning", "numpy")}
    gpu = torch.cuda.is_available()
    cudnn = torch.backends.cudnn.version() if gpu else None
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,  # names its build, too
        **packages,
        "cuda": torch.version.cuda if gpu else None,
        "cudnn": None if cudnn is None else str(cudnn),
    }


def commit(package: Path = Path(gffnet.__file__).parent) -> dict[str, Any] | None:
    """The git commit of the checkout that contains the package, and whether it has uncommitted changes.

    None for an installed package, even within another checkout, and where git is missing or fails.
    """
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head = _git(package, "rev-parse", "HEAD")
    changed = _git(package, "status", "--porcelain", "--untracked-files=no")  # of the whole checkout
    added = _git(package, "ls-files", "--others", "--exclude-standard")  # in the package: notes and runs do not count
    if head is None or changed is None or added is None:
        return None
    return {"commit": head, "changes": bool(changed or added)}


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of a git command in `folder`; None if it fails."""
    environment = {key: value for key, value in os.environ.items() if key not in _OTHER_CHECKOUTS}
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()


# What interrupts a run


_DEAD_WORKER = re.compile(r"DataLoader worker \(pid")
"""In torch's error for a loading process that died. That for an error which was raised in one has no such number."""


def _is_dead_worker(error: BaseException) -> bool:
    """Whether an error means that a loading process died.

    Where it dies after it has announced a batch, torch asks it for the batch's memory in vain, and its error is that of
    the connection.
    """
    if _DEAD_WORKER.search(str(error)):
        return True
    if not isinstance(error, OSError | EOFError):
        return False
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__") == "multiprocessing.resource_sharer" for frame in frames)


@contextmanager
def explain_failures(out: Path, recipe: Recipe, images: int, workers: int) -> Iterator[None]:
    """Raise what interrupts the run in `out` as an error that names the cause, what is saved, and the remedy.

    Args:
        out: the run folder.
        recipe: of the run.
        images: of a batch on one device.
        workers: processes that load data.

    Raises:
        RunFailed: memory or disk is full, or a process that loads data died.
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    try:
        with restored_signals():  # Lightning leaves its own handlers, which ignore interrupts
            yield
    except SystemExit:  # Lightning's answer to an interrupt
        raise KeyboardInterrupt(f"resume it with {how_to_resume(out)}") from None
    except Stopped as stopped:
        raise Stopped(f"{stopped} Resume it with {how_to_resume(out)}.") from None
    except (CannotWrite, RuntimeError, MemoryError, OSError, EOFError) as error:
        no_room = isinstance(error, OSError) and error.errno in NO_ROOM
        if no_room or isinstance(error, CannotWrite):
            reason = str(cannot_write(out, error) if isinstance(error, OSError) else error)
            if (out / LAST).is_file():
                reason += (
                    f" The previous checkpoint, {out / LAST}, is complete: then resume it with {how_to_resume(out)}."
                )
            else:
                reason += " No checkpoint was written yet: then start again."
        elif _is_dead_worker(error):
            reason = (
                "a process that loads data died: it was killed, or ran out of memory. Resume with fewer of them: "
                f"{how_to_resume(out, f'training.workers={workers // 2}')}."
            )
        elif is_out_of_memory(error) and _in_validation(error):
            reason = (
                "out of memory in validation, which takes "
                + ("windows of {}x{}".format(*recipe.evaluation.crop) if recipe.evaluation.crop else "whole images")
                + ". Start the run again with smaller windows: --set evaluation.crop='[256, 256]'."
            )
        elif is_out_of_memory(error):
            reason = out_of_memory_advice(recipe, images, partial(how_to_resume, out))
        else:
            raise
        raise RunFailed(reason) from None


def _in_validation(error: BaseException) -> bool:
    return any(frame.f_code.co_name == "validation_step" for frame, _ in traceback.walk_tb(error.__traceback__))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that there is not enough memory; torch has no type for it on a CPU.

    oneDNN fails to create a primitive, or to execute it, for want of memory: what it does not support has failed
    before, with the descriptor of the primitive.
    """
    on_cpu = re.search("can't allocate memory|could not (create|execute) a primitive(?! descriptor)", str(error))
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or on_cpu is not None


def how_to_resume(out: Path, change: str | None = None) -> str:
    """The command that resumes the run in `out` with a change of its recipe, or the call if it has parts in Python."""
    if python := recorded_python(out):
        again = "".join(f"{name}=..., " for name in python)
        overrides = "" if change is None else f"overrides=[{change!r}], "
        return f"gffnet.train(..., {again}{overrides}out={str(out)!r}, resume=True)"
    return f"gffnet train --resume {out}{'' if change is None else f' --set {change}'}"


def out_of_memory_advice(recipe: Recipe, images: int, again: Callable[[str], str] = "--set {}".format) -> str:
    """Advise half the images at a time, or smaller crops if it was one.

    `again` makes what is to be run of a change of the recipe.
    """
    training = recipe.training
    number = min(training.device_batch or images, images)
    height, width = training.crop
    cause = f"out of memory with {number} image{'s' * (number > 1)} of {height}x{width} at a time."
    if number > 1:
        return (
            f"{cause} Process fewer at a time, which leaves the batch as it is: "
            f"{again(f'training.device_batch={number // 2}')}."
        )
    smaller = [max(16, side * 7 // 10 // 16 * 16) for side in (height, width)]
    return f"{cause} Use smaller crops: --set training.crop='[{smaller[0]}, {smaller[1]}]', of half the pixels."

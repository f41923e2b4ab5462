"""Scores of a model on a split of a data set: every image is predicted and scored once, by one process or by many."""

import dataclasses
import hashlib
import io
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import UInt8
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

import gffnet
from gffnet.console import screen, track
from gffnet.data.dataset import Dataset, Sample
from gffnet.errors import CannotWrite, RunFailed, Stopped, UserError
from gffnet.evaluation.results import ImageScore, Result, score_image
from gffnet.files import atomic_write
from gffnet.inference.predictor import Predictor
from gffnet.metrics.confusion import Absent
from gffnet.metrics.scoring import Scoring
from gffnet.parallel import ahead, behind
from gffnet.recipe import EvaluationRecipe

# What scores were measured with, for the record beside them: a score without it cannot be compared with another.


ABSENT: Mapping[str, tuple[Absent, str]] = {
    "ade20k": (
        "zero",
        "demoEvaluation.m, its official code, averages over all 150 classes",
    ),
    "cityscapes": ("left out", "cityscapesscripts, its official code, averages over classes that have a score"),
}
"""What the official code of a data set makes of a class that is neither labelled nor predicted anywhere, and how.

Where there is no official code it is left out.
"""


def absent_rule(dataset: str) -> tuple[Absent, str]:
    """What becomes of absent classes on a data set, and why."""
    return ABSENT.get(dataset, ("left out", "our choice: it has no official code for this"))


def protocol_record(predictor: Predictor, protocol: EvaluationRecipe, dataset: str, split: str) -> dict[str, Any]:
    """The protocol as plain values: what was scored, how an image was predicted, by what, and how it was counted."""
    absent, source = absent_rule(dataset)
    return {
        **plain(protocol),
        "dataset": dataset,
        "split": split,
        "recipe": predictor.config.recipe,
        "precision": predictor.precision.name,
        "device": str(predictor.device),
        "labels_at": "native size",
        "absent": absent,
        "absent_source": source,
        "gffnet": gffnet.__version__,
        "weights_sha256": predictor.weights,
    }


def plain(protocol: EvaluationRecipe) -> dict[str, Any]:
    """Window, overlap, scales and mirroring as JSON holds them."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(protocol).items()}


# Processes that share the images of a data set, as `torchrun` starts them.
#
# Nothing but a few bytes passes between them, through the store that `torchrun` keeps for its processes: what rank 0
# decided goes out, what everyone counted comes in. Waiting looks for failures of others all the while, so that one
# process that fails does not leave the rest waiting.


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


# What has been scored so far: counts that add up, whichever process counted them, and a line for every image.


_COUNTS = "counts/"
"""Before the names of the counts in a packed part."""


class Scored:
    """The scores of some of the images of a data set."""

    def __init__(self, classes: int, details: bool = True) -> None:
        """`details`: boundaries, distances and objects as well as the confusion matrix."""
        self.classes = classes
        self.counts = Scoring(classes, details=details)
        self.images: dict[int, ImageScore] = {}
        """By their place in the data set."""

    def update(self, index: int, labels: UInt8[np.ndarray, "h w"], predicted: UInt8[np.ndarray, "h w"]) -> None:
        """Add image `index`."""
        self.counts.update(labels, predicted)
        self.images[index] = score_image(labels, predicted, self.classes)

    def add(self, packed: bytes) -> None:
        """Add images that were scored elsewhere.

        Raises:
            ValueError: some of them are here already, or these are other counts.
        """
        with np.load(io.BytesIO(packed), allow_pickle=False) as part:
            counts = {name.removeprefix(_COUNTS): part[name] for name in part.files if name.startswith(_COUNTS)}
            rows = zip(*(part[name].tolist() for name in ("index", *ImageScore._fields)), strict=True)
            images = {index: ImageScore(*scores) for index, *scores in rows}
        if self.images.keys() & images.keys():
            raise ValueError("images were scored twice")
        if counts.keys() != self.counts.state().keys():
            raise ValueError("these are other counts")
        self.counts.add(counts)
        self.images |= images

    def pack(self) -> bytes:
        """All of it as bytes, which `add` takes."""
        index = np.array(list(self.images), np.int64)
        lines = {name: np.array([getattr(s, name) for s in self.images.values()]) for name in ImageScore._fields}
        file = io.BytesIO()
        counts = {f"{_COUNTS}{name}": count for name, count in self.counts.state().items()}
        np.savez(file, allow_pickle=False, index=index, **lines, **counts)
        return file.getvalue()


# What an evaluation that was broken off leaves behind, for `--resume`.
#
# Every process keeps what it scored in a file of its own, under a name that nobody else takes, and writes it whole. All
# of them hold different images, so that any number of processes can go on where any other number stopped.


SCORED_FOLDER = "scored"
_TOLD = {"weights_sha256": "another model", "names": "other images"}
"""What to say of parts of the fingerprint whose values tell nobody anything."""


class Kept:
    """The folder of what is scored.

    Args:
        folder: where the files are.
        fingerprint: all that the counts depend on; what has another is not gone on from.
        dataset: whose images are scored.
    """

    def __init__(self, folder: Path, evaluation_fingerprint: Mapping[str, Any], dataset: Dataset) -> None:
        self.folder = folder
        self.dataset = dataset
        self.fingerprint = json.loads(json.dumps(evaluation_fingerprint))
        self.own = folder / f"{secrets.token_hex(8)}.npz"

    def save(self, scored: Scored) -> None:
        """Keep what this process scored, in place of what it kept before.

        Raises:
            CannotWrite: the file cannot be written.
        """
        file = io.BytesIO()
        about = {"fingerprint": self.fingerprint, "sizes": [[i, self._sizes(i)] for i in scored.images]}
        parts = {"about": json.dumps(about).encode(), "scored": scored.pack()}
        np.savez(file, allow_pickle=False, **{name: np.frombuffer(part, np.uint8) for name, part in parts.items()})
        atomic_write(self.own, file.getvalue(), durable=True)

    def load(self, into: Scored) -> None:
        """Add all that is kept. A damaged file is left out, so that its images are scored again.

        Raises:
            UserError: a file is of another model, protocol or data set.
        """
        for path in _files(self.folder):
            try:
                with np.load(path, allow_pickle=False) as stored:
                    about, packed = json.loads(stored["about"].tobytes()), stored["scored"].tobytes()
            except (OSError, ValueError, KeyError, EOFError, BadZipFile):
                screen.print(f"left out: {path} is damaged; its images are scored again", style="yellow")
                path.unlink(missing_ok=True)
                continue
            self._compare(about["fingerprint"], about["sizes"])
            try:
                into.add(packed)
            except ValueError as error:
                screen.print(f"left out: {path}: {error}", style="yellow")
                path.unlink(missing_ok=True)

    def _compare(self, other: Mapping[str, Any], sizes: list[Any]) -> None:
        keys = [key for key in self.fingerprint | dict(other) if self.fingerprint.get(key) != other.get(key)]
        told = [_TOLD.get(key) or f"{key} {other.get(key)} then, {self.fingerprint.get(key)} now" for key in keys]
        if not told:  # an image that could not be read may have been mended since, but none that was scored
            told = [f"the files of {self.dataset.name(i)} have changed" for i, then in sizes if self._sizes(i) != then][
                :1
            ]
        if not told:
            return
        raise UserError(
            f"--resume: what is scored in {self.folder} does not fit: {'; '.join(told)}. Give what was given then, "
            "leave out --resume to start anew, or choose another --out."
        )

    def _sizes(self, index: int) -> list[int]:
        """Bytes of image and label map."""
        return [_size(path) for path in self.dataset.files[index]]


def clear_kept(folder: Path) -> None:
    """Remove what is kept in a folder, and the folder if nothing else is in it."""
    for path in [*_files(folder), *folder.glob(".*.npz.*.part")]:
        path.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def evaluation_fingerprint(protocol: Mapping[str, Any], dataset: Dataset, details: bool) -> dict[str, Any]:
    """All that the counts of a data set depend on: protocol, model, images; the files may lie elsewhere."""
    told = {key: value for key, value in protocol.items() if key not in {"absent", "absent_source"}}
    told["device"] = str(told["device"]).split(":")[0]  # which of several equal ones does not matter
    names = "\n".join(dataset.name(i) for i in range(len(dataset)))
    return {**told, "details": details, "names": hashlib.sha256(names.encode()).hexdigest()}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.npz") if re.fullmatch("[0-9a-f]{16}", path.stem))


def _size(path: Path) -> int:
    """Bytes; -1 where there is no such file, as where a cache stands in for it."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


log = logging.getLogger("gffnet")

SAVE_EVERY = 30.0
"""Seconds between two writings of what is scored so far."""


@dataclass(frozen=True, eq=False)
class Task:
    """What to score, and how."""

    predictor: Predictor
    dataset: Dataset
    name: str
    """Of the data set: a model need not be scored on what it was trained on."""
    split: str
    protocol: EvaluationRecipe
    details: bool = True
    """Boundaries, distances and objects as well as the confusion matrix."""

    def record(self) -> dict[str, Any]:
        """The protocol, for the record."""
        return protocol_record(self.predictor, self.protocol, self.name, self.split)


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    name: str,
    split: str,
    protocol: EvaluationRecipe,
    details: bool = True,
) -> dict[str, Any]:
    """Predict every image of `dataset` by `protocol` and score the lot; plain values, fractions of 1.

    `name` and `split` say what `dataset` is, for the record; so do the other arguments as in `Task`. Keys: those of
    `Scoring.report`, such as `miou`, `pixel_accuracy` and `per_class` (IoU by class name, `None` where a class is
    absent), and `images`, `images_per_second`, `protocol`.

    Raises:
        UserError: the model was trained for other classes than the data set has.
    """
    result = evaluate_share(Task(predictor, dataset, name, split, protocol, details))
    assert result is not None
    return result.scores


def evaluate_share(
    task: Task, group: Group | None = None, out: Path | None = None, resume: bool = False
) -> Result | None:
    """Score this process's share of a data set, and put all shares together in the process of rank 0.

    Args:
        task: what to score.
        group: the processes that share it; None: this one alone.
        out: the folder to keep what is scored in, so that it is not lost when this is broken off.
        resume: go on with what is kept there, rather than remove it.

    Returns:
        The scores in rank 0, None in other processes.

    Raises:
        UserError: the model was trained for other classes than the data set has, or what is kept is of another task.
        RunFailed: another process failed.
        Stopped, KeyboardInterrupt: asked to stop; what is scored is kept in `out`.
    """
    group = group or Group()
    names = same_classes(task.predictor, task.dataset.classes.names, task.name)
    told = evaluation_fingerprint(task.record(), task.dataset, task.details)
    kept = Kept(out / SCORED_FOLDER, told, task.dataset) if out is not None else None
    scored = Scored(len(names), task.details)
    done = _kept_before(kept, scored, resume) if group.rank == 0 else []
    done = json.loads(group.announce("done", json.dumps(done).encode()))
    start = time.perf_counter()
    left = [i for i in range(len(task.dataset)) if i not in set(done)]
    own = _score(task, group.mine(left), group, kept)
    for part in group.collect("scored", own.pack()):
        scored.add(part)
    if group.rank:
        return None
    seconds = time.perf_counter() - start
    scores = {
        **scored.counts.report(names, absent_rule(task.name)[0]),
        "images": len(scored.images),
        "images_per_second": len(left) / seconds,
        "protocol": task.record(),
    }
    images = [(task.dataset.name(i), scored.images[i]) for i in sorted(scored.images)]
    return Result(scores, images, scored.counts.state()["confusion"])


def forget_kept(out: Path) -> None:
    """Remove what was kept in `out` for going on: the scores are written."""
    clear_kept(out / SCORED_FOLDER)


def same_classes(predictor: Any, there: Sequence[str], name: str) -> tuple[str, ...]:
    """The classes of the model, which must be those that the data set `name` has.

    Raises:
        UserError: they are others.
    """
    config = predictor.config
    if tuple(there) != tuple(config.classes):
        raise UserError(
            f"the model knows {len(config.classes)} classes ({', '.join(config.classes[:4])}, ...), but {name} "
            f"has {len(there)} ({', '.join(there[:4])}, ...). "
            f"This model was trained on {config.dataset}: evaluate it there."
        )
    return tuple(config.classes)


def _kept_before(kept: Kept | None, scored: Scored, resume: bool) -> list[int]:
    """The images that need not be scored again; their scores are added to `scored`."""
    if kept is None:
        return []
    if not resume:
        clear_kept(kept.folder)
    kept.load(scored)
    if scored.images:
        screen.print(f"going on: {len(scored.images)} images are scored")
    return list(scored.images)


def _score(task: Task, indices: Sequence[int], group: Group, kept: Kept | None) -> Scored:
    """Score images one after the other, in the order of `indices`."""
    scored = Scored(len(task.predictor.config.classes), task.details)
    if kept is not None:
        kept.save(scored)  # where it cannot be written, nobody wants to wait to be told
    if group.rank == 0 and indices:
        log.info(task.predictor.precision.told(task.predictor.device))
    saved = time.monotonic()

    def score(index: int, sample: Sample, predicted: Any) -> None:
        nonlocal saved
        scored.update(index, sample.labels.numpy(), predicted)
        if kept is not None and time.monotonic() - saved >= SAVE_EVERY:
            kept.save(scored)
            saved = time.monotonic()

    shown = track(indices, f"evaluating {task.split}") if group.rank == 0 else indices
    try:
        with behind(threads=1) as later, closing(ahead(task.dataset.__getitem__, indices, threads=1)) as samples:
            for index, sample in zip(shown, samples, strict=True):
                group.check()
                image = sample.image.permute(1, 2, 0).numpy()
                later(score, index, sample, task.predictor.predict(image, task.protocol))
    except BaseException as error:
        if kept is None:
            raise
        with suppress(CannotWrite):
            kept.save(scored)
        remedy = f"{len(scored.images)} of {len(indices)} images are scored and kept; go on with --resume."
        if isinstance(error, KeyboardInterrupt | Stopped):
            raise type(error)(f"{error} {remedy}".strip()) from None
        raise
    if kept is not None:
        kept.save(scored)
    return scored

"""Scores of a model on a split of a data set: every image is predicted and scored once, by one process or by many."""

import json
import logging
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gffnet.console import screen, track
from gffnet.data.base import Dataset, Sample
from gffnet.errors import CannotWrite, Stopped, UserError
from gffnet.evaluation.kept import FOLDER, Kept, clear, fingerprint
from gffnet.evaluation.protocol import absent_rule, protocol_record
from gffnet.evaluation.result import Result
from gffnet.evaluation.scored import Scored
from gffnet.evaluation.shares import Group
from gffnet.inference.overlap import ahead, behind
from gffnet.inference.predictor import Predictor
from gffnet.recipe import EvaluationRecipe

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
    told = fingerprint(task.record(), task.dataset, task.details)
    kept = Kept(out / FOLDER, told, task.dataset) if out is not None else None
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
    clear(out / FOLDER)


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
        clear(kept.folder)
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

"""Scores of a data set with gates closed, alone and in pairs: what each gate is worth, and for what.

Every image is predicted once with the gates as learned and once a closing, by any protocol; the backbone runs once
(`windows`). With the gates as learned, the scores are those of an evaluation, number for number.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from gffnet.analysis.ablation.counts import ClosingScored
from gffnet.analysis.ablation.windows import predict_edited
from gffnet.analysis.gate_edits import GateEdit
from gffnet.analysis.gated_image import gate_count
from gffnet.console import screen, track
from gffnet.data.base import Sample
from gffnet.errors import CannotWrite
from gffnet.evaluation.evaluate import SAVE_EVERY, Task, same_classes
from gffnet.evaluation.kept import Kept, clear, fingerprint
from gffnet.evaluation.shares import Group
from gffnet.inference.overlap import ahead, behind

Levels = tuple[int, ...]
"""The levels whose gates are closed, 1 the finest; none: gates as learned."""

Counts = dict[Levels, ClosingScored]

FOLDER = "counted"
"""Where counts are kept for going on, below the folder of the results."""


@dataclass(frozen=True, eq=False)
class Ablation:
    """What to score, and with which gates closed."""

    task: Task
    closings: Sequence[Levels]
    """With `()`, gates as learned."""
    value: float = 0.0
    """That the gates of a closing are held at."""
    images: Sequence[int] = ()
    """Places in the data set."""

    def edits(self, levels: Levels) -> dict[int, GateEdit]:
        """What becomes of the gates in a closing."""
        return {level: GateEdit(value=self.value) for level in levels}


def plan_ablation(task: Task, pairs: bool = True, value: float = 0.0, limit: int | None = None) -> Ablation:
    """Every gate closed alone and, with `pairs`, with every other; on `limit` images, evenly spread over the data set.

    Raises:
        UserError: the model has no gates, or was trained for other classes than the data set has.
    """
    levels = range(1, gate_count(task.predictor) + 1)
    same_classes(task.predictor, task.dataset.classes.names, task.name)
    closings: list[Levels] = [(), *((level,) for level in levels)]
    if pairs and len(levels) > 2:
        closings += combinations(levels, 2)
    count = len(task.dataset)
    chosen = min(count, limit or count)
    return Ablation(task, closings, value, [i * count // chosen for i in range(chosen)])


def count_ablation(
    ablation: Ablation, group: Group | None = None, out: Path | None = None, resume: bool = False
) -> Counts | None:
    """Score this process's share of the images with every closing, and put all shares together in rank 0.

    Args:
        ablation: what to score.
        group: the processes that share it; None: this one alone.
        out: the folder to keep what is scored in, so that it is not lost when this is broken off.
        resume: go on with what is kept there, rather than remove it.

    Returns:
        The counts of all closings in rank 0, None in other processes.

    Raises:
        UserError: what is kept is of another ablation.
        RunFailed: another process failed.
        KeyboardInterrupt: asked to stop; what is scored is kept in `out`.
    """
    group = group or Group()
    classes = len(ablation.task.predictor.config.classes)
    total = {levels: ClosingScored(classes) for levels in ablation.closings}
    kept = _kept(ablation, out) if out is not None else None
    if kept is not None and group.rank == 0:
        _load(kept, total, resume)
    done = json.dumps([list(scored.images) for scored in total.values()])
    done_by = zip(total, json.loads(group.announce("done", done.encode())), strict=True)
    left = _left(ablation, {levels: set(images) for levels, images in done_by})
    mine = dict(group.mine(list(left.items())))
    own = {levels: ClosingScored(classes) for levels in ablation.closings}
    _score(ablation, mine, own, kept, group)
    for levels, scored in own.items():
        for part in group.collect(f"scored {levels}", scored.pack()):
            total[levels].add(part)
    return total if group.rank == 0 else None


def forget_counts(ablation: Ablation, out: Path) -> None:
    """Remove what was kept in `out` for going on: the results are written."""
    for kept in _kept(ablation, out).values():
        clear(kept.folder)
    with suppress(OSError):  # something else is in it
        (out / FOLDER).rmdir()


def name_of(levels: Sequence[int]) -> str:
    """Such as `G1 G2`; `none` where no gate is closed."""
    return " ".join(f"G{level}" for level in levels) or "none"


def _kept(ablation: Ablation, out: Path) -> dict[Levels, Kept]:
    """Where the counts of every closing are kept."""
    task = ablation.task
    told = fingerprint(task.record(), task.dataset, details=True)
    return {
        levels: Kept(
            out / FOLDER / name_of(levels).replace(" ", "-"),
            {**told, "limit": len(ablation.images), "value": ablation.value if levels else None},
            task.dataset,
        )
        for levels in ablation.closings
    }


def _load(kept: Mapping[Levels, Kept], into: Counts, resume: bool) -> None:
    """Add what is kept to the counts, or remove it."""
    for levels, place in kept.items():
        if resume:
            place.load(into[levels])
        else:
            clear(place.folder)
    if any(scored.images for scored in into.values()):
        screen.print(f"going on: {min(len(scored.images) for scored in into.values())} images are scored")


def _left(ablation: Ablation, done: Mapping[Levels, set[int]]) -> dict[int, list[Levels]]:
    """By image, the closings that are not scored yet; what is kept may be ahead in one closing of another."""
    left = {i: [levels for levels in ablation.closings if i not in done[levels]] for i in ablation.images}
    return {i: closings for i, closings in left.items() if closings}


def _score(
    ablation: Ablation,
    left: Mapping[int, Sequence[Levels]],
    counts: Counts,
    kept: Mapping[Levels, Kept] | None,
    group: Group,
) -> None:
    """Score images one after the other, each with all closings that are left."""
    task = ablation.task

    def save() -> None:
        for levels, place in (kept or {}).items():
            place.save(counts[levels])

    save()  # where it cannot be written, nobody wants to wait to be told
    saved = time.monotonic()

    def score(index: int, sample: Sample, levels: Levels, predicted: np.ndarray, last: bool) -> None:
        nonlocal saved
        counts[levels].update(index, sample.labels.numpy(), predicted)
        if last and time.monotonic() - saved >= SAVE_EVERY:
            save()
            saved = time.monotonic()

    shown: Iterable[int] = track(list(left), f"closing gates, {task.split}") if group.rank == 0 else left
    try:
        with behind(threads=1) as later, closing(ahead(task.dataset.__getitem__, left, threads=1)) as samples:
            for index, sample in zip(shown, samples, strict=True):
                image = sample.image.permute(1, 2, 0).numpy()
                edits = [ablation.edits(levels) for levels in left[index]]
                maps = predict_edited(task.predictor, image, task.protocol, edits)
                for levels, predicted in zip(left[index], maps, strict=True):
                    group.check()
                    later(score, index, sample, levels, predicted, levels == left[index][-1])
    except BaseException as error:
        if kept is None:
            raise
        with suppress(CannotWrite):
            save()
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt("what is scored is kept; go on with --resume.") from None
        raise
    save()

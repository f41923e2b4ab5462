"""What is counted with some gates closed: all that an evaluation counts, and the right pixels of every image by part.

The parts are the bands of distance to a boundary and the sizes of objects of `Scoring`. Their counts are kept for every
image, so that it can be told how much a difference owes to the images that happen to be there.
"""

import io
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from gffnet.console import screen, track
from gffnet.data.dataset import Sample
from gffnet.data.io import write_image
from gffnet.errors import CannotWrite
from gffnet.evaluation.evaluate import SAVE_EVERY, Group, Kept, Scored, Task, absent_rule, same_classes
from gffnet.evaluation.evaluate import clear_kept as clear
from gffnet.evaluation.evaluate import evaluation_fingerprint as fingerprint
from gffnet.evaluation.results import DASH, Table, markdown, percent, score_image
from gffnet.evaluation.results import TOLERANCE as WIDTH
from gffnet.files import atomic_write
from gffnet.gates.edit import Edits, GateEdit, edit_gates, gate_count
from gffnet.gates.figures import DPI, held, plain, rendered
from gffnet.inference.predictor import Predictor
from gffnet.metrics.scoring import BANDS, SIZES, Scoring, State
from gffnet.models.layers import Encoded
from gffnet.models.ops import size_of
from gffnet.parallel import ahead, behind
from gffnet.recipe import EvaluationRecipe

Parts = Int64[np.ndarray, "2 parts"]
"""Pixels that were predicted right, and labelled pixels: by band of distance, then by size of object."""

BAND_COUNT, SIZE_COUNT = len(BANDS) + 1, len(SIZES) + 1


class ClosingScored(Scored):
    """The scores of some of the images of a data set, with some gates closed."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.parts: dict[int, Parts] = {}
        """By the image's place in the data set."""

    def update(self, index: int, labels: UInt8[np.ndarray, "h w"], predicted: UInt8[np.ndarray, "h w"]) -> None:
        """Add image `index`."""
        own = Scoring(self.classes)
        own.update(labels, predicted)
        self.counts.add(own.state())
        self.images[index] = score_image(labels, predicted, self.classes)
        self.parts[index] = parts_of(own.state())

    def add(self, packed: bytes) -> None:
        """Add images that were scored elsewhere. Raises as `Scored.add`."""
        with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
            scored, index, parts = stored["scored"].tobytes(), stored["index"].tolist(), stored["parts"]
        super().add(scored)
        self.parts |= dict(zip(index, parts, strict=True))

    def pack(self) -> bytes:
        """All of it as bytes, which `add` takes."""
        index = np.array(list(self.parts), np.int64)
        parts = np.array(list(self.parts.values()), np.int64).reshape(-1, 2, BAND_COUNT + SIZE_COUNT)
        file = io.BytesIO()
        scored = np.frombuffer(super().pack(), np.uint8)
        np.savez(file, allow_pickle=False, scored=scored, index=index, parts=parts)
        return file.getvalue()


def parts_of(counts: State) -> Parts:
    """The right and the labelled pixels of every part, of the counts of a `Scoring`."""
    bands, sizes = counts["distance"], counts["size"]
    right = np.concatenate([bands.diagonal(axis1=1, axis2=2).sum(-1), sizes[..., 0].sum(1)])
    labelled = np.concatenate([bands.sum((1, 2)), sizes[..., :2].sum((1, 2))])
    return np.stack([right, labelled])


# The paper's observation as numbers: "G1 and G2 mainly help for object boundaries, G3 and G4 for large patterns".
#
# Of gate l, closed alone, in points of pixel accuracy (right pixels per 100 labelled ones):
#
#     near_l = what it loses within 4 pixels of a boundary of the labels,      far_l = more than 16 pixels away,
#     lean_l = near_l / (near_l + far_l),                                      losses below 0 taken as 0
#
# 1 is a gate that is missed at boundaries only, 0 one that is missed far from them only, 0.5 one that is missed alike.
# Images are drawn anew, with replacement, a thousand times; 95 % of the results are the interval that stands beside a
# lean. A gate serves boundaries, if its interval lies above 0.5, and large patterns, if it lies below. The lower half of
# the gates (rounded down) is the paper's G1 and G2, the upper its G3 and G4:
#
#     lean apart = mean lean of the lower gates - mean lean of the upper ones
#
# The observation holds where every lower gate serves boundaries and every upper one large patterns. It holds in part
# where only the interval of `lean apart` lies above 0: lower gates serve boundaries more than upper ones do. It does not
# hold where that interval lies below 0. All else, gates that lose less than 0.1 points and few images, decides nothing.


NEAR, FAR = 4, 16
"""Edges, in pixels, of what is near a boundary, and of what is far from it."""

LEAST_LOSS = 0.001
"""A loss of accuracy below this, a tenth of a point, near and far, is too little to say anything."""

LEAST_IMAGES = 5
"""Fewer images make no interval."""

RESAMPLES = 1000

BOUNDARIES, LARGE, EITHER, TOO_LITTLE, TOO_FEW = (
    "boundaries",
    "large patterns",
    "undecided",
    "too small to say",
    "too few images",
)
HOLDS, IN_PART, NOT, UNDECIDED = "holds", "holds in part", "does not hold", "is not decided"

_NEAR = slice(0, BANDS.index(NEAR) + 1)
_FAR = slice(BANDS.index(FAR) + 1, BAND_COUNT)
_SMALL = slice(BAND_COUNT, BAND_COUNT + 1)
_LARGE = slice(BAND_COUNT + SIZE_COUNT - 1, BAND_COUNT + SIZE_COUNT)

Counts = Int64[np.ndarray, "images 2 parts"]
"""Right and labelled pixels of every image, by the parts of `counts`."""


def observe(learned: Counts, closed: Mapping[int, Counts]) -> dict[str, Any]:
    """What each gate serves, and whether the paper's observation holds.

    Args:
        learned: with the gates as learned.
        closed: by level, with that gate closed; the same images in the same order.

    Returns:
        `verdict` on the observation, one of `HOLDS`, `IN_PART`, `NOT`, `UNDECIDED`; `lean_apart` and its `interval`;
        `near`, `far`, `small`, `large`: what these are; and for every of the `gates` its `level`, its losses of
        accuracy (`loss`, `loss_near`, `loss_far`, and, of pixels of small and of large objects, `loss_small`,
        `loss_large`), `lean`, `interval`, and what it `serves`. `None` where there is nothing to count.
    """
    images = len(learned)
    weights = np.ones((1, images))
    if images >= LEAST_IMAGES:
        drawn = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), RESAMPLES)
        weights = np.concatenate([weights, drawn])
    gates, leans = [], {}
    for level, counts in closed.items():
        losses = {
            name: _loss(learned, counts, part, weights)
            for name, part in (("near", _NEAR), ("far", _FAR), ("small", _SMALL), ("large", _LARGE))
        }
        lean = _lean(losses["near"], losses["far"])
        gate: dict[str, Any] = {"level": level, "loss": _first(_loss(learned, counts, slice(0, BAND_COUNT), weights))}
        gate |= {f"loss_{name}": _first(loss) for name, loss in losses.items()}
        gate |= {"lean": _first(lean), "interval": _interval(lean)}
        gate["serves"] = _serves(gate)
        gates.append(gate)
        if gate["serves"] != TOO_LITTLE:
            leans[level] = lean
    return {
        **_verdict(gates, leans, len(closed)),
        "near": f"at most {NEAR} px from a boundary",
        "far": f"more than {FAR} px from every boundary",
        "small": f"objects below {SIZES[0]} px",
        "large": f"objects of {SIZES[-1]} px and more",
        "gates": gates,
    }


def lower_levels(count: int) -> range:
    """The levels of the lower gates, of `count` in all."""
    return range(1, count // 2 + 1)


def _loss(learned: Counts, closed: Counts, part: slice, weights: np.ndarray) -> Float[np.ndarray, "draws"]:
    """What a part loses of its accuracy, for every drawing of images; not a number where no pixel is drawn."""
    right = (learned[:, 0, part] - closed[:, 0, part]).sum(1)
    labelled = learned[:, 1, part].sum(1)
    with np.errstate(invalid="ignore"):
        loss: np.ndarray = (weights @ right) / (weights @ labelled)
    return loss


def _lean(near: np.ndarray, far: np.ndarray) -> Float[np.ndarray, "draws"]:
    """The share of the loss near boundaries, of both as losses of accuracy; not a number where nothing is lost."""
    near, far = np.maximum(near, 0), np.maximum(far, 0)
    with np.errstate(invalid="ignore"):
        lean: np.ndarray = near / (near + far)
    return lean


def _first(values: np.ndarray) -> float | None:
    """That of the images as they are."""
    return None if np.isnan(values[0]) else float(values[0])


def _interval(values: np.ndarray) -> list[float] | None:
    """Between which 95 % of the drawings lie; `None` where there are no drawings, or some without a value."""
    drawings = values[1:]
    if not len(drawings) or np.isnan(drawings).mean() > 0.01:
        return None
    return [float(edge) for edge in np.nanpercentile(drawings, [2.5, 97.5])]


def _serves(gate: Mapping[str, Any]) -> str:
    """What a gate serves, in the words of the observation."""
    if gate["lean"] is None or max(gate["loss_near"], gate["loss_far"]) < LEAST_LOSS:
        return TOO_LITTLE
    if gate["interval"] is None:
        return TOO_FEW
    low, high = gate["interval"]
    return BOUNDARIES if low > 0.5 else LARGE if high < 0.5 else EITHER


def _verdict(gates: Sequence[Mapping[str, Any]], leans: Mapping[int, np.ndarray], count: int) -> dict[str, Any]:
    """Whether the observation holds."""
    lower = [lean for level, lean in leans.items() if level in lower_levels(count)]
    upper = [lean for level, lean in leans.items() if level not in lower_levels(count)]
    if not lower or not upper:
        return {"verdict": UNDECIDED, "lean_apart": None, "interval": None}
    apart = np.mean(lower, axis=0) - np.mean(upper, axis=0)
    interval = _interval(apart)
    wanted = [BOUNDARIES if gate["level"] in lower_levels(count) else LARGE for gate in gates]
    if interval is None:
        verdict = UNDECIDED
    elif [gate["serves"] for gate in gates] == wanted:
        verdict = HOLDS
    elif interval[0] > 0:
        verdict = IN_PART
    else:
        verdict = NOT if interval[1] < 0 else UNDECIDED
    return {"verdict": verdict, "lean_apart": _first(apart), "interval": interval}


# The windows of an image, encoded once and decoded with as many sets of gates as one likes.
#
#     logits = head(pyramid(y_0, fuse(reduced, edited gates))),      reduced, gates, y_0 = encode(window)
#
# A sliding window asks for the same windows in the same order, whatever becomes of the gates. So the first pass over an
# image keeps what it encodes, and the passes after it take that up one by one: the backbone runs once an image, by any
# protocol. Learned gates, decoded so, give what the network itself gives, bit for bit: it is the same computation.


def predict_edited(
    predictor: Predictor, image: UInt8[np.ndarray, "h w c"], protocol: EvaluationRecipe, edits: Sequence[Edits]
) -> Iterator[UInt8[np.ndarray, "h w"]]:
    """The label maps of an image by `protocol`, one for each of the `edits`.

    What the windows of the image are encoded to stays on the device until the last, unless the predictor has a limit
    on memory: then windows are encoded anew for every edit.

    Raises:
        UserError: the model has no gates, or there is no such level or value.
    """
    x = predictor.tensor(image)
    window = predictor.window(protocol, size_of(x))
    windows = _Windows(predictor, keep=predictor.memory is None)
    window.score = windows.score
    for each in edits:
        windows.begin(each)
        yield window.labels(x).cpu().numpy()


class _Windows:
    """Scores windows with edited gates, pass after pass."""

    def __init__(self, predictor: Predictor, keep: bool) -> None:
        """`keep`: what the first pass encodes; otherwise every pass encodes by itself."""
        gate_count(predictor)
        self._predictor, self._keep = predictor, keep
        self._kept: list[Encoded] = []
        self._edits: Edits = {}
        self._next = 0

    def begin(self, edits: Edits) -> None:
        """Begin a pass over all windows."""
        self._edits, self._next = edits, 0

    def score(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """The logits of the next batch of windows."""
        if self._next == len(self._kept):
            encoded = self._predictor.encode_windows(x)
            if self._keep:
                self._kept.append(encoded)
        else:
            encoded = self._kept[self._next]
        self._next += self._keep
        assert encoded.gates is not None
        return self._predictor.decode(encoded, edit_gates(encoded.gates, self._edits))


# Scores of a data set with gates closed, alone and in pairs: what each gate is worth, and for what.
#
# Every image is predicted once with the gates as learned and once a closing, by any protocol; the backbone runs once
# (`windows`). With the gates as learned, the scores are those of an evaluation, number for number.


Levels = tuple[int, ...]
"""The levels whose gates are closed, 1 the finest; none: gates as learned."""

CountsRun = dict[Levels, ClosingScored]

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
) -> CountsRun | None:
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


def _load(kept: Mapping[Levels, Kept], into: CountsRun, resume: bool) -> None:
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
    counts: CountsRun,
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


# The scores of closed gates as one record, plain values: `ablation.json`.


_MEANS = ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")


def record_of(ablation: Ablation, counts: CountsRun) -> dict[str, Any]:
    """All scores, and what they differ by from those with the gates as learned; fractions of 1.

    Keys: `protocol`, as in an evaluation's scores, with the `value` that closed gates are held at; `images`, the number
    scored, `of_images`; `learned`, the scores of an evaluation; `closings`: the `levels` of each, its `scores`, and its
    `difference` to the learned ones (below 0: closing loses); `observation`: that of `observation`.
    """
    task = ablation.task
    names, absent = task.predictor.config.classes, absent_rule(task.name)[0]
    reports = {levels: scored.counts.report(names, absent) for levels, scored in counts.items()}
    learned = reports[()]
    parts = {levels: _parts(ablation, counts, levels) for levels in counts if len(levels) <= 1}
    return {
        "protocol": {**task.record(), "value": ablation.value},
        "images": len(ablation.images),
        "of_images": len(task.dataset),
        "learned": learned,
        "closings": [
            {"levels": list(levels), "scores": report, "difference": difference(report, learned)}
            for levels, report in reports.items()
            if levels
        ],
        "observation": observe(parts[()], {levels[0]: part for levels, part in parts.items() if levels}),
    }


def difference(closed: Mapping[str, Any], learned: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of a closing less the learned ones; `None` where one of the two has no score."""
    means = {key: _less(closed[key], learned[key]) for key in _MEANS}
    classes = {name: _less(closed["per_class"][name], iou) for name, iou in learned["per_class"].items()}
    widths = {
        width: _less(closed["boundary_f"][width]["mean"], of["mean"]) for width, of in learned["boundary_f"].items()
    }
    parts = {
        key: [
            {**{name: of.get(name) for name in ("name", "from", "to")}, **_parts_less(one, of)}
            for one, of in zip(closed[key], learned[key], strict=True)
        ]
        for key in ("iou_by_distance", "iou_by_size")
    }
    return {**means, "per_class": classes, "boundary_f": widths, **parts}


def _parts_less(closed: Mapping[str, Any], learned: Mapping[str, Any]) -> dict[str, float | None]:
    return {key: _less(closed[key], learned[key]) for key in ("miou", "pixel_accuracy") if key in learned}


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _parts(ablation: Ablation, counts: CountsRun, levels: Levels) -> np.ndarray:
    """Right and labelled pixels of every image, in the order of the data set."""
    return np.stack([counts[levels].parts[i] for i in ablation.images])


# The scores of closed gates as tables, and the paper's observation in words.


_MEANS_TABLES = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}


def title_of(record: Mapping[str, Any]) -> str:
    """Whose gates were closed on what."""
    protocol, images, of = record["protocol"], record["images"], record["of_images"]
    counted = f"{images} image{'s' * (images != 1)}" + (f" of {of}" if images < of else "")
    return (
        f"{protocol['recipe']} on {protocol['dataset']} {protocol['split']}, {counted}: gates {held(protocol['value'])}"
    )


def all_tables(record: Mapping[str, Any]) -> list[Table]:
    """All tables, the conclusion last."""
    return [closings(record), by_class(record), by_distance(record), by_size(record), observation(record)]


def closings(record: Mapping[str, Any]) -> Table:
    """Every closing: its scores, and what it loses."""
    learned = record["learned"]
    headings = ["gates"]
    first = ["as learned"]
    for key, name in _MEANS_TABLES.items():
        headings += [name, "change"]
        first += [percent(learned[key], 2), DASH]
    headings += [f"boundary F, {WIDTH} px", "change", "sum of two"]
    first += [percent(learned["boundary_f"][WIDTH]["mean"], 2), DASH, DASH]
    alone = {of["levels"][0]: of["difference"]["miou"] for of in record["closings"] if len(of["levels"]) == 1}
    rows = [first]
    for of in record["closings"]:
        scores, less = of["scores"], of["difference"]
        row = [name_of(of["levels"])]
        for key in _MEANS_TABLES:
            row += [percent(scores[key], 2), _points(less[key])]
        row += [percent(scores["boundary_f"][WIDTH]["mean"], 2), _points(less["boundary_f"][WIDTH])]
        parts = [alone[level] for level in of["levels"]]
        rows.append([*row, _points(sum(parts)) if len(parts) > 1 and None not in parts else DASH])
    note = "Sum of two: the changes of mIoU that each of the two makes alone, added."
    return Table(f"With gates {held(record['protocol']['value'])}, percent; changes, points", headings, rows, note)


def observation(record: Mapping[str, Any]) -> Table:
    """What every gate serves, and whether the paper's observation holds."""
    of = record["observation"]
    headings = ["gate", "near", "far", "lean", "95 % interval", "small", "large", "serves"]
    rows = [
        [
            f"G{gate['level']}",
            *(_points(gate[key], "") for key in ("loss_near", "loss_far")),
            DASH if gate["lean"] is None else f"{gate['lean']:.2f}",
            _interval_tables(gate["interval"]),
            *(_points(gate[key], "") for key in ("loss_small", "loss_large")),
            gate["serves"],
        ]
        for gate in of["gates"]
    ]
    note = (
        f"Points of pixel accuracy lost near: {of['near']}; far: {of['far']}; small: in {of['small']}; large: in "
        f"{of['large']}. Lean: near / (near + far), 1 is a loss near boundaries alone.\n\n{verdict(record)}"
    )
    return Table("What each gate serves", headings, rows, note)


def verdict(record: Mapping[str, Any]) -> str:
    """The paper's observation, and whether it holds here, in a few sentences."""
    of = record["observation"]
    lower = [f"G{level}" for level in lower_levels(len(of["gates"]))]
    upper = [f"G{gate['level']}" for gate in of["gates"] if f"G{gate['level']}" not in lower]
    said = f"The paper's observation, {_and(lower)} serve boundaries and {_and(upper)} large patterns, "
    apart = of["lean_apart"]
    how = (
        "" if apart is None else f" Mean lean, lower less upper gates: {apart:+.2f} {_interval_tables(of['interval'])}."
    )
    why = {
        HOLDS: "every gate does so.",
        IN_PART: "not every gate does so, but the lower ones serve boundaries more than the upper ones do.",
        NOT: "the upper gates serve boundaries more than the lower ones do.",
    }.get(of["verdict"], "too little is lost, or there are too few images, to tell the two apart.")
    small = [f"G{gate['level']}" for gate in of["gates"] if gate["serves"].startswith("too small")]
    caveat = f" {_and(small)} lose{'s' * (len(small) == 1)} less than {100 * LEAST_LOSS:g} points." if small else ""
    return f"{said}{of['verdict']} here: {why}{how}{caveat}"


def by_class(record: Mapping[str, Any]) -> Table:
    """The IoU of every class, and what closing each gate alone changes of it."""
    alone = _alone(record)
    rows = [
        [name, percent(iou, 2), *(_points(of["difference"]["per_class"][name]) for of in alone)]
        for name, iou in record["learned"]["per_class"].items()
    ]
    return _changes("IoU by class", "class", alone, rows)


def by_distance(record: Mapping[str, Any]) -> Table:
    """Pixel accuracy by distance to a boundary, and what closing each gate alone changes of it."""
    alone = _alone(record)
    rows = [
        [
            range_of(band["from"], band["to"]),
            percent(band["pixel_accuracy"], 2),
            *(_points(of["difference"]["iou_by_distance"][i]["pixel_accuracy"]) for of in alone),
        ]
        for i, band in enumerate(record["learned"]["iou_by_distance"])
    ]
    return _changes("Pixel accuracy by distance to a boundary", "distance", alone, rows)


def by_size(record: Mapping[str, Any]) -> Table:
    """IoU by size of object, and what closing each gate alone changes of it."""
    alone = _alone(record)
    rows = [
        [
            f"{size['name']}: {range_of(size['from'], size['to'])}",
            percent(size["miou"], 2),
            *(_points(of["difference"]["iou_by_size"][i]["miou"]) for of in alone),
        ]
        for i, size in enumerate(record["learned"]["iou_by_size"])
    ]
    return _changes("IoU by size of object", "size", alone, rows)


def range_of(start: float, end: float | None) -> str:
    """From where to where, in pixels."""
    return f"above {start:,} px" if end is None else f"{start:,} to {end:,} px"


def _alone(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [of for of in record["closings"] if len(of["levels"]) == 1]


def _changes(title: str, what: str, alone: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[str]]) -> Table:
    """A table of scores as learned and their changes."""
    headings = [what, "as learned", *(name_of(of["levels"]) for of in alone)]
    return Table(f"{title}, percent; changes, points", headings, rows)


def _interval_tables(interval: Sequence[float] | None) -> str:
    return DASH if interval is None else f"[{interval[0]:.2f}, {interval[1]:.2f}]"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _points(value: float | None, sign: str = "+") -> str:
    """A change in points; `sign`: what stands before those above 0."""
    return DASH if value is None else f"{round(100 * value, 2) + 0.0:{sign}.2f}"  # + 0.0: no -0.00


# Figures of what closing gates costs: by class, by distance to a boundary, and by size of object, as RGB arrays.


CHANGES = "RdBu"
"""Diverging colour map: red is lost, blue is won; told apart with every kind of colour vision."""

LINES = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7")
"""Colours of gates from the finest on: those of Okabe and Ito, for every kind of colour vision."""

MARKERS = "osD^v"
"""A second sign of which gate a line is of."""

MOST_CLASSES = 32
"""Classes that a figure has room for: those that lose most."""


def class_figure(record: Mapping[str, Any]) -> UInt8[np.ndarray, "_h _w 3"]:
    """What every closing changes of the IoU of every class, in points, as a heat map; classes in their order."""
    names, changes = class_changes(record)
    closings = [name_of(of["levels"]) for of in record["closings"]]
    limit = max(1.0, float(np.nanmax(np.abs(changes), initial=0)))
    size = (3.2 + 0.62 * len(closings), 1.9 + 0.3 * len(names))
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.imshow(changes, CHANGES, vmin=-limit, vmax=limit, aspect="auto")
    axes.set_facecolor("0.85")
    axes.set_xticks(range(len(closings)), closings)
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.axhline(0.5, color="white", linewidth=4)
    axes.axvline(sum(len(of["levels"]) == 1 for of in record["closings"]) - 0.5, color="white", linewidth=4)
    for (row, column), change in np.ndenumerate(changes):
        text = "" if np.isnan(change) else f"{round(change, 1) + 0.0:+.1f}"  # + 0.0: no -0.0
        colour = "white" if abs(change) > 0.6 * limit else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    some = f", the {MOST_CLASSES} classes that lose most" if len(names) > MOST_CLASSES else ""
    figure.suptitle(f"{plain(title_of(record))}\nchange of IoU in points{some}", fontsize=11)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.05, pad=0.02)
    bar.set_label("red: lost, blue: won")
    return rendered(figure)


def class_changes(record: Mapping[str, Any]) -> tuple[list[str], Float[np.ndarray, "classes closings"]]:
    """The changes of the mean and of the IoU of classes, in points, a column a closing; not a number if there is none.

    Of more than `MOST_CLASSES` classes, those that lose most by one gate alone.
    """
    names = list(record["learned"]["per_class"])
    columns = [[of["difference"]["per_class"][name] for name in names] for of in record["closings"]]
    changes = 100 * np.array(columns, np.float64).T
    alone = [i for i, of in enumerate(record["closings"]) if len(of["levels"]) == 1]
    if len(names) > MOST_CLASSES:
        worst = np.argsort(np.nan_to_num(changes[:, alone]).min(1), kind="stable")
        kept = sorted(worst[:MOST_CLASSES])
        names, changes = [names[k] for k in kept], changes[kept]
    mean = 100 * np.array([[of["difference"]["miou"] for of in record["closings"]]], np.float64)
    return ["mean of all", *names], np.concatenate([mean, changes])


def distance_figure(record: Mapping[str, Any]) -> UInt8[np.ndarray, "_h _w 3"]:
    """What each gate alone loses: accuracy by distance to a boundary, and IoU by size of object; a line a gate."""
    alone = [of for of in record["closings"] if len(of["levels"]) == 1]
    figure = Figure(figsize=(11.5, 4.4), dpi=DPI, layout="constrained")
    figure.suptitle(plain(title_of(record)), fontsize=11)
    by_distance, by_size = figure.subplots(1, 2, width_ratios=[3, 2])
    bands = [range_of(band["from"], band["to"]) for band in record["learned"]["iou_by_distance"]]
    losses = [[band["pixel_accuracy"] for band in of["difference"]["iou_by_distance"]] for of in alone]
    _lines(by_distance, bands, losses, [name_of(of["levels"]) for of in alone])
    by_distance.set(xlabel="distance to a boundary of the labels", ylabel="points of pixel accuracy lost")
    sizes = [f"{size['name']}\n{range_of(size['from'], size['to'])}" for size in record["learned"]["iou_by_size"]]
    losses = [[size["miou"] for size in of["difference"]["iou_by_size"]] for of in alone]
    _lines(by_size, sizes, losses, [name_of(of["levels"]) for of in alone])
    by_size.set(xlabel="size of object", ylabel="points of mIoU lost")
    figure.legend(*by_distance.get_legend_handles_labels(), loc="outside right center", frameon=False, title="gate")
    return rendered(figure)


def _lines(axes: Axes, places: Sequence[str], changes: Sequence[Sequence[float | None]], names: Sequence[str]) -> None:
    """A line a gate over named places; losses are drawn upwards."""
    axes.axhline(0, color="0.6", linewidth=0.8)
    for i, (name, values) in enumerate(zip(names, changes, strict=True)):
        losses = [np.nan if value is None else -100 * value for value in values]
        colour, marker = LINES[i % len(LINES)], MARKERS[i % len(MARKERS)]
        axes.plot(range(len(places)), losses, label=name, color=colour, marker=marker, linewidth=1.8, markersize=6)
    axes.set_xticks(range(len(places)), places, fontsize=8)
    axes.set_xlim(-0.4, len(places) - 0.6)
    axes.spines[["top", "right"]].set_visible(False)


# The results of closing gates as files.
#
# OUT/ablation.json                       all scores, and the protocol that they were measured with
# OUT/ablation.md                         the same as tables
# OUT/by_class.png, OUT/by_distance.png   the same as figures


def write_ablation(out: Path, record: Mapping[str, Any]) -> None:
    """Write all of them, each whole or not at all; `ablation.json`, the last, tells that all are there.

    Raises:
        CannotWrite: a file cannot be written.
    """
    write_image(out / "by_class.png", class_figure(record))
    write_image(out / "by_distance.png", distance_figure(record))
    atomic_write(out / "ablation.md", markdown(title_of(record), all_tables(record)).encode())
    atomic_write(out / "ablation.json", (json.dumps(record, indent=1) + "\n").encode())

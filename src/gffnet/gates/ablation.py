"""Scores of a data set with gates closed, alone and in pairs: what each gate is worth, and for what.

Every image is predicted once with the gates as learned and once for each closing, by any protocol, and the backbone
runs once (`predict_edited`). With the gates as learned, the scores are those of `evaluate`, number for number.

The paper's observation is "G1 and G2 mainly help for object boundaries, G3 and G4 for large patterns". As numbers, for
gate l closed alone, in points of pixel accuracy (correct pixels per 100 labelled ones):

    near_l = its loss within 4 pixels of a boundary of the labels,      far_l = its loss more than 16 pixels away,
    lean_l = near_l / (near_l + far_l),                                 negative losses count as 0

A lean of 1 is a gate that matters at boundaries only, 0 one that matters far from them only. The images are resampled
with replacement a thousand times (bootstrap); the interval beside a lean holds 95 % of the results. A gate serves
boundaries if its interval lies above 0.5, and large patterns if it lies below. The lower half of the gates (rounded
down) is the paper's G1 and G2, the upper half its G3 and G4:

    lean apart = mean lean of the lower gates - mean lean of the upper ones

The observation holds if every lower gate serves boundaries and every upper one large patterns. It holds in part if only
the interval of `lean apart` lies above 0, and does not hold if that interval lies below 0. Otherwise it is not decided;
gates that lose less than 0.1 points, and few images, decide nothing.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from gffnet.console import DASH, percent
from gffnet.data.dataset import Dataset, evenly_spaced
from gffnet.data.io import write_image
from gffnet.evaluation.evaluate import (
    PartialResults,
    absent_rule,
    evaluation_settings,
    images_for,
    protocol_record,
    same_classes,
    score_images,
)
from gffnet.evaluation.results import TOLERANCE, Table, markdown, pixel_range
from gffnet.files import atomic_write, is_result, write_json
from gffnet.gates.edit import Edits, GateEdit, edit_gates, gate_count
from gffnet.gates.figures import class_changes_figure, held, losses_figure
from gffnet.gates.write import refuse_replacing
from gffnet.inference.predictor import ImageLike, Predictor
from gffnet.metrics.scores import BANDS, SIZES, Scores
from gffnet.models.layers import Encoded
from gffnet.recipe import EvaluationRecipe

PARTIAL_FOLDER = "counted"
"""Folder of the partial results, in that of the results."""

# One image


def predict_edited(
    predictor: Predictor, image: ImageLike, protocol: EvaluationRecipe, edits: Sequence[Edits]
) -> Iterator[UInt8[np.ndarray, "h w"]]:
    """Predict the label maps of an image by `protocol`, one for each of the `edits` of its gates.

    A sliding window visits the same windows in the same order whatever the gates are. So the first pass stores what it
    encodes on the device, and the others decode it again. Learned gates give the network's own output, bit for bit.
    With a limit on memory, nothing is stored, and windows are encoded again for every edit.

    Raises:
        UserError: the model has no gates, or there is no such level or value.
    """
    gate_count(predictor)
    keep = predictor.memory is None
    encoded_windows: list[Encoded] = []

    for gates_edit in edits:
        position = 0

        def score(windows: Float[Tensor, "b c h w"], edit: Edits = gates_edit) -> Float[Tensor, "b k h w"]:
            nonlocal position
            if position < len(encoded_windows):
                encoded = encoded_windows[position]
            else:
                encoded = predictor.encode_windows(windows)
                if keep:
                    encoded_windows.append(encoded)
            position += keep
            assert encoded.gates is not None
            return predictor.decode(encoded, edit_gates(encoded.gates, edit))

        edited = copy.copy(predictor)
        edited.score = score  # type: ignore[method-assign]
        yield edited.predict(image, protocol)


# A data set


def ablate(
    predictor: Predictor,
    dataset: Dataset,
    name: str,
    split: str,
    protocol: EvaluationRecipe,
    *,
    pairs: bool = True,
    value: float = 0.0,
    limit: int | None = None,
    out: Path | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Score a data set with every gate closed alone and, with `pairs`, together with every other.

    Args:
        predictor: the model.
        dataset, name, split, protocol: as for `evaluate`.
        pairs: close gates in pairs as well.
        value: what closed gates are held at, in 0..1.
        limit: number of images to score, evenly spread over the data set; None: all.
        out: folder for partial results, which stay there until `remove_partial`.
        resume: start from the partial results in `out` rather than remove them.

    Returns:
        The content of `ablation.json`, fractions of 1: `protocol`, as for an evaluation, with the `value`; `images`,
        the number scored, `of_images`; `learned`, the scores with the gates as learned; `closings`: the `levels` of
        each, its `scores`, and their `difference` to the learned ones; `observation`: see `observe`.

    Raises:
        UserError: the model has no gates, was trained for other classes than the data set has, an image cannot be read,
            or the partial results are of another ablation.
        RunFailed: another rank failed.
        Stopped, KeyboardInterrupt: interrupted; what is scored is saved in `out`.
    """
    levels = range(1, gate_count(predictor) + 1)
    names = same_classes(predictor, dataset.classes.names, name)
    dataset = images_for(predictor, dataset)
    closings: list[tuple[int, ...]] = [(), *((level,) for level in levels)]
    if pairs:
        closings += combinations(levels, 2)
    indices = evenly_spaced(len(dataset), limit or len(dataset), endpoint=False)
    record = {**protocol_record(predictor, protocol, name, split), "value": value}
    partial = None
    if out is not None:
        settings = {
            **evaluation_settings(record, dataset, True),
            "limit": len(indices),
            "closings": [_name(each) for each in closings],
        }
        partial = PartialResults(out / PARTIAL_FOLDER, settings, dataset)

    edits = [{level: GateEdit(value=value) for level in closed} for closed in closings]

    def predict(image: Tensor) -> Iterator[UInt8[np.ndarray, "h w"]]:
        return predict_edited(predictor, image, protocol, edits)

    scored, _ = score_images(
        predict, predictor, dataset, indices, f"closing gates, {split}", len(closings), True, partial, resume
    )
    scores = {
        closed: variant.counts.compute(names, absent_rule(name)[0])
        for closed, variant in zip(closings, scored, strict=True)
    }
    parts = {
        closed: np.stack([variant.parts[i] for i in indices])
        for closed, variant in zip(closings, scored, strict=True)
        if len(closed) <= 1
    }
    return {
        "protocol": record,
        "images": len(indices),
        "of_images": len(dataset),
        "learned": scores[()].to_json(),
        "closings": [
            {"levels": list(closed), "scores": each.to_json(), "difference": difference(each, scores[()])}
            for closed, each in scores.items()
            if closed
        ],
        "observation": observe(parts[()], {closed[0]: part for closed, part in parts.items() if closed}),
    }


def difference(closed: Scores, learned: Scores) -> dict[str, Any]:
    """Subtract the learned scores from those of a closing; `None` where one of the two is undefined."""
    means = ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")
    bands = zip(closed.iou_by_distance, learned.iou_by_distance, strict=True)
    bins = zip(closed.iou_by_size, learned.iou_by_size, strict=True)
    return {
        **{key: _less(getattr(closed, key), getattr(learned, key)) for key in means},
        "per_class": {name: _less(closed.per_class[name], iou) for name, iou in learned.per_class.items()},
        "boundary_f": {t: _less(closed.boundary_f[t].mean, f.mean) for t, f in learned.boundary_f.items()},
        "iou_by_distance": [
            {
                "name": None,
                "from": band.start,
                "to": band.end,
                "miou": _less(one.miou, band.miou),
                "pixel_accuracy": _less(one.pixel_accuracy, band.pixel_accuracy),
            }
            for one, band in bands
        ],
        "iou_by_size": [
            {"name": size.name, "from": size.start, "to": size.end, "miou": _less(one.miou, size.miou)}
            for one, size in bins
        ],
    }


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _name(levels: Sequence[int]) -> str:
    """Such as `G1 G2`."""
    return " ".join(f"G{level}" for level in levels)


# The paper's observation


NEAR, FAR = 4, 16
"""Edges, in pixels, of what is near a boundary and of what is far from it; among `BANDS`."""

MIN_LOSS = 0.001
"""Gates whose loss of accuracy is smaller, near and far, decide nothing."""

MIN_IMAGES = 5
"""Fewer images give no interval."""

RESAMPLES = 1000

BOUNDARIES, LARGE, EITHER = "boundaries", "large patterns", "undecided"
TOO_LITTLE, TOO_FEW = "too small to say", "too few images"
HOLDS, IN_PART, NOT, UNDECIDED = "holds", "holds in part", "does not hold", "is not decided"

_ALL = slice(0, len(BANDS) + 1)
_PARTS = {
    "near": slice(0, BANDS.index(NEAR) + 1),
    "far": slice(BANDS.index(FAR) + 1, len(BANDS) + 1),
    "small": slice(len(BANDS) + 1, len(BANDS) + 2),
    "large": slice(len(BANDS) + len(SIZES) + 1, len(BANDS) + len(SIZES) + 2),
}

Counts = Int64[np.ndarray, "images 2 parts"]
"""Correct and labelled pixels of every image, by band of distance, then by bin of object size."""


def observe(learned: Counts, closed: Mapping[int, Counts]) -> dict[str, Any]:
    """Find out what each gate serves, and whether the paper's observation holds.

    Args:
        learned: counts with the gates as learned.
        closed: by level, counts with that gate closed; the same images in the same order.

    Returns:
        `verdict` on the observation, one of `HOLDS`, `IN_PART`, `NOT`, `UNDECIDED`; `lean_apart` and its `interval`;
        `near`, `far`, `small`, `large`: what these are; and for each of the `gates` its `level`, its losses of
        accuracy (`loss`, `loss_near`, `loss_far`, and, of pixels of small and of large objects, `loss_small`,
        `loss_large`), `lean`, `interval`, and what it `serves`. `None` where a number is undefined.
    """
    images = len(learned)
    weights = np.ones((1, images))  # first the images as they are, then the resamples
    if images >= MIN_IMAGES:
        resamples = np.random.default_rng(0).multinomial(images, np.full(images, 1 / images), RESAMPLES)
        weights = np.concatenate([weights, resamples])

    def loss(counts: Counts, part: slice) -> Float[np.ndarray, "draws"]:
        lost = (learned[:, 0, part] - counts[:, 0, part]).sum(1)
        with np.errstate(invalid="ignore"):
            losses: np.ndarray = (weights @ lost) / (weights @ learned[:, 1, part].sum(1))
        return losses

    gates, leans = [], {}
    for level, counts in closed.items():
        losses = {name: loss(counts, part) for name, part in _PARTS.items()}
        near, far = np.maximum(losses["near"], 0), np.maximum(losses["far"], 0)
        with np.errstate(invalid="ignore"):
            lean = near / (near + far)
        gate: dict[str, Any] = {"level": level, "loss": _first(loss(counts, _ALL))}
        gate |= {f"loss_{name}": _first(values) for name, values in losses.items()}
        gate |= {"lean": _first(lean), "interval": _interval(lean)}
        gate["serves"] = _serves(gate)
        gates.append(gate)
        if gate["serves"] != TOO_LITTLE:
            leans[level] = lean
    return {
        **_verdict(gates, leans),
        "near": f"at most {NEAR} px from a boundary",
        "far": f"more than {FAR} px from every boundary",
        "small": f"objects below {SIZES[0]} px",
        "large": f"objects of {SIZES[-1]} px and more",
        "gates": gates,
    }


def lower_levels(count: int) -> range:
    """Return the levels of the lower gates, of `count` in all."""
    return range(1, count // 2 + 1)


def _first(values: np.ndarray) -> float | None:
    return None if np.isnan(values[0]) else float(values[0])


def _interval(values: np.ndarray) -> list[float] | None:
    """Return the bounds of 95 % of the resamples; `None` without resamples, or if many of them are undefined."""
    resamples = values[1:]
    if not len(resamples) or np.isnan(resamples).mean() > 0.01:
        return None
    return [float(edge) for edge in np.nanpercentile(resamples, [2.5, 97.5])]


def _serves(gate: Mapping[str, Any]) -> str:
    if gate["lean"] is None or max(gate["loss_near"], gate["loss_far"]) < MIN_LOSS:
        return TOO_LITTLE
    if gate["interval"] is None:
        return TOO_FEW
    low, high = gate["interval"]
    return BOUNDARIES if low > 0.5 else LARGE if high < 0.5 else EITHER


def _verdict(gates: Sequence[Mapping[str, Any]], leans: Mapping[int, np.ndarray]) -> dict[str, Any]:
    lower_ones = lower_levels(len(gates))
    lower = [lean for level, lean in leans.items() if level in lower_ones]
    upper = [lean for level, lean in leans.items() if level not in lower_ones]
    if not lower or not upper:
        return {"verdict": UNDECIDED, "lean_apart": None, "interval": None}
    apart = np.mean(lower, axis=0) - np.mean(upper, axis=0)
    interval = _interval(apart)
    expected = [BOUNDARIES if gate["level"] in lower_ones else LARGE for gate in gates]
    if interval is None:
        verdict = UNDECIDED
    elif [gate["serves"] for gate in gates] == expected:
        verdict = HOLDS
    elif interval[0] > 0:
        verdict = IN_PART
    else:
        verdict = NOT if interval[1] < 0 else UNDECIDED
    return {"verdict": verdict, "lean_apart": _first(apart), "interval": interval}


# Tables and files


def write_ablation(out: Path, record: Mapping[str, Any]) -> None:
    """Write `ablation.json`, by which a later call knows all of its files, `ablation.md` and the figures.

    Raises:
        UserError: as `refuse_others`.
        CannotWrite: a file cannot be written.
    """
    refuse_others(out)
    write_json(out / "ablation.json", record)
    write_image(out / "by_class.png", class_changes_figure(title_of(record), record))
    write_image(out / "by_distance.png", losses_figure(title_of(record), record))
    atomic_write(out / "ablation.md", markdown(title_of(record), all_tables(record)))


def refuse_others(out: Path) -> None:
    """Raise `UserError` if a file that `write_ablation` writes is in `out`, and is not of an earlier call of it."""
    if not is_result(out / "ablation.json"):
        refuse_replacing(
            [], [out / name for name in ("ablation.json", "ablation.md", "by_class.png", "by_distance.png")]
        )


def title_of(record: Mapping[str, Any]) -> str:
    """Say whose gates were closed on what."""
    protocol, images, of = record["protocol"], record["images"], record["of_images"]
    counted = f"{images} image{'s' * (images != 1)}" + (f" of {of}" if images < of else "")
    return (
        f"{protocol['recipe']} on {protocol['dataset']} {protocol['split']}, {counted}: gates {held(protocol['value'])}"
    )


def all_tables(record: Mapping[str, Any]) -> list[Table]:
    """Make all tables, the conclusion last."""
    learned, alone = record["learned"], [of for of in record["closings"] if len(of["levels"]) == 1]
    headings = ["as learned", *(_name(of["levels"]) for of in alone)]
    scores = [learned, *(of["difference"] for of in alone)]

    def part(title: str, what: str, names: Iterable[str], values: Callable[[Any], Iterable[float | None]]) -> Table:
        rows = [
            [name, percent(value, 2), *map(_points, changes)]
            for name, value, *changes in zip(names, *map(values, scores), strict=True)
        ]
        return Table(f"{title}, percent; changes, points", [what, *headings], rows)

    bands = [pixel_range(band["from"], band["to"]) for band in learned["iou_by_distance"]]
    sizes = [f"{size['name']}: {pixel_range(size['from'], size['to'])}" for size in learned["iou_by_size"]]
    return [
        _closings_table(record),
        part("IoU by class", "class", learned["per_class"], lambda of: of["per_class"].values()),
        part(
            "Pixel accuracy by distance to a boundary",
            "distance",
            bands,
            lambda of: [band["pixel_accuracy"] for band in of["iou_by_distance"]],
        ),
        part("IoU by size of object", "size", sizes, lambda of: [size["miou"] for size in of["iou_by_size"]]),
        _observation_table(record),
    ]


def _closings_table(record: Mapping[str, Any]) -> Table:
    """The scores of every closing, and their changes."""

    learned = record["learned"]
    headings = ["gates", "mIoU", "change", "pixel accuracy", "change", f"boundary F, {TOLERANCE} px", "change"]
    means = [learned["miou"], learned["pixel_accuracy"], learned["boundary_f"][TOLERANCE]["mean"]]
    rows = [["as learned", *(cell for mean in means for cell in (percent(mean, 2), DASH)), DASH]]
    alone = {of["levels"][0]: of["difference"]["miou"] for of in record["closings"] if len(of["levels"]) == 1}
    for of in record["closings"]:
        scores, change = of["scores"], of["difference"]
        parts = [alone[level] for level in of["levels"]]
        rows.append(
            [
                _name(of["levels"]),
                *(percent(scores["miou"], 2), _points(change["miou"])),
                *(percent(scores["pixel_accuracy"], 2), _points(change["pixel_accuracy"])),
                *(percent(scores["boundary_f"][TOLERANCE]["mean"], 2), _points(change["boundary_f"][TOLERANCE])),
                _points(sum(parts)) if len(parts) > 1 and None not in parts else DASH,
            ]
        )
    note = "Sum of two: the changes of mIoU that each of the two makes alone, added."
    title = f"With gates {held(record['protocol']['value'])}, percent; changes, points"
    return Table(title, [*headings, "sum of two"], rows, note)


def _observation_table(record: Mapping[str, Any]) -> Table:
    """What every gate serves, and whether the paper's observation holds."""
    of = record["observation"]
    headings = ["gate", "near", "far", "lean", "95 % interval", "small", "large", "serves"]
    rows = [
        [
            f"G{gate['level']}",
            *(_points(gate[key], "") for key in ("loss_near", "loss_far")),
            DASH if gate["lean"] is None else f"{gate['lean']:.2f}",
            _bounds(gate["interval"]),
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
    """Say in a few sentences whether the paper's observation holds."""
    of = record["observation"]
    names = [f"G{gate['level']}" for gate in of["gates"]]
    lower, upper = names[: len(names) // 2], names[len(names) // 2 :]
    claim = f"The paper's observation, {_and(lower)} serve boundaries and {_and(upper)} large patterns, "
    why = {
        HOLDS: "every gate does so.",
        IN_PART: "not every gate does so, but the lower ones serve boundaries more than the upper ones do.",
        NOT: "the upper gates serve boundaries more than the lower ones do.",
    }.get(of["verdict"], "too little is lost, or there are too few images, to tell the two apart.")
    apart = of["lean_apart"]
    how = "" if apart is None else f" Mean lean, lower less upper gates: {apart:+.2f} {_bounds(of['interval'])}."
    small = [name for name, gate in zip(names, of["gates"], strict=True) if gate["serves"] == TOO_LITTLE]
    caveat = f" {_and(small)} lose{'s' * (len(small) == 1)} less than {100 * MIN_LOSS:g} points." if small else ""
    return f"{claim}{of['verdict']} here: {why}{how}{caveat}"


def _bounds(interval: Sequence[float] | None) -> str:
    return DASH if interval is None else f"[{interval[0]:.2f}, {interval[1]:.2f}]"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _points(value: float | None, sign: str = "+") -> str:
    """Format a change in points; `sign` stands before positive ones."""
    return DASH if value is None else f"{round(100 * value, 2) + 0.0:{sign}.2f}"  # + 0.0: no -0.00

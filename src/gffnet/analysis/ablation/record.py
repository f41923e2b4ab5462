"""The scores of closed gates as one record, plain values: `ablation.json`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from gffnet.analysis.ablation.observation import observe
from gffnet.analysis.ablation.run import Ablation, Counts, Levels
from gffnet.evaluation.protocol import absent_rule

_MEANS = ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou")


def record_of(ablation: Ablation, counts: Counts) -> dict[str, Any]:
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


def _parts(ablation: Ablation, counts: Counts, levels: Levels) -> np.ndarray:
    """Right and labelled pixels of every image, in the order of the data set."""
    return np.stack([counts[levels].parts[i] for i in ablation.images])

"""The paper's observation as numbers: "G1 and G2 mainly help for object boundaries, G3 and G4 for large patterns".

Of gate l, closed alone, in points of pixel accuracy (right pixels per 100 labelled ones):

    near_l = what it loses within 4 pixels of a boundary of the labels,      far_l = more than 16 pixels away,
    lean_l = near_l / (near_l + far_l),                                      losses below 0 taken as 0

1 is a gate that is missed at boundaries only, 0 one that is missed far from them only, 0.5 one that is missed alike.
Images are drawn anew, with replacement, a thousand times; 95 % of the results are the interval that stands beside a
lean. A gate serves boundaries, if its interval lies above 0.5, and large patterns, if it lies below. The lower half of
the gates (rounded down) is the paper's G1 and G2, the upper its G3 and G4:

    lean apart = mean lean of the lower gates - mean lean of the upper ones

The observation holds where every lower gate serves boundaries and every upper one large patterns. It holds in part
where only the interval of `lean apart` lies above 0: lower gates serve boundaries more than upper ones do. It does not
hold where that interval lies below 0. All else, gates that lose less than 0.1 points and few images, decides nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from gffnet.analysis.ablation.counts import BAND_COUNT, SIZE_COUNT
from gffnet.metrics.scoring import BANDS, SIZES

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

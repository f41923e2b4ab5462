"""The numbers of the observation against counts made by hand."""

import numpy as np
import pytest

from gffnet.gates.ablation import (
    BOUNDARIES,
    EITHER,
    HOLDS,
    IN_PART,
    LARGE,
    NOT,
    TOO_FEW,
    TOO_LITTLE,
    UNDECIDED,
    lower_levels,
    observe,
)

LABELLED = [100, 300, 50, 60, 400, 1600, 200, 300, 2000]
"""Pixels of an image: in the bands to 2, 4, 8, 16, 32 and more pixels, and in small, medium and large objects."""


def counts(lost: list[int], images: int = 20) -> np.ndarray:
    """Images of which 90 % of the pixels are right, but for those `lost` in each part."""
    labelled = np.array(LABELLED)
    return np.stack([np.stack([labelled * 9 // 10 - lost, labelled])] * images)


def lost(near: int, far: int) -> list[int]:
    """So many pixels lost near boundaries, and far from them."""
    return [near // 4, near - near // 4, 5, 5, far // 5, far - far // 5, 0, 0, 0]


LEARNED = counts([0] * 9)


def test_losses_are_shares_of_the_labelled_pixels_of_their_part() -> None:
    closed = counts([8, 32, 1, 2, 10, 50, 30, 3, 60])
    (gate,) = observe(LEARNED, {1: closed})["gates"]
    assert gate["loss"] == pytest.approx((8 + 32 + 1 + 2 + 10 + 50) / 2510)
    assert gate["loss_near"] == pytest.approx(40 / 400)
    assert gate["loss_far"] == pytest.approx(60 / 2000)
    assert gate["loss_small"] == pytest.approx(30 / 200)
    assert gate["loss_large"] == pytest.approx(60 / 2000)
    assert gate["lean"] == pytest.approx(0.1 / 0.13)


def test_equal_images_leave_no_doubt() -> None:
    (gate,) = observe(LEARNED, {1: counts(lost(40, 60))})["gates"]
    assert gate["interval"] == [pytest.approx(gate["lean"])] * 2
    assert gate["serves"] == BOUNDARIES


def test_the_interval_is_that_of_drawing_images_anew() -> None:
    """Half the images lose near boundaries, half far from them: leans of drawn images by hand."""
    images = 12
    closed = np.concatenate([counts(lost(40, 0), images // 2), counts(lost(0, 200), images // 2)])
    (gate,) = observe(counts([0] * 9, images), {1: closed})["gates"]
    assert gate["lean"] == pytest.approx(0.5)
    random = np.random.default_rng(7)
    leans = []
    for _ in range(4000):
        near = np.mean(random.integers(0, images, images) < images // 2)
        leans.append(near * 0.1 / (near * 0.1 + (1 - near) * 0.1))
    assert gate["interval"] == pytest.approx(np.percentile(leans, [2.5, 97.5]).tolist(), abs=0.05)
    assert gate["serves"] == EITHER


@pytest.mark.parametrize(
    ("near", "far", "serves"),
    [
        (40, 20, BOUNDARIES),
        (4, 200, LARGE),
        (40, -100, BOUNDARIES),
        (-40, 100, LARGE),
        (-40, -100, TOO_LITTLE),
        (0, 0, TOO_LITTLE),
        (0, 1, TOO_LITTLE),
    ],
)
def test_what_a_gate_serves(near: int, far: int, serves: str) -> None:
    """Winning pixels counts as losing none."""
    (gate,) = observe(LEARNED, {1: counts(lost(near, far))})["gates"]
    assert gate["serves"] == serves


def test_few_images_decide_nothing() -> None:
    of = observe(LEARNED[:4], {level: counts(lost(40, 2), 4) for level in (1, 2)})
    assert [gate["serves"] for gate in of["gates"]] == [TOO_FEW, TOO_FEW]
    assert of["gates"][0]["interval"] is None
    assert of["verdict"] == UNDECIDED


def test_images_without_anything_far_from_boundaries() -> None:
    learned, closed = LEARNED.copy(), counts(lost(40, 0))
    learned[:, :, 4:6] = closed[:, :, 4:6] = 0
    (gate,) = observe(learned, {1: closed})["gates"]
    assert gate["loss_near"] == pytest.approx(0.1)
    assert gate["loss_far"] is gate["lean"] is None
    assert gate["serves"] == TOO_LITTLE


EDGE, BODY, BOTH, NONE = lost(40, 20), lost(4, 200), lost(40, 200), lost(0, 0)


@pytest.mark.parametrize(
    ("gates", "verdict"),
    [
        ([EDGE, EDGE, BODY, BODY], HOLDS),
        ([EDGE, EDGE, BODY, BODY, BODY], HOLDS),
        ([EDGE, BOTH, BODY, BODY], IN_PART),
        ([EDGE, EDGE, EDGE, BODY], IN_PART),
        ([EDGE, NONE, BODY, BODY], IN_PART),
        ([BODY, BODY, EDGE, EDGE], NOT),
        ([EDGE, EDGE, EDGE, EDGE], UNDECIDED),
        ([NONE, NONE, BODY, BODY], UNDECIDED),
        ([EDGE, EDGE, NONE, NONE], UNDECIDED),
    ],
)
def test_whether_the_observation_holds(gates: list[list[int]], verdict: str) -> None:
    of = observe(LEARNED, {level: counts(lost) for level, lost in enumerate(gates, start=1)})
    assert of["verdict"] == verdict


def test_leans_apart() -> None:
    of = observe(LEARNED, {1: counts(EDGE), 2: counts(BOTH), 3: counts(BODY), 4: counts(NONE)})
    leans = [0.1 / 0.11, 0.1 / 0.2, 0.01 / 0.11]
    assert of["lean_apart"] == pytest.approx((leans[0] + leans[1]) / 2 - leans[2])
    assert of["interval"] == [pytest.approx(of["lean_apart"])] * 2


def test_which_gates_are_the_lower_ones() -> None:
    assert [list(lower_levels(count)) for count in (2, 3, 4, 5)] == [[1], [1], [1, 2], [1, 2]]

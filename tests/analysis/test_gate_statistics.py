import numpy as np
import pytest

from gffnet.analysis.gate_statistics import (
    RING_NAMES,
    boundary_rings,
    closing_statistics,
    gate_rows,
    gate_statistics,
    means,
)
from gffnet.analysis.gated_image import Closing, GateResult


def naive_rings(labels):
    """By the definition: the nearest pixel of another class, over all pairs."""
    height, width = labels.shape
    rings = np.zeros(labels.shape, int)
    for y in range(height):
        for x in range(width):
            ys, xs = np.nonzero(labels != labels[y, x])
            distance = np.maximum(abs(ys - y), abs(xs - x)).min() if len(ys) else np.inf
            rings[y, x] = sum(distance > limit for limit in (2, 5, 10))
    return rings


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (17, 29), (26, 5)])
def test_rings_are_distances_to_another_class(size):
    random = np.random.default_rng(0)
    labels = np.zeros(size, np.uint8)
    for _ in range(3):
        labels[random.integers(size[0]), random.integers(size[1])] = random.integers(255)
    assert np.array_equal(boundary_rings(labels), naive_rings(labels))


def test_rings_of_halves():
    labels = np.repeat(np.array([[0] * 12 + [200] * 12], np.uint8), 3, axis=0)
    assert boundary_rings(labels)[1].tolist() == [3, 3, *[2] * 5, *[1] * 3, *[0] * 4, *[1] * 3, *[2] * 5, 3, 3]


def test_an_image_of_one_class_is_far_from_every_boundary():
    assert (boundary_rings(np.full((4, 4), 9, np.uint8)) == 3).all()


def test_means_by_group():
    values, groups = np.array([[1.0, 3.0, 5.0]]), np.array([[2, 2, 0]])
    assert means(values, groups, 4) == [5.0, None, 2.0, None]


@pytest.fixture
def hand_made():
    """Two classes side by side, one row of 24 pixels; a gate open at the boundary, a gate open over class b."""
    labels = np.array([[0] * 12 + [1] * 12], np.uint8)
    near = np.zeros((1, 24), np.float32)
    near[0, 10:14] = 1
    over_b = np.where(labels == 1, 0.75, 0.25).astype(np.float32)
    return GateResult((near, over_b), labels)


def test_statistics_of_gates(hand_made):
    first, second = gate_statistics(hand_made, ["a", "b", "never seen"])
    assert first == {
        "level": 1,
        "mean": pytest.approx(4 / 24),
        "share_above_half": pytest.approx(4 / 24),
        "by_class": {"a": pytest.approx(2 / 12), "b": pytest.approx(2 / 12)},
        "by_distance": {"1-2": 1.0, "3-5": 0.0, "6-10": 0.0, "over 10": 0.0},
    }
    assert second["by_class"] == {"a": 0.25, "b": 0.75}
    assert second["share_above_half"] == 0.5
    assert second["by_distance"] == dict.fromkeys(RING_NAMES, 0.5)


def test_a_gate_of_one_half_is_not_above_it():
    result = GateResult((np.full((2, 2), 0.5, np.float32),), np.zeros((2, 2), np.uint8))
    assert gate_statistics(result, ["a"])[0]["share_above_half"] == 0


def test_statistics_of_a_closing(hand_made):
    changed = np.zeros((1, 24), bool)
    changed[0, [0, 11]] = True
    closing = Closing((1, 2), np.where(changed, 1 - hand_made.prediction, hand_made.prediction), changed)
    assert closing_statistics(closing, hand_made, ["a", "b"]) == {
        "levels": [1, 2],
        "changed_share": pytest.approx(2 / 24),
        "by_class": {"a": pytest.approx(2 / 12), "b": 0.0},
        "by_distance": {"1-2": 0.25, "3-5": 0.0, "6-10": 0.0, "over 10": 0.25},
    }


def test_rows_pool_the_pixels_of_all_images(hand_made):
    labels, (near, over_b) = hand_made.prediction, hand_made.maps
    plain = np.zeros((2, 24), np.uint8)
    flat = np.full((2, 24), 0.25, np.float32)
    changed = np.zeros((1, 24), bool)
    changed[0, 11] = True
    first, second = gate_rows([(labels, (near, over_b), [(1, changed, 1 / 24)]), (plain, (flat, flat), [])])
    assert first["gate"] == [pytest.approx((4 + 48 * 0.25) / 72), 1.0, pytest.approx(48 * 0.25 / 52)]
    assert first["open"] == pytest.approx(4 / 72)
    assert first["changed"] == [pytest.approx(1 / 24), 0.25, 0.0]
    assert second["level"] == 2
    assert second["changed"] == [None, None, None]
    assert gate_rows([]) == []

import numpy as np
import pytest

from gffnet.gates.edit import Closing, GateResult
from gffnet.gates.statistics import GateStatistics
from gffnet.metrics.boundary import RING_NAMES


@pytest.fixture
def hand_made():
    """Two classes side by side, one row of 24 pixels; a gate open at the boundary, a gate open over class b."""
    labels = np.array([[0] * 12 + [1] * 12], np.uint8)
    near = np.zeros((1, 24), np.float32)
    near[0, 10:14] = 1
    over_b = np.where(labels == 1, 0.75, 0.25).astype(np.float32)
    return GateResult((near, over_b), labels)


def test_statistics_of_gates(hand_made):
    statistics = GateStatistics(["a", "b", "never seen"])
    statistics.add(hand_made)
    first, second = statistics.levels()
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
    statistics = GateStatistics(["a"])
    statistics.add(result)
    assert statistics.levels()[0]["share_above_half"] == 0


def closing_of(labels, levels, places):
    """A closing that changes some pixels of a row to the other of two classes."""
    changed = np.zeros(labels.shape, bool)
    changed[0, places] = True
    return Closing(levels, np.where(changed, 1 - labels, labels).astype(np.uint8), changed)


def test_statistics_of_closings(hand_made):
    statistics = GateStatistics(["a", "b"])
    statistics.add(hand_made, [closing_of(hand_made.prediction, levels, [0, 11]) for levels in ((1, 2), (4,))])
    first, second = statistics.closings()
    assert first == {
        "levels": [1, 2],
        "changed_share": pytest.approx(2 / 24),
        "by_class": {"a": pytest.approx(2 / 12), "b": 0.0},
        "by_distance": {"1-2": 0.25, "3-5": 0.0, "6-10": 0.0, "over 10": 0.25},
    }
    assert second == {**first, "levels": [4]}
    assert statistics.pixel_accuracy() is None


def test_what_became_wrong_and_right(hand_made):
    """The prediction has class b from pixel 12 on, the labels from pixel 10 on, and pixel 20 is ignored."""
    truth = np.array([[0] * 10 + [1] * 14], np.uint8)
    truth[0, 20] = 255
    statistics = GateStatistics(["a", "b"])
    statistics.add(hand_made, [closing_of(hand_made.prediction, (1,), [9, 10, 11, 20, 23])], truth)
    (closing,) = statistics.closings()
    wrong, right = closing["became_wrong"], closing["became_right"]
    assert statistics.pixel_accuracy() == pytest.approx(21 / 23)
    assert closing["pixel_accuracy"] == pytest.approx(21 / 23), "two became right, two became wrong"
    assert wrong["share"] == right["share"] == pytest.approx(2 / 23)
    assert wrong["by_class"] == {"a": 1 / 10, "b": 1 / 13}, "by what they are labelled"
    assert right["by_class"] == {"a": 0.0, "b": 2 / 13}
    assert wrong["by_distance"] == {"1-2": 1 / 4, "3-5": 0.0, "6-10": 0.0, "over 10": 1 / 3}
    assert right["by_distance"] == {"1-2": 2 / 4, "3-5": 0.0, "6-10": 0.0, "over 10": 0.0}
    assert closing["changed_share"] == pytest.approx(5 / 24), "of all pixels, the ignored one too"


def test_images_are_pooled_by_their_pixels(hand_made):
    """All at once, or merged: the numbers of one image that holds the pixels of both."""
    other = GateResult(tuple(np.full((2, 24), v, np.float32) for v in (0.2, 0.8)), np.ones((2, 24), np.uint8))
    truth = np.ones((2, 24), np.uint8)
    both, merged = GateStatistics(["a", "b"]), GateStatistics(["a", "b"])
    for image, labels in ((hand_made, None), (other, truth)):
        closings = [closing_of(image.prediction, (2,), [3])]
        both.add(image, closings, labels)
        one = GateStatistics(["a", "b"])
        one.add(image, closings, labels)
        merged.merge(one)
    assert both.pixels == merged.pixels == 72
    assert both.levels()[0]["mean"] == pytest.approx((4 + 48 * 0.2) / 72)
    assert both.levels()[1]["by_class"] == {"a": 0.25, "b": pytest.approx((12 * 0.75 + 48 * 0.8) / 60)}
    assert both.closings()[0]["changed_share"] == pytest.approx(2 / 72)
    assert both.pixel_accuracy() == 1
    assert both.closings()[0]["became_wrong"]["share"] == pytest.approx(1 / 48), "of the image that has labels"
    assert (both.levels(), both.closings()) == (merged.levels(), merged.closings())
    with pytest.raises(ValueError, match="closings"):
        both.add(hand_made, [])

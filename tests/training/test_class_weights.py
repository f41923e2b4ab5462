"""Class weights against loops over images, and by hand."""

import math
from statistics import median

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gffnet.errors import UserError
from gffnet.recipe import LossRecipe
from gffnet.training.losses import class_weights, needs_pixels

MEDIAN, ENET = LossRecipe(class_weighting="median_frequency"), LossRecipe(class_weighting="enet")
NAMES = ("road", "sky", "car")

counts = st.tuples(st.integers(1, 5), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.one_of(st.just(0), st.integers(0, 10**7)))
)


def names(pixels: np.ndarray) -> list[str]:
    return [f"class {i}" for i in range(pixels.shape[1])]


@given(pixels=counts)
def test_median_frequency_is_its_definition(pixels: np.ndarray) -> None:
    frequency = {}
    for c in range(pixels.shape[1]):
        images = [row for row in pixels.tolist() if row[c]]
        if images:
            frequency[c] = sum(row[c] for row in images) / sum(sum(row) for row in images)
    weights = class_weights(MEDIAN, names(pixels), pixels)
    assert weights is not None
    assert weights.dtype == torch.float32
    wanted = [median(frequency.values()) / frequency[c] if c in frequency else 1 for c in range(pixels.shape[1])]
    assert weights.tolist() == pytest.approx(wanted, rel=1e-6)


@given(pixels=counts)
def test_enet_is_its_definition(pixels: np.ndarray) -> None:
    whole = sum(sum(row) for row in pixels.tolist())
    weights = class_weights(ENET, names(pixels), pixels)
    assert weights is not None
    wanted = [1 / math.log(1.02 + n / whole) if n else 1 for n in pixels.sum(0).tolist()]
    assert weights.tolist() == pytest.approx(wanted, rel=1e-6)


def test_by_hand() -> None:
    pixels = np.array([[60, 30, 10], [80, 20, 0], [0, 0, 0]])
    # road: 140 of 200, sky: 50 of 200, car: 10 of the 100 in the image that shows it; the median is sky's quarter
    median_frequency = class_weights(MEDIAN, NAMES, pixels)
    assert median_frequency is not None
    assert median_frequency.tolist() == pytest.approx([0.25 / 0.7, 1, 2.5])
    enet = class_weights(ENET, NAMES, pixels)
    assert enet is not None
    assert enet.tolist() == pytest.approx([1 / math.log(1.72), 1 / math.log(1.27), 1 / math.log(1.07)])


@pytest.mark.parametrize("recipe", [MEDIAN, ENET])
def test_nothing_labelled_at_all_weighs_all_alike(recipe: LossRecipe) -> None:
    weights = class_weights(recipe, NAMES, np.zeros((2, 3), np.int64))
    assert weights is not None
    assert weights.tolist() == [1, 1, 1]


def test_weights_of_ones_own_are_taken_as_they_are() -> None:
    weights = class_weights(LossRecipe(class_weights=(0.5, 2.0, 1.0)), NAMES, None)
    assert weights is not None
    assert weights.dtype == torch.float32
    assert weights.tolist() == [0.5, 2, 1]


def test_as_many_as_there_are_classes() -> None:
    with pytest.raises(
        UserError,
        match=r"training\.loss\.class_weights has 2 values: allowed is one per class .* 3 \(road to car\)\. Give 3, or",
    ):
        class_weights(LossRecipe(class_weights=(0.5, 2.0)), NAMES, None)


def test_the_paper_has_none_and_counts_nothing() -> None:
    assert class_weights(LossRecipe(), NAMES, None) is None
    assert not needs_pixels(LossRecipe())
    assert not needs_pixels(LossRecipe(class_weights=(1.0, 2.0, 3.0)))
    assert needs_pixels(MEDIAN)
    assert needs_pixels(ENET)

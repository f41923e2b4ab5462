"""At what scale images of different sizes are seen."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gffnet.inference.predictor import fitted_protocol, fitting_scale
from gffnet.recipe import EvaluationRecipe

WHOLE = EvaluationRecipe(crop=None)
SIDES = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("size", "scale"),
    [
        ((360, 480), 1),
        ((720, 960), 1),
        ((480, 1280), 1),  # as wide as a street, no more pixels
        ((90, 120), 1),
        ((3024, 4032), 0.179),  # 1.5 x 480 / 4032
        ((4032, 3024), 0.179),
        ((1080, 1440), 0.5),
    ],
)
def test_by_hand(size: tuple[int, int], scale: float) -> None:
    assert fitting_scale(WHOLE, (360, 480), size) == scale


@given(SIDES, SIDES, SIDES, SIDES)
def test_it_is_seen_at_one_and_a_half_times_the_size_where_it_is_seen_smaller(a: int, b: int, h: int, w: int) -> None:
    scale = fitting_scale(WHOLE, (a, b), (h, w))
    times = math.sqrt(h * w / (a * b))
    assert 0 < scale <= 1
    assert (scale == 1) == (times <= 2)
    if scale < 1:
        assert scale * times == pytest.approx(1.5, rel=5e-3)


def test_not_where_the_size_is_not_known_nor_in_windows() -> None:
    assert fitting_scale(WHOLE, None, (3024, 4032)) == 1
    assert fitting_scale(EvaluationRecipe(crop=(512, 512)), (360, 480), (3024, 4032)) == 1


def test_the_scales_of_the_protocol_are_factors_of_it() -> None:
    protocol = replace(WHOLE, scales=(1.0, 1.5), flip=True)
    assert fitted_protocol(protocol, (360, 480), (1080, 1440)) == replace(protocol, scales=(0.5, 0.75))
    assert fitted_protocol(protocol, (360, 480), (360, 480)) is protocol

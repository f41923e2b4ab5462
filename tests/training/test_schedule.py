"""The poly schedule against its formula."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gffnet.training.optim import learning_rate_factor, poly


@given(iterations=st.integers(1, 10**6), share=st.floats(0, 1), power=st.floats(0.1, 3))
def test_poly_is_its_formula(iterations: int, share: float, power: float) -> None:
    iteration = int(share * iterations)
    assert poly(iteration, iterations, power) == pytest.approx((1 - iteration / iterations) ** power)


def test_poly_at_its_ends() -> None:
    assert poly(0, 100, 0.9) == 1
    assert poly(50, 100, 0.9) == pytest.approx(0.535887)
    assert poly(100, 100, 0.9) == poly(101, 100, 0.9) == 0


@pytest.mark.parametrize(("power", "wanted"), [(0.0, 1.0), (1.0, 0.25), (2.0, 0.0625), (0.5, 0.5)])
def test_poly_at_three_quarters(power: float, wanted: float) -> None:
    assert poly(75, 100, power) == pytest.approx(wanted)


def test_poly_never_rises() -> None:
    factors = [poly(i, 37, 0.9) for i in range(40)]
    assert factors == sorted(factors, reverse=True)


def test_without_warm_up_the_factor_is_that_of_poly() -> None:
    assert [learning_rate_factor(i, 37, 0.9) for i in range(40)] == [poly(i, 37, 0.9) for i in range(40)]


def test_warm_up_by_hand() -> None:
    factors = [learning_rate_factor(i, 10, 1.0, warm_up=4) for i in range(11)]
    wanted = [0.25 * 1.0, 0.5 * 0.9, 0.75 * 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    assert factors == pytest.approx(wanted)


@given(iterations=st.integers(1, 2000), warm_up=st.integers(0, 3000), iteration=st.integers(0, 3000))
def test_warm_up_never_exceeds_the_schedule_and_ends(iterations: int, warm_up: int, iteration: int) -> None:
    factor, wanted = learning_rate_factor(iteration, iterations, 0.9, warm_up), poly(iteration, iterations, 0.9)
    assert 0 <= factor <= wanted
    assert (factor > 0) == (wanted > 0)
    if iteration >= warm_up - 1:
        assert factor == wanted

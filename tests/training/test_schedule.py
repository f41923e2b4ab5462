"""The poly schedule against its formula, and the groups against the network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gffnet.training.schedule import parameter_groups, poly


@given(iterations=st.integers(1, 10**6), share=st.floats(0, 1), power=st.floats(0.1, 3))
def test_poly_is_its_formula(iterations: int, share: float, power: float) -> None:
    iteration = int(share * iterations)
    assert poly(iteration, iterations, power) == pytest.approx((1 - iteration / iterations) ** power)


def test_poly_at_its_ends() -> None:
    assert poly(0, 100, 0.9) == 1
    assert poly(50, 100, 0.9) == pytest.approx(0.535887)
    assert poly(100, 100, 0.9) == poly(101, 100, 0.9) == 0


def test_two_groups_with_a_rate_each() -> None:
    backbone, new = nn.Linear(2, 3), [nn.Linear(3, 4), nn.BatchNorm2d(4)]
    groups = parameter_groups(backbone, new, 1e-2, 10)
    assert [group["lr"] for group in groups] == [1e-2, pytest.approx(0.1)]
    grouped = [p for group in groups for p in group["params"]]
    everything = [*backbone.parameters(), *(p for module in new for p in module.parameters())]
    assert [id(p) for p in grouped] == [id(p) for p in everything]

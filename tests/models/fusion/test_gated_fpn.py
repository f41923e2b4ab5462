from typing import ClassVar

import torch

from gffnet.models.fusion import GatedFPN
from tests.models import naive
from tests.models.fusion.contract import CHANNELS, FusionContract


class TestGatedFPN(FusionContract):
    kind = GatedFPN
    takes_context = True
    gate_channels = 1

    def equation(self, fusion, x, g):
        def fused(level):
            if level == len(x) - 1:
                return x[level]
            received = naive.resize(g[level + 1] * fused(level + 1), x[level].shape[-2:])
            return (1 + g[level]) * x[level] + (1 - g[level]) * received

        return [fused(level) for level in range(len(x))]


class TestGatedFPNWithAGateAChannel(TestGatedFPN):
    options: ClassVar = {"gate_channels": "each"}
    gate_channels = CHANNELS


def test_hand_made():
    """Three levels of one value: the middle one receives 3 · 0.5, the lowest 0.25 of what the middle has become."""
    x = [torch.full((1, 1, 1, 1), value) for value in (1.0, 2.0, 3.0)]
    g = [torch.full((1, 1, 1, 1), value) for value in (0.0, 0.25, 0.5)]
    mixed = GatedFPN((1, 1, 1), 1).mix(x, g)
    middle = 1.25 * 2 + 0.75 * (0.5 * 3)
    assert [m.item() for m in mixed] == [1 + 0.25 * middle, middle, 3]

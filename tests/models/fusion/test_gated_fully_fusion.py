from typing import ClassVar

import torch

from gffnet.models.fusion import GatedFullyFusion
from tests.models import naive
from tests.models.fusion.contract import CHANNELS, FusionContract
from tests.models.naive import assert_equal, random_maps


class TestGatedFullyFusion(FusionContract):
    kind = GatedFullyFusion
    gate_channels = 1

    def equation(self, fusion, x, g):
        """Eq. (5)."""
        fused = []
        for level in range(len(x)):
            received = torch.zeros_like(x[level])
            for i in range(len(x)):
                if i != level:
                    received = received + naive.resize(g[i] * x[i], x[level].shape[-2:])
            fused.append((1 + g[level]) * x[level] + (1 - g[level]) * received)
        return fused


class TestGatedFullyFusionWithAGateAChannel(TestGatedFullyFusion):
    options: ClassVar = {"gate_channels": "each"}
    gate_channels = CHANNELS


def test_levels_are_fused_at_once():
    """Two levels of one value. Fused one after the other, the second would receive from what the first has become."""
    x = [torch.full((1, 1, 1, 1), value) for value in (2.0, 3.0)]
    g = [torch.full((1, 1, 1, 1), value) for value in (0.25, 0.5)]
    first, second = GatedFullyFusion((1, 1), 1).mix(x, g)
    assert first.item() == 1.25 * 2 + 0.75 * (0.5 * 3)
    assert second.item() == 1.5 * 3 + 0.5 * (0.25 * 2)


def test_levels_whose_gates_are_closed_neither_send_nor_change():
    fusion = naive.randomised(GatedFullyFusion((3, 3, 3), 4))
    x = fusion.reduce(random_maps((3, 3, 3), [(8, 8), (4, 4), (4, 4)]))
    closed = [torch.zeros(2, 1, *m.shape[-2:], dtype=torch.float64) for m in x]
    assert_equal(fusion.mix(x, closed), x)


def test_a_level_whose_gate_is_open_is_doubled_and_receives_nothing():
    fusion = naive.randomised(GatedFullyFusion((3, 3, 3), 4))
    x = fusion.reduce(random_maps((3, 3, 3), [(8, 8), (4, 4), (4, 4)]))
    gates = [
        torch.full((2, 1, *m.shape[-2:]), value, dtype=torch.float64) for m, value in zip(x, (1, 0.3, 0.6), strict=True)
    ]
    assert_equal(fusion.mix(x, gates)[0], 2 * x[0])


def test_parameters_for_a_resnet_101():
    """1x1 reductions, two 3x3 convolutions a level, their normalisation, and a gate of C_l + 1 weights a level."""
    widths = (256, 512, 1024, 2048)
    with torch.device("meta"):
        fusion = GatedFullyFusion(widths)
    expected = 256 * sum(widths) + 8 * 589_824 + 12 * 2 * 256 + sum(widths) + 4
    assert sum(p.numel() for p in fusion.parameters()) == expected == 5_711_620

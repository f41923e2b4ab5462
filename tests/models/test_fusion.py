"""Every fusion against its equation. Inherit `FusionContract` to test one of your own."""

import re
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gffnet.models.fusion import FPN, Addition, Concat, Fusion, GatedFPN, GatedFullyFusion
from gffnet.models.ops import use_reference
from tests.models import naive
from tests.models.naive import (
    BACKBONE_SIZES,
    Size,
    assert_equal,
    assert_implementations_agree,
    bfloat16_errors,
    pyramid_sizes,
    random_maps,
)

IN_CHANNELS = (3, 5, 4, 6, 2)
CHANNELS = 4

inherited = settings(suppress_health_check=[HealthCheck.differing_executors])


class FusionContract:
    """Inherit, set `kind`, write `equation`."""

    kind: ClassVar[type[Fusion]]
    options: ClassVar[dict[str, Any]] = {}
    """Arguments of the class beyond the channels."""
    takes_context: ClassVar[bool] = False
    gate_channels: ClassVar[int | None] = None
    """Channels of a gate map; None: the fusion has no gates."""

    def equation(self, fusion: Any, x: list[Tensor], g: list[Tensor] | None) -> list[Tensor]:
        """The fusion's equation for reduced maps `x` and gates `g`, written out, before refinement."""
        raise NotImplementedError

    def build(self, levels: int) -> Any:
        """The fusion with random weights, in float64."""
        return naive.randomized(self.kind(IN_CHANNELS[:levels], CHANNELS, **self.options))

    def expected(self, fusion: Any, maps: list[Tensor], edit: Any = None) -> list[Tensor]:
        """Reduction, gates, the equation and refinement, from the parameters alone."""
        x = [naive.block(reduction, m) for reduction, m in zip(fusion.reductions, maps, strict=True)]
        g = None
        if self.gate_channels is not None:
            g = [1 / (1 + (-naive.conv(conv, m)).exp()) for conv, m in zip(fusion.gate_convs, maps, strict=True)]
            g = g if edit is None else edit(g)
        return [
            naive.blocks(refinement, m)
            for refinement, m in zip(fusion.refinements, self.equation(fusion, x, g), strict=True)
        ]

    @pytest.mark.parametrize("reference", [False, True])
    @inherited
    @given(sizes=pyramid_sizes())
    def test_equals_its_equation(self, reference: bool, sizes: list[Size]):
        fusion = self.build(len(sizes))
        use_reference(fusion, reference)
        maps = random_maps(fusion.in_channels, sizes)
        before = [x.clone() for x in maps]
        assert_equal(fusion(maps), self.expected(fusion, before))
        assert_equal(maps, before)

    @inherited
    @given(sizes=pyramid_sizes(), edited=st.sets(st.integers(0, 4), min_size=1), value=st.sampled_from([0.0, 0.3, 1.0]))
    def test_edited_gates_are_what_the_equation_takes(self, sizes: list[Size], edited: set[int], value: float):
        edited = {i % len(sizes) for i in edited}
        fusion = self.build(len(sizes))
        if self.gate_channels is None:
            return

        def edit(gates: list[Tensor]) -> list[Tensor]:
            return [torch.full_like(g, value) if i in edited else g for i, g in enumerate(gates)]

        maps = random_maps(fusion.in_channels, sizes)
        assert_equal(fusion.fuse(fusion.reduce(maps), edit(fusion.gates(maps))), self.expected(fusion, maps, edit))

    @pytest.mark.parametrize("sizes", BACKBONE_SIZES)
    def test_shapes(self, sizes: list[Size]):
        fusion = self.build(4)
        maps = random_maps(fusion.in_channels, sizes)
        reduced, gates, fused = fusion.reduce(maps), fusion.gates(maps), fusion(maps)
        expected = [(2, CHANNELS, *size) for size in sizes]
        assert fusion.channels == CHANNELS
        assert [tuple(x.shape) for x in reduced] == expected
        assert [tuple(x.shape) for x in fused] == expected
        if self.gate_channels is None:
            assert gates is None
        else:
            assert [tuple(g.shape) for g in gates] == [(2, self.gate_channels, *size) for size in sizes]
            assert all(g.min() >= 0 and g.max() <= 1 for g in gates)

    def test_gates_stay_within_0_and_1_for_maps_of_any_magnitude(self):
        fusion = self.build(4)
        for gate in fusion.gates([1e6 * x for x in random_maps(fusion.in_channels, BACKBONE_SIZES[0])]) or []:
            assert gate.isfinite().all()
            assert gate.min() >= 0
            assert gate.max() <= 1

    def test_is_built_with_256_channels_by_default(self):
        with torch.device("meta"):
            fusion = self.kind((8, 16), **self.options)
        assert fusion.channels == 256
        assert fusion.in_channels == (8, 16)
        assert fusion.takes_context is self.takes_context

    def test_maps_are_reduced_by_1x1_and_refined_by_two_3x3_convolutions(self):
        fusion = self.build(4)
        assert [r.conv.weight.shape for r in fusion.reductions] == [(CHANNELS, c, 1, 1) for c in IN_CHANNELS[:4]]
        refined = [[block.conv.weight.shape for block in refinement] for refinement in fusion.refinements]
        assert refined == [[(CHANNELS, CHANNELS, 3, 3)] * 2] * 4

    @pytest.mark.parametrize("sizes", BACKBONE_SIZES)
    def test_reference_and_efficient_agree_with_their_gradients(self, sizes: list[Size]):
        fusion = self.build(4)
        maps = random_maps(fusion.in_channels, sizes)
        assert_implementations_agree(fusion, lambda m: m(maps), maps)

    def test_training_reaches_every_parameter(self):
        fusion = self.build(4).train()
        maps = random_maps(fusion.in_channels, BACKBONE_SIZES[0])
        sum((x * torch.randn_like(x)).sum() for x in fusion(maps)).backward()
        unreached = [name for name, p in fusion.named_parameters() if p.grad is None or not p.grad.any()]
        assert unreached == []

    def test_images_of_a_batch_are_independent(self):
        fusion = self.build(4)
        maps = random_maps(fusion.in_channels, BACKBONE_SIZES[0], batch=3)
        together = fusion(maps)
        for i in range(3):
            assert_equal(fusion([x[i : i + 1] for x in maps]), [x[i : i + 1] for x in together])

    def test_bfloat16_error_is_no_larger_than_that_of_the_reference(self):
        fusion = naive.randomized(self.kind((8, 16, 32, 64), 32, **self.options))
        maps = random_maps(fusion.in_channels, [(32, 32), (16, 16), (16, 16), (16, 16)])
        efficient, reference = bfloat16_errors(fusion, lambda m, x: m(x), maps)
        assert efficient <= 1.2 * reference
        fused = fusion.bfloat16()([x.bfloat16() for x in maps])
        assert {x.dtype for x in fused} == {torch.bfloat16}

    def test_a_state_saved_from_either_form_loads_into_the_other(self):
        efficient, reference = self.build(4), self.build(4)
        use_reference(reference)
        reference.load_state_dict(efficient.state_dict())
        maps = random_maps(efficient.in_channels, BACKBONE_SIZES[0])
        assert list(reference.state_dict()) == list(efficient.state_dict())
        assert_equal(reference(maps), efficient(maps))

    def test_one_level_is_refused(self):
        with pytest.raises(ValueError, match=r"in_channels is \[8\], but a fusion needs at least two levels"):
            self.kind((8,), **self.options)

    @pytest.mark.parametrize("levels", [3, 5])
    def test_another_number_of_maps_is_refused(self, levels: int):
        fusion, maps = self.build(4), random_maps(IN_CHANNELS[:levels], [(3, 3)] * levels)
        refusal = rf"was built for 4 maps of .* channels and got {levels}"
        with pytest.raises(ValueError, match=refusal):
            fusion(maps)
        if self.gate_channels:
            with pytest.raises(ValueError, match=refusal):
                fusion.gates(maps)

    def test_maps_in_the_wrong_order_are_refused(self):
        maps = random_maps(IN_CHANNELS[:4], [(3, 3)] * 4)
        with pytest.raises(ValueError, match=r"was built for maps of \[.*\] channels, finest first, and got \["):
            self.build(4)(maps[::-1])

    @pytest.mark.parametrize("refinement", [0, 1, 3])
    def test_another_number_of_refining_convolutions(self, refinement: int):
        fusion = naive.randomized(self.kind(IN_CHANNELS[:3], CHANNELS, **self.options, refinement=refinement))
        assert [len(r) for r in fusion.refinements] == [refinement] * 3
        maps = random_maps(fusion.in_channels, [(8, 8), (4, 4), (2, 2)])
        mixed = fusion.mix(fusion.reduce(maps), fusion.gates(maps))
        assert_equal(fusion(maps), [naive.blocks(r, x) for r, x in zip(fusion.refinements, mixed, strict=True)])

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"in_channels": (0, 8)}, "in_channels must be a whole number above 0, not [0, 8]"),
            ({"channels": 0}, "channels must be a whole number above 0, not 0"),
            ({"refinement": -1}, "refinement must be 0 or more 3x3 convolutions, not -1"),
        ],
    )
    def test_what_it_cannot_be_built_with(self, arguments: dict[str, Any], said: str):
        with pytest.raises(ValueError, match=rf"^{self.kind.__name__}: {re.escape(said)}$"):
            self.kind(**{"in_channels": (4, 8), **arguments, **self.options})


class TestConcat(FusionContract):
    kind = Concat

    def equation(self, fusion, x, g):
        """Eq. (2), H_l a 1x1 block."""
        return [
            naive.block(project, naive.resized_cat(x, level.shape[-2:]))
            for project, level in zip(fusion.projections, x, strict=True)
        ]


class TestAddition(FusionContract):
    kind = Addition

    def equation(self, fusion, x, g):
        """Eq. (3)."""
        return [sum(naive.resize(other, level.shape[-2:]) for other in x) for level in x]


class TestFPN(FusionContract):
    kind = FPN
    takes_context = True

    def equation(self, fusion, x, g):
        """Eq. (4)."""

        def fused(level):
            if level == len(x) - 1:
                return x[level]
            return x[level] + naive.resize(fused(level + 1), x[level].shape[-2:])

        return [fused(level) for level in range(len(x))]


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


class TestGatedFPNWithAGatePerChannel(TestGatedFPN):
    options: ClassVar = {"gate_channels": "each"}
    gate_channels = CHANNELS


def test_gated_fpn_by_hand():
    """Three levels of one value: the middle one receives 3 · 0.5, the lowest 0.25 of what the middle has become."""
    x = [torch.full((1, 1, 1, 1), value) for value in (1.0, 2.0, 3.0)]
    g = [torch.full((1, 1, 1, 1), value) for value in (0.0, 0.25, 0.5)]
    mixed = GatedFPN((1, 1, 1), 1).mix(x, g)
    middle = 1.25 * 2 + 0.75 * (0.5 * 3)
    assert [m.item() for m in mixed] == [1 + 0.25 * middle, middle, 3]


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


class TestGatedFullyFusionWithAGatePerChannel(TestGatedFullyFusion):
    options: ClassVar = {"gate_channels": "each"}
    gate_channels = CHANNELS


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        (lambda maps: maps[1:], r"Own\.mix must return 3 maps of \[4, 4, 4\] channels and got 2"),
        (lambda maps: [x[:, :1] for x in maps], r"Own\.mix must return maps of \[4, 4, 4\] .*, and got \[1, 1, 1\]"),
    ],
)
def test_a_mix_that_does_not_return_a_map_per_level_is_refused(mix: Callable[[Any], Any], said: str):
    class Own(Fusion):
        def mix(self, reduced: Any, gates: Any) -> Any:
            return mix(reduced)

    with pytest.raises(ValueError, match=said):
        Own((2, 3, 5), 4)([torch.zeros(2, channels, 4, 4) for channels in (2, 3, 5)])


def test_levels_are_fused_at_once():
    """Two levels of one value. Fused one after the other, the second would receive from what the first has become."""
    x = [torch.full((1, 1, 1, 1), value) for value in (2.0, 3.0)]
    g = [torch.full((1, 1, 1, 1), value) for value in (0.25, 0.5)]
    first, second = GatedFullyFusion((1, 1), 1).mix(x, g)
    assert first.item() == 1.25 * 2 + 0.75 * (0.5 * 3)
    assert second.item() == 1.5 * 3 + 0.5 * (0.25 * 2)


def test_levels_whose_gates_are_closed_neither_send_nor_change():
    fusion = naive.randomized(GatedFullyFusion((3, 3, 3), 4))
    x = fusion.reduce(random_maps((3, 3, 3), [(8, 8), (4, 4), (4, 4)]))
    closed = [torch.zeros(2, 1, *m.shape[-2:], dtype=torch.float64) for m in x]
    assert_equal(fusion.mix(x, closed), x)


def test_a_level_whose_gate_is_open_is_doubled_and_receives_nothing():
    fusion = naive.randomized(GatedFullyFusion((3, 3, 3), 4))
    x = fusion.reduce(random_maps((3, 3, 3), [(8, 8), (4, 4), (4, 4)]))
    gates = [
        torch.full((2, 1, *m.shape[-2:]), value, dtype=torch.float64) for m, value in zip(x, (1, 0.3, 0.6), strict=True)
    ]
    assert_equal(fusion.mix(x, gates)[0], 2 * x[0])


def test_parameters_of_gff_for_a_resnet_101():
    """1x1 reductions, two 3x3 convolutions a level, their normalisation, and a gate of C_l + 1 weights a level."""
    in_channels = (256, 512, 1024, 2048)
    with torch.device("meta"):
        fusion = GatedFullyFusion(in_channels)
    expected = 256 * sum(in_channels) + 8 * 589_824 + 12 * 2 * 256 + sum(in_channels) + 4
    assert sum(p.numel() for p in fusion.parameters()) == expected == 5_711_620

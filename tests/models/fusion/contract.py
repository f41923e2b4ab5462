"""What every fusion must do. A fusion's test inherits `FusionContract`, names the fusion and writes its equation."""

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gffnet.models.fusion import Fusion
from gffnet.models.ops import use_reference
from tests.models import naive
from tests.models.naive import (
    BACKBONE_SIZES,
    Size,
    assert_equal,
    assert_forms_agree,
    bfloat16_errors,
    pyramid_sizes,
    random_maps,
)

WIDTHS = (3, 5, 4, 6, 2)
CHANNELS = 4

inherited = settings(suppress_health_check=[HealthCheck.differing_executors])


class FusionContract:
    """Inherit, set `kind`, write `equation`."""

    kind: ClassVar[type[Fusion]]
    options: ClassVar[dict[str, Any]] = {}
    """Arguments of the class beyond widths and channels."""
    takes_context: ClassVar[bool] = False
    gate_channels: ClassVar[int | None] = None
    """Channels of a gate map; None: the fusion has no gates."""

    def equation(self, fusion: Any, x: list[Tensor], g: list[Tensor] | None) -> list[Tensor]:
        """The fusion's equation for reduced maps `x` and gates `g`, written out, before refinement."""
        raise NotImplementedError

    def build(self, levels: int) -> Any:
        """The fusion with random weights, in float64."""
        return naive.randomised(self.kind(WIDTHS[:levels], CHANNELS, **self.options))

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

    @pytest.mark.parametrize("plain", [False, True])
    @inherited
    @given(sizes=pyramid_sizes())
    def test_equals_its_equation(self, plain: bool, sizes: list[Size]):
        fusion = self.build(len(sizes))
        use_reference(fusion, plain)
        maps = random_maps(fusion.widths, sizes)
        before = [x.clone() for x in maps]
        fused = fusion.fuse(fusion.reduce(maps), fusion.gates(maps))
        assert_equal(fused, self.expected(fusion, before))
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

        maps = random_maps(fusion.widths, sizes)
        assert_equal(fusion.fuse(fusion.reduce(maps), edit(fusion.gates(maps))), self.expected(fusion, maps, edit))

    @pytest.mark.parametrize("training", [False, True])
    def test_forward_is_fuse_of_reduced_maps_and_gates(self, training: bool):
        fusion = self.build(4).train(training)
        maps = random_maps(fusion.widths, BACKBONE_SIZES[0])
        assert_equal(fusion(maps), fusion.fuse(fusion.reduce(maps), fusion.gates(maps)), 0)

    @pytest.mark.parametrize("sizes", BACKBONE_SIZES)
    def test_shapes(self, sizes: list[Size]):
        fusion = self.build(4)
        maps = random_maps(fusion.widths, sizes)
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
        for gate in fusion.gates([1e6 * x for x in random_maps(fusion.widths, BACKBONE_SIZES[0])]) or []:
            assert gate.isfinite().all()
            assert gate.min() >= 0
            assert gate.max() <= 1

    def test_is_built_with_256_channels_unless_told(self):
        with torch.device("meta"):
            fusion = self.kind((8, 16), **self.options)
        assert fusion.channels == 256
        assert fusion.widths == (8, 16)
        assert fusion.takes_context is self.takes_context

    def test_maps_are_reduced_by_1x1_and_refined_by_two_3x3_convolutions(self):
        fusion = self.build(4)
        assert [r.conv.weight.shape for r in fusion.reductions] == [(CHANNELS, width, 1, 1) for width in WIDTHS[:4]]
        refined = [[block.conv.weight.shape for block in refinement] for refinement in fusion.refinements]
        assert refined == [[(CHANNELS, CHANNELS, 3, 3)] * 2] * 4

    @pytest.mark.parametrize("sizes", BACKBONE_SIZES)
    def test_both_forms_and_their_gradients_agree(self, sizes: list[Size]):
        fusion = self.build(4)
        maps = random_maps(fusion.widths, sizes)
        assert_forms_agree(fusion, lambda m: m(maps), maps)

    def test_training_reaches_every_parameter(self):
        fusion = self.build(4).train()
        maps = random_maps(fusion.widths, BACKBONE_SIZES[0])
        sum((x * torch.randn_like(x)).sum() for x in fusion(maps)).backward()
        unreached = [name for name, p in fusion.named_parameters() if p.grad is None or not p.grad.any()]
        assert unreached == []

    def test_images_of_a_batch_do_not_touch_each_other(self):
        fusion = self.build(4)
        maps = random_maps(fusion.widths, BACKBONE_SIZES[0], batch=3)
        together = fusion(maps)
        for i in range(3):
            assert_equal(fusion([x[i : i + 1] for x in maps]), [x[i : i + 1] for x in together])

    def test_bfloat16_runs_and_errs_no_more_than_the_plain_form(self):
        fusion = naive.randomised(self.kind((8, 16, 32, 64), 32, **self.options))
        maps = random_maps(fusion.widths, [(32, 32), (16, 16), (16, 16), (16, 16)])
        cheap, plain = bfloat16_errors(fusion, lambda m, x: m(x), maps)
        assert cheap <= 1.2 * plain
        fused = fusion.bfloat16()([x.bfloat16() for x in maps])
        assert {x.dtype for x in fused} == {torch.bfloat16}

    def test_a_state_saved_from_either_form_loads_into_the_other(self):
        cheap, plain = self.build(4), self.build(4)
        use_reference(plain)
        plain.load_state_dict(cheap.state_dict())
        maps = random_maps(cheap.widths, BACKBONE_SIZES[0])
        assert list(plain.state_dict()) == list(cheap.state_dict())
        assert_equal(plain(maps), cheap(maps))

    def test_one_level_is_refused(self):
        with pytest.raises(ValueError, match=r"a fusion needs at least two levels, but widths is \[8\]"):
            self.kind((8,), **self.options)

    @pytest.mark.parametrize("levels", [3, 5])
    def test_another_number_of_maps_is_refused(self, levels: int):
        with pytest.raises(ValueError, match="zip"):
            self.build(4)(random_maps(WIDTHS[:levels], [(3, 3)] * levels))

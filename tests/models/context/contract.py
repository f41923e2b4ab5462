"""What every context module must do."""

from typing import Any, ClassVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from gffnet.models.context import Context
from tests.models import naive
from tests.models.naive import Size, assert_equal, assert_forms_agree, bfloat16_errors, sides

inherited = settings(suppress_health_check=[HealthCheck.differing_executors], max_examples=10)


class ContextContract:
    """Inherit, set `kind`, write `equation`."""

    kind: ClassVar[type[Context]]

    def equation(self, context: Any, x: Tensor) -> Tensor:
        """The module's definition, written out from its parameters."""
        raise NotImplementedError

    def build(self, in_width: int = 8) -> Any:
        """The context with random weights, in float64, its result narrowed to that of a small network."""
        return naive.randomised(self.kind(in_width))

    @inherited
    @given(size=sides(13))
    def test_equals_its_definition(self, size: Size):
        context = self.build()
        x = torch.randn(2, 8, *size, dtype=torch.float64)
        before = x.clone()
        assert_equal(context(x), self.equation(context, before))
        assert_equal(x, before)

    @pytest.mark.parametrize(("in_width", "width"), [(512, 256), (1024, 256), (2048, 512)])
    def test_width_is_a_quarter_of_the_input_s_and_at_least_256(self, in_width: int, width: int):
        with torch.device("meta"):
            context = self.kind(in_width)
            assert context(torch.zeros(2, in_width, 5, 7)).shape == (2, width, 5, 7)
        assert (context.in_width, context.width) == (in_width, width)

    def test_both_forms_and_their_gradients_agree(self):
        context, x = self.build(), torch.randn(2, 8, 7, 9, dtype=torch.float64)
        assert_forms_agree(context, lambda m: m(x), [x])

    @pytest.mark.parametrize("size", [(6, 7), (1, 1)])
    def test_trains_with_one_image(self, size: Size):
        context = self.build().train()
        y = context(torch.randn(1, 8, *size, dtype=torch.float64))
        (y * torch.randn_like(y)).sum().backward()
        assert y.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in context.parameters())

    def test_training_reaches_every_parameter(self):
        context = self.build().train()
        y = context(torch.randn(2, 8, 12, 13, dtype=torch.float64))
        (y * torch.randn_like(y)).sum().backward()
        assert [name for name, p in context.named_parameters() if not p.grad.any()] == []

    def test_images_of_a_batch_do_not_touch_each_other(self):
        context, x = self.build(), torch.randn(3, 8, 7, 9, dtype=torch.float64)
        together = context(x)
        for i in range(3):
            assert_equal(context(x[i : i + 1]), together[i : i + 1])

    def test_bfloat16_error_is_near_the_plain_form_s(self):
        context, x = self.build(64), torch.randn(2, 64, 33, 33, dtype=torch.float64)
        cheap, plain = bfloat16_errors(context, lambda m, inputs: m(inputs[0]), [x])
        assert cheap <= 1.5 * plain

import pytest
import torch
import torch.nn.functional as F

from gffnet.models.backbones import Halve, HalveDilated


@pytest.mark.parametrize("size", [(1, 1), (4, 6), (5, 6), (5, 9)])
def test_halve_is_the_average_over_what_there_is(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(Halve()(x), F.avg_pool2d(x, 2, ceil_mode=True), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(1, 2), (8, 12), (7, 11), (9, 13), (10, 6)])
@pytest.mark.parametrize("step", [1, 2, 4])
def test_the_dilated_form_sampled_is_the_strided_one(size: tuple[int, int], step: int) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    fine = HalveDilated(step)(x)
    assert fine.shape == x.shape
    coarse = Halve()(x[..., ::step, ::step])
    torch.testing.assert_close(fine[..., :: 2 * step, :: 2 * step], coarse, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pool", [Halve(), HalveDilated(2)])
def test_channels_last_stays(pool: torch.nn.Module) -> None:
    x = torch.randn(2, 3, 5, 6).contiguous(memory_format=torch.channels_last)
    assert pool(x).is_contiguous(memory_format=torch.channels_last)


def test_the_step_is_shown() -> None:
    assert str(HalveDilated(2)) == "HalveDilated(step=2)"

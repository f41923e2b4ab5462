"""Measuring the speed of training: what is measured, and that the numbers are of one another."""

import pytest
import torch

from gffnet.data.camvid import CAMVID
from gffnet.training import dry_run as throughput
from gffnet.training.dry_run import SECONDS, Setup, measurable, measure, plan_memory, product_speed
from tests import tiny

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_measurement(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "SECONDS", 1.0)
    setup = Setup(tiny.recipe(batch=4), len(CAMVID.names), CPU, dtype)
    seen: list[tuple[int, int]] = []
    found = measure(setup, plan_memory(setup, 4), 10**6, 2, lambda done, total: seen.append((done, total)))
    assert (found.images, found.crop) == (2, (32, 48))
    assert found.images_per_second > 0
    # With the step of the optimiser it is slower than the passes alone.
    assert found.images_per_second < found.flops_per_second / 10**6
    assert found.product_flops_per_second > 1e8
    assert found.processor is not None
    assert 0 < found.processor < 1.5
    assert seen[0] == (0, 11)
    assert len(seen) == found.passes + 1
    assert 1 <= found.passes <= 10


def test_a_smaller_image_is_scaled_to_the_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "SECONDS", 0.5)
    monkeypatch.setattr(throughput, "product_speed", lambda *_: 1e9)
    setup = Setup(tiny.recipe(batch=1, crop=[512, 512]), len(CAMVID.names), CPU, torch.float32)
    found = measure(setup, plan_memory(setup, 1), 10**9, 1)
    assert found.crop == (96, 96)
    assert found.product_flops_per_second == 1e9
    pixels = (96 * 96) / (512 * 512)
    seconds = pixels * 10**9 / found.flops_per_second
    assert found.images_per_second == pytest.approx(pixels / seconds, rel=0.5)


def test_what_is_measured() -> None:
    third = SECONDS / 3
    assert measurable(8, 8, (864, 864), third / 100) == (8, (864, 864))
    assert measurable(8, 4, (864, 864), third / 100) == (4, (864, 864))
    assert measurable(8, 8, (864, 864), third / 5) == (4, (864, 864))
    assert measurable(9, 8, (864, 864), third / 5) == (3, (864, 864))
    assert measurable(8, 8, (864, 864), third) == (1, (864, 864))
    assert measurable(8, 8, (864, 864), third * 4) == (1, (432, 432))
    assert measurable(8, 8, (240, 480), third * 4) == (1, (112, 240))
    assert measurable(8, 8, (32, 48), third * 1e6) == (1, (32, 48)), "no larger than the recipe's"
    assert measurable(8, 8, (864, 864), third * 1e6) == (1, (64, 64))


def test_the_speed_of_a_matrix_product() -> None:
    assert product_speed(CPU, torch.float32) > 1e8

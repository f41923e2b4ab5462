"""Planned memory against what real tensors hold: the same sums by other means."""

import dataclasses
import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from gffnet.data.camvid import CAMVID
from gffnet.recipe import Recipe
from gffnet.training import dry_run as memory
from gffnet.training.dry_run import (
    ALLOWANCE,
    COPIES,
    LiveBytes,
    Memory,
    Rehearsal,
    Setup,
    Working,
    free_memory,
    is_out_of_memory,
    largest_crop,
    plan_memory,
    random_batch,
    working,
)
from gffnet.training.optim import make_optimizer
from tests import tiny

CPU = torch.device("cpu")
CLASSES = len(CAMVID.names)


def setup(recipe: Recipe, dtype: torch.dtype = torch.float32) -> Setup:
    return Setup(recipe, CLASSES, CPU, dtype)


def on_meta(recipe: Recipe) -> Rehearsal:
    with torch.device("meta"):
        return Rehearsal(recipe, CLASSES)


def saved_bytes(of: Setup, rehearsal: Rehearsal, batch: tuple[Tensor, Tensor]) -> int:
    """What autograd saves for the backward pass, each storage once, weights and what is there already not."""
    there = {t.untyped_storage().data_ptr() for t in [*rehearsal.state_dict().values(), *batch]}
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor), of.precision():
        loss = rehearsal(*batch)
    size = sum(t.untyped_storage().nbytes() for place, t in saved.items() if place not in there)
    del loss
    return size


@pytest.mark.parametrize("model", [tiny.PSPNET, tiny.GFFNET], ids=["pspnet", "gffnet"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_are_what_autograd_saves(model: dict[str, Any], dtype: torch.dtype) -> None:
    of = setup(tiny.recipe(model, crop=[64, 96]), dtype)
    planned = working(of, on_meta(of.recipe), 3)
    rehearsal = Rehearsal(of.recipe, CLASSES)
    real = saved_bytes(of, rehearsal, random_batch(3, 3, (64, 96), CLASSES, CPU)) + 4  # and the loss
    # In lower precision fake tensors have the statistics of normalisation in it, too; real ones in float32.
    channels = sum(m.num_features for m in rehearsal.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert 0 <= real - planned.activations <= (0 if dtype == torch.float32 else 4 * channels)


def test_the_peak_is_that_of_real_tensors() -> None:
    of = setup(tiny.recipe(tiny.GFFNET, crop=[64, 96]))
    planned = working(of, on_meta(of.recipe), 2)
    rehearsal = Rehearsal(of.recipe, CLASSES)
    batch = random_batch(2, 3, (64, 96), CLASSES, CPU)
    gradients = []
    for parameter in rehearsal.parameters():
        parameter.grad = torch.zeros_like(parameter)
        gradients.append(parameter.grad)
    gc.collect()
    with LiveBytes([*rehearsal.parameters(), *rehearsal.buffers(), *gradients, *batch]) as live:
        loss = rehearsal(*batch)
        activations = live.now
        loss.backward()
    assert Working(activations, live.peak) == planned
    assert planned.peak > planned.activations


def test_live_bytes_count_a_storage_once_and_as_long_as_it_lives() -> None:
    held = torch.ones(1000)
    with LiveBytes([held]) as live:
        held.view(10, 100).add_(1)
        assert live.now == 0
        x = torch.ones(1000)
        y = x.view(10, 100)[:5].t()
        assert live.now == 4000
        del x
        assert live.now == 4000
        z = y + 1
        assert live.now == 4000 + z.untyped_storage().nbytes()
        del y, z
    assert live.now == 0
    assert live.peak == 6000


@pytest.mark.parametrize("name", COPIES)
def test_the_state_of_every_optimizer(name: str) -> None:
    recipe = tiny.recipe(optimizer=name, batch=1)
    rehearsal = Rehearsal(recipe, CLASSES)
    optimizer = make_optimizer(rehearsal.network, rehearsal.auxiliary, recipe.training)
    for parameter in rehearsal.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    values = [v for state in optimizer.state.values() for v in state.values() if torch.is_tensor(v) and v.ndim]
    planned = plan_memory(setup(recipe), 1)
    assert planned.optimizer == sum(v.numel() * v.element_size() for v in values)
    assert planned.gradients == sum(4 * p.numel() for p in rehearsal.parameters())
    assert planned.weights == sum(v.numel() * v.element_size() for v in rehearsal.state_dict().values())


def test_what_recipes_change() -> None:
    plain, lean, averaged = (
        plan_memory(setup(tiny.recipe(**training)), share)
        for share, training in (
            (1, {}),
            (4, {"freeze_norms": True, "momentum": 0.0, "device_batch": 2}),
            (1, {"ema": 0.99}),
        )
    )
    assert plain.average == 0
    assert 0 < averaged.average < averaged.weights
    assert averaged.lasting == plain.lasting + averaged.average
    assert lean.optimizer == 0
    assert lean.gradients < plain.gradients
    assert (plain.images, lean.images, lean.share) == (1, 2, 4)


def test_between_one_image_and_the_share() -> None:
    of = setup(tiny.recipe(tiny.GFFNET, batch=8, crop=[64, 64]))
    planned = plan_memory(of, 8)
    for images in (2, 4):
        real = working(of, on_meta(of.recipe), images)
        assert planned.working(images).activations == pytest.approx(real.activations, rel=1e-3)
        assert real.peak * 0.999 < planned.working(images).peak < real.peak * 1.1


MEMORY = Memory(12, 12, 100, 100, 100, 0, one=Working(90, 100), whole=Working(1080, 1200))


def test_what_fits() -> None:
    assert MEMORY.lasting == 300
    assert MEMORY.total(3) == 600
    assert MEMORY.needed(3) == 300 + round(300 * ALLOWANCE)
    assert MEMORY.fits(3, MEMORY.needed(3))
    assert not MEMORY.fits(3, MEMORY.needed(3) - 1)
    found = [MEMORY.largest_device_batch(MEMORY.needed(n)) for n in (1, 2, 5, 8, 11, 12)]
    assert found == [1, 2, 4, 6, 6, 12], "divisors of the share"
    assert MEMORY.largest_device_batch(MEMORY.needed(1) - 1) is None
    single = dataclasses.replace(MEMORY, images=1, share=1, whole=MEMORY.one)
    assert single.working(1) == MEMORY.one


def test_the_largest_crop_that_fits() -> None:
    of = setup(tiny.recipe(batch=1, crop=[200, 300]))
    whole = plan_memory(of, 1)
    assert largest_crop(of, whole.needed(1)) == (200, 300)
    free = whole.lasting + round(ALLOWANCE * whole.one.peak / 2)
    crop = largest_crop(of, free)
    assert crop is not None
    height, width = crop
    assert height % 16 == width % 16 == 0
    assert 0.3 < height * width / (200 * 300) <= 0.5
    assert largest_crop(of, whole.lasting) is None
    assert largest_crop(of, 0) is None


def test_free_memory_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used = tmp_path / "limit", tmp_path / "used"
    monkeypatch.setattr(memory, "CONTAINER", ((str(limit), str(used)),))
    whole = free_memory(CPU)
    limit.write_text("max\n")
    used.write_text("100\n")
    assert (free_memory(CPU) is None) == (whole is None)
    limit.write_text("1100\n")
    assert free_memory(CPU) == 1000


def test_out_of_memory_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as full:
        torch.empty(1 << 58, dtype=torch.uint8)
    assert is_out_of_memory(full.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_peak_on_a_gpu(dtype: torch.dtype) -> None:
    cuda = torch.device("cuda")
    of = Setup(tiny.recipe(tiny.GFFNET, batch=8, crop=[256, 256]), CLASSES, cuda, dtype)
    planned = plan_memory(of, 8)
    with cuda:
        rehearsal = Rehearsal(of.recipe, CLASSES)
    optimizer = make_optimizer(rehearsal.network, rehearsal.auxiliary, of.recipe.training)
    torch.cuda.reset_peak_memory_stats()  # what ran before in this process must not count
    for _ in range(3):
        with of.precision():
            loss = rehearsal(*random_batch(8, 3, (256, 256), CLASSES, cuda))
        loss.backward()
        optimizer.step()  # gradients stay, as with several parts of a batch
    assert 0.95 < torch.cuda.max_memory_allocated() / planned.total(8) < ALLOWANCE

"""How fast this machine trains a recipe: a few iterations on noise, as large as the time allows."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from gffnet.training.memory import Memory
from gffnet.training.optimizers import make_optimizer
from gffnet.training.rehearsal import Rehearsal, Setup, random_batch

SECONDS = 12.0
"""Time for all iterations that are measured; about as much comes before them."""
PASSES = 10
"""As many are measured at most."""
EFFICIENCY = 0.25
"""Speed of training over that of a matrix product: a guess, from which the size of a measurement is chosen."""


@dataclass(frozen=True)
class Throughput:
    """What was measured on one device."""

    images_per_second: float
    """Of the recipe's crop, with the step of the optimiser once a batch."""
    images: int
    """How many at a time were measured."""
    crop: tuple[int, int]
    """Their size. Where it is smaller than the recipe's, the time is scaled by the number of pixels."""
    passes: int
    """Forward and backward passes that were measured; their median counts."""
    flops_per_second: float
    """Achieved in them."""
    product_flops_per_second: float
    """Of a large matrix product in the same number format."""
    processor: float | None
    """Share of the processor that the measurement had, where it ran on one: less than 1 where other programs run."""


def measure(
    setup: Setup,
    memory: Memory,
    flops: int,
    images: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Throughput:
    """Train on noise for some seconds.

    Args:
        setup: what to train, where.
        memory: of a device, with its share of the batch.
        flops: of training on one image.
        images: at a time, at most.
        progress: called with (done, total) on the way.

    Raises:
        RuntimeError: there is not enough memory, or something else is amiss.
    """
    recipe, device = setup.recipe, setup.device
    crop = recipe.training.crop
    product = product_speed(device, setup.dtype)
    images, measured = measurable(memory.share, images, crop, flops / (EFFICIENCY * product))
    with torch.device(device):
        rehearsal = Rehearsal(recipe, setup.classes)
    optimizer = make_optimizer(rehearsal.network, rehearsal.auxiliary, recipe.training)
    batch = random_batch(images, setup.channels, measured, setup.classes, device)

    def forward_and_backward() -> None:
        with setup.precision():
            loss = rehearsal(*batch)
        loss.backward()

    start = time.perf_counter(), time.process_time()
    passes, steps = _times(forward_and_backward, optimizer, device, progress)
    busy = (time.process_time() - start[1]) / (time.perf_counter() - start[0])
    seconds = median(passes[1:]) / images
    scale = measured[0] * measured[1] / (crop[0] * crop[1])
    whole = memory.share * seconds / scale + median(steps[1:])
    return Throughput(
        images_per_second=memory.share / whole,
        images=images,
        crop=measured,
        passes=len(passes) - 1,
        flops_per_second=flops * scale / seconds,
        product_flops_per_second=product,
        processor=busy / torch.get_num_threads() if device.type == "cpu" else None,
    )


def _times(
    work: Callable[[], None],
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> tuple[list[float], list[float]]:
    """Seconds of every pass and of the step after it; the first ones warm up."""
    passes: list[float] = []
    steps: list[float] = []
    end = math.inf
    while len(passes) <= PASSES and time.perf_counter() + min(passes, default=0) < end:
        progress(len(passes), PASSES + 1)
        passes.append(_seconds(work, device))
        steps.append(_seconds(optimizer.step, device))
        optimizer.zero_grad()
        if len(passes) == 2:
            end = time.perf_counter() - passes[-1] + SECONDS
    return passes, steps


def measurable(share: int, images: int, crop: tuple[int, int], seconds: float) -> tuple[int, tuple[int, int]]:
    """How many images of which size to measure, where one of `crop` takes about so many `seconds`.

    As many of the `images` as a third of the time allows, of those numbers that divide `share`; if that is less than
    one, one that is smaller.
    """
    allowed = SECONDS / 3 / seconds
    counts = [n for n in range(1, images + 1) if share % n == 0 and n <= max(allowed, 1)]
    factor = min(1.0, math.sqrt(allowed))
    height, width = (side if factor == 1 else min(side, max(64, int(side * factor) // 16 * 16)) for side in crop)
    return max(counts), (height, width)


def product_speed(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product: the best of a few."""
    n = 2048 if device.type == "cpu" else 8192
    a, b = (torch.rand(n, n, device=device).to(dtype) for _ in range(2))
    seconds = [_seconds(lambda: a @ b, device) for _ in range(6)]
    return float(2 * n**3 / min(seconds[1:]))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long some work takes, on a GPU up to its end there."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start

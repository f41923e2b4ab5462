"""The memory that training takes, known before it starts, and what fits into the memory there is.

With n images at a time a device holds

    weights + gradients + state of the optimiser + moving average        whatever n is
    activations(n)                                                       what the forward pass saves for the backward
    temporary(n)                                                         beside them, at the fullest moment

A forward and a backward pass are run on fake tensors, which have sizes but no content, and all storages that are alive
are added up after every operation: each once, however many tensors look at it. The sums are exact for what tensors
hold. What is not counted is what kernels and the allocator take for themselves: `ALLOWANCE` stands in for it. Nor are
the process itself (0.5 to 1 GB) and the images that are loaded ahead.
"""

import weakref
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from gffnet.training.rehearsal import Rehearsal, Setup, random_batch

ALLOWANCE = 1.3
"""Resident memory over what activations and temporary tensors hold: 1.05 to 1.3 as measured on a CPU."""

COPIES = {"sgd": 1, "nesterov": 1, "adam": 2, "adamw": 2, "lion": 1, "lamb": 2}
"""How often an optimiser keeps something of the size of the weights."""


class Working(NamedTuple):
    """Bytes that come and go with a part of a batch."""

    activations: int
    """Alive between the forward and the backward pass."""
    peak: int
    """Alive at the fullest moment."""


@dataclass(frozen=True)
class Memory:
    """The memory of one device, in bytes."""

    images: int
    """Images at a time that a recipe asks for."""
    share: int
    """Images of a batch that a device has to go through."""
    weights: int
    gradients: int
    optimizer: int
    average: int
    one: Working
    """With one image at a time."""
    whole: Working
    """With the share at a time."""

    @property
    def lasting(self) -> int:
        """What is held throughout."""
        return self.weights + self.gradients + self.optimizer + self.average

    def working(self, images: int) -> Working:
        """What `images` at a time take.

        Between one image and the share it is read off a straight line: exact for activations, no less than the truth
        for the peak, which is the greatest of many straight lines.
        """
        part = (images - 1) / max(self.share - 1, 1)
        return Working(*(round(a + part * (b - a)) for a, b in zip(self.one, self.whole, strict=True)))

    def total(self, images: int) -> int:
        """All that tensors hold with `images` at a time."""
        return self.lasting + self.working(images).peak

    def needed(self, images: int) -> int:
        """The same with the allowance for what else comes and goes."""
        return round(self.lasting + ALLOWANCE * self.working(images).peak)

    def fits(self, images: int, free: int) -> bool:
        """Whether `free` bytes are enough for `images` at a time."""
        return self.needed(images) <= free

    def largest_device_batch(self, free: int) -> int | None:
        """The most images at a time that fit into `free` bytes, of those that divide the share; None: not even one."""
        counts = [n for n in range(self.share, 0, -1) if self.share % n == 0]
        return next((n for n in counts if self.fits(n, free)), None)


def plan_memory(setup: Setup, share: int) -> Memory:
    """The memory of a device that takes `share` images of every batch."""
    training = setup.recipe.training
    with torch.device("meta"):
        rehearsal = Rehearsal(setup.recipe, setup.classes)
    weights, network = (_bytes(module.state_dict().values()) for module in (rehearsal, rehearsal.network))
    trained = _bytes(p for p in rehearsal.parameters() if p.requires_grad)
    copies = 0 if training.optimizer == "sgd" and training.momentum == 0 else COPIES[training.optimizer]
    one = working(setup, rehearsal, 1)
    return Memory(
        min(training.device_batch or share, share),
        share,
        weights=weights,
        gradients=trained,
        optimizer=copies * trained,
        average=0 if training.ema is None else network,
        one=one,
        whole=one if share == 1 else working(setup, rehearsal, share),
    )


def largest_crop(setup: Setup, free: int) -> tuple[int, int] | None:
    """The largest crop of the recipe's shape of which one image fits into `free` bytes; None: none does.

    Its sides are multiples of 16, but for the recipe's own.
    """
    recipe, crop = setup.recipe, setup.recipe.training.crop
    while min(crop) >= 16:
        training = replace(recipe.training, crop=crop)
        memory = plan_memory(setup._replace(recipe=replace(recipe, training=training)), share=1)
        if memory.fits(1, free):
            return crop
        part = max(free - memory.lasting, 0) / (ALLOWANCE * memory.one.peak)
        height, width = (int(side * min(sqrt(part), 0.98)) // 16 * 16 for side in crop)
        crop = height, width
    return None


def working(setup: Setup, rehearsal: Rehearsal, images: int) -> Working:
    """What a forward and a backward pass hold, for a rehearsal on the meta device. Nothing is computed."""
    with FakeTensorMode():
        state: dict[str, Tensor] = {}
        for name, value in [*rehearsal.named_parameters(), *rehearsal.named_buffers()]:
            state[name] = _like(value, setup.device)
        gradients = [torch.empty_like(value) for value in state.values() if value.requires_grad]
        for value, gradient in zip((v for v in state.values() if v.requires_grad), gradients, strict=True):
            value.grad = gradient
        batch = random_batch(images, setup.channels, setup.recipe.training.crop, 2, setup.device)
        with LiveBytes([*state.values(), *gradients, *batch]) as live:
            with setup.precision():
                loss = functional_call(rehearsal, state, batch)
            activations = live.now
            loss.backward()
    return Working(activations, live.peak)


def _like(value: Tensor, device: torch.device) -> Tensor:
    """A tensor as `value` is, a parameter if it is one, on another device."""
    tensor = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=device)
    return nn.Parameter(tensor, value.requires_grad) if isinstance(value, nn.Parameter) else tensor


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations make and that are alive."""

    def __init__(self, held: list[Tensor]) -> None:
        """`held`: tensors that are there before and are not to be counted."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._known = WeakIdKeyDictionary()
        for tensor in held:
            self._known[tensor.untyped_storage()] = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and look at what came out."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        self.peak = max(self.peak, self.now)
        return out

    def _see(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._known:
            self._known[storage] = True
            self.now += storage.nbytes()
            weakref.finalize(storage, self._lose, storage.nbytes()).atexit = False

    def _lose(self, size: int) -> None:
        self.now -= size


def free_memory(device: torch.device) -> int | None:
    """Bytes that a run can have: all of a GPU's memory, or what is free of the computer's; None: it does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    found = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")))
    for limit, used in CONTAINER:
        with suppress(OSError, ValueError):
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    return min(found, default=None)


CONTAINER = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Where a container's limit stands, and what it uses."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory; on a CPU torch has no type for it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors)

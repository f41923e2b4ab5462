"""What a run will take, before it starts: parameters, memory, FLOPs, time and disk. Needs neither data nor weights."""

import math
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from math import prod, sqrt
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from gffnet.console import progress
from gffnet.data.datasets import class_count
from gffnet.errors import UserError
from gffnet.inference.precision import pick_device, pick_precision
from gffnet.models.gffnet import build_network
from gffnet.recipe import Recipe
from gffnet.training.launch import Launch
from gffnet.training.losses import SegmentationLoss
from gffnet.training.optim import make_optimizer
from gffnet.training.run_folder import hardware
from gffnet.training.task import AuxiliaryHead, batch_norms, both_losses, lower_precision

# Training without data: what is computed for a part of a batch, to be counted and timed before a run.


class Setup(NamedTuple):
    """What is to be trained, and how it is computed."""

    recipe: Recipe
    classes: int
    """Of the data set."""
    device: torch.device
    dtype: torch.dtype
    """Number format of the forward pass."""

    @property
    def channels(self) -> int:
        """Of an image."""
        return self.recipe.model.backbone.in_channels

    def precision(self) -> AbstractContextManager[None]:
        """Where the forward pass runs, as in training."""
        return lower_precision(self.device, self.dtype)


class Rehearsal(nn.Module):
    """Network, auxiliary head and loss of a recipe, with random weights.

    Builds on the current default device: within `torch.device("meta")` it costs nothing.
    """

    def __init__(self, recipe: Recipe, classes: int) -> None:
        super().__init__()
        training = recipe.training
        network = build_network(recipe.model.without_weights(), classes)
        self.network = network.to(memory_format=torch.channels_last)
        self.auxiliary = AuxiliaryHead(network.backbone.channels[2], classes, dropout=recipe.model.dropout)
        self.auxiliary_weight = training.auxiliary_weight
        weighted = training.loss.class_weights is not None or training.loss.class_weighting != "none"
        self.loss = SegmentationLoss(training.loss, torch.ones(classes) if weighted else None)
        if training.freeze_norms:
            for norm in batch_norms(self):
                norm.eval().requires_grad_(False)

    def forward(self, images: UInt8[Tensor, "b c h w"], labels: UInt8[Tensor, "b h w"]) -> Float[Tensor, ""]:
        """The loss that gradients are taken of."""
        images = images.contiguous(memory_format=torch.channels_last)
        main, auxiliary = both_losses(self.network, self.auxiliary, self.loss, images, labels)
        total: Tensor = (main + self.auxiliary_weight * auxiliary) / labels.numel()
        return total


class Flops(NamedTuple):
    """Floating point operations of one image: twice the multiply-accumulates of convolutions and matrix products."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        """Of both."""
        return self.forward + self.backward


def count_flops(rehearsal: nn.Module, channels: int, crop: tuple[int, int]) -> Flops:
    """The FLOPs of training on one image of `channels` and size `crop`, for a rehearsal on the meta device.

    The backward pass of a convolution is two products as large as the forward one: for the gradient of its weight, and
    for that of its input, which the first layer need not have. Resizing, normalisation, activations, the loss and the
    step of the optimiser are not counted.
    """
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _backward}) as counter:
        loss = rehearsal(*random_batch(1, channels, crop, 2, torch.device("meta")))
        forward = int(counter.get_total_flops())
        loss.backward()
    rehearsal.zero_grad()
    return Flops(forward, int(counter.get_total_flops()) - forward)


def _backward(gradient: Any, x: Any, weight: Any, *options: Any, **_: Any) -> int:
    """FLOPs of a convolution's backward pass; torch's own formula takes grouped convolutions for full ones."""
    transposed, wanted = options[4], options[7]  # `wanted`: which gradients, of the input, the weight, the bias
    places = x if transposed else gradient
    return int(2 * prod(places) * prod(weight[1:]) * sum(wanted[:2]))


def random_batch(
    images: int, channels: int, crop: tuple[int, int], classes: int, device: torch.device
) -> tuple[UInt8[Tensor, "b c h w"], UInt8[Tensor, "b h w"]]:
    """Images and labels as training loads them; of noise."""
    return (
        torch.randint(256, (images, channels, *crop), dtype=torch.uint8, device=device),
        torch.randint(classes, (images, *crop), dtype=torch.uint8, device=device),
    )


def count_parameters(rehearsal: Rehearsal) -> dict[str, int]:
    """Parameters of each part of the network, and of the auxiliary head."""
    parts = {**dict(rehearsal.network.named_children()), "auxiliary": rehearsal.auxiliary}
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


# The memory that training takes, known before it starts, and what fits into the memory there is.
#
# With n images at a time a device holds
#
#     weights + gradients + state of the optimiser + moving average        whatever n is
#     activations(n)                                                       what the forward pass saves for the backward
#     temporary(n)                                                         beside them, at the fullest moment
#
# A forward and a backward pass are run on fake tensors, which have sizes but no content, and all storages that are alive
# are added up after every operation: each once, however many tensors look at it. The sums are exact for what tensors
# hold. What is not counted is what kernels and the allocator take for themselves: `ALLOWANCE` stands in for it. Nor are
# the process itself (0.5 to 1 GB) and the images that are loaded ahead.


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


# How fast this machine trains a recipe: a few iterations on noise, as large as the time allows.


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


DEVICES = (1, 2, 4, 8)
"""Numbers of devices that the time is told for."""


class Room(NamedTuple):
    """What fits into the memory that a device has here."""

    free: int | None
    """Bytes; None: it does not tell."""
    images: int | None
    """The most images at a time that fit; None: not even one."""
    crop: tuple[int, int] | None = None
    """Where not even one fits, the crop of which one would; None: none would, or the recipe's own does."""


class Speed(NamedTuple):
    """How fast one device trains."""

    images_per_second: float | None
    """None: it is not known."""
    measured: Throughput | None = None
    """None: it was given, or could not be measured."""
    reason: str | None = None
    """Why it could not be measured."""


class Disk(NamedTuple):
    """What a run leaves on the disk, in bytes."""

    checkpoint: int
    checkpoints: int
    """How many are there in the end."""
    model: int
    """Of a model folder; a run has two, `model/` and `best/`."""

    @property
    def most(self) -> int:
        """All that is ever there at once: while a checkpoint is written, the one before is kept."""
        return (self.checkpoints + 1) * self.checkpoint + 2 * self.model


@dataclass(frozen=True)
class Plan:
    """A run, before it starts."""

    iterations: int
    batch: int
    crop: tuple[int, int]
    classes: int
    precision: str
    here: str
    """The device that it is planned on, in words."""
    devices: int
    """How many of them share the batch."""
    parameters: dict[str, int]
    """Of each part of the network, and of the auxiliary head, which is there in training only."""
    flops: Flops
    """Of one image."""
    memory: Memory
    """Of one device."""
    room: Room
    speed: Speed
    disk: Disk

    @property
    def network_parameters(self) -> int:
        """All but the auxiliary head's."""
        return sum(count for part, count in self.parameters.items() if part != "auxiliary")

    @property
    def iteration_flops(self) -> int:
        """Of one iteration, over all devices; the same however the batch is shared and taken in parts."""
        return self.batch * self.flops.total

    @property
    def seconds(self) -> dict[int, float]:
        """Time of all iterations on so many devices, were nothing lost to their sharing the work."""
        if self.speed.images_per_second is None:
            return {}
        alone = self.iterations * self.batch / self.speed.images_per_second
        counts = sorted({*DEVICES, self.devices})
        return {n: alone / n for n in counts if self.batch % n == 0}

    def to_mapping(self) -> dict[str, Any]:
        """The plan as nested plain values, for JSON. Bytes, seconds, FLOPs (two a multiply-accumulate)."""
        memory, measured = self.memory, self.speed.measured
        working = memory.working(memory.images)
        return {
            "iterations": self.iterations,
            "batch": self.batch,
            "crop": list(self.crop),
            "classes": self.classes,
            "precision": self.precision,
            "here": self.here,
            "devices": self.devices,
            "parameters": {"network": self.network_parameters, **self.parameters},
            "flops": {
                "image_forward": self.flops.forward,
                "image_backward": self.flops.backward,
                "iteration": self.iteration_flops,
                "run": self.iterations * self.iteration_flops,
            },
            "memory": {
                "images": memory.images,
                "total": memory.total(memory.images),
                "needed": memory.needed(memory.images),
                "weights": memory.weights,
                "gradients": memory.gradients,
                "optimizer": memory.optimizer,
                "average": memory.average,
                "activations": working.activations,
                "activations_per_image": working.activations / memory.images,
                "temporary": working.peak - working.activations,
                "free": self.room.free,
                "fits": None if self.room.free is None else memory.fits(memory.images, self.room.free),
                "largest_device_batch": self.room.images,
                "largest_crop": list(self.room.crop) if self.room.crop else None,
            },
            "images_per_second": self.speed.images_per_second,
            "measured": None if measured is None else asdict(measured),
            "unmeasured": self.speed.reason,
            "time": [{"devices": n, "seconds": seconds} for n, seconds in self.seconds.items()],
            "disk": {**self.disk._asdict(), "most": self.disk.most},
        }


def plan(recipe: Recipe, throughput: float | None = None, devices: int = 1, classes: int | None = None) -> Plan:
    """What training `recipe` will take.

    Args:
        recipe: of the run.
        throughput: images a second of one device; None: it is measured here, in about half a minute.
        devices: how many share the batch.
        classes: of the data set; None: as many as the catalogue has.

    Raises:
        UserError: the devices cannot share the batch, or the network cannot be built.
    """
    if devices < 1:
        raise UserError(f"--devices {devices}: it must be 1 or more.")
    training, device = recipe.training, pick_device()
    share = Launch(device, devices).share(training.batch)
    precision = pick_precision(recipe.precision, device)
    setup = Setup(recipe, classes or class_count(recipe.data.name), device, precision.dtype)
    with torch.device("meta"):
        rehearsal = Rehearsal(recipe, setup.classes)
    flops = count_flops(rehearsal, setup.channels, training.crop)
    memory = plan_memory(setup, share)
    room = _room(setup, memory, devices)
    speed = Speed(throughput) if throughput else _speed(setup, memory, flops, room)
    return Plan(
        training.iterations,
        training.batch,
        training.crop,
        setup.classes,
        precision.name,
        _name(device),
        devices,
        count_parameters(rehearsal),
        flops,
        memory,
        room,
        speed,
        _disk(recipe, rehearsal, memory),
    )


def _room(setup: Setup, memory: Memory, devices: int) -> Room:
    """What fits here."""
    free = free_memory(setup.device)
    if free is None:
        return Room(None, memory.share)
    if setup.device.type == "cpu":
        free //= devices  # they share it
    images = memory.largest_device_batch(free)
    return Room(free, images, None if images else largest_crop(setup, free))


def _speed(setup: Setup, memory: Memory, flops: Flops, room: Room) -> Speed:
    """What can be measured here."""
    if setup.dtype == torch.float16 and setup.device.type != "cuda":
        return Speed(None, reason="float16 trains on NVIDIA GPUs only")
    if room.images is None:
        return Speed(None, reason="not even one image fits into the memory that is free here")
    try:
        with progress("measuring the speed of training") as step:
            measured = measure(setup, memory, flops.total, min(memory.images, room.images), step)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return Speed(None, reason="the memory that is free here was not enough")
    return Speed(measured.images_per_second, measured)


def _disk(recipe: Recipe, rehearsal: Rehearsal, memory: Memory) -> Disk:
    """A checkpoint holds weights, state of the optimiser and moving average; a model folder the network."""
    training = recipe.training
    model = sum(value.numel() * value.element_size() for value in rehearsal.network.state_dict().values())
    kept = training.iterations // training.keep_every if training.keep_every else 0
    return Disk(memory.weights + memory.optimizer + memory.average, 1 + kept, model)


def _name(device: torch.device) -> str:
    """A device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    found = hardware()
    return f"{found['cpu']}, {found['cores']} cores"

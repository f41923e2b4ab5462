"""What a run will take, before it starts: parameters, memory, FLOPs, time and disk. Needs neither data nor weights."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from gffnet.console import progress
from gffnet.data.catalog import class_count
from gffnet.errors import UserError
from gffnet.inference.precision import pick_device, pick_precision
from gffnet.recipe import Recipe
from gffnet.training.launch import Launch
from gffnet.training.machine import hardware
from gffnet.training.memory import Memory, free_memory, is_out_of_memory, largest_crop, plan_memory
from gffnet.training.rehearsal import Flops, Rehearsal, Setup, count_flops, count_parameters
from gffnet.training.throughput import Throughput, measure

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

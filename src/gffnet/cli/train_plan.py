"""`gffnet train --plan`: what a run will take, before it starts."""

from argparse import Namespace
from collections.abc import Iterator
from math import isfinite
from typing import TYPE_CHECKING

from gffnet.cli.arguments import Parser, print_json
from gffnet.errors import UserError

if TYPE_CHECKING:
    from gffnet.recipe import Recipe
    from gffnet.training.dry_run import Plan

BUSY = 0.8
"""A measurement that had a smaller share of the processor is doubtful."""


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--plan",
        action="store_true",
        help="print what the run will take: parameters, memory, FLOPs, time, disk; needs no data, trains nothing",
    )
    parser.add_argument(
        "--throughput",
        type=_throughput,
        default=None,
        metavar="X",
        help="with --plan: images a second of one device, for other hardware than this (default: measured here)",
    )
    parser.add_argument("--json", action="store_true", help="with --plan: print JSON instead of text")


def check_arguments(arguments: Namespace) -> None:
    """Refuse what goes with a plan only.

    Raises:
        UserError: it is there without `--plan`.
    """
    given = {"--json": arguments.json, "--throughput": arguments.throughput is not None}
    for name, there in given.items():
        if there and not arguments.plan:
            raise UserError(f"{name} goes with --plan only: add --plan, or leave {name} out.")


def run(arguments: Namespace, recipe: "Recipe") -> None:
    """Plan, and print."""
    from gffnet.training.dry_run import plan
    from gffnet.training.launch import find_launch

    classes = None
    if recipe.data.name == "folder" and arguments.root is not None:
        from gffnet.data.datasets import open_dataset

        classes = len(open_dataset("folder", arguments.root, recipe.data.train_split).classes.names)
    devices = find_launch().processes if arguments.devices is None else arguments.devices
    planned = plan(recipe, arguments.throughput, devices, classes)
    if arguments.json:
        print_json({"recipe": arguments.recipe, **planned.to_mapping()})
    else:
        print_plan(arguments.recipe, planned)


def print_plan(name: str, plan: "Plan") -> None:
    """The plan as text on standard output, the time first."""
    from rich.table import Table
    from rich.text import Text

    from gffnet.console import Results

    height, width = plan.crop
    table = Table.grid(padding=(0, 2))
    for part, lines in (
        ("run", [f"{plan.iterations:,} iterations of {plan.batch} images of {height}x{width}, {plan.precision}"]),
        ("time", _time(plan)),
        ("memory", _memory(plan)),
        ("compute", _compute(plan)),
        ("parameters", [_parameters(plan)]),
        ("disk", [_disk(plan)]),
    ):
        table.add_row(Text(part, style="bold"), Text("\n".join(lines)))
    out = Results(width=120)
    out.print(Text(f"{name}: {_headline(plan)}", style="bold"))
    out.print(table)


def _headline(plan: "Plan") -> str:
    """How long it takes, in one line."""
    seconds = plan.seconds
    if not seconds:
        return f"how long it takes is not known: {plan.speed.reason}"
    where = f"here ({plan.here})" if plan.speed.measured else f"at {_number(plan.speed.images_per_second)} images/s"
    doubt = "; doubtful, see below" if _is_doubtful(plan) else ""
    most = max(seconds)
    if plan.devices > 1:
        several = f"{_duration(seconds[plan.devices])} on {plan.devices} devices"
        return f"{several}, {_duration(seconds[1])} on one, {where}{doubt}"
    more = f", {_duration(seconds[most])} on {most} such" if most > 1 else ""
    return f"{_duration(seconds[1])} {where}{more}{doubt}"


def _time(plan: "Plan") -> Iterator[str]:
    """The time on several devices, and where it is from."""
    measured = plan.speed.measured
    if not plan.seconds:
        yield f"not known: {plan.speed.reason}"
        yield "plan for another machine by --throughput IMAGES_PER_SECOND"
        return
    first, *others = plan.seconds.items()
    more = [f"{n}: {_duration(seconds)}" for n, seconds in others]
    yield "   ".join([f"{first[0]} device: {_duration(first[1])}", *more])
    yield "at best: validation, communication and waiting for data come on top"
    yield f"{_number(plan.speed.images_per_second)} images/s a device, {'measured here' if measured else 'as given'}"
    if measured is None:
        return
    height, width = measured.crop
    share = measured.flops_per_second / measured.product_flops_per_second
    yield (
        f"with {measured.images} image{'s' * (measured.images > 1)} of {height}x{width} at a time: "
        f"{_flops(measured.flops_per_second)}/s, {share:.0%} of a matrix product's "
        f"{_flops(measured.product_flops_per_second)}/s"
    )
    if measured.crop != plan.crop:
        yield "scaled to the crop by its number of pixels, for one image would have taken too long"
    if _is_doubtful(plan):
        yield f"doubtful: other programs were running, and left {measured.processor:.0%} of the processor"


def _is_doubtful(plan: "Plan") -> bool:
    """Whether other programs have slowed the measurement down."""
    measured = plan.speed.measured
    return measured is not None and measured.processor is not None and measured.processor < BUSY


def _memory(plan: "Plan") -> Iterator[str]:
    """What a device holds, and whether it fits here."""
    memory, room = plan.memory, plan.room
    working = memory.working(memory.images)
    yield (
        f"{_size(memory.total(memory.images))} a device with {_images(memory.images)} at a time, "
        f"{_size(working.activations / memory.images)} of activations an image"
    )
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimiser": memory.optimizer,
        "moving average": memory.average,
        "activations": working.activations,
        "temporary": working.peak - working.activations,
    }
    yield ", ".join(f"{part} {_size(size)}" for part, size in parts.items() if size)
    if room.free is None:
        return
    needed, free = _size(memory.needed(memory.images)), _size(room.free)
    here = f"with what kernels and allocator add, up to {needed}; {free} are free here"
    if memory.fits(memory.images, room.free):
        yield f"fits: {here}"
        return
    yield f"does not fit: {here}"
    if room.images:
        yield f"{_images(room.images)} at a time would fit: --set training.device_batch={room.images}"
    elif room.crop:
        crop = f"--set training.crop='[{room.crop[0]}, {room.crop[1]}]'"
        yield f"nor does one image; a smaller one would: {crop} --set training.device_batch=1"
    else:
        yield "nor does one image, of any size"


def _compute(plan: "Plan") -> Iterator[str]:
    """FLOPs of an image, an iteration, the run."""
    flops = plan.flops
    yield f"{_flops(plan.iteration_flops)} an iteration, {_flops(plan.iterations * plan.iteration_flops)} in all"
    yield (
        f"an image: {_flops(flops.forward)} forward, {_flops(flops.backward)} backward; "
        "two FLOP are one multiply-accumulate (MAC)"
    )


def _parameters(plan: "Plan") -> str:
    counts = {part: _number(count / 1e6) for part, count in plan.parameters.items() if count}
    auxiliary = counts.pop("auxiliary")
    parts = ", ".join(f"{part} {count}" for part, count in counts.items())
    return f"{plan.network_parameters / 1e6:.2f} M: {parts}; in training also auxiliary head {auxiliary}"


def _disk(plan: "Plan") -> str:
    disk = plan.disk
    count = f"{disk.checkpoints} checkpoint{'s' * (disk.checkpoints > 1)}"
    return f"{_size(disk.most)} at most: {count} of {_size(disk.checkpoint)}, 2 models of {_size(disk.model)}"


def _images(count: int) -> str:
    return f"{count} image{'s' * (count > 1)}"


def _duration(seconds: float) -> str:
    """A time in the greatest unit of which it is more than one: `1.2 days`."""
    for unit, length in (("years", 365 * 86400.0), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * length:
            return f"{_number(seconds / length)} {unit}"
    return f"{_number(seconds)} seconds"


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _flops(flops: float) -> str:
    """A number of floating point operations: `4.6 TFLOP`."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if flops >= size:
            return f"{_number(flops / size)} {prefix}FLOP"
    return f"{_number(flops / 1e6)} MFLOP"


def _number(value: float | None) -> str:
    """Two digits, and all before the point."""
    assert value is not None
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _throughput(text: str) -> float:
    """Images a second."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (isfinite(value) and value > 0):
        raise UserError(f"--throughput {text!r} must be a number of images a second above 0, such as 12.5.")
    return value

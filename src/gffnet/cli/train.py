"""`gffnet train`: train a recipe, or measure in a dry run what that takes."""

import logging
import shlex
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from gffnet.cli.arguments import Parser, add_cache, add_root, print_json
from gffnet.errors import UserError

if TYPE_CHECKING:
    from gffnet.training.dry_run import DryRun

log = logging.getLogger("gffnet")

SUMMARY = "train a recipe; the run folder holds the resolved recipe, history, checkpoints and the model"


def add_arguments(parser: Parser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a name such as camvid/gffnet_r18, or a YAML file")
    add_root(parser, required=False)
    add_cache(parser)
    parser.add_argument("--out", type=Path, default=None, help="run folder (default: runs/RECIPE)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a value of the recipe, such as training.iterations=2000; may be repeated",
    )
    parser.add_argument("--resume", action="store_true", help="resume from the last checkpoint in the run folder")
    parser.add_argument(
        "--devices",
        type=int,
        default=None,
        metavar="N",
        help="processes on this machine, one per device (default: all GPUs, else one process on the CPU; "
        "torchrun and SLURM set it themselves)",
    )
    parser.add_argument(
        "--overfit",
        type=int,
        default=None,
        metavar="N",
        help="overfit N training images, to check that data, labels and recipe fit each other",
    )
    parser.add_argument("--wandb", default=None, metavar="PROJECT", help="log to Weights & Biases, too")
    parser.add_argument(
        "--plan",
        action="store_true",
        help="dry run: train for a few iterations (of random images without --root), and print time, memory, "
        "parameters and disk that the run takes; writes nothing",
    )
    parser.add_argument("--json", action="store_true", help="with --plan: print JSON instead of text")


def run(arguments: Namespace) -> None:
    """Train, and say where the run is and what to do with it; or print the dry run."""
    if arguments.json and not arguments.plan:
        raise UserError("--json goes with --plan only: add --plan, or leave --json out.")

    from gffnet.training.train import read_recipe, train

    if arguments.plan:
        from gffnet.training.dry_run import dry_run

        recipe, auto = read_recipe(arguments.recipe, arguments.set, arguments.overfit)
        measured = dry_run(recipe, auto, arguments.root, arguments.cache, arguments.devices)
        if arguments.json:
            print_json({"recipe": arguments.recipe, **measured.to_mapping()})
        else:
            print_dry_run(arguments.recipe, measured)
        return

    file, images = Path(arguments.recipe), arguments.overfit
    out = arguments.out or Path("runs") / (file.stem if file.suffix in {".yaml", ".yml"} else arguments.recipe)
    if images is not None and arguments.out is None:
        out = out.with_name(f"{out.name}_overfit_{images}")
    train(
        arguments.recipe,
        arguments.root,
        out,
        overrides=arguments.set,
        resume=arguments.resume,
        cache=arguments.cache,
        devices=arguments.devices,
        overfit=images,
        wandb=arguments.wandb,
    )
    if images is None:
        for line in next_commands(out, arguments.root):
            log.info(line)


def next_commands(run: Path, root: Path | None) -> list[str]:
    """What to do with a trained run, as lines to copy."""
    from gffnet.recipe import load_recipe

    dataset = load_recipe(run / "recipe.yaml").data.name
    model = ["--model", str(run)]
    scored = ["gffnet", "evaluate", *model, "--dataset", dataset, "--root", str(root)]
    used = ["gffnet", "predict", "IMAGE", *model, "--out", "predicted"]
    return [f"score it: {shlex.join(scored)}", f"use it:   {shlex.join(used)}"]


def print_dry_run(name: str, measured: "DryRun") -> None:
    """Print a dry run as text, the time first."""
    from rich.table import Table
    from rich.text import Text

    from gffnet.console import Results, memory_size

    memory, disk = measured.memory, measured.disk
    height, width = measured.crop
    several = f" each, on {measured.devices} devices" if measured.devices > 1 else ""
    fit = f"{'' if memory.tried_all else 'at least '}{_images(memory.largest_device_batch)}"
    used = [f"{memory_size(memory.peak)} with {_images(memory.images)} at a time"] if memory.peak else []
    free = [f"{memory_size(memory.free)} free before"] if memory.free else []
    parts = {part: f"{count / 1e6:.2g}" for part, count in measured.parameters.items()}
    auxiliary = parts.pop("auxiliary")
    total = sum(count for part, count in measured.parameters.items() if part != "auxiliary")
    rows = {
        "run": f"{measured.iterations:,} iterations of {_images(measured.batch)} of {height}x{width}, "
        f"{measured.precision}",
        "time": f"{_number(measured.seconds_per_iteration)} s an iteration, {_number(measured.images_per_second)} "
        f"images/s{several}\n"
        f"median of {len(measured.times)} iterations with {measured.data} images; validation comes on top",
        "memory": f"{', '.join(used + free)}\n{fit} at a time fit here: training.device_batch",
        "parameters": f"{total / 1e6:.2f} M: {', '.join(f'{part} {count}' for part, count in parts.items())}; "
        f"in training also the auxiliary head {auxiliary}",
        "disk": f"{memory_size(disk.most)} at most: {disk.checkpoints} checkpoint{'s' * (disk.checkpoints > 1)} of "
        f"{memory_size(disk.checkpoint)}, 2 models of {memory_size(disk.model)}",
    }
    table = Table.grid(padding=(0, 2))
    for key, text in rows.items():
        table.add_row(Text(key, style="bold"), Text(text))
    out = Results(width=120)
    where = f"{measured.devices} x {measured.here}" if measured.devices > 1 else measured.here
    out.print(Text(f"{name}: {_duration(measured.seconds)} on {where}", style="bold"))
    out.print(table)


def _images(count: int) -> str:
    return f"{count} image{'s' * (count > 1)}"


def _duration(seconds: float) -> str:
    """A time in the largest unit of which it is more than one: `1.2 days`."""
    for unit, length in (("years", 365 * 86400.0), ("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * length:
            return f"{_number(seconds / length)} {unit}"
    return f"{_number(seconds)} seconds"


def _number(value: float) -> str:
    """Two digits, or all before the point."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"

"""`gffnet train`: train a recipe, or measure in a dry run what that takes."""

import logging
import math
import shlex
from argparse import Namespace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gffnet.cli.arguments import Parser, add_cache, add_root, path, print_json, whole_number
from gffnet.errors import UserError
from gffnet.parallel import device_count
from gffnet.remote import is_url

if TYPE_CHECKING:
    from gffnet.training.dry_run import DryRun

log = logging.getLogger("gffnet")

SUMMARY = "train a recipe; the run folder holds the resolved recipe, history, checkpoints and the model"


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        nargs="?",
        help="a name such as camvid/gffnet_r18, or a YAML file; none to resume RUN",
    )
    add_root(parser, required=False)
    add_cache(parser)
    parser.add_argument("--out", type=path, default=None, help="run folder (default: runs/RECIPE)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a value of the recipe, such as training.iterations=2000; may be repeated",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="RUN",
        help="resume the run in folder RUN with its recipe and data; without RUN, with a RECIPE: that in --out",
    )
    parser.add_argument(
        "--extend",
        type=whole_number("--extend", 1),
        metavar="N",
        help="with --resume: train N iterations further than the run was to; the schedule becomes that of all",
    )
    parser.add_argument(
        "--devices",
        type=device_count,
        default=None,
        metavar="N",
        help="processes on this machine, one per device (default: all GPUs, else one process on the CPU; "
        "torchrun and SLURM set it themselves)",
    )
    parser.add_argument(
        "--overfit",
        type=whole_number("--overfit", 1),
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
    parser.add_argument(
        "--quick",
        action="store_true",
        help="with --plan: measure two iterations only, and do not look for the largest device batch",
    )
    parser.add_argument("--json", action="store_true", help="with --plan: print JSON instead of text")


def run(arguments: Namespace) -> None:
    """Train, and say where the run is and what to do with it; or print the dry run."""
    for option in ("json", "quick"):
        if getattr(arguments, option) and not arguments.plan:
            raise UserError(f"--{option} goes with --plan only: add --plan, or leave --{option} out.")

    from gffnet.training.train import read_recipe, train

    resumed = resumed_run(arguments)
    if resumed is not None:
        resume(resumed, arguments)
        return
    if arguments.plan:
        from gffnet.training.dry_run import dry_run

        recipe, auto = read_recipe(arguments.recipe, arguments.set, arguments.overfit)
        measured = dry_run(recipe, auto, arguments.root, arguments.cache, arguments.devices, arguments.quick)
        if arguments.json:
            print_json({"recipe": arguments.recipe, **measured.to_mapping()})
        else:
            print_dry_run(arguments.recipe, measured)
        return

    images = arguments.overfit
    out = train(
        arguments.recipe,
        arguments.root,
        arguments.out,
        overrides=arguments.set,
        resume=bool(arguments.resume),
        extend=arguments.extend,
        cache=arguments.cache,
        devices=arguments.devices,
        overfit=images,
        wandb=arguments.wandb,
    )
    if images is None:
        say_next(out, arguments.root)


def resumed_run(arguments: Namespace) -> Path | None:
    """The run folder of `--resume RUN`; None if there is a RECIPE, which is that of `--resume RECIPE`, too.

    Raises:
        UserError: there is neither, or one is the other.
    """
    from gffnet.recipe import recipe_names
    from gffnet.training.run_folder import is_run

    recipe, run = arguments.recipe, arguments.resume
    if recipe is not None and is_run(Path(recipe)):
        raise UserError(
            f"{recipe} is a run folder, not a recipe. To resume the run: gffnet train --resume {recipe}. To train its "
            f"recipe again: gffnet train {Path(recipe) / 'recipe.yaml'} --out another folder."
        )
    if not isinstance(run, str):
        if recipe is None:
            raise UserError(
                "RECIPE is missing: gffnet train RECIPE --root DIR, with a name such as camvid/gffnet_r18 or a YAML "
                "file (gffnet recipes lists the names); or gffnet train --resume RUN."
            )
        return None
    if recipe is not None:
        raise UserError(
            f"--resume {run} has a recipe of its own, and {recipe} is given, too. Resume with gffnet train --resume "
            f"{run}, or with gffnet train {recipe} --out {run} --resume."
        )
    if is_run(Path(run)):
        if arguments.out is not None or arguments.plan or arguments.overfit is not None:
            option = "--out" if arguments.out is not None else "--plan" if arguments.plan else "--overfit"
            raise UserError(f"{option} does not go with --resume {run}, which continues in {run} what was started.")
        return Path(run)
    if run in recipe_names() or run.endswith((".yaml", ".yml")):
        arguments.recipe, arguments.resume = run, True
        return None
    near = next((folder for folder in (*Path(run).parents, Path("runs") / run) if is_run(folder)), None)
    hint = f"Did you mean {near}?" if near else "It has no recipe.yaml and run.json."
    raise UserError(f"--resume {run}: there is no run in this folder. {hint}")


def resume(run: Path, arguments: Namespace) -> None:
    """Resume a run with what its folder records; options that are given come first."""
    from gffnet.training.run_folder import RECIPE, recorded_arguments, recorded_python
    from gffnet.training.train import is_launched, train

    if python := recorded_python(run):
        given = ", ".join(f"{key} ({value})" for key, value in python.items())
        more = "" if arguments.extend is None else f", extend={arguments.extend}"
        raise UserError(
            f"--resume {run}: the run was started in Python with its {given}, which a command cannot know. Resume it "
            f"there, with the same: gffnet.train(..., out={str(run)!r}, resume=True{more})."
        )
    recorded = recorded_arguments(run)
    root, cache, devices = arguments.root, arguments.cache, arguments.devices
    if root is None and "root" in recorded:
        root = recorded_folder(run, "root", recorded)
    if cache is None and "cache" in recorded:
        cache = recorded_folder(run, "cache", recorded)
    if devices is None and not is_launched():
        devices = recorded.get("devices")
    train(
        run / RECIPE,
        root,
        run,
        overrides=arguments.set,
        name=recorded.get("name"),
        resume=True,
        extend=arguments.extend,
        cache=cache,
        devices=devices,
        overfit=recorded.get("overfit"),
        wandb=arguments.wandb,
    )
    if "overfit" not in recorded:
        say_next(run, root)


def recorded_folder(run: Path, key: str, recorded: dict[str, Any]) -> Path:
    """A folder that a run used. Raises `UserError` if it is gone."""
    folder = Path(recorded[key])
    if not folder.is_dir() and not is_url(folder):
        raise UserError(f"--resume {run}: its --{key} was {folder}, which is gone. Say where it is now: --{key} DIR.")
    return folder


def say_next(out: Path, root: Path | None) -> None:
    """Say what to do with a trained run."""
    from gffnet.recipe import load_recorded

    recipe = load_recorded(out / "recipe.yaml")
    model = ["--model", str(out), *(word for plugin in recipe.plugins for word in ("--plugin", plugin))]
    evaluate = ["gffnet", "evaluate", *model, "--dataset", recipe.data.name, "--root", str(root or "DIR")]
    if recipe.data.val_split != "val":
        evaluate += ["--split", recipe.data.val_split]
    log.info("score it: %s", shlex.join(evaluate))
    log.info("use it:   %s", shlex.join(["gffnet", "predict", "IMAGE", *model, "--out", "predicted"]))


def print_dry_run(name: str, measured: "DryRun") -> None:
    """Print a dry run as text, the time first."""
    from rich.table import Table
    from rich.text import Text

    from gffnet.console import Results, memory_size

    memory, disk, devices = measured.memory, measured.disk, measured.devices
    used = f"{memory_size(memory.peak)} with {_images(memory.images)} at a time" if memory.peak else ""
    free = f"{memory_size(memory.free)} free before" if memory.free else ""
    most = f"{'' if memory.tried_all else 'at least '}{_images(memory.largest_device_batch)}"
    counts = {part: f"{part} {count / 1e6:.2g}" for part, count in measured.parameters.items()}
    total = measured.parameters["network"] / 1e6
    auxiliary = f"; in training also {counts['auxiliary']}" if measured.parameters["auxiliary"] else ""
    del counts["network"], counts["auxiliary"]
    rows = {
        "run": f"{measured.iterations:,} iterations of {_images(measured.batch)} of "
        f"{'x'.join(map(str, measured.crop))}, {measured.precision}",
        "time": f"{measured.seconds_per_iteration:.3f} s an iteration, {measured.images_per_second:.2f} images/s"
        f"{f' each, on {devices} devices' if devices > 1 else ''}\nmedian of {measured.measured['iterations']} "
        f"iterations with {measured.measured['data']} images; validation comes on top",
        "memory": f"{', '.join(filter(None, (used, free)))}\n{most} at a time fit here: training.device_batch",
        "parameters": f"{total:.2f} M: {', '.join(counts.values())}{auxiliary}",
        "disk": f"{memory_size(disk.most)} at most: {disk.checkpoints} checkpoint{'s' * (disk.checkpoints > 1)} of "
        f"{memory_size(disk.checkpoint)}, 2 models of {memory_size(disk.model)}",
    }
    table = Table.grid(padding=(0, 2))
    for key, text in rows.items():
        table.add_row(Text(key, style="bold"), Text(text))
    out = Results(width=120)
    time = timedelta(seconds=math.ceil(measured.time[0]["seconds"]))
    out.print(Text(f"{name}: {time} on {f'{devices} x ' if devices > 1 else ''}{measured.here}", style="bold"))
    out.print(table)


def _images(count: int) -> str:
    return f"{count} image{'s' * (count > 1)}"

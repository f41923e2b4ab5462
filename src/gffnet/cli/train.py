"""`gffnet train`: train a recipe."""

import logging
import shlex
from argparse import Namespace
from pathlib import Path

from gffnet.cli import train_plan
from gffnet.cli.arguments import Parser, add_cache, add_root

log = logging.getLogger("gffnet")

SUMMARY = "train a recipe; the run folder holds the resolved recipe, history, checkpoints and the model"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
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
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the run folder")
    parser.add_argument(
        "--devices",
        type=int,
        default=None,
        metavar="N",
        help="processes on this machine, one a device (default: all GPUs, else one process on the CPU; "
        "torchrun and SLURM say it themselves)",
    )
    parser.add_argument(
        "--overfit",
        type=int,
        default=None,
        metavar="N",
        help="learn N training images by heart, to see that data, labels and recipe fit each other",
    )
    parser.add_argument("--wandb", default=None, metavar="PROJECT", help="log to Weights & Biases, too")
    train_plan.add_arguments(parser)


def run(arguments: Namespace) -> None:
    """Train, and say where the run is and what to do with it."""
    train_plan.check_arguments(arguments)

    from gffnet.recipe import load_recipe
    from gffnet.training.train import fitted_recipe

    changes = arguments.set
    file = Path(arguments.recipe)
    out = arguments.out or Path("runs") / (file.stem if file.suffix in {".yaml", ".yml"} else arguments.recipe)
    images = arguments.overfit
    if images is not None:
        from gffnet.training.train import overfit_settings

        batch = load_recipe(arguments.recipe, changes).training.batch
        changes = [*overfit_settings(images, batch), *changes]
        out = arguments.out or out.with_name(f"{out.name}_overfit_{images}")
    stored = out / "recipe.yaml" if arguments.resume else None
    recipe, fitted = fitted_recipe(arguments.recipe, changes, arguments.root, stored)

    if arguments.plan:
        train_plan.run(arguments, recipe)
        return

    from gffnet.training.launch import find_launch
    from gffnet.training.train import train

    first = find_launch(arguments.devices).rank == 0
    if fitted and first:
        log.info(fitted)
    train(
        recipe,
        arguments.recipe,
        arguments.root,
        out,
        arguments.resume,
        cache=arguments.cache,
        devices=arguments.devices,
        overfit=images,
        wandb=arguments.wandb,
    )
    if images is None and first:
        for line in next_commands(out, recipe.data.name, arguments.root):
            log.info(line)


def next_commands(run: Path, dataset: str, root: Path | None) -> list[str]:
    """What to do with a run that is trained, as lines to copy."""
    model = ["--model", str(run)]
    scored = ["gffnet", "evaluate", *model, "--dataset", dataset, "--root", str(root)]
    used = ["gffnet", "predict", "IMAGE", *model, "--out", "predicted"]
    return [f"score it: {shlex.join(scored)}", f"use it:   {shlex.join(used)}"]

"""`gffnet train`: train a recipe."""

from argparse import Namespace
from pathlib import Path

from gffnet.commands.arguments import Parser, add_cache, add_root

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


def run(arguments: Namespace) -> None:
    """Train, and say where the run is."""
    from gffnet.console import screen
    from gffnet.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.set)
    file = Path(arguments.recipe)
    out = arguments.out or Path("runs") / (file.stem if file.suffix in {".yaml", ".yml"} else arguments.recipe)

    from gffnet.training.train import train

    folder = train(recipe, arguments.recipe, arguments.root, out, arguments.resume, cache=arguments.cache)
    screen.print(f"trained: --model {folder}")

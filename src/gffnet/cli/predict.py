"""`gffnet predict`: label maps, color maps and overlays of images and videos."""

from argparse import Namespace
from math import inf

from gffnet.cli.arguments import (
    Parser,
    Paths,
    add_model,
    add_protocol,
    add_speed,
    load_predictor,
    path,
    print_json,
    shard,
)
from gffnet.errors import UserError

SUMMARY = "label maps, color maps and overlays of images, videos and folders"

_RESULTS = ["labels", "colour", "overlay"]


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "inputs",
        nargs="+",
        type=path,
        action=Paths,
        metavar="INPUT",
        help="images and videos, or folders, searched to any depth",
    )
    parser.add_argument("--out", type=path, required=True, help="folder to write labels/, colour/ and overlay/ into")
    add_model(parser)
    add_protocol(parser)
    add_speed(parser)
    parser.add_argument(
        "--write", nargs="+", choices=_RESULTS, default=_RESULTS, help="what to write (default: all three)"
    )
    parser.add_argument(
        "--shard", type=shard, default=(1, 1), metavar="i/n", help="only every n-th file, from the i-th"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="predict everything again, also over the results of another model"
    )
    parser.add_argument(
        "--smooth",
        type=seconds,
        metavar="SECONDS",
        help="average class probabilities along the time of a video, with this time constant, such as 0.1, so that "
        "labels flicker less (default: every frame by itself)",
    )
    parser.add_argument("--json", action="store_true", help="print what was written and what failed as JSON")


def seconds(text: str) -> float:
    """A number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < inf:
        raise UserError(f"--smooth {text!r} must be a number of seconds above 0, such as 0.1.")
    return value


def run(arguments: Namespace) -> None:
    """Predict every file and print the summary."""
    from gffnet.inference.batch import precision_of_folder, predict_files

    summary = predict_files(
        load_predictor(arguments, recorded=None if arguments.overwrite else precision_of_folder(arguments.out)),
        arguments.inputs,
        arguments.out,
        arguments.shard,
        arguments.write,
        arguments.overwrite,
        arguments.smooth,
    )
    if arguments.json:
        print_json(summary.to_mapping())
    summary.print()

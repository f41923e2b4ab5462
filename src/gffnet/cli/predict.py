"""`gffnet predict`: label maps, color maps and overlays of images and videos."""

from argparse import Namespace
from math import inf
from typing import TYPE_CHECKING

from gffnet.cli.arguments import (
    Parser,
    Paths,
    add_model,
    add_protocol,
    add_ray,
    add_speed,
    load_predictor,
    location,
    number,
    predictor_options,
    print_json,
    shard,
)
from gffnet.errors import UserError
from gffnet.remote import is_url, open_url

if TYPE_CHECKING:
    from gffnet.data.colors import Palette

SUMMARY = "label maps, color maps and overlays of images, videos and folders"

_RESULTS = ["labels", "colour", "overlay"]


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "inputs",
        nargs="+",
        type=location,
        action=Paths,
        metavar="INPUT",
        help="images and videos, or folders, searched to any depth; or one URL, such as s3://bucket/photos",
    )
    parser.add_argument(
        "--out",
        type=location,
        required=True,
        help="folder, or its URL, to write labels/, colour/, overlay/, a legend and the areas of the classes into",
    )
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
        help="average class probabilities along the motion in a video, with this time constant, such as 0.2, so that "
        "labels flicker less (default: every frame by itself)",
    )
    add_ray(parser, "predict")
    parser.add_argument("--json", action="store_true", help="print what was written and what failed as JSON")


def seconds(text: str) -> float:
    """A number of seconds above 0."""
    value = number(text)
    if not 0 < value < inf:
        raise UserError(f"--smooth {text!r} must be a number of seconds above 0, such as 0.2.")
    return value


def run(arguments: Namespace) -> None:
    """Predict every file, print the areas of the classes and the summary."""
    from gffnet.inference.batch import precision_of_folder, predict_files
    from gffnet.inference.stream import predict_stream

    recorded = (
        None
        if arguments.overwrite
        else precision_of_folder(open_url(arguments.out) if is_url(arguments.out) else arguments.out)
    )
    what = arguments.write, arguments.overwrite, arguments.smooth
    if arguments.ray is None:
        predictor = load_predictor(arguments, recorded=recorded)
        stored = any(map(is_url, [*arguments.inputs, arguments.out]))
        predict = predict_stream if stored else predict_files
        summary = predict(predictor, arguments.inputs, arguments.out, arguments.shard, *what)
    else:
        from gffnet.inference.cluster import predict_on_ray

        if arguments.shard != (1, 1):
            raise UserError("--ray divides the files itself, and --shard is for processes without Ray: leave one out.")
        options = predictor_options(arguments, recorded=recorded)
        cluster = {"address": arguments.ray or None, "plugins": arguments.plugin}
        summary = predict_on_ray(options, arguments.inputs, arguments.out, *what, **cluster)
    if arguments.json:
        print_json(summary.to_mapping())
    elif summary.areas:
        _print_areas(summary.areas, summary.written + summary.skipped, summary.palette)
    summary.print()


LISTED = 20
"""Number of classes that are printed; `areas.csv` has all."""


def _print_areas(areas: dict[str, float], files: int, palette: "Palette") -> None:
    """Print the classes that occur, the largest first, each with its color where there are colors."""
    from rich.cells import cell_len
    from rich.text import Text

    from gffnet.console import Results, percent
    from gffnet.data.colors import hex_color

    results, colors = Results(), dict(zip(areas, palette, strict=True))
    found = sorted(((share, name) for name, share in areas.items() if share > 0), key=lambda of: -of[0])
    shown = found[:LISTED]
    results.print_text("Share of the pixels, in percent" + (f", mean of {files} files" if files > 1 else ""))
    colored = results.color_system is not None and not results.no_color
    width = max(cell_len(name) for _, name in shown)
    for share, name in shown:
        line = Text(f"{name}{' ' * (width - cell_len(name))}  {percent(share):>5}")
        if colored:
            line = Text.assemble(("  ", f"on {hex_color(colors[name])}"), " ", line)
        results.print(line, soft_wrap=True)
    if len(found) > len(shown):
        results.print_text(f"and {len(found) - len(shown)} more classes")

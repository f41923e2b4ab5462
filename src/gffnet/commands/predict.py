"""`gffnet predict`: label maps, colour maps and overlays of images."""

from argparse import Namespace
from pathlib import Path

from gffnet.commands.arguments import Parser, add_model, shard

SUMMARY = "label maps, colour maps and overlays of images and folders"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="image files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder to write labels/, colour/ and overlay/ into")
    add_model(parser)
    parser.add_argument(
        "--shard", type=shard, default=(1, 1), metavar="i/n", help="only every n-th image, from the i-th"
    )


def run(arguments: Namespace) -> None:
    """Predict every image, and say where the results are."""
    from gffnet.console import screen
    from gffnet.inference.predict_files import predict_files
    from gffnet.inference.predictor import load

    predictor = load(arguments.model, arguments.device, arguments.precision)
    written = predict_files(predictor, arguments.inputs, arguments.out, arguments.shard)
    screen.print(f"{written} image{'s' if written != 1 else ''}: {arguments.out}/labels, colour, overlay")

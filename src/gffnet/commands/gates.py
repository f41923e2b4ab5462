"""`gffnet gates`: gate maps of images, and what closing gates changes."""

from argparse import Namespace
from pathlib import Path

from gffnet.commands.arguments import Parser, levels
from gffnet.commands.model_arguments import add_model

SUMMARY = "gate maps (Figures 6 and 7a), and what closing gates changes (Figure 7b)"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder to write a folder per image into")
    add_model(parser)
    parser.add_argument("--close", type=levels, default=[], metavar="1,2", help="also fuse with these gates at zero")


def run(arguments: Namespace) -> None:
    """Write the figures, and say where they are."""
    from gffnet.analysis.gates import write_gates
    from gffnet.console import screen
    from gffnet.data.images import image_files
    from gffnet.inference.predictor import load

    predictor = load(arguments.model, arguments.device, arguments.precision)
    write_gates(predictor, image_files(arguments.images), arguments.out, arguments.close)
    screen.print(f"gate maps: {arguments.out}")

"""`gffnet data streets`: procedural street scenes in the Cityscapes layout."""

from argparse import Namespace
from pathlib import Path

from gffnet.cli.arguments import Parser, size
from gffnet.errors import UserError

SUMMARY = "write procedural street scenes, with labels, in the Cityscapes layout"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--train", type=int, required=True, metavar="N", help="how many training scenes")
    parser.add_argument("--val", type=int, required=True, metavar="N", help="how many validation scenes")
    parser.add_argument("--size", type=size, default=(512, 1024), metavar="HxW", help="image size (default: 512x1024)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other scenes (default: 0)")


def run(arguments: Namespace) -> None:
    """Write the scenes, and say where they are."""
    from gffnet.console import progress, screen
    from gffnet.streets import write_streets

    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        with progress("drawing street scenes") as step:
            write_streets(arguments.out, arguments.train, arguments.val, arguments.size, arguments.seed, progress=step)
    except ValueError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--out: cannot write to {arguments.out}: {reason}. Name a folder with room.") from None
    screen.print(f"{arguments.train} + {arguments.val} scenes: --root {arguments.out}")

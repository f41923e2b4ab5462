"""`gffnet demo`: the main job end to end."""

from argparse import Namespace
from pathlib import Path

from gffnet.commands.arguments import Parser

SUMMARY = "draw street scenes, train a small GFFNet on them, score it and write DIR/report.html; offline, in minutes"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder to write into (default: demo)")


def run(arguments: Namespace) -> None:
    """Run it all, and say where the report is."""
    from gffnet.console import screen
    from gffnet.demo import demo

    try:
        report = demo(arguments.out)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on from here") from None
    screen.print(f"report: {report}")

"""`gffnet data cache`: decode a data set once, for training to read."""

from argparse import Namespace
from pathlib import Path

from gffnet.cli.arguments import Parser, add_root
from gffnet.errors import RunFailed

SUMMARY = "decode a data set once, into memory-mapped arrays that training reads many times faster"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("name", metavar="NAME", help="data set name, such as cityscapes")
    add_root(parser, required=True)
    parser.add_argument(
        "--split",
        default=None,
        help="split to cache, or several joined by + (default: all; no test where there is val)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        help="folder of the cache (default: gffnet_cache in the root, where it is found automatically; "
        "elsewhere, name it by --cache when training)",
    )


def run(arguments: Namespace) -> None:
    """Build or update the cache, and print what it holds."""
    from gffnet.console import progress, screen
    from gffnet.data.cache import CACHE, build_cache
    from gffnet.data.datasets import cached_splits, open_files

    root, folder = arguments.root, arguments.out or arguments.root / CACHE
    left_out = []
    splits = arguments.split.split("+") if arguments.split else cached_splits(arguments.name, root)
    for split in splits:
        dataset = open_files(arguments.name, root, split)
        with progress(f"caching {split}") as step:
            report = build_cache(dataset, split, folder, progress=step)
        size = f"{report.size / 1e9:.2f} GB" if report.size >= 1e8 else f"{report.size / 1e6:.1f} MB"
        screen.print(f"{split}: {report.written} samples decoded, {report.kept} were there: {size} in {folder}")
        for reason in report.left_out[:10]:
            screen.print(f"left out: {reason}", style="yellow")
        left_out += report.left_out
    if left_out:
        raise RunFailed(
            f"{len(left_out)} samples could not be read and are not in the cache; gffnet data check "
            f"{arguments.name} --root {root} finds them all."
        )
    if arguments.out is not None:
        screen.print(f"train with it: gffnet train RECIPE --root {root} --cache {folder}")

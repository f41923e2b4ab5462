"""Argument types that several subcommands share."""

import argparse
import json
import re
from pathlib import Path
from typing import Any, NoReturn

from gffnet.errors import UserError, nearest


class Parser(argparse.ArgumentParser):
    """argparse, but its errors are ours: one line, with the nearest of what is allowed."""

    commands: Any
    """Where subcommands are added."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """Parse, and refuse what is unknown here already, where its neighbours are known: argparse hands it up."""
        namespace, unknown = super().parse_known_args(*arguments, **options)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        option = re.search(r"unrecognized arguments: (-\S+)", message)
        hint = ""
        if choice:
            hint = nearest(choice[1], re.findall(r"[\w-]+", choice[2]))
        elif option:
            hint = nearest(option[1], self._option_string_actions)
        raise UserError(f"{message.rstrip('.')}.{hint} See {self.prog} --help.")


def size(text: str) -> tuple[int, int]:
    """`HxW`, such as `512x1024` → (512, 1024)."""
    sides = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", str(text))
    if not (sides and int(sides[1]) and int(sides[2])):
        raise UserError(f"size {text!r} must read HxW in pixels, height first, each 1..99999, such as 512x1024.")
    return int(sides[1]), int(sides[2])


def scale(text: str) -> float:
    """A factor to scale images by, such as `0.75`."""
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor <= 10:
        raise UserError(f"scale {text!r} must be a number above 0 and at most 10, such as 0.75.")
    return factor


def levels(text: str) -> list[int]:
    """`1,2` → [1, 2]."""
    parts = str(text).split(",")
    if not all(re.fullmatch(r" *[0-9]{1,3} *", part) for part in parts):
        raise UserError(f"--close {text!r} must be gate levels with commas between them, such as 1,2.")
    return [int(part) for part in parts]


def shard(text: str) -> tuple[int, int]:
    """`i/n`, such as `2/8` → (2, 8): the second of eight shares."""
    parts = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(text))
    if not (parts and 1 <= int(parts[1]) <= int(parts[2])):
        raise UserError(f"--shard {text!r} must read i/n with 1 <= i <= n, such as 2/8.")
    return int(parts[1]), int(parts[2])


def add_root(parser: Parser, required: bool) -> None:
    """`--root`."""
    parser.add_argument("--root", type=Path, default=None, required=required, help="folder of the data set")


def add_dataset(parser: Parser) -> None:
    """`--dataset`, `--root`, `--cache` and `--split`: what is scored."""
    parser.add_argument("--dataset", required=True, metavar="NAME", help="data set name, such as camvid or cityscapes")
    add_root(parser, required=True)
    add_cache(parser)
    parser.add_argument("--split", default="val", help="split to score (default: val)")


def add_cache(parser: Parser) -> None:
    """`--cache`."""
    parser.add_argument(
        "--cache",
        type=Path,
        default=None,
        help="folder that `gffnet data cache --out` wrote (default: gffnet_cache in the root, if it is there)",
    )


def print_json(value: Any) -> None:
    """The machine-readable result on standard output."""
    print(json.dumps(value, indent=1))

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

    def options(self) -> set[str]:
        """Every option of this parser and of its subcommands, which hand unknown ones up to it."""
        inner = getattr(self, "commands", None)
        return set(self._option_string_actions).union(*(p.options() for p in inner.choices.values()) if inner else ())

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        option = re.search(r"unrecognized arguments: (\S+)", message)
        hint = ""
        if choice:
            hint = nearest(choice[1], re.findall(r"[\w-]+", choice[2]))
        elif option:
            hint = nearest(option[1], self.options())
        raise UserError(f"{message.rstrip('.')}.{hint} See {self.prog} --help.")


def size(text: str) -> tuple[int, int]:
    """`HxW`, such as `512x1024` → (512, 1024)."""
    height, cross, width = str(text).partition("x")
    if not (cross and height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise UserError(f"size {text!r} must read HxW in pixels, height first, such as 512x1024.")
    return int(height), int(width)


def levels(text: str) -> list[int]:
    """`1,2` → [1, 2]."""
    parts = str(text).split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise UserError(f"--close {text!r} must be gate levels with commas between them, such as 1,2.")
    return [int(part) for part in parts]


def shard(text: str) -> tuple[int, int]:
    """`i/n`, such as `2/8` → (2, 8): the second of eight shares."""
    index, slash, count = str(text).partition("/")
    if not (slash and index.isdigit() and count.isdigit() and 1 <= int(index) <= int(count)):
        raise UserError(f"--shard {text!r} must read i/n with 1 <= i <= n, such as 2/8.")
    return int(index), int(count)


def add_model(parser: Parser) -> None:
    """`--model`, `--device` and `--precision`."""
    parser.add_argument("--model", type=str, default=None, help="a run folder or a model folder")
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    parser.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        default="auto",
        help="number format; auto takes the fastest that the hardware computes natively (default: auto)",
    )


def add_dataset(parser: Parser, required: bool) -> None:
    """`--root`."""
    parser.add_argument("--root", type=Path, default=None, required=required, help="folder of the data set")


def print_json(value: Any) -> None:
    """The machine-readable result on standard output."""
    print(json.dumps(value, indent=1))

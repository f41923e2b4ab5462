"""Arguments that say which model predicts, by which protocol, and how it is run."""

import argparse
import dataclasses
import re
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from gffnet.commands.arguments import Parser, scale, size
from gffnet.errors import UserError

if TYPE_CHECKING:
    from gffnet.inference.predictor import Predictor
    from gffnet.recipe import EvaluationRecipe

SCALES = (0.75, 1.0, 1.25, 1.5, 1.75)
"""Those that the paper averages over."""
_UNITS = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}


def add_model(parser: Parser) -> None:
    """`--model`, `--device` and `--precision`."""
    parser.add_argument(
        "--model",
        type=str,
        default=None,
        help="a run or model folder, a checkpoint, or OWNER/NAME on the hub (default: the model that ships)",
    )
    add_device(parser)


def add_device(parser: Parser) -> None:
    """`--device` and `--precision`."""
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    parser.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        default="auto",
        help="number format; auto takes the fastest that the hardware computes natively (default: auto)",
    )


def add_speed(parser: Parser) -> None:
    """`--batch`, `--memory` and `--compile`: what changes how long prediction takes, and not its result."""
    add_batch_and_memory(parser, "predict images whose class probabilities do not fit, with all else, part by part")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the network for the size of its windows first: pays for many images of one size",
    )


def add_batch_and_memory(parser: Parser, limited: str) -> None:
    """`--batch` and `--memory`; `limited`: what a limit on memory does."""
    parser.add_argument(
        "--batch", type=positive, default=None, help="windows predicted at once (default: 4 on a GPU, else 1)"
    )
    parser.add_argument("--memory", type=memory, default=None, metavar="SIZE", help=f"such as 8GB: {limited}")


def add_protocol(parser: Parser) -> None:
    """`--scales`, `--flip`, `--crop` and `--overlap`: how an image is predicted."""
    parser.add_argument(
        "--scales",
        type=scale,
        nargs="*",
        default=None,
        help="average over these scales; without numbers, the paper's 0.75 1.0 1.25 1.5 1.75 (default: the recipe's)",
    )
    parser.add_argument("--flip", action="store_true", help="average with the mirrored image's result")
    parser.add_argument(
        "--crop",
        type=_crop,
        default=None,
        metavar="HxW",
        help="sliding window; none: the whole image (default: the recipe's)",
    )
    parser.add_argument(
        "--overlap", type=_overlap, default=None, help="of windows, as a share of one (default: the recipe's)"
    )


def _protocol(arguments: Namespace, default: "EvaluationRecipe") -> "EvaluationRecipe":
    """The protocol that the model comes with, and what the arguments change of it."""
    changes: dict[str, Any] = {}
    if arguments.scales is not None:
        changes["scales"] = tuple(arguments.scales or SCALES)
    if arguments.flip:
        changes["flip"] = True
    if arguments.crop is not None:
        changes["crop"] = arguments.crop or None
    if arguments.overlap is not None:
        changes["overlap"] = arguments.overlap
    return dataclasses.replace(default, **changes)


def opened(arguments: Namespace, device: str | None = None) -> "Predictor":
    """The model of `add_model`, to be run as `add_protocol` and `add_speed` say; on `device`, if one is given."""
    from gffnet.inference.predictor import load
    from gffnet.pages import keep_pages

    if arguments.memory is None:  # pages that are kept may be more than the memory that is asked for
        keep_pages()
    predictor = load(
        arguments.model,
        device or arguments.device,
        arguments.precision,
        batch=arguments.batch,
        memory=arguments.memory,
        compiled=arguments.compile,
    )
    protocol = _protocol(arguments, predictor.config.evaluation)
    predictor.config = dataclasses.replace(predictor.config, evaluation=protocol)
    if arguments.scales is not None:  # they are of an image however large it is
        predictor.config = dataclasses.replace(predictor.config, learned_from=None)
    return predictor


def memory(text: str) -> int:
    """`8GB` → 8,000,000,000."""
    parts = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?(MB|GB|MiB|GiB)", str(text))
    if not (parts and float(parts[1])):
        raise UserError(f"--memory {text!r} must be a number with MB, GB, MiB or GiB, such as 8GB.")
    return int(float(parts[1]) * _UNITS[parts[2]])


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not (re.fullmatch(r"[0-9]{1,6}", str(text)) and int(text)):
        raise UserError(f"--batch {text!r} must be a whole number, 1 or more.")
    return int(text)


def _crop(text: str) -> tuple[int, ...]:
    """A window; empty for none."""
    if text == "none":
        return ()
    window = size(text)
    if min(window) < 16:
        raise UserError(f"--crop {text} must be none or at least 16 pixels high and wide.")
    return window


def _overlap(text: str) -> float:
    """A share of a window."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of at least 0 and below 1, such as 0.333")
    return share

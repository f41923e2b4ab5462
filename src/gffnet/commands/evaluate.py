"""`gffnet evaluate`: score a model on a split of a data set."""

import dataclasses
from argparse import Namespace
from pathlib import Path
from typing import Any

from gffnet.commands.arguments import Parser, add_cache, add_model, add_root, print_json, scale

SUMMARY = "score a model on a data set: mIoU, pixel accuracy, IoU per class, with the protocol used"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    add_model(parser)
    parser.add_argument("--dataset", required=True, metavar="NAME", help="data set name, such as camvid or cityscapes")
    add_root(parser, required=True)
    add_cache(parser)
    parser.add_argument("--split", default="val", help="split to score (default: val)")
    parser.add_argument(
        "--scales", type=scale, nargs="+", default=None, help="average over these scales (default: the recipe's)"
    )
    parser.add_argument("--flip", action="store_true", help="average with the mirrored image's result")
    parser.add_argument("--out", type=Path, default=None, help="write scores.json into this folder")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON instead of a table")


def run(arguments: Namespace) -> None:
    """Score, write and print."""
    from gffnet.data.build import open_dataset
    from gffnet.evaluation.evaluate import evaluate, write_scores
    from gffnet.inference.predictor import load

    predictor = load(arguments.model, arguments.device, arguments.precision)
    dataset = open_dataset(arguments.dataset, arguments.root, arguments.split, arguments.cache)
    protocol = predictor.config.evaluation
    if arguments.scales:
        protocol = dataclasses.replace(protocol, scales=tuple(arguments.scales))
    if arguments.flip:
        protocol = dataclasses.replace(protocol, flip=True)
    scores = evaluate(predictor, dataset, arguments.dataset, arguments.split, protocol)
    if arguments.out is not None:
        write_scores(arguments.out / "scores.json", scores)
    if arguments.json:
        print_json(scores)
    else:
        _print_table(scores)


def _print_table(scores: dict[str, Any]) -> None:
    """The scores as a table on standard output, in percent."""
    from rich.table import Table

    from gffnet.console import Results

    protocol = scores["protocol"]
    table = Table(title=f"{protocol['recipe']} on {protocol['dataset']} {protocol['split']}, {scores['images']} images")
    table.add_column("class")
    table.add_column("IoU %", justify="right")
    for name, iou in scores["per_class"].items():
        table.add_row(name, "absent" if iou is None else f"{100 * iou:.1f}")
    table.add_section()
    table.add_row("mIoU", f"{100 * scores['miou']:.2f}")
    table.add_row("pixel accuracy", f"{100 * scores['pixel_accuracy']:.2f}")
    Results().print(table)

"""`gffnet gates`: gate maps of images, and what closing gates changes."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from gffnet.cli.arguments import (
    Parser,
    Paths,
    add_model,
    add_truth,
    ground_truth,
    levels,
    number,
    path,
    print_json,
    scale,
    show_result,
)
from gffnet.errors import UserError

SUMMARY = "gate maps (Figures 6 and 7a), and what closing gates changes (Figure 7b)"


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "images",
        nargs="+",
        type=path,
        action=Paths,
        metavar="IMAGE",
        help="image files, folders of them, or samples of --dataset",
    )
    parser.add_argument("--out", type=path, required=True, help="folder to write a folder per image into")
    add_model(parser)
    parser.add_argument(
        "--close",
        type=levels,
        action="append",
        default=[],
        metavar="1,2",
        help="also predict with these gates closed, 1 the finest; may be given several times, once for every row of a "
        "figure: --close 1 --close 2 --close 1,2",
    )
    add_value(parser)
    parser.add_argument(
        "--scale",
        type=scale,
        default=None,
        metavar="S",
        help="resize images by this factor (default: 1, less where they are much larger than in training)",
    )
    add_truth(parser)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead of tables")


def add_value(parser: Parser) -> None:
    """`--value`."""
    parser.add_argument(
        "--value",
        type=_value,
        default=0.0,
        metavar="V",
        help="hold these gates at V, from 0 (closed) to 1 (open), rather than close them (default: 0)",
    )


def run(arguments: Namespace) -> None:
    """Write the figures and print the numbers."""
    from gffnet.console import screen
    from gffnet.data.io import image_files
    from gffnet.evaluation.evaluate import same_classes
    from gffnet.gates.write import write_gates
    from gffnet.inference.predictor import load

    if arguments.value and not arguments.close:
        raise UserError(f"--value {arguments.value:g} is for the gates of --close: add --close 1, or leave it out.")
    truth = ground_truth(arguments, arguments.model)
    predictor = load(arguments.model, arguments.device, arguments.precision)
    if truth.classes is not None:
        same_classes(predictor, truth.classes, arguments.dataset)
    paths = list(image_files([truth.image(path) for path in arguments.images], out=arguments.out))
    options = arguments.out, arguments.close, arguments.value, truth, arguments.scale
    show_result(lambda: write_gates(predictor, paths, *options), print_json if arguments.json else _print_tables)
    screen.print(f"gate maps: {arguments.out}")


def _value(text: str) -> float:
    """A value of gates, such as `0.5`."""
    value = number(text)
    if not 0 <= value <= 1:
        raise UserError(f"--value {text!r} must be a number from 0, which closes a gate, to 1, which opens it.")
    return value


def _print_tables(numbers: Mapping[str, Any]) -> None:
    """Print the gates, and what closing them changes, over the pixels of all images."""
    from gffnet.console import DASH, Results, make_table, percent
    from gffnet.gates.figures import held
    from gffnet.gates.statistics import near_and_far

    results = Results(width=100)
    count = numbers["images"]
    rows = [
        [
            f"G{level['level']}",
            f"{level['mean']:.3f}",
            *(DASH if value is None else f"{value:.3f}" for value in near_and_far(level)),
            percent(level["share_above_half"], 2),
        ]
        for level in numbers["levels"]
    ]
    title = f"Gates of {numbers['model']}, {count} image{'s' * (count != 1)}"
    results.print(make_table(["gate", "mean", "near", "far", "above 0.5, %"], rows, title))
    if numbers["closings"]:
        judged = numbers["pixel_accuracy"] is not None
        headings = ["gates", "changed", "near", "far", *(["became wrong", "became right", "accuracy"] * judged)]
        rows = [["as learned", *[DASH] * 5, percent(numbers["pixel_accuracy"], 2)]] * judged
        rows += [_closing_row(closing, judged) for closing in numbers["closings"]]
        results.print(make_table(headings, rows, f"With gates {held(numbers['value'])}, in percent of the pixels"))
    results.print("near: 1-2 px from a boundary of the prediction; far: more than 10 px from every one.")


def _closing_row(closing: Mapping[str, Any], judged: bool) -> list[str]:
    """What a closing changed, and, where labels are known, whether for the better."""
    from gffnet.console import percent
    from gffnet.gates.statistics import near_and_far

    changed = [closing["changed_share"], *near_and_far(closing)]
    if judged:
        changed += [closing["became_wrong"]["share"], closing["became_right"]["share"], closing["pixel_accuracy"]]
    return [" ".join(f"G{level}" for level in closing["levels"]), *(percent(share, 2) for share in changed)]

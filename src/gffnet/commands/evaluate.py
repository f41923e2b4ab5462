"""`gffnet evaluate`: score a model on a split of a data set."""

import argparse
import dataclasses
import signal
import threading
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gffnet.commands.arguments import Parser, add_cache, add_model, add_root, add_speed, opened, print_json, scale, size
from gffnet.errors import Stopped, UserError

if TYPE_CHECKING:
    from gffnet.recipe import EvaluationRecipe

SUMMARY = "score a model on a data set: mIoU, pixel accuracy, IoU per class, with the protocol used"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    add_model(parser)
    add_speed(parser)
    parser.add_argument("--dataset", required=True, metavar="NAME", help="data set name, such as camvid or cityscapes")
    add_root(parser, required=True)
    add_cache(parser)
    parser.add_argument("--split", default="val", help="split to score (default: val)")
    add_protocol(parser)
    parser.add_argument(
        "--no-details", dest="details", action="store_false", help="no scores of boundaries, distances and object sizes"
    )
    parser.add_argument(
        "--out", type=Path, default=None, help="folder for scores.json, scores.md, scores.html and images.csv"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an evaluation into --out that was broken off")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON instead of a table")


def add_protocol(parser: Parser) -> None:
    """`--scales`, `--flip`, `--crop` and `--overlap`: how an image is predicted."""
    parser.add_argument(
        "--scales", type=scale, nargs="+", default=None, help="average over these scales (default: the recipe's)"
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


def chosen_protocol(arguments: Namespace, default: "EvaluationRecipe") -> "EvaluationRecipe":
    """The protocol that the model comes with, and what the arguments change of it."""
    changes: dict[str, Any] = {}
    if arguments.scales:
        changes["scales"] = tuple(arguments.scales)
    if arguments.flip:
        changes["flip"] = True
    if arguments.crop is not None:
        changes["crop"] = arguments.crop or None
    if arguments.overlap is not None:
        changes["overlap"] = arguments.overlap
    return dataclasses.replace(default, **changes)


def run(arguments: Namespace) -> None:
    """Score, write and print."""
    from gffnet.data.build import open_dataset
    from gffnet.evaluation.evaluate import Task, evaluate_share, forget_kept, write_scores
    from gffnet.evaluation.images import write_images
    from gffnet.evaluation.shares import joined, own_device
    from gffnet.evaluation.tables import write_tables

    if arguments.resume and arguments.out is None:
        raise UserError("--resume goes on with what is kept in --out DIR. Name the folder of the evaluation.")
    out: Path | None = arguments.out
    with _stopping(), joined() as group:
        predictor = opened(arguments, own_device(arguments.device))
        dataset = open_dataset(arguments.dataset, arguments.root, arguments.split, arguments.cache)
        protocol = chosen_protocol(arguments, predictor.config.evaluation)
        task = Task(predictor, dataset, arguments.dataset, arguments.split, protocol, arguments.details)
        result = evaluate_share(task, group, out, arguments.resume)
        if result is None:
            return
        if out is not None:
            write_images(out / "images.csv", result.images)
            write_tables(out, result.scores)
            write_scores(out / "scores.json", result.scores)
            forget_kept(out)
    if arguments.json:
        print_json(result.scores)
    else:
        _print_table(result.scores)


@contextmanager
def _stopping() -> Iterator[None]:
    """SIGTERM, which schedulers send before they take a machine away, ends the evaluation as Ctrl-C does."""

    def stop(number: int, _: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is scored is being saved
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, before[signal.SIGINT])
            raise KeyboardInterrupt
        raise Stopped("stopped by SIGTERM.")

    main = threading.current_thread() is threading.main_thread()  # which alone may listen
    numbers = (signal.SIGTERM, signal.SIGINT) if main else ()
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_table(scores: dict[str, Any]) -> None:
    """The scores as tables on standard output, in percent."""
    from gffnet.console import Results
    from gffnet.evaluation.tables import per_class, summary, title_of

    results = Results()
    classes, means = per_class(scores), summary(scores)
    results.print(_drawn(classes.headings, classes.rows, title_of(scores)))
    headings, *rows = zip(means.headings, *means.rows, strict=True)  # rows and columns changed
    results.print(_drawn(headings, rows))
    for note in filter(None, (classes.note, means.note)):
        results.print(note, soft_wrap=True)


def _drawn(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> Any:
    """A table for the terminal."""
    from rich.table import Table

    drawn = Table(title=title)
    for i, heading in enumerate(headings):
        drawn.add_column(heading, justify="right" if i else "left")
    for row in rows:
        drawn.add_row(*row)
    return drawn


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

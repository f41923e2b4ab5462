"""`gffnet evaluate`: score a model on a split of a data set."""

import signal
import threading
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gffnet.cli.arguments import Parser, add_dataset, add_model, add_protocol, add_speed, load_predictor, print_json
from gffnet.errors import Stopped, UserError

SUMMARY = "score a model on a data set: mIoU, pixel accuracy, IoU per class, with the protocol used"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    add_model(parser)
    add_speed(parser)
    add_dataset(parser)
    add_protocol(parser)
    parser.add_argument(
        "--no-details", dest="details", action="store_false", help="no scores of boundaries, distances and object sizes"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        help="folder for scores.json, scores.md, scores.html, images.csv and confusion.csv",
    )
    parser.add_argument("--resume", action="store_true", help="go on with an evaluation into --out that was broken off")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON instead of a table")


def run(arguments: Namespace) -> None:
    """Score, write and print."""
    from gffnet.data.datasets import open_dataset
    from gffnet.evaluation.evaluate import Task, evaluate_share, forget_kept, joined, own_device
    from gffnet.evaluation.results import write_result

    if arguments.resume and arguments.out is None:
        raise UserError("--resume goes on with what is kept in --out DIR. Name the folder of the evaluation.")
    out: Path | None = arguments.out
    with _stopping(), joined() as group:
        predictor = load_predictor(arguments, own_device(arguments.device))
        dataset = open_dataset(arguments.dataset, arguments.root, arguments.split, arguments.cache)
        protocol = predictor.protocol
        task = Task(predictor, dataset, arguments.dataset, arguments.split, protocol, arguments.details)
        result = evaluate_share(task, group, out, arguments.resume)
        if result is None:
            return
        if out is not None:
            write_result(out, result)
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
    from gffnet.console import Results, make_table
    from gffnet.evaluation.results import per_class, summary, title_of

    results = Results()
    classes, means = per_class(scores), summary(scores)
    results.print(make_table(classes.headings, classes.rows, title_of(scores)))
    headings, *rows = zip(means.headings, *means.rows, strict=True)  # rows and columns changed
    results.print(make_table(headings, rows))
    for note in filter(None, (classes.note, means.note)):
        results.print(note, soft_wrap=True)

"""`gffnet evaluate`: score a model on a split of a data set."""

import signal
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gffnet.cli.arguments import (
    Parser,
    add_dataset,
    add_model,
    add_protocol,
    add_ray,
    add_speed,
    load_predictor,
    path,
    predictor_options,
    print_json,
)
from gffnet.errors import Stopped, UserError
from gffnet.parallel import restored_signals

if TYPE_CHECKING:
    from gffnet.metrics.scores import Scores

SUMMARY = "score a model on a data set: mIoU, pixel accuracy, IoU per class, with the protocol used"


def add_arguments(parser: Parser) -> None:
    add_model(parser)
    add_speed(parser)
    add_dataset(parser)
    add_protocol(parser)
    parser.add_argument(
        "--no-details", dest="details", action="store_false", help="no scores of boundaries, distances and object sizes"
    )
    parser.add_argument(
        "--out",
        type=path,
        default=None,
        help="folder for scores.json, scores.md, scores.html, images.csv and confusion.csv",
    )
    parser.add_argument("--resume", action="store_true", help="resume an interrupted evaluation into --out")
    add_ray(parser, "evaluate")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON instead of a table")


def run(arguments: Namespace) -> None:
    """Score, write and print."""
    if arguments.ray is not None:
        _show(_run_on_ray(arguments), arguments.json)
        return
    from gffnet.evaluation.evaluate import evaluate, precision_of_partial
    from gffnet.parallel import device_of_rank, process_group, rank_and_world_size
    from gffnet.recipe import validated_split

    with stop_on_sigterm(), process_group():
        device = device_of_rank(arguments.device)
        result = evaluate(
            load_predictor(arguments, device, precision_of_partial(arguments.out, arguments.resume, device)),
            arguments.dataset,
            arguments.root,
            split=arguments.split or validated_split(arguments.model, arguments.dataset),
            details=arguments.details,
            out=arguments.out,
            resume=arguments.resume,
            cache=arguments.cache,
        )
        if rank_and_world_size()[0] != 0:
            return
    _show(result.scores, arguments.json)


def _run_on_ray(arguments: Namespace) -> "Scores":
    from gffnet.evaluation.on_ray import evaluate_on_ray
    from gffnet.recipe import validated_split

    if arguments.resume:
        raise UserError("--resume reads partial results, which --ray does not write: Ray itself repeats what is lost.")
    result = evaluate_on_ray(
        predictor_options(arguments),
        arguments.dataset,
        arguments.root,
        arguments.split or validated_split(arguments.model, arguments.dataset),
        cache=arguments.cache,
        details=arguments.details,
        out=arguments.out,
        address=arguments.ray or None,
        plugins=arguments.plugin,
    )
    return result.scores


def _show(scores: "Scores", as_json: bool) -> None:
    if as_json:
        print_json(scores.to_json())
    else:
        _print_tables(scores)


@contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """Let SIGTERM, which schedulers send before they take a machine away, end the evaluation as Ctrl-C does."""

    def stop(number: int, _: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # partial results are being saved
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, before[signal.SIGINT])
            raise KeyboardInterrupt
        raise Stopped("stopped by SIGTERM.")

    with restored_signals() as before:
        for number in before:
            signal.signal(number, stop)
        yield


def _print_tables(scores: "Scores") -> None:
    """Print the scores in percent on standard output."""
    from gffnet.console import Results, make_table
    from gffnet.evaluation.results import per_class, summary, title_of

    results = Results()
    classes, means = per_class(scores), summary(scores)
    results.print(make_table(classes.headings, classes.rows, title_of(scores)))
    headings, *rows = zip(means.headings, *means.rows, strict=True)  # transposed
    results.print(make_table(headings, rows))
    for note in filter(None, (classes.note, means.note)):
        results.print(note, soft_wrap=True)

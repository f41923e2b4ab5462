"""`gffnet gates-ablation`: scores with each gate closed."""

from argparse import Namespace
from pathlib import Path

from gffnet.cli.arguments import (
    Parser,
    add_batch_and_memory,
    add_dataset,
    add_model,
    add_protocol,
    load_predictor,
    print_json,
)
from gffnet.cli.gates import add_value
from gffnet.errors import UserError

SUMMARY = "scores with each gate closed, alone and in pairs, and what every gate serves"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    add_model(parser)
    add_dataset(parser)
    add_protocol(parser)
    add_batch_and_memory(
        parser, "predict large images part by part, and keep no window: the backbone then runs for every closing"
    )
    parser.add_argument(
        "--limit", type=_limit, default=None, metavar="N", help="score N images, evenly spread over the split"
    )
    parser.add_argument("--no-pairs", dest="pairs", action="store_false", help="close gates one at a time only")
    add_value(parser)
    parser.add_argument(
        "--out", type=Path, default=None, help="folder for ablation.json, ablation.md, by_class.png and by_distance.png"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an ablation into --out that was broken off")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON instead of tables")
    parser.set_defaults(compile=False)  # a compiled network rounds otherwise than its two halves


def run(arguments: Namespace) -> None:
    """Score, write and print."""
    from gffnet.data.datasets import open_dataset
    from gffnet.evaluation.evaluate import Task, joined, own_device
    from gffnet.gates.ablation import count_ablation, forget_counts, plan_ablation, record_of, write_ablation

    out: Path | None = arguments.out
    if arguments.resume and out is None:
        raise UserError("--resume goes on with what is kept in --out DIR. Name the folder of the ablation.")
    with joined() as group:
        predictor = load_predictor(arguments, own_device(arguments.device))
        dataset = open_dataset(arguments.dataset, arguments.root, arguments.split, arguments.cache)
        task = Task(predictor, dataset, arguments.dataset, arguments.split, predictor.protocol)
        ablation = plan_ablation(task, arguments.pairs, arguments.value, arguments.limit)
        counts = count_ablation(ablation, group, out, arguments.resume)
        if counts is None:
            return
        record = record_of(ablation, counts)
        if out is not None:
            write_ablation(out, record)
            forget_counts(ablation, out)
    if arguments.json:
        print_json(record)
    else:
        _print_tables(record)


def _limit(text: str) -> int:
    """A number of images."""
    if not (text.isdecimal() and 0 < int(text) < 10**9):
        raise UserError(f"--limit {text!r} must be a whole number of images, 1 or more.")
    return int(text)


def _print_tables(record: dict[str, object]) -> None:
    """The tables on standard output."""
    from gffnet.console import Results, make_table
    from gffnet.gates.ablation import all_tables, title_of

    results = Results(width=110)
    results.print(title_of(record), soft_wrap=True)
    for table in all_tables(record):
        results.print(make_table(table.headings, table.rows, table.title))
        if table.note:
            results.print(table.note)

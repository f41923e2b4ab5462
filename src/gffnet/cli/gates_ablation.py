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
    path,
    print_json,
    whole_number,
)
from gffnet.cli.evaluate import stop_on_sigterm
from gffnet.cli.gates import add_value
from gffnet.errors import UserError

SUMMARY = "scores with each gate closed, alone and in pairs, and what every gate serves"


def add_arguments(parser: Parser) -> None:
    add_model(parser)
    add_dataset(parser)
    add_protocol(parser)
    add_batch_and_memory(
        parser, "predict large images in tiles, and keep no encoded window: the backbone then runs for every closing"
    )
    parser.add_argument(
        "--limit",
        type=whole_number("--limit", 1),
        default=None,
        metavar="N",
        help="score N images, evenly spread over the split",
    )
    parser.add_argument("--no-pairs", dest="pairs", action="store_false", help="close gates one at a time only")
    add_value(parser)
    parser.add_argument(
        "--out", type=path, default=None, help="folder for ablation.json, ablation.md, by_class.png and by_distance.png"
    )
    parser.add_argument("--resume", action="store_true", help="resume an interrupted ablation into --out")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON instead of tables")
    parser.set_defaults(compile=False)  # a compiled network rounds otherwise than its two halves


def run(arguments: Namespace) -> None:
    """Score, write and print."""
    from gffnet.data.datasets import open_dataset
    from gffnet.evaluation.evaluate import precision_of_partial, remove_partial
    from gffnet.gates.ablation import PARTIAL_FOLDER, ablate, refuse_others, write_ablation
    from gffnet.parallel import device_of_rank, process_group, rank_and_world_size
    from gffnet.recipe import validated_split

    out: Path | None = arguments.out
    if arguments.resume and out is None:
        raise UserError("--resume reads the partial results in --out DIR. Name the folder of the ablation.")
    if out is not None:
        refuse_others(out)
    with stop_on_sigterm(), process_group():
        device = device_of_rank(arguments.device)
        recorded = precision_of_partial(out, arguments.resume, device, PARTIAL_FOLDER)
        predictor = load_predictor(arguments, device, recorded)
        split = arguments.split or validated_split(arguments.model, arguments.dataset)
        dataset = open_dataset(arguments.dataset, arguments.root, split, arguments.cache)
        record = ablate(
            predictor,
            dataset,
            arguments.dataset,
            split,
            predictor.protocol,
            pairs=arguments.pairs,
            value=arguments.value,
            limit=arguments.limit,
            out=out,
            resume=arguments.resume,
        )
        if rank_and_world_size()[0] != 0:
            return
        if out is not None:
            write_ablation(out, record)
            remove_partial(out / PARTIAL_FOLDER)
    if arguments.json:
        print_json(record)
    else:
        _print_tables(record)


def _print_tables(record: dict[str, object]) -> None:
    """Print the tables on standard output."""
    from gffnet.console import Results, make_table
    from gffnet.gates.ablation import all_tables, title_of

    results = Results(width=110)
    results.print(title_of(record), soft_wrap=True)
    for table in all_tables(record):
        results.print(make_table(table.headings, table.rows, table.title))
        if table.note:
            results.print(table.note)

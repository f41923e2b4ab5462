"""`gffnet tables`: the paper's tables with ours beside them."""

from argparse import Namespace
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from gffnet.cli.arguments import Parser, Paths, path, print_json

if TYPE_CHECKING:
    from gffnet.reports.tables import Table

SUMMARY = "the paper's Tables 1 to 9 with ours beside them, matched by recipe and protocol, mean and spread over seeds"


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "runs",
        nargs="*",
        type=path,
        action=Paths,
        metavar="RUN",
        help="run folders, evaluation folders, or folders above them: every scores.json in them counts (default: none)",
    )
    parser.add_argument(
        "--out",
        type=path,
        default=None,
        metavar="FILE",
        help="write to FILE in the format of its suffix: .md, .csv, .tex or .html (default: print the tables)",
    )
    parser.add_argument("--json", action="store_true", help="print all numbers as a JSON list, one entry a score")


def run(arguments: Namespace) -> None:
    """Read the scores, fill the tables, and write or print them."""
    from gffnet.console import screen
    from gffnet.reports.tables import (
        LEGEND,
        find_scores,
        format_of,
        make_dataset_tables,
        make_paper_tables,
        records,
        table3_cost,
        write_tables,
    )

    if arguments.out is not None:
        format_of(arguments.out)  # a wrong suffix fails before the work begins
    runs = find_scores(arguments.runs)
    cost = table3_cost()
    tables = [*make_paper_tables(runs, cost), *make_dataset_tables(runs)]
    if arguments.out is not None:
        write_tables(arguments.out, tables)
        screen.print(f"tables: {arguments.out}")
    if arguments.json:
        print_json(list(records(tables)))
    elif arguments.out is None:
        print_tables(tables, LEGEND)


def print_tables(tables: Sequence["Table"], legend: str) -> None:
    """Print tables and their legend on standard output."""
    from gffnet.console import Results, make_table
    from gffnet.reports.tables import to_text

    results = Results(width=120)
    for table in map(to_text, tables):
        shown = make_table(table.headings, [], table.title)
        shown.title_justify = "left"
        for group, rows in groupby(table.rows, key=lambda row: row[0]):
            if group:
                shown.add_section()
                shown.add_row(group, style="italic")
            for _, cells in rows:
                shown.add_row(*[cell.marked for cell in cells])
        results.print(shown)
        for line in [*[table.remark] * bool(table.remark), *(f"{i}: {note}" for i, note in enumerate(table.notes, 1))]:
            results.print(line, soft_wrap=True)
        results.print()
    results.print(legend, soft_wrap=True)

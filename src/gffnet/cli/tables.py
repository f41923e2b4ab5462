"""`gffnet tables`: the paper's tables with ours beside them."""

from argparse import Namespace
from collections.abc import Sequence
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
        help="run folders, evaluation folders, or folders above them: every scores.json in them counts",
    )
    parser.add_argument(
        "--out",
        type=path,
        default=None,
        metavar="FILE",
        help="write to FILE in the format of its suffix: .md, .csv, .tex or .html (default: print the tables)",
    )
    parser.add_argument(
        "--baseline",
        metavar="RECIPE",
        help="what gains are over in the tables of data sets and splits that the paper lacks "
        "(default: the PSPNet of the same backbone and settings)",
    )
    parser.add_argument(
        "--all", action="store_true", help="print the tables without runs, too; files and JSON always hold all"
    )
    parser.add_argument("--json", action="store_true", help="print all numbers as a JSON list, one entry a score")


def run(arguments: Namespace) -> None:
    """Read the scores, fill the tables, and write or print them."""
    from gffnet.console import screen
    from gffnet.reports.tables import (
        concerns_runs,
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
    of_paper = make_paper_tables(runs, {})
    whole = arguments.json or arguments.all or arguments.out is not None
    if whole or concerns_runs(of_paper[2]):
        of_paper = make_paper_tables(runs, table3_cost())  # counting takes seconds
    tables = [*of_paper, *make_dataset_tables(runs, arguments.baseline)]
    if arguments.out is not None:
        write_tables(arguments.out, tables)
        screen.print(f"tables: {arguments.out}")
    if arguments.json:
        print_json(list(records(tables)))
    elif arguments.out is None:
        shown = [table for table in tables if arguments.all or concerns_runs(table)]
        if shown:
            print_tables(shown)
        left = [table.title.split(".")[0].removeprefix("Table ") for table in tables if table not in shown]
        if not runs and left:
            screen.print("no RUN is named: gffnet tables RUN... fills the tables, --all prints the paper's figures")
        elif left:
            which = f"Table{'s' * (len(left) > 1)} {', '.join(left)}" if shown[0] in of_paper else "the paper's tables"
            screen.print(f"left out: {which}, without runs; --all prints them")


def print_tables(tables: Sequence["Table"], legend: str | None = None) -> None:
    """Print tables and their legend (default: `gffnet.reports.tables.LEGEND`) on standard output."""
    from gffnet.console import Results
    from gffnet.reports.tables import LEGEND, to_text

    results = Results()
    for table in map(to_text, tables):
        rows = [(group, [cell.text + cell.marks for cell in cells]) for group, cells in table.rows]
        results.print_table(table.headings, rows, table.parts, table.title)
        if table.remark:
            results.print_text(table.remark)
        for number, note in enumerate(table.notes, start=1):
            results.print_text(f"{number}: {note}", indent=" " * len(f"{number}: "))
        results.print()
    results.print_text(legend or LEGEND)

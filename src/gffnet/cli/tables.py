"""`gffnet tables`: the paper's tables with ours beside them."""

from argparse import Namespace
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from gffnet.cli.arguments import Parser, print_json

if TYPE_CHECKING:
    from gffnet.reports.tables import Section

SUMMARY = "the paper's Tables 1 to 9 with ours beside them, matched by recipe and protocol, mean and spread over seeds"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUN",
        help="run folders, folders of evaluations, or folders of such: whatever holds a scores.json (default: none)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        metavar="FILE",
        help="write to FILE, as its ending says: .md, .csv, .tex or .html (default: print the tables)",
    )
    parser.add_argument("--json", action="store_true", help="print a list of all numbers as JSON, one entry a score")


def run(arguments: Namespace) -> None:
    """Read the scores, fill the tables, and write or print them."""
    from gffnet.console import screen, track
    from gffnet.reports.tables import (
        find_scores,
        form_of,
        own_sections,
        paper_sections,
        records,
        table3_cost,
        write_sections,
    )

    if arguments.out is not None:
        form_of(arguments.out)  # nobody wants to wait to be told
    scored = find_scores(arguments.runs)
    cost = table3_cost(lambda sizes: track(sizes, "counting what Table 3 costs"))
    sections = [*paper_sections(scored, cost), *own_sections(scored)]
    if arguments.out is not None:
        write_sections(arguments.out, sections)
        screen.print(f"tables: {arguments.out}")
    if arguments.json:
        print_json(list(records(sections)))
    elif arguments.out is None:
        _print_tables(sections)


def _print_tables(sections: Sequence["Section"]) -> None:
    """All tables on standard output."""
    from rich.table import Table

    from gffnet.console import Results
    from gffnet.reports.tables import LEGEND, laid_out, marks

    results = Results(width=120)
    for table in map(laid_out, sections):
        shown = Table(title=table.title, title_justify="left")
        for i, heading in enumerate(table.headings):
            shown.add_column(heading, justify="right" if i else "left")
        for group, rows in groupby(table.rows, key=lambda row: row[0]):
            if group:
                shown.add_section()
                shown.add_row(group, style="italic")
            for _, cells in rows:
                shown.add_row(*[cell.text + marks(cell) for cell in cells])
        results.print(shown)
        for line in [*[table.remark] * bool(table.remark), *(f"{i}: {note}" for i, note in enumerate(table.notes, 1))]:
            results.print(line, soft_wrap=True)
        results.print()
    results.print(LEGEND, soft_wrap=True)

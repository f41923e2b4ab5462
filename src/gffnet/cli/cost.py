"""`gffnet cost`: parameters, MACs, FLOPs, increments over the first recipe (Table 3)."""

from argparse import Namespace
from typing import Any

from gffnet.cli.arguments import Parser, Paths, print_json, size

SUMMARY = "parameters, MACs and FLOPs of recipes, and what each adds to the first (Table 3)"


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "recipes",
        nargs="+",
        action=Paths,
        metavar="RECIPE",
        help="recipe names or files; the first is the baseline",
    )
    parser.add_argument("--size", type=size, default=(512, 512), metavar="HxW", help="image size (default: 512x512)")
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")


def run(arguments: Namespace) -> None:
    """Count, and print a table or JSON."""
    from gffnet.recipe import load_recipe
    from gffnet.reports.cost import costs

    rows = costs([(name, load_recipe(name)) for name in arguments.recipes], arguments.size)
    if arguments.json:
        print_json(rows)
    else:
        _print_table(rows, arguments.size)


def _print_table(rows: list[dict[str, Any]], size: tuple[int, int]) -> None:
    """The rows as a table on standard output."""
    from gffnet.console import Results, make_table

    headings = ("recipe", "params", "", "GMAC as written", "", "GFLOP", "GMAC executed", "")
    cells = [
        (
            row["recipe"],
            f"{row['params'] / 1e6:.2f} M",
            f"{row['params_increase_percent']:+.1f} %",
            f"{row['macs'] / 1e9:.1f}",
            f"{row['macs_increase_percent']:+.1f} %",
            f"{row['flops'] / 1e9:.1f}",
            f"{row['executed_macs'] / 1e9:.1f}",
            f"{row['executed_macs_increase_percent']:+.1f} %",
        )
        for row in rows
    ]
    title = f"one image of {size[0]}x{size[1]}; executed: over the first row as written"
    Results(width=140).print(make_table(headings, cells, title))

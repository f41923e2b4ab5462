"""`gffnet data check`: what is wrong with a data set, and the remedy."""

from argparse import Namespace

from gffnet.cli.arguments import Parser, add_root, print_json
from gffnet.errors import RunFailed, UserError

SUMMARY = "find what is wrong with a data set, file by file, with the remedy, and count its classes"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument("name", metavar="NAME", help="data set name, such as cityscapes")
    add_root(parser, required=True)
    parser.add_argument("--split", default=None, help="check this split only (default: all that are there)")
    parser.add_argument("--workers", type=int, default=None, metavar="N", help="processes (default: one a processor)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead of text")


def run(arguments: Namespace) -> None:
    """Check, print what was found, and fail if there is an error in it."""
    if arguments.workers is not None and arguments.workers < 1:
        raise UserError(f"--workers is {arguments.workers}: it must be 1 or more.")

    from gffnet.console import Results, progress
    from gffnet.data.check import check_dataset, next_steps, print_result

    with progress(f"reading {arguments.name}") as step:
        result = check_dataset(arguments.name, arguments.root, arguments.split, arguments.workers, step)
    if arguments.json:
        print_json(result.to_json())
    else:
        out = Results(width=120)
        print_result(result, out)
        for line in next_steps(result):
            out.print(line, highlight=False, soft_wrap=True)
    if not result.ok:
        codes = ", ".join(dict.fromkeys(finding.code for finding in result.of("error")))
        raise RunFailed(f"data set {result.dataset!r} at {result.root}: {codes}. The report says the remedy of each.")

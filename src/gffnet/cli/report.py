"""`gffnet report`: one page about a run."""

from argparse import Namespace
from pathlib import Path

from gffnet.cli.arguments import Parser, add_cache, add_root, path, whole_number
from gffnet.errors import UserError

SUMMARY = "one page about a run: curves, scores, confusions, best and worst images, gates, cost"


def add_arguments(parser: Parser) -> None:
    parser.add_argument("folder", type=path, metavar="RUN", help="run folder, finished or not")
    parser.add_argument(
        "--dataset", default=None, metavar="NAME", help="data set to score and to show images of (default: the run's)"
    )
    add_root(parser, required=False)
    add_cache(parser)
    parser.add_argument("--split", default=None, help="split of it (default: the run's, mostly val)")
    parser.add_argument(
        "--scores",
        type=path,
        default=None,
        metavar="DIR",
        help="what `gffnet evaluate --out` wrote of the run (default: RUN/scores; made, if --root is given)",
    )
    parser.add_argument(
        "--baseline",
        type=path,
        default=None,
        metavar="RUN_OR_SCORES",
        help="another run, or its scores, to compare with",
    )
    parser.add_argument(
        "--images", type=whole_number("--images", 0, 200), default=8, metavar="N", help="images to show (default: 8)"
    )
    parser.add_argument("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    parser.add_argument(
        "--out", type=path, default=None, metavar="FILE", help="the page to write (default: RUN/report.html)"
    )


def run(arguments: Namespace) -> None:
    """Gather, write, and say where the page is."""
    from gffnet.console import screen
    from gffnet.reports.report import open_images, open_run, report_of, write_report

    folder: Path = arguments.folder
    out: Path = arguments.out or folder / "report.html"
    if out.is_dir():
        raise UserError(f"--out {out} is a folder. Name the page to write, such as {out / 'report.html'}.")
    data = open_run(folder).recipe.data
    asked = arguments.root is not None or arguments.dataset is not None
    for option, value in (("--split", arguments.split), ("--cache", arguments.cache)):
        if value is not None and not asked:
            raise UserError(f"{option} {value} is of a data set: say where it is with --root DIR.")
    images = (
        open_images(arguments.dataset or data.name, arguments.root, arguments.split or data.val_split, arguments.cache)
        if asked
        else None
    )
    report = report_of(folder, images, arguments.scores, arguments.baseline, arguments.images, arguments.device)
    write_report(out, report)
    screen.print(f"report: {out}")

"""`gffnet ablation`: train and evaluate recipes with several seeds, and print one table."""

import re
from argparse import Namespace
from datetime import timedelta
from typing import TYPE_CHECKING

from gffnet.cli.arguments import Parser, Paths, add_cache, add_device, add_root, path, print_json, whole_number
from gffnet.errors import RunFailed, UserError
from gffnet.parallel import device_count

if TYPE_CHECKING:
    from gffnet.reports.ablation import Ablation

SUMMARY = "train and evaluate recipes with several seeds, resumable, and print one table with gains and their errors"


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "recipes",
        nargs="+",
        action=Paths,
        metavar="RECIPE",
        help="recipe names or files of one data set; the first is the baseline",
    )
    add_root(parser, required=True)
    add_cache(parser)
    parser.add_argument(
        "--seeds",
        type=seeds,
        required=True,
        metavar="N",
        help="number of seeds, 3 for 0, 1 and 2; or seeds with commas between them, such as 0,1,5",
    )
    parser.add_argument("--out", type=path, required=True, metavar="DIR", help="folder of the runs and of the table")
    parser.add_argument(
        "--jobs",
        type=lambda text: None if text == "auto" else whole_number("--jobs", 1)(text),
        default=None,
        metavar="N",
        help="runs at a time; auto: one a GPU, or on a CPU one for two cores as far as memory goes (default: auto)",
    )
    parser.add_argument("--split", help="split to score (default: the one that the recipes validate on)")
    parser.add_argument(
        "--folds",
        nargs="+",
        default=[],
        metavar="FOLD",
        help="cross-validate: train on the split without_FOLD and score on only_FOLD for each, such as CamVid's drives "
        "0006R0 0001TP; the table has the means over the folds",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a value of every recipe, such as training.iterations=2000; may be repeated",
    )
    parser.add_argument("--devices", type=device_count, metavar="N", help="devices that share one run (default: 1)")
    add_device(parser)
    parser.add_argument(
        "--plan",
        action="store_true",
        help="list what would run, then measure every recipe in a short dry run, and print how long it takes",
    )
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON instead of a table")


def run(arguments: Namespace) -> None:
    """Run what is left, then print and write the table."""
    from gffnet.console import screen
    from gffnet.reports.ablation import LEGEND, Ablation

    ablation = Ablation(
        arguments.recipes,
        arguments.root,
        arguments.out,
        arguments.seeds,
        split=arguments.split,
        folds=arguments.folds,
        overrides=arguments.set,
        plugins=arguments.plugin,
        cache=arguments.cache,
        devices=arguments.devices,
        device=arguments.device,
        precision=arguments.precision,
    )
    if ablation.left():  # a table of what is done needs no data
        ablation.check_data()
    if arguments.plan:
        _print_plan(ablation, arguments.jobs, arguments.json)
        return
    left, damaged, count = len(ablation.left()), len(ablation.damaged), len(ablation.runs)
    slots = ablation.slots(arguments.jobs) if left else []
    unusable = f", {damaged} {'is' if damaged == 1 else 'are'} damaged" if damaged else ""
    at_a_time = f"; {len(slots)} at a time" if left else ""
    screen.print(f"{count - left - damaged} of {count} runs are done{unusable}{at_a_time}")
    failures = ablation.run(slots) if left else ablation.damaged
    table = ablation.table()
    ablation.write(table, failures)
    if arguments.json:
        print_json(ablation.to_mapping(table, failures))
    else:
        from gffnet.cli.tables import print_tables

        print_tables([table], LEGEND)
    earlier = len(ablation.tabulated) - count
    screen.print(f"table: {ablation.out / 'ablation.md'}{f', with {earlier} runs of earlier calls' * bool(earlier)}")
    if failures:
        for failure in failures:
            screen.print(f"failed: {failure.run.title}: {failure.reason}")
        raise RunFailed(f"{len(failures)} of {count} runs failed; the same command tries them again.")


def _print_plan(ablation: "Ablation", jobs: int | None, as_json: bool) -> None:
    """List the runs at once, then measure the recipes that are left."""
    from gffnet.console import Results, make_table
    from gffnet.reports.ablation import estimate

    results, left = Results(), len(ablation.left())
    if not as_json:
        left_of = [(run, ablation.iterations_left(run)) for run in ablation.runs]
        rows = [
            (
                *(run.name, str(run.seed), *([str(run.fold)] if ablation.folds else [])),
                *(ablation.state(run), "auto" if number is None else f"{number:,}"),
            )
            for run, number in left_of
        ]
        fold = ["fold"] if ablation.folds else []
        results.print(make_table(("recipe", "seed", *fold, "state", "iterations left"), rows))
    slots = ablation.slots(jobs) if left else []
    found = estimate(ablation, slots)
    seconds = sum(each.seconds for each in found) / max(1, min(len(slots), left))
    if as_json:
        print_json({"jobs": len(slots), "seconds": seconds, "recipes": [each._asdict() for each in found]})
        return
    times = [(each.recipe, str(timedelta(seconds=round(each.seconds)))) for each in found]
    results.print(make_table(("recipe", "time of its runs"), times))
    time = timedelta(seconds=round(seconds))
    results.print(f"about {time}, {len(slots)} at a time; validation and evaluation come on top", soft_wrap=True)


def seeds(text: str) -> list[int]:
    """`3` → [0, 1, 2]; `0,1,5` → [0, 1, 5]."""
    parts = [part.strip() for part in text.rstrip(",").split(",")]
    if not all(re.fullmatch("[0-9]{1,10}", part) for part in parts) or re.fullmatch("0+", text.strip()):
        raise UserError(
            f"--seeds {text!r} must be their number, 1 or more, or seeds with commas between, such as 0,1,5."
        )
    numbers = [int(part) for part in parts]
    if max(numbers) >= 2**32:
        raise UserError(f"--seeds {text}: a seed is at most {2**32 - 1}.")
    if "," in text:
        return numbers
    if numbers[0] > 1000:
        raise UserError(f"--seeds {text}: at most 1000; a single seed has a comma after it: {text},")
    return list(range(numbers[0]))

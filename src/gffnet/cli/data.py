"""`gffnet data check|cache|streets`: check a data set, decode it once for training, or make one of street scenes."""

from argparse import Namespace
from collections.abc import Callable

from gffnet.cli.arguments import Parser, add_root, path, print_json, size, whole_number
from gffnet.errors import RunFailed, UserError

SUMMARY = "data sets: check, cache, streets"


def add_arguments(parser: Parser) -> None:
    """Declare the subcommands and their arguments."""
    parser.commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands", parser_class=Parser)
    for name, (summary, add, function) in COMMANDS.items():
        command = parser.commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        add(command)
        command.set_defaults(subcommand=function)


def run(arguments: Namespace) -> None:
    """Run the subcommand."""
    arguments.subcommand(arguments)


def _add_check(parser: Parser) -> None:
    _add_dataset(parser)
    parser.add_argument("--split", default=None, help="check this split only (default: all that are there)")
    workers = whole_number("--workers", 1)
    parser.add_argument("--workers", type=workers, metavar="N", help="processes (default: one per processor)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON instead of text")


def _add_dataset(parser: Parser) -> None:
    parser.add_argument("name", metavar="NAME", help="data set name, such as cityscapes")
    add_root(parser, required=True)


def _check(arguments: Namespace) -> None:
    """Check a data set, print the findings, and fail if one of them is an error."""
    from gffnet.console import Results, progress
    from gffnet.data.check import check_dataset, next_steps, print_result

    with progress(f"reading {arguments.name}") as step:
        result = check_dataset(arguments.name, arguments.root, arguments.split, arguments.workers, step)
    if arguments.json:
        print_json(result.to_json())
    else:
        out = Results(width=120)
        print_result(result, out)
        for line in next_steps(result) if arguments.split is None else []:
            out.print(line, highlight=False, soft_wrap=True)
    if not result.ok:
        codes = ", ".join(dict.fromkeys(finding.code for finding in result.of("error")))
        raise RunFailed(
            f"data set {result.dataset!r} at {result.root}: {codes}. The remedies are listed with the findings."
        )


def _add_cache(parser: Parser) -> None:
    _add_dataset(parser)
    parser.add_argument(
        "--split",
        default=None,
        help="split to cache, or several joined by + (default: all; no test where there is val)",
    )
    parser.add_argument(
        "--out",
        type=path,
        default=None,
        help="folder of the cache (default: gffnet_cache in the root, where it is found automatically; "
        "elsewhere, and for a data set at a URL, name it by --cache when training)",
    )


def _cache(arguments: Namespace) -> None:
    """Build or update the cache of a data set, and print what it holds."""
    from gffnet.console import memory_size, progress, screen
    from gffnet.data.cache import build_cache
    from gffnet.data.datasets import cached_splits, local_root, open_files
    from gffnet.data.statistics import find_inputs
    from gffnet.files import CACHE
    from gffnet.remote import as_url, is_url

    given = as_url(arguments.root)
    if is_url(given) and arguments.out is None:
        raise UserError(f"--root {given} is no folder here: name the folder of its cache with --out DIR.")
    name, root = arguments.name, local_root(arguments.root)
    folder = arguments.out or root / CACHE
    left_out = []
    splits = arguments.split.split("+") if arguments.split else cached_splits(name, root)
    inputs = find_inputs(open_files(name, root, "train" if "train" in splits else splits[0]))
    for split in splits:
        dataset = open_files(name, root, split)
        dataset.in_channels, dataset.white_level = inputs
        split = dataset.layout.find_split(split, dataset.layout.splits(root))
        with progress(f"caching {split}") as step:
            report = build_cache(dataset, split, folder, progress=step)
        count = f"{report.written} samples decoded, {report.kept} were there"
        screen.print(f"{split}: {count}: {memory_size(report.size)} in {folder}")
        for reason in report.left_out[:10]:
            screen.print(f"left out: {reason}", style="yellow")
        left_out += report.left_out
    if left_out:
        raise RunFailed(
            f"{len(left_out)} samples could not be read and are not in the cache; gffnet data check {name} --root "
            f"{given} finds them all."
        )
    if arguments.out is not None:
        screen.print(f"train with it: gffnet train RECIPE --root {given} --cache {folder}")


def _add_streets(parser: Parser) -> None:
    parser.add_argument("--out", type=path, required=True, help="folder to write into")
    for split, name in ("train", "training"), ("val", "validation"):
        count = whole_number(f"--{split}", 0)
        parser.add_argument(f"--{split}", type=count, required=True, metavar="N", help=f"number of {name} scenes")
    parser.add_argument("--size", type=size, default=(512, 1024), metavar="HxW", help="image size (default: 512x1024)")
    seed = whole_number("--seed", 0, 2**31 - 1)
    parser.add_argument("--seed", type=seed, default=0, help="another seed gives other scenes (default: 0)")


def _streets(arguments: Namespace) -> None:
    """Write street scenes."""
    from gffnet.console import progress, screen
    from gffnet.files import cannot_write
    from gffnet.streets import write_streets

    try:
        for folder in (arguments.out / "leftImg8bit", arguments.out / "gtFine"):
            if folder.is_dir() and any(folder.iterdir()):
                raise UserError(
                    f"--out {arguments.out} holds {folder.name} already, and scenes of two calls would mix: "
                    "name a new folder, or remove that of before."
                )
        with progress("rendering street scenes") as step:
            write_streets(arguments.out, arguments.train, arguments.val, arguments.size, arguments.seed, progress=step)
    except ValueError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise cannot_write(arguments.out, error) from None
    screen.print(f"{arguments.train} + {arguments.val} scenes: --root {arguments.out}")


COMMANDS: dict[str, tuple[str, Callable[[Parser], None], Callable[[Namespace], None]]] = {
    "check": (
        "find what is wrong with a data set, file by file, with the remedy, and count its classes",
        _add_check,
        _check,
    ),
    "cache": (
        "decode a data set once, into memory-mapped arrays that training reads many times faster",
        _add_cache,
        _cache,
    ),
    "streets": ("write procedural street scenes, with labels, in the Cityscapes layout", _add_streets, _streets),
}

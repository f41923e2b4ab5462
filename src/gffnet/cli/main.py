"""The command line: parse the arguments, then run one subcommand.

A command is a module of this package with `SUMMARY`, `add_arguments(parser)` and `run(arguments)`; it imports torch and
all else that is slow inside `run`, so that `--help` answers at once.

Exit codes: 0 done, 1 failed, 2 bad input (one line with cause and remedy, no traceback), 130 interrupted.
"""

import atexit
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

import gffnet
from gffnet.cli import (
    ablation,
    compare,
    cost,
    data,
    demo,
    evaluate,
    explore,
    export,
    gates,
    gates_ablation,
    predict,
    publish,
    recipes,
    report,
    submit,
    tables,
    train,
)
from gffnet.cli.arguments import Parser, add_plugin
from gffnet.errors import RunFailed, UserError
from gffnet.registry import load_plugins

COMMANDS: Mapping[str, ModuleType] = {
    "demo": demo,
    "recipes": recipes,
    "train": train,
    "evaluate": evaluate,
    "ablation": ablation,
    "submit": submit,
    "predict": predict,
    "gates": gates,
    "gates-ablation": gates_ablation,
    "explore": explore,
    "compare": compare,
    "report": report,
    "export": export,
    "publish": publish,
    "cost": cost,
    "tables": tables,
    "data": data,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `gffnet` with the arguments `argv` (default: those of the process); returns the exit code."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("gffnet").setLevel(logging.INFO)
    try:
        arguments = make_parser().parse_args(argv)
        load_plugins(arguments.plugin)
        arguments.run(arguments)
        sys.stdout.flush()
    except UserError as error:
        return _fail(error, 2)
    except RunFailed as error:
        return _fail(error, 1)
    except KeyboardInterrupt as interrupt:
        return _fail(f"interrupted: {interrupt}" if interrupt.args else "interrupted", 130)
    except BrokenPipeError:
        # The reader of a pipe has closed it (`gffnet ... | head`). Keep Python from flushing into it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def make_parser() -> Parser:
    """The parser of all subcommands."""
    parser = Parser(prog="gffnet", description="Scene parsing with Gated Fully Fusion (Li et al., AAAI-20).")
    parser.add_argument("--version", action="version", version=f"gffnet {gffnet.__version__}")
    parser.commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands", parser_class=Parser)
    for name, module in COMMANDS.items():
        summary = module.SUMMARY
        command = parser.commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        module.add_arguments(command)
        command.set_defaults(run=module.run)
        for leaf in command.commands.choices.values() if command.commands else [command]:
            add_plugin(leaf)
    return parser


def _fail(reason: object, code: int) -> int:
    """Print one line on standard error; returns the exit code."""
    print("error:", " ".join(str(reason).splitlines()), file=sys.stderr)
    return code


def script() -> None:
    """The entry point `gffnet`: `main` with garbage collection put off, which leaves at once when all is done.

    Importing torch makes a million objects of which none is garbage. The collector would scan them again and again, and
    once more at exit: 1.7 of the 4.5 seconds that predicting one photograph took. So the first collection comes late,
    and the usual threshold applies from then on. Taking the objects apart at the end would take another 0.2 to 0.4.
    """
    gc.set_threshold(1_000_000)
    gc.callbacks.append(_restore_threshold)
    code = [1]  # of an error that nobody catches
    atexit.register(_leave, code)  # the first that is registered is the last that is called
    try:
        code[0] = main()
    except SystemExit as end:  # of argparse
        code[0] = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        raise
    sys.exit(code[0])


def _leave(code: Sequence[int]) -> None:
    """End the process when all else that is registered has been called, with nothing left to be written."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed, or the reader of the pipe has gone
            stream.flush()
    os._exit(code[0])


def _restore_threshold(phase: str, info: dict[str, int]) -> None:
    gc.set_threshold(10_000)
    gc.callbacks.remove(_restore_threshold)

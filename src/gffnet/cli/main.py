"""The command line: parse, then run one subcommand.

Exit codes: 0 done, 1 failed, 2 bad input (one line with cause and remedy, no traceback).
"""

import gc
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType

import gffnet
from gffnet.cli import (
    compare,
    cost,
    data_cache,
    data_check,
    data_streets,
    demo,
    evaluate,
    explore,
    export,
    gates,
    gates_ablation,
    predict,
    publish,
    report,
    submit,
    tables,
    train,
)
from gffnet.cli.arguments import Parser
from gffnet.errors import RunFailed, UserError

COMMANDS: dict[str, ModuleType] = {
    "demo": demo,
    "train": train,
    "evaluate": evaluate,
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
}
DATA_COMMANDS: dict[str, ModuleType] = {"check": data_check, "cache": data_cache, "streets": data_streets}


def script() -> int:
    """What the command `gffnet` runs: `main` in a process of its own, which begins and ends faster for it.

    The imports make a million objects and leave nothing for the garbage collector, which looks through them again and
    again, and once more at the end: for a single photograph 1.7 of 4.5 seconds. So it begins late.
    """
    gc.set_threshold(1_000_000)
    gc.callbacks.append(_then_often)
    code = main()
    gc.freeze()
    return code


def _then_often(phase: str, info: dict[str, int]) -> None:
    """Have garbage collected often from the first time on."""
    gc.set_threshold(10_000)
    gc.callbacks.remove(_then_often)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `gffnet` with the arguments `argv` (the process's own if None); returns the exit code."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("gffnet").setLevel(logging.INFO)
    try:
        arguments = make_parser().parse_args(argv)
        arguments.run(arguments)
        sys.stdout.flush()
    except UserError as error:
        return _fail(error, 2)
    except RunFailed as error:
        return _fail(error, 1)
    except KeyboardInterrupt as interrupt:
        return _fail(f"interrupted: {interrupt}" if interrupt.args else "interrupted", 130)
    except BrokenPipeError:
        # Whoever read our output has had enough. Keep Python from flushing into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def make_parser() -> Parser:
    """The parser of all subcommands."""
    parser = Parser(prog="gffnet", description="Scene parsing with Gated Fully Fusion (Li et al., AAAI-20).")
    parser.add_argument("--version", action="version", version=f"gffnet {gffnet.__version__}")
    _add_commands(parser, COMMANDS)
    data = parser.commands.add_parser("data", help="data sets: " + ", ".join(DATA_COMMANDS), description="Data sets.")
    _add_commands(data, DATA_COMMANDS)
    return parser


def _add_commands(parser: Parser, commands: dict[str, ModuleType]) -> None:
    """Give a parser its subcommands."""
    parser.commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands", parser_class=Parser)
    for name, module in commands.items():
        summary = module.SUMMARY
        command = parser.commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        module.add_arguments(command)
        command.set_defaults(run=module.run)


def _fail(reason: object, code: int) -> int:
    """Say why on standard error, in one line; returns the exit code."""
    print("error:", " ".join(str(reason).splitlines()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(script())

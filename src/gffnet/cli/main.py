"""The command line: parse the arguments, then run one subcommand.

A command is a module of this package with `SUMMARY`, `add_arguments(parser)` and `run(arguments)`; it imports torch and
all else that is slow inside `run`, so that `--help` answers at once.

Exit codes: 0 done, 1 failed, 2 bad input (one line with cause and remedy, no traceback), 130 interrupted.
"""

import atexit
import codecs
import contextlib
import gc
import io
import logging
import os
import re
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
from gffnet.files import NO_ROOM, as_path
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
    replace_unencodable()
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("gffnet").setLevel(logging.INFO)
    try:
        arguments = make_parser().parse_args(list(map(expand_home, sys.argv[1:] if argv is None else argv)))
        load_plugins(arguments.plugin)
        arguments.run(arguments)
        if sys.stdout is not None:  # as where it was closed before the start
            sys.stdout.flush()
    except UserError as error:
        return _fail(error, 2)
    except RunFailed as error:
        return _fail(error, 1)
    except KeyboardInterrupt as interrupt:
        return _fail(f"interrupted: {interrupt}" if interrupt.args else "interrupted", 130)
    except BrokenPipeError:
        # The reader of a pipe has closed it (`gffnet ... | head`). Keep Python from flushing into it once more.
        _discard_output()
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        _discard_output()
        return _fail(f"cannot write {error.filename or 'standard output'}: {error.strerror}. Free some space first.", 2)
    return 0


def expand_home(word: str) -> str:
    """An argument with the home folder in place of `~`: in `~/x`, `--out=~/x` and `--set key=~/x`.

    The shell does so in the first of them only, and not where the argument is quoted or on Windows.
    """
    parts = re.fullmatch(r"((?:--[\w-]+=)?(?:\w[\w.]*=)?)(~[\w.-]*[/\\].*)|((?:--[\w-]+=)?)(~)", word, re.DOTALL)
    if parts is None:
        return word
    return (parts[1] or parts[3] or "") + str(as_path(parts[2] or parts[4]))


_ASCII = str.maketrans({"—": "-", "–": "-", "−": "-", "±": "+/-", "×": "x", "→": "->", "…": "...", "’": "'"})
"""Characters of our own texts, in ASCII."""


def replace_unencodable() -> None:
    """Let standard output and standard error replace the characters that their encoding lacks, rather than fail.

    Where the output is redirected, Windows encodes it by its code page, and the C locale as ASCII. Signs of our own
    become their neighbours in ASCII, others, as in names of files and classes, escapes: `\\u7a7a`.
    """
    codecs.register_error("gffnet", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in {"strict", "surrogateescape", "backslashreplace"}:
            stream.reconfigure(errors="gffnet")


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """The error handler of `replace_unencodable`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end].translate(_ASCII)
    return lacking.encode("ascii", "backslashreplace").decode("ascii"), error.end


def _discard_output() -> None:
    """Keep Python from flushing into standard output once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
    if sys.stderr is not None:  # print would take standard output
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
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or the reader of the pipe has gone
            stream.flush()
    os._exit(code[0])


def _restore_threshold(phase: str, info: dict[str, int]) -> None:
    gc.set_threshold(10_000)
    gc.callbacks.remove(_restore_threshold)

"""`gffnet explore`: the gate explorer in a browser."""

import webbrowser
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

from gffnet.cli.arguments import Parser, Paths, add_device, whole_number
from gffnet.errors import UserError

SUMMARY = "the gate explorer: edit gates on a web page and see how the prediction changes"

_SIDE_RANGE = (64, 4096)


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--model",
        nargs="+",
        action=Paths,
        default=None,
        metavar="M",
        help="run folders, model folders or checkpoints to switch between on the page (default: the one that ships)",
    )
    add_device(parser)
    parser.add_argument(
        "--port",
        type=whole_number("--port", 0, 65535),
        default=None,
        help="port of 127.0.0.1; 0: any free one (default: 7860, or any free one if that is taken)",
    )
    parser.add_argument(
        "--max-side",
        type=whole_number("--max-side", *_SIDE_RANGE),
        default=1024,
        metavar="N",
        help="reduce larger images to this longer side in pixels (default: 1024)",
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser of this machine")


def run(arguments: Namespace) -> None:
    """Serve the page until it is interrupted."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise UserError(f"gffnet explore needs {' and '.join(missing)}: pip install 'gffnet[explore]'.")
    from gffnet.app.explorer import Explorer
    from gffnet.app.server import HOST, build_app, listen, serve
    from gffnet.console import screen
    from gffnet.inference.precision import keep_pages
    from gffnet.inference.predictor import load
    from gffnet.models.model_io import shipped_model

    keep_pages()
    models = arguments.model or [str(shipped_model())]
    predictors = [load(model, arguments.device, arguments.precision) for model in models]
    with listen(arguments.port) as listener:
        app = build_app(Explorer(predictors, _names(models), arguments.max_side))
        address = f"http://{HOST}:{listener.getsockname()[1]}/"
        print(f"gffnet explore: {address}", flush=True)
        screen.print("Only this machine can open the page. Press Ctrl-C to stop.")
        if arguments.open:  # apart: a browser in the terminal keeps its caller waiting for the page
            Thread(target=_open, args=(address,), daemon=True).start()
        with suppress(KeyboardInterrupt):  # which uvicorn may keep to itself
            serve(app, listener)
        screen.print("stopped")


def _open(address: str) -> None:
    """Open a page in the browser of this machine."""
    from gffnet.console import screen

    if not webbrowser.open(address):
        screen.print("No browser was found: open the address yourself.")


def _names(models: Sequence[str]) -> list[str]:
    """Name the models on the page by the last two parts of their paths, or the whole paths if those are not unique."""
    short = ["/".join(Path(model).parts[-2:]) for model in models]
    return short if len(set(short)) == len(short) else list(models)

"""`gffnet explore`: the gate explorer in a browser."""

from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from gffnet.cli.arguments import Parser, add_device
from gffnet.errors import UserError

SUMMARY = "the gate explorer: move gates on a page and see what the network then sees"

_MOST_SIDE = (64, 4096)


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--model",
        nargs="+",
        default=None,
        metavar="M",
        help="run folders, model folders or checkpoints, which the page switches between (default: the one that ships)",
    )
    add_device(parser)
    parser.add_argument(
        "--port",
        type=_port,
        default=None,
        help="of 127.0.0.1; 0: any that is free (default: 7860, or any if another program has that)",
    )
    parser.add_argument(
        "--max-side",
        type=_side,
        default=1024,
        metavar="N",
        help="longer side in pixels that larger images are reduced to (default: 1024)",
    )


def run(arguments: Namespace) -> None:
    """Serve the page until it is interrupted."""
    _check_gradio()
    from gffnet.console import screen
    from gffnet.inference.model_io import shipped_model
    from gffnet.inference.precision import keep_pages
    from gffnet.inference.predictor import load
    from gffnet.webapp.explorer import Explorer
    from gffnet.webapp.page import build
    from gffnet.webapp.server import HOST, listen, serve

    keep_pages()
    models = arguments.model or [str(shipped_model())]
    predictors = [load(model, arguments.device, arguments.precision) for model in models]
    listener = listen(arguments.port)
    explorer = Explorer(predictors, _names(models), arguments.max_side)
    try:
        app = build(explorer)
        print(f"gffnet explore: http://{HOST}:{listener.getsockname()[1]}/", flush=True)
        screen.print("Ctrl-C ends it. It answers this machine only, and asks no other.")
        serve(app, listener)
    except KeyboardInterrupt:
        screen.print("ended")
    finally:
        explorer.close()
        listener.close()


def _names(models: Sequence[str]) -> list[str]:
    """What the page calls the models: the last two parts of each path, or the whole where that is not enough."""
    short = ["/".join(Path(model).parts[-2:]) for model in models]
    return short if len(set(short)) == len(short) else list(models)


def _check_gradio() -> None:
    """Say at once if what serves the page is missing."""
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise UserError("gffnet explore needs gradio, which is not installed: pip install 'gffnet[explore]'.")


def _port(text: str) -> int:
    """A port, or 0."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise ArgumentTypeError(f"{text!r} must be a port, 1..65535, or 0 for any that is free")
    return int(text)


def _side(text: str) -> int:
    """A side in pixels."""
    least, most = _MOST_SIDE
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise ArgumentTypeError(f"{text!r} must be a number of pixels, {least}..{most}")
    return int(text)

"""`gffnet publish`: write a model with its card to a folder, or upload it to the hub."""

import re
from argparse import Namespace
from contextlib import nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from gffnet.cli.arguments import Parser, path
from gffnet.errors import UserError

SUMMARY = "a model with its model card, as a folder or on the Hugging Face hub"


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="a run folder, or the model folder or checkpoint in it (RUN/best, ...; default: the model that ships)",
    )
    parser.add_argument("--out", type=path, metavar="DIR", help="model folder to write")
    parser.add_argument("--to", metavar="OWNER/NAME", help="upload it to the hub (after `hf auth login`)")
    parser.add_argument("--private", action="store_true", help="with --to: as a private repository")
    parser.add_argument("--license", type=_license, metavar="ID", help="as the hub names it: apache-2.0, ...")
    parser.add_argument("--scores", type=path, metavar="DIR", help="what `gffnet evaluate` wrote (default: RUN/scores)")
    parser.add_argument(
        "--weights",
        choices=["float32", "bfloat16", "float16"],
        default="float32",
        help="dtype of kernels in the files; the half-precision ones are rounded and half as large (default: float32)",
    )
    parser.add_argument("--max-shard-size", metavar="SIZE", help="maximal size of a weights file, such as 16MB")


def run(arguments: Namespace) -> None:
    """Write and upload the model, and print where it is."""
    from gffnet.console import screen
    from gffnet.files import atomic_write
    from gffnet.models.gffnet import save_model
    from gffnet.models.model_card import make_card
    from gffnet.models.model_io import CARD, LICENSE, check_upload, shipped_model, upload
    from gffnet.reports.model_card import gather

    model = str(shipped_model()) if arguments.model is None else arguments.model
    _check(arguments, Path(model))
    out, to = arguments.out, arguments.to
    if to is not None:
        check_upload(to)
    network, facts = gather(model, to, arguments.license, arguments.weights, arguments.scores)
    with nullcontext(out) if out is not None else TemporaryDirectory() as folder:
        save_model(Path(folder), network, facts.config, arguments.weights, arguments.max_shard_size, config_first=True)
        if facts.license_text:
            atomic_write(Path(folder) / LICENSE, facts.license_text)
        else:
            _remove_other_license(Path(folder), facts.license)
        atomic_write(Path(folder) / CARD, str(make_card(facts)))
        if out is not None:
            screen.print(f"model: {out}")
        if to is not None:
            address = upload(Path(folder), to, private=arguments.private or None, message=f"{facts.config.recipe}")
            screen.print(f"model: {to}, {address}")


def _check(arguments: Namespace, model: Path) -> None:
    """Raise `UserError` for no destination, the model itself, or a folder with other files."""
    from gffnet.files import holds_files

    out = arguments.out
    if out is None and arguments.to is None:
        raise UserError("a destination is missing: --out DIR for a folder, --to OWNER/NAME for the hub, or both.")
    if arguments.private and arguments.to is None:
        raise UserError("--private is for the hub: give --to OWNER/NAME as well.")
    if out is None:
        return
    if out.resolve() in (model.resolve(), (model / "model").resolve()):
        raise UserError(f"--out {out} is the model itself. Name another folder.")
    if out.exists() and not (out.is_dir() and (not holds_files(out) or _is_published(out))):
        raise UserError(f"--out {out} holds other files, which would be replaced. Name a new or an empty folder.")


def _is_published(folder: Path) -> bool:
    """Whether a folder holds a model of gffnet that is no part of a run."""
    from gffnet.models.model_io import read_config

    with suppress(UserError):
        read_config(folder, record=True)
        return not (folder.parent / "recipe.yaml").is_file()
    return False


def _remove_other_license(folder: Path, license: str | None) -> None:
    """Remove the text of another licence than the model's: that of the model whose card is in the folder."""
    from huggingface_hub import ModelCard

    from gffnet.console import screen
    from gffnet.models.model_io import CARD, LICENSE

    file, before = folder / LICENSE, license
    with suppress(Exception):  # no card, or one that its user damaged: the text may be of this model
        before = ModelCard.load(folder / CARD).data.license
    if file.is_file() and before != license:
        file.unlink()
        screen.print(f"removed: {file}, the text of {before or 'another licence'}; this model has {license or 'none'}")


def _license(text: str) -> str:
    """Check an identifier such as `cc-by-nc-4.0`."""
    if not re.fullmatch(r"[a-z0-9]+(?:[.-][a-z0-9]+)*", text):
        raise UserError(f"--license {text!r} must be an identifier of the hub, such as apache-2.0 or cc-by-nc-4.0.")
    return text

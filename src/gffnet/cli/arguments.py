"""Options and argument types that several subcommands share."""

import argparse
import glob
import json
import math
import os
import re
from argparse import Namespace
from collections.abc import Callable, Collection
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from gffnet.errors import RunFailed, UserError, nearest
from gffnet.remote import is_url

if TYPE_CHECKING:
    from gffnet.data.dataset import Truth
    from gffnet.inference.predictor import Predictor


_ALIASES = {
    "--out": "--output --output-dir --out-dir --work-dir --save-dir --save-path --dest --project",
    "--root": "--data --data-dir --data-root --data-path --dataset-root",
    "--model": "--weights --checkpoint --ckpt --load --pretrained",
    "--devices": "--gpus --num-gpus --n-gpus --gpu --device --nproc",
    "--device": "--gpu --gpus --cuda",
    "--batch": "--batch-size --bs",
    "--flip": "--tta --flip-test",
    "--overwrite": "--force --exist-ok",
}
"""Options, and what other projects call them."""


def _option_hint(option: str, known: Collection[str]) -> str:
    """What was probably meant by an unknown option: another of the command, or a key of the recipe that it can set."""
    if option == "--device" and "--devices" in known:
        return " It trains on all GPUs: --devices N takes N of them, and CUDA_VISIBLE_DEVICES chooses which."
    spelled = option.replace("_", "-")
    meant = [name for name, aliases in _ALIASES.items() if spelled in aliases.split() and name in known]
    meant = meant or get_close_matches(option, known, n=1, cutoff=0.75)
    if meant:
        return f" Did you mean {meant[0]!r}?"
    if "--set" in known:
        from gffnet.recipe.hints import key_hint
        from gffnet.recipe.schema import dotted_keys

        if hint := key_hint(option.strip("-"), dotted_keys()):
            return f"{hint} Values of the recipe are changed with --set KEY=VALUE."
    return nearest(option, known)


Word = TypeVar("Word", str, Path)


class Parser(argparse.ArgumentParser):
    """argparse whose errors are `UserError`s: one line, with the nearest allowed value."""

    commands: Any = None
    """The action that subcommands are added to, if there are some."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, allow_abbrev=False)

    def parse_known_args(self, *arguments: Any, **options: Any) -> Any:
        """Parse, and refuse unknown options here: argparse would report them from the outermost parser."""
        namespace, unknown = super().parse_known_args(*arguments, **options)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """Raise `UserError` instead of printing the usage and exiting."""
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        option = re.search(r"unrecognized arguments: (-\S+)", message)
        hint = ""
        if choice:
            hint = nearest(choice[1], re.findall(r"[\w-]+", choice[2]))
        elif option:
            hint = _option_hint(option[1].partition("=")[0], self._option_string_actions)
        raise UserError(f"{message.rstrip('.')}.{hint} See {self.prog} --help.")


class Paths(argparse.Action):
    """Several paths, or words such as models, with the files that match in place of a pattern such as `photos/*.jpg`.

    The shells of Windows leave patterns to the programs, and others leave those that are quoted.
    """

    def __call__(self, parser: Any, namespace: Namespace, values: Any, option_string: str | None = None) -> None:
        """Set the argument."""
        setattr(namespace, self.dest, [path for value in values for path in expand_pattern(value)])


def expand_pattern(path: Word) -> list[Word]:
    """The files and folders that match a pattern, sorted; what exists or is no pattern stays as it is.

    Raises:
        UserError: nothing matches.
    """
    text = str(path)
    if not glob.has_magic(text) or os.path.lexists(text) or is_url(text):
        return [path]
    found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207  # patterns may be absolute
    if not found:  # brackets may belong to the name of a folder
        found = sorted(glob.glob(text.replace("[", "[[]"), recursive=True))  # noqa: PTH207
    if not found and re.search("[*?]", text):
        raise UserError(f"{text} matches no file or folder here. Check the folder and the ending, or name the files.")
    return [type(path)(name) for name in found] or [path]


def path(text: str) -> Path:
    """A path of this machine."""
    if is_url(text):
        raise UserError(
            f"{text} is a URL, and this has to be a path of this machine. URLs are read and written by gffnet predict; "
            "--root and --model may be one as well."
        )
    return location(text)


def location(text: str) -> Path:
    """A path or a URL; not the empty text that an unset variable of the shell gives, which would mean this folder."""
    if not text:
        raise UserError("a path is empty: name the file or folder, or . for the current one.")
    return Path(text)


def folder(text: str) -> Path:
    """A folder, also as a pattern that one folder alone matches."""
    found = expand_pattern(str(location(text)))
    if len(found) > 1:
        raise UserError(f"{text} matches {len(found)} folders and files, {found[0]}, {found[1]}, ...: name one.")
    return Path(found[0])


def size(text: str) -> tuple[int, int]:
    """`HxW`, such as `512x1024` → (512, 1024)."""
    sides = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", str(text))
    if not (sides and int(sides[1]) and int(sides[2])):
        raise UserError(f"size {text!r} must read HxW in pixels, height first, each 1..99999, such as 512x1024.")
    return int(sides[1]), int(sides[2])


def number(text: str) -> float:
    """What is no number is NaN, which lies in no range."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def scale(text: str) -> float:
    """A factor to scale images by, such as `0.75`."""
    factor = number(text)
    if not 0 < factor <= 10:
        raise UserError(f"scale {text!r} must be a number above 0 and at most 10, such as 0.75.")
    return factor


def overlap(text: str) -> float:
    """A fraction of a window, such as `0.5`."""
    fraction = number(text)
    if not 0 <= fraction < 1:
        raise UserError(f"--overlap {text!r} must be a number from 0 to below 1, such as 0.5.")
    return fraction


def levels(text: str) -> list[int]:
    """`1,2` → [1, 2]."""
    parts = str(text).split(",")
    if not all(re.fullmatch(r" *[0-9]{1,3} *", part) for part in parts):
        raise UserError(f"--close {text!r} must be gate levels with commas between them, such as 1,2.")
    return [int(part) for part in parts]


def shard(text: str) -> tuple[int, int]:
    """`i/n`, such as `2/8` → (2, 8): the second of eight shards."""
    parts = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(text))
    if not (parts and 1 <= int(parts[1]) <= int(parts[2])):
        raise UserError(f"--shard {text!r} must read i/n with 1 <= i <= n, such as 2/8.")
    return int(parts[1]), int(parts[2])


def add_root(parser: Parser, required: bool) -> None:
    """`--root`."""
    parser.add_argument("--root", type=folder, required=required, help="folder of the data set")


def add_plugin(parser: Parser) -> None:
    """`--plugin`, which every command has."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="first import a module or Python file, which registers fusions, data sets, ... of yours; may be repeated",
    )


def add_dataset(parser: Parser) -> None:
    """`--dataset`, `--root`, `--cache` and `--split`: what to evaluate on."""
    parser.add_argument("--dataset", required=True, metavar="NAME", help="data set name, such as camvid or cityscapes")
    add_root(parser, required=True)
    add_cache(parser)
    parser.add_argument(
        "--split", help="split to score (default: that on which the run of the model validated, else val)"
    )


def add_cache(parser: Parser) -> None:
    """`--cache`."""
    parser.add_argument(
        "--cache",
        type=path,
        help="folder that `gffnet data cache --out` wrote (default: gffnet_cache in the root, if it is there)",
    )


def print_json(value: Any) -> None:
    """Print the machine-readable result on standard output."""
    print(json.dumps(value, indent=1))


def show_result(compute: Callable[[], Any], show: Callable[[Any], None]) -> None:
    """Show what `compute` returns; if it fails on its way, the part that is done, and raise the error."""
    try:
        result = compute()
    except RunFailed as failed:
        if failed.result is not None:
            show(failed.result)
        raise
    show(result)


SCALES = (0.75, 1.0, 1.25, 1.5, 1.75)
"""The scales of the paper's multi-scale evaluation."""


def add_model(parser: Parser) -> None:
    """`--model`, `--device` and `--precision`."""
    parser.add_argument(
        "--model",
        help="a run or model folder, a checkpoint, or OWNER/NAME on the hub (default: the model that ships)",
    )
    add_device(parser)


def add_device(parser: Parser) -> None:
    """`--device` and `--precision`."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    parser.add_argument(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        default="auto",
        help="dtype to compute in; auto takes the faster of float32 and bfloat16 here, as measured (default: auto)",
    )


def add_speed(parser: Parser) -> None:
    """`--batch`, `--memory` and `--compile`: they change the time that prediction takes, not its result."""
    add_batch_and_memory(parser, "predict images in tiles whose class probabilities fit into it")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the network for the size of its windows first; pays off for many images of one size",
    )


def add_batch_and_memory(parser: Parser, effect: str) -> None:
    """`--batch` and `--memory`; `effect`: what a limit on memory does."""
    parser.add_argument(
        "--batch",
        type=whole_number("--batch", 1),
        help="windows predicted at once, of one image or of several of one size (default: 4 on a GPU, else 1)",
    )
    parser.add_argument("--memory", type=memory, metavar="SIZE", help=f"such as 8GB: {effect}")


def add_protocol(parser: Parser) -> None:
    """`--scales`, `--flip`, `--crop` and `--overlap`: how an image is predicted."""
    parser.add_argument(
        "--scales",
        type=scale,
        nargs="*",
        help="average over these scales; without numbers, the paper's 0.75 1.0 1.25 1.5 1.75 (default: the recipe's)",
    )
    parser.add_argument("--flip", action="store_true", help="also average over horizontally flipped images")
    parser.add_argument(
        "--crop",
        type=lambda text: () if text == "none" else size(text),
        metavar="HxW",
        help="sliding window; none: the whole image (default: the recipe's)",
    )
    parser.add_argument("--overlap", type=overlap, help="of windows, as a fraction of one (default: the recipe's)")


def _protocol(arguments: Namespace) -> dict[str, Any]:
    """The keys of the model's protocol that the options of `add_protocol` replace."""
    changes: dict[str, Any] = {}
    if arguments.scales is not None:
        changes["scales"] = tuple(arguments.scales or SCALES)
    if arguments.flip:
        changes["flip"] = True
    if arguments.crop is not None:
        changes["crop"] = arguments.crop or None
    if arguments.overlap is not None:
        changes["overlap"] = arguments.overlap
    return changes


def load_predictor(arguments: Namespace, device: str | None = None, recorded: str | None = None) -> "Predictor":
    """The predictor that `add_model`, `add_protocol` and `add_speed` describe.

    `device` overrides `--device`; `recorded` is what `--precision auto` was when that which is resumed began.
    """
    from gffnet.inference.precision import keep_pages
    from gffnet.inference.predictor import load

    if arguments.memory is None:  # pages that are kept may be more than the memory that is asked for
        keep_pages()
    return load(**predictor_options(arguments, device, recorded))


def predictor_options(arguments: Namespace, device: str | None = None, recorded: str | None = None) -> dict[str, Any]:
    """The arguments of `gffnet.load` that `load_predictor` gives it."""
    from gffnet.inference.precision import resumed_precision

    return {
        "model": arguments.model,
        "device": device or arguments.device,
        "precision": resumed_precision(arguments.precision, recorded),
        "protocol": _protocol(arguments),
        "batch": arguments.batch,
        "memory": arguments.memory,
        "compiled": arguments.compile,
    }


def add_ray(parser: Parser, verb: str) -> None:
    """`--ray`."""
    parser.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="HOST:PORT",
        help=f"{verb} with all of a Ray cluster (default: that of RAY_ADDRESS or of this machine, else a new one here)",
    )


def memory(text: str) -> int:
    """`8GB` → 8,000,000,000."""
    from gffnet.console import size_in_bytes

    return size_in_bytes(text, "--memory")


def whole_number(option: str, least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of an option whose value is a whole number."""
    allowed = f", {least} or more" if most is None else f" from {least} to {most}"

    def parse(text: str) -> int:
        if not (re.fullmatch(r"[0-9]{1,12}", text) and least <= int(text) and (most is None or int(text) <= most)):
            raise UserError(f"{option} {text!r} must be a whole number{allowed}.")
        return int(text)

    return parse


def add_truth(parser: Parser) -> None:
    """`--dataset`, `--root` and `--split`."""
    parser.add_argument(
        "--dataset",
        metavar="NAME",
        help="data set of the images, such as camvid: shows errors as well, and lets samples be given by name",
    )
    add_root(parser, required=False)
    parser.add_argument(
        "--split",
        help="split of the data set to look for images in (default: that on which the run of the model validated, else "
        "val)",
    )


def ground_truth(arguments: Namespace, model: str | None = None) -> "Truth":
    """Where to look for the labels of images, for a model: in no data set unless `--dataset` names one.

    Raises:
        UserError: `--root` without `--dataset`, or no such data set.
    """
    from gffnet.data.dataset import Truth
    from gffnet.data.datasets import open_files
    from gffnet.recipe import validated_split

    if arguments.dataset is None:
        if arguments.root is not None:
            raise UserError(f"--root {arguments.root} is the folder of a data set: say which with --dataset NAME.")
        if arguments.split is not None:
            raise UserError(f"--split {arguments.split} is of a data set: say which with --dataset NAME.")
        return Truth([])
    split = arguments.split or validated_split(model, arguments.dataset)
    return Truth([open_files(arguments.dataset, arguments.root, split)])

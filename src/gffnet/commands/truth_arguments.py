"""Arguments that say where the ground truth of images is: in a data set that they belong to."""

from argparse import Namespace
from typing import TYPE_CHECKING

from gffnet.commands.arguments import Parser, add_root
from gffnet.errors import UserError

if TYPE_CHECKING:
    from gffnet.data.truth import Truth


def add_truth(parser: Parser) -> None:
    """`--dataset`, `--root` and `--split`."""
    parser.add_argument(
        "--dataset",
        default=None,
        metavar="NAME",
        help="data set that the images are of, such as camvid: shows what is wrong as well, and takes names of samples",
    )
    add_root(parser, required=False)
    parser.add_argument("--split", default="val", help="split of the data set to look for images in (default: val)")


def truth_of(arguments: Namespace) -> "Truth":
    """Where to look for labels; nowhere, if no data set is named.

    Raises:
        UserError: `--root` without `--dataset`, or no such data set.
    """
    from gffnet.data.build import open_files
    from gffnet.data.truth import Truth

    if arguments.dataset is None and arguments.root is not None:
        raise UserError(f"--root {arguments.root} is the folder of a data set: say which with --dataset NAME.")
    if arguments.dataset is None:
        return Truth([])
    return Truth([open_files(arguments.dataset, arguments.root, arguments.split)])

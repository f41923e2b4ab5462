"""`gffnet export`: a model as one file that needs no gffnet, compared with the network before it is kept."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from gffnet.cli.arguments import Parser, print_json

if TYPE_CHECKING:
    from gffnet.export.export import Export

SUMMARY = "a model as one ONNX, PyTorch or compiled file for images of any size, checked against the network"


def add_arguments(parser: Parser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--model", type=str, required=True, help="a run folder, a model folder, a checkpoint or a name on the hub"
    )
    parser.add_argument(
        "--to",
        choices=["onnx", "pt2", "aoti"],
        required=True,
        help="ONNX; a program of torch.export; or that program compiled",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="such as model.onnx, model.pt2 or model.aoti.pt2"
    )
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16", "float16"],
        default="float32",
        help="number format of the weights; bfloat16 not for onnx (default: float32)",
    )
    parser.add_argument("--json", action="store_true", help="print what was written and compared as JSON")


def run(arguments: Namespace) -> None:
    """Write the file, and say how it agrees with the network."""
    from gffnet.console import progress, screen
    from gffnet.export.export import check_request, export_model
    from gffnet.inference.model_io import load_model

    check_request(arguments.to, arguments.out, arguments.precision)
    network, config = load_model(arguments.model)
    with progress("exporting") as advance:
        export = export_model(network, config, arguments.to, arguments.out, arguments.precision, advance)
    if arguments.json:
        print_json(export.to_mapping())
    else:
        _print_table(export)
    screen.print(f"model: {export.path}, {export.size / 1e6:.1f} MB")


def _print_table(export: "Export") -> None:
    """The comparison as a table on standard output."""
    from rich.table import Table

    from gffnet.console import Results

    table = Table(title="the file beside the network, float32")
    for heading in ("images", "labels that agree", "greatest difference of a probability"):
        table.add_column(heading, justify="right")
    for each in export.parity:
        table.add_row(each.size, f"{each.agreement:.4%}", f"{each.difference:.1e}")
    Results(width=100).print(table)

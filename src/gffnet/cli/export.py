"""`gffnet export`: write a model to one file that runs without gffnet, and compare it with the network."""

from argparse import Namespace

from gffnet.cli.arguments import Parser, path, print_json

SUMMARY = "a model as one ONNX or PyTorch file for images of any size, checked against the network"


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--model",
        help="a run or model folder, a checkpoint, or OWNER/NAME on the hub (default: the model that ships)",
    )
    parser.add_argument("--to", choices=["onnx", "pt2"], required=True, help="ONNX, or a program of torch.export")
    parser.add_argument("--out", type=path, required=True, metavar="FILE", help="such as model.onnx or model.pt2")
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16", "float16"],
        default="float32",
        help="dtype of the weights; bfloat16 only for pt2 (default: float32)",
    )
    parser.add_argument("--json", action="store_true", help="print what was written and compared as JSON")


def run(arguments: Namespace) -> None:
    from rich.table import Table

    from gffnet.console import Results, progress, screen
    from gffnet.export.export import check_request, export_model
    from gffnet.models.gffnet import load_model
    from gffnet.models.model_io import shipped_model

    check_request(arguments.to, arguments.out, arguments.precision)
    network, config = load_model(arguments.model or shipped_model())
    with progress("exporting") as advance:
        export = export_model(network, config, arguments.to, arguments.out, arguments.precision, advance)
    if arguments.json:
        print_json(export.to_mapping())
    else:
        table = Table(title="the file beside the network, float32")
        for heading in ("images", "labels that agree", "greatest difference of a probability"):
            table.add_column(heading, justify="right")
        for each in export.parity:
            table.add_row(each.size, f"{each.agreement:.4%}", f"{each.difference:.1e}")
        Results(width=100).print(table)
    screen.print(f"model: {export.path}, {export.size / 1e6:.1f} MB")

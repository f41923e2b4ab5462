"""`gffnet export`: write a model to one file that runs without gffnet, and compare it with the network."""

from argparse import Namespace
from typing import TYPE_CHECKING

from gffnet.cli.arguments import Parser, path, print_json, whole_number
from gffnet.errors import UserError

if TYPE_CHECKING:
    from gffnet.export.export import Export

SUMMARY = "a model as an ONNX, OpenVINO or PyTorch file for images of any size, also in int8, checked against it"


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--model",
        help="a run or model folder, a checkpoint, or OWNER/NAME on the hub (default: the model that ships)",
    )
    parser.add_argument(
        "--to",
        choices=["onnx", "openvino", "pt2"],
        required=True,
        help="ONNX, OpenVINO (an .xml and a .bin file), or a program of torch.export",
    )
    parser.add_argument(
        "--out", type=path, required=True, metavar="FILE", help="such as model.onnx, model.xml or model.pt2"
    )
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16", "float16"],
        default="float32",
        help="dtype of the weights; bfloat16 only for pt2 (default: float32)",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="convolutions in int8, for CPUs (onnx and openvino); blocks that cost much accuracy stay in float32",
    )
    parser.add_argument(
        "--calibrate",
        type=path,
        metavar="DIR",
        help="for --int8: images like those to predict, without labels, to measure the ranges of values on",
    )
    parser.add_argument(
        "--images",
        type=whole_number("--images", 1),
        metavar="N",
        help="how many of them to measure on (default: 64, at equal distances in the sorted list)",
    )
    parser.add_argument("--json", action="store_true", help="print what was written and compared as JSON")


def run(arguments: Namespace) -> None:
    from gffnet.console import progress, screen
    from gffnet.export.export import check_request, export_model
    from gffnet.export.quantize import CALIBRATION
    from gffnet.models.gffnet import load_model
    from gffnet.models.model_io import shipped_model
    from gffnet.parallel import available_cores, limit_threads

    if arguments.int8 and arguments.calibrate is None:
        raise UserError("--int8 needs --calibrate DIR: some images like those to predict, without labels.")
    if not arguments.int8 and (arguments.calibrate is not None or arguments.images is not None):
        raise UserError("--calibrate and --images are for --int8: add it, or leave them out.")
    check_request(arguments.to, arguments.out, arguments.precision, arguments.calibrate)
    network, config = load_model(shipped_model() if arguments.model is None else arguments.model)
    limit_threads(available_cores())
    with progress("exporting") as advance:
        export = export_model(
            network,
            config,
            arguments.to,
            arguments.out,
            arguments.precision,
            advance,
            calibrate=arguments.calibrate,
            images=arguments.images or CALIBRATION,
        )
    if arguments.json:
        print_json(export.to_mapping())
    else:
        print_tables(export)
    screen.print(f"model: {export.path}, {export.size / 1e6:.1f} MB")


def print_tables(export: "Export") -> None:
    """Print the parity and, of a file in int8, what its blocks cost."""
    from gffnet.console import Results, make_table

    results = Results(width=100)
    rows = [(each.size, f"{each.agreement:.4%}", f"{each.difference:.1e}") for each in export.parity]
    headings = ("images", "labels that agree", "greatest difference of a probability")
    results.print(make_table(headings, rows, "the file beside the network, float32"))
    quantization = export.record.quantization
    if quantization is None or export.all_int8 is None:
        return
    blocks = [
        (each.name, f"{each.share:.1%}", f"{100 * each.gain:+.2f}", "float32" if each.in_float else "int8")
        for each in export.blocks
    ]
    columns = ("block", "multiplications", "mIoU if it alone is in float32", "in the file")
    title = f"int8: mIoU with the network's labels, on {quantization.checked} calibration images"
    results.print(make_table(columns, blocks, title))
    results.print(
        f"all in int8: {100 * export.all_int8:.2f}; as written: {100 * quantization.miou:.2f}, "
        f"{quantization.agreement:.2%} of the labels agree"
    )

"""`gffnet submit`: predict Cityscapes images into the archive that its test server takes."""

from argparse import Namespace

from gffnet.cli.arguments import Parser, add_model, add_protocol, add_root, add_speed, load_predictor, path

SUMMARY = "the archive that the Cityscapes test server takes, checked"


def add_arguments(parser: Parser) -> None:
    add_model(parser)
    add_speed(parser)
    add_root(parser, required=True)
    parser.add_argument("--out", type=path, required=True, metavar="ZIP", help="the archive to write")
    parser.add_argument("--split", choices=["test", "val"], default="test", help="split to predict (default: test)")
    add_protocol(parser)


def run(arguments: Namespace) -> None:
    """Predict, write and check the archive."""
    from gffnet.console import screen
    from gffnet.data.datasets import local_root
    from gffnet.evaluation.submission import check_classes, find_images, official_count, write_submission

    predictor = load_predictor(arguments)
    check_classes(predictor)
    images = find_images(local_root(arguments.root), arguments.split)
    if len(images) != (wanted := official_count(arguments.split)):
        remedy = ": the test server wants them all" if arguments.split == "test" else ""
        screen.print(f"{len(images)} images, but Cityscapes has {wanted} in {arguments.split}{remedy}", style="yellow")
    write_submission(predictor, images, arguments.out, predictor.protocol)
    size = arguments.out.stat().st_size / 1e6
    screen.print(f"{len(images)} label maps, checked: {arguments.out}, {size:.1f} MB")

"""`gffnet compare`: results of two or more models side by side, with the refined parts (Figures 1, 4, 5 and 8)."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gffnet.cli.arguments import (
    Parser,
    Paths,
    add_device,
    add_truth,
    ground_truth,
    path,
    print_json,
    show_result,
    whole_number,
)
from gffnet.errors import UserError

if TYPE_CHECKING:
    from gffnet.reports.compare import NamedModel

SUMMARY = "results of models side by side, with the parts that differ marked and enlarged (Figures 1, 4, 5 and 8)"


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "images",
        nargs="*",
        type=path,
        action=Paths,
        metavar="IMAGE",
        help="image files, folders of them, or with --dataset names of samples; may also follow the models",
    )
    parser.add_argument(
        "--models",
        nargs="+",
        action=Paths,
        required=True,
        metavar="MODEL",
        help="two or more run folders, model folders or checkpoints; the last is compared with the first",
    )
    parser.add_argument("--out", type=path, required=True, help="folder for a figure per image and compare.json")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="names of the models (default: their recipes)")
    add_truth(parser)
    add_device(parser)
    parser.add_argument(
        "--insets",
        type=whole_number("--insets", 0, 6),
        default=3,
        metavar="N",
        help="enlarged windows, 0..6 (default: 3)",
    )
    parser.add_argument(
        "--format", choices=["png", "pdf", "svg"], default="png", help="kind of figure; PDF and SVG keep text as text"
    )
    parser.add_argument("--panels", action="store_true", help="also write every picture and window as a PNG of its own")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead of a table")


def run(arguments: Namespace) -> None:
    """Compare, write, and print the numbers, the most improved image first."""
    from gffnet.console import screen
    from gffnet.data.io import image_files
    from gffnet.evaluation.evaluate import same_classes
    from gffnet.reports.compare import FigureOptions, write_comparison

    models, others = split_models(arguments.models)
    truth = ground_truth(arguments, models[0])
    given = [*arguments.images, *map(Path, others)]
    if not given:
        raise UserError("no IMAGE is named: give image files or folders, such as --models A B street.png --out DIR.")
    images = list(image_files([truth.image(path) for path in given], out=arguments.out))
    named = _load_models(models, arguments)
    if truth.classes is not None:
        same_classes(named[0].predictor, truth.classes, arguments.dataset)
    options = FigureOptions(arguments.format, arguments.insets, arguments.panels)
    show = print_json if arguments.json else _print_table
    show_result(lambda: write_comparison(named, images, truth, arguments.out, options), show)
    screen.print(f"comparisons: {arguments.out}")


def split_models(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split what follows `--models` into models and images; the first two words are always models."""
    from gffnet.models.model_io import find_model

    for count, word in enumerate(words):
        if count < 2 or Path(word).suffix == ".ckpt":
            continue
        try:
            find_model(word)
        except UserError:
            return list(words[:count]), list(words[count:])
    return list(words), []


def _load_models(models: Sequence[str], arguments: Namespace) -> list["NamedModel"]:
    """The models with their names: those of `--names`, else the recipes, or the paths where two share a recipe."""
    from gffnet.console import track
    from gffnet.inference.predictor import load
    from gffnet.reports.compare import NamedModel

    if arguments.names is not None and len(arguments.names) != len(models):
        raise UserError(f"--names has {len(arguments.names)} names for {len(models)} models: give one for each.")
    predictors = [load(model, arguments.device, arguments.precision) for model in track(models, "opening models")]
    recipes = [predictor.config.recipe for predictor in predictors]
    names = arguments.names or [
        recipe if recipes.count(recipe) == 1 else model for recipe, model in zip(recipes, models, strict=True)
    ]
    return [NamedModel(name, predictor) for name, predictor in zip(names, predictors, strict=True)]


def _print_table(numbers: dict[str, Any]) -> None:
    """Print scores and fractions of pixels of every image, in percent; without labels, where the models differ."""
    from gffnet.console import Results, percent

    names = [model["name"] for model in numbers["models"]]
    known = numbers["all"]["labelled"] > 0
    last, first = numbers["refined_by"]["of"], numbers["refined_by"]["over"]
    if known:
        title = f"{last} over {first}, in percent; the most improved image first"
    else:
        title = f"Where {first} and {last} differ, in percent of the pixels; the most different image first"
    scores = [("mIoU", "miou"), ("pixel accuracy", "pixel_accuracy")] if known else []
    shares = ["refined", "lost", "changed"] if known else ["changed"]
    headings = ["image", *(f"{label}, {name}" for label, _ in scores for name in names)]
    headings += shares if known else ["differ"]
    rows = []
    for row in numbers["images"]:
        cells = [(row[key] or {}).get(name) for _, key in scores for name in names]
        cells += [row[share] for share in shares]
        rows.append(("", [Path(row["image"]).stem, *(percent(value, 2) for value in cells)]))
    if numbers["all"]["labelled"] > 1:
        together = [(numbers["all"][key] or {}).get(name) for _, key in scores for name in names]
        rows.append(("", ["all labelled", *(percent(value, 2) for value in [*together, *(None for _ in shares)])]))
    results = Results()
    results.print_table(headings, rows, [*(len(names) for _ in scores), len(shares)], title)
    if not known:
        results.print_text("Which is right is not known without labels: --dataset NAME --root DIR scores both.")

"""Training on one's own images: images a second of recipes for a folder of images and masks, by the command itself.

    python benchmarks/own_data.py [--recipes folder/gffnet_r18 folder/gffnet_lite0] [--images 40] [--size 256x512]
                                  [--iterations 20] [--rounds 2] [--before SRC] [--out FILE]

Procedural street scenes with the four classes of docs/own_data.md are written into a folder, and every recipe is
trained on it for some iterations, round by round, each in a process of its own, with every setting as it ships but the
number of iterations. Images a second are those of history.jsonl after the first ten iterations; ratios are to the first
recipe, in the same round. Speed does not depend on the weights: those that would be downloaded are random. `--before`
runs the first recipe from another checkout's `src`, such as an earlier commit's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from gffnet.cli.arguments import size
from gffnet.streets import Label, render_street
from harness import machine, ratios, report, spread, timing

CLASSES = "classes: [other, road, sign, pole]\n"


def main() -> None:
    """Measure, print, and write the table if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=["folder/gffnet_r18", "folder/gffnet_lite0"])
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--size", type=size, default=(256, 512))
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--before", type=Path, help="src folder of the checkout that runs the first recipe")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "data", arguments.images, arguments.size)
        speeds: dict[str, list[float]] = {recipe: [] for recipe in arguments.recipes}
        for number in range(arguments.rounds):
            for recipe in arguments.recipes:
                source = arguments.before if recipe == arguments.recipes[0] else None
                run = Path(folder) / f"{number}-{recipe.replace('/', '-')}"
                speeds[recipe].append(images_a_second(recipe, Path(folder) / "data", run, arguments.iterations, source))
    height, width = arguments.size
    lines = [
        machine(),
        "",
        f"{arguments.images} images of {height}x{width}, {arguments.iterations} iterations, {arguments.rounds} rounds",
        "",
        f"| recipe | images/s | times {arguments.recipes[0]} |",
        "|---|---|---|",
    ]
    first = speeds[arguments.recipes[0]]
    for recipe, found in speeds.items():
        lines.append(f"| {recipe} | {spread(timing(found), 1)} | {spread(ratios(found, first), 1)} |")
    report(lines, arguments.out)


def write_images(root: Path, images: int, size: tuple[int, int]) -> None:
    """Street scenes as images and masks, with ids of one's own: everything else, road, sign, pole."""
    table = np.zeros(256, np.uint8)
    table[[Label.ROAD, Label.TRAFFIC_SIGN, Label.POLE]] = 1, 2, 3
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(images):
        street = render_street((5, i), size)
        Image.fromarray(street.image).save(root / f"images/drive_{i:03d}.png")
        Image.fromarray(table[street.label_ids]).save(root / f"masks/drive_{i:03d}.png")
    (root / "classes.yaml").write_text(CLASSES)


def images_a_second(recipe: str, data: Path, run: Path, iterations: int, source: Path | None) -> float:
    """Train a recipe by the command; the speed after the first ten iterations, in which images are decoded."""
    command = [sys.executable, "-m", "gffnet", "train", recipe, "--root", str(data), "--out", str(run)]
    changes = [f"training.iterations={iterations}", f"training.validate_every={10 * iterations}"]
    changes += ["model.backbone.weights=none"] if "lite0" not in recipe else []
    environment = {**os.environ, **({} if source is None else {"PYTHONPATH": str(source.resolve())})}
    words = [word for change in changes for word in ("--set", change)]
    subprocess.run([*command, *words], check=True, env=environment, stdout=subprocess.DEVNULL)
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return statistics.median([row["images_per_second"] for row in history if "images_per_second" in row][1:])


if __name__ == "__main__":
    main()

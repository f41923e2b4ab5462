"""Training on one's own images: images a second of recipes for a folder of images and masks, by the command itself.

    python benchmarks/own_data.py [--recipes folder/gffnet_r18 folder/gffnet_lite0] [--images 40] [--size 256x512]
                                  [--iterations 20] [--rounds 2] [--before SRC] [--out FILE]

Procedural street scenes with the four classes of docs/own_data.md are written into a folder, and every recipe is
trained on it for some iterations, round by round, each in a process of its own, with every setting as it ships but the
number of iterations. Images a second are those of history.jsonl after the first ten iterations; ratios are to the first
row, in the same round. Speed does not depend on the weights: those that would be downloaded are random. `--before` runs
the first recipe from another checkout's `src` as well, such as an earlier commit's, which is then the first row.
"""

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
from gffnet.errors import RunFailed
from gffnet.streets import Label, render_street
from harness import (
    add_count,
    add_out,
    commit_of,
    machine,
    make_parser,
    ratios,
    report,
    run,
    source,
    spread,
    timing,
)

CLASSES = "classes: [other, road, sign, pole]\n"


def main() -> None:
    """Measure, print, and write the table if asked."""
    parser = make_parser(__doc__)
    parser.add_argument("--recipes", nargs="+", default=["folder/gffnet_r18", "folder/gffnet_lite0"])
    add_count(parser, "--images", 40, least=2)
    parser.add_argument("--size", type=size, default=(256, 512))
    add_count(parser, "--iterations", 20, least=20)
    add_count(parser, "--rounds", 2)
    parser.add_argument("--before", type=source, help="src folder of a checkout that also runs the first recipe")
    add_out(parser)
    arguments = parser.parse_args()
    sources = [(arguments.recipes[0], arguments.before)] if arguments.before else []
    sources += [(recipe, None) for recipe in dict.fromkeys(arguments.recipes)]
    speeds: dict[tuple[str, Path | None], list[float]] = {each: [] for each in sources}
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "data", arguments.images, arguments.size)
        for number in range(arguments.rounds):
            for place, (recipe, code) in enumerate(sources):
                out = Path(folder) / f"{number}-{place}"
                found = images_a_second(recipe, Path(folder) / "data", out, arguments.iterations, code)
                speeds[recipe, code].append(found)
    height, width = arguments.size
    lines = [
        machine(),
        "",
        f"{arguments.images} images of {height}x{width}, {arguments.iterations} iterations, {arguments.rounds} rounds",
        "",
        "| recipe | commit | images/s | times the first |",
        "|---|---|---|---|",
    ]
    first = speeds[sources[0]]
    for (recipe, code), found in speeds.items():
        cells = recipe, commit_of(code), spread(timing(found), 1), spread(ratios(found, first), 1)
        lines.append(f"| {' | '.join(cells)} |")
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


def images_a_second(recipe: str, data: Path, out: Path, iterations: int, code: Path | None) -> float:
    """Train a recipe by the command; the speed after the first ten iterations, in which images are decoded."""
    command = [sys.executable, "-m", "gffnet", "train", recipe, "--root", str(data), "--out", str(out)]
    changes = [f"training.iterations={iterations}", f"training.validate_every={10 * iterations}"]
    changes += ["model.backbone.weights=none"] if "lite0" not in recipe else []
    environment = {**os.environ, **({"PYTHONPATH": str(code)} if code else {})}
    words = [word for change in changes for word in ("--set", change)]
    done = subprocess.run([*command, *words], env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise RunFailed(f"the training of {recipe} failed: see above.")
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return statistics.median([row["images_per_second"] for row in history if "images_per_second" in row][1:])


if __name__ == "__main__":
    run(main)

"""Prediction of an image whose class probabilities do not fit into memory: peak memory of the process, and seconds.

    python benchmarks/large_image.py [--size 10000x10000] [--memory 8GB] [--recipe ade20k/gffnet_r101] [--backbone NAME]
                                     [--crop 512x512] [--overlap 0.333] [--scales 1.0] [--out FILE]

The image is noise and the network is untrained, since neither matters to memory. `gffnet predict` runs in a process of
its own, from the PNG to label map, color map and overlay. "all at once" is the size of the float32 probabilities of all
classes at the size of the image.
"""

import dataclasses
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from gffnet.cli.arguments import memory, overlap, scale, size
from gffnet.data.datasets import dataset_classes
from gffnet.errors import RunFailed
from gffnet.models.gffnet import build_network, save_model
from gffnet.models.model_io import ModelConfig
from gffnet.recipe import load_recipe
from harness import add_out, machine, make_parser, report, run

PREDICT = """
import sys
from pathlib import Path
from gffnet.cli.main import main
from gffnet.inference.tiling import most_resident

code = main(sys.argv[1:-1])
Path(sys.argv[-1]).write_text(str(most_resident()))
sys.exit(code)
"""
"""`gffnet` with arguments, and its peak memory into the last of them: `getrusage` would count this process in."""


def main() -> None:
    """Measure, print, and write to --out."""
    parser = make_parser(__doc__)
    parser.add_argument("--size", type=size, default=(10_000, 10_000))
    parser.add_argument("--memory", default="8GB")
    parser.add_argument("--recipe", default="ade20k/gffnet_r101")
    parser.add_argument("--backbone", help="instead of the recipe's, such as resnet18")
    parser.add_argument("--crop", type=size, default=(512, 512))
    parser.add_argument("--overlap", type=overlap, default=0.333)
    parser.add_argument("--scales", type=scale, nargs="+", default=[1.0])
    add_out(parser)
    arguments = parser.parse_args()
    most, (height, width), crop = memory(arguments.memory), arguments.size, "{}x{}".format(*arguments.crop)
    protocol = ["--crop", crop, "--overlap", str(arguments.overlap), "--scales", *map(str, arguments.scales)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        classes = untrained(arguments.recipe, arguments.backbone, folder / "model")
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "image.png", compress_level=1)
        del pixels
        words = ["predict", str(folder / "image.png"), "--model", str(folder / "model"), "--out", str(folder / "out")]
        words += ["--memory", arguments.memory, *protocol]
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", PREDICT, *words, folder / "peak"], check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise RunFailed("the prediction failed: see above.")
        peak = int((folder / "peak").read_text())
    lines = [
        machine(),
        f"{arguments.recipe} {arguments.backbone or ''}, {height}x{width}, {classes} classes",
        f"{' '.join(protocol)}; all at once {4 * classes * height * width / 1e9:.0f} GB",
        f"--memory {arguments.memory}: peak {peak / 1e9:.2f} GB ({100 * peak / most:.0f} % of it), "
        f"{seconds:.0f} s, {height * width / 1e6 / seconds:.2f} megapixels per second",
    ]
    report(lines, arguments.out)


def untrained(recipe: str, backbone: str | None, folder: Path) -> int:
    """Write an untrained model of a recipe; return its number of classes."""
    model = load_recipe(recipe).model.without_weights()
    if backbone:
        model = dataclasses.replace(model, backbone=dataclasses.replace(model.backbone, name=backbone))
    classes = dataset_classes(recipe.split("/")[0])
    network = build_network(model, len(classes.names))
    save_model(folder, network, ModelConfig(model, classes.names, classes.palette, recipe.split("/")[0], recipe))
    return len(classes.names)


if __name__ == "__main__":
    run(main)

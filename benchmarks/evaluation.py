"""Multi-scale prediction of a large image, with horizontal flip, against the classic algorithm; seconds and memory.

    python benchmarks/evaluation.py --model RUN [--image FILE] [--size 1024x2048] [--crop 864x864] [--rounds 2]
                                    [--scales 0.75 1.0 1.25 1.5 1.75] [--only VARIANT ...] [--out FILE]
    python benchmarks/evaluation.py --model RUN --camvid ROOT [--images 101] [--out FILE]

The variants take turns, every run in a process of its own, whose peak memory is read at its end:

- `classic`: what is in use for PSPNet and its relatives, written out in `classic` below: window by window, each window
  and its flip in a forward pass of their own, logits resized to the window, softmax, all classes brought to
  numpy and added up there in float64, the sum of every scale resized to the image as float probabilities. The network
  is as its paper writes it, float32, channels-first, not folded.
- `float32`: gffnet with the same windows, padded on both sides as in `classic` where the image is smaller, in float32.
- `shipped`: gffnet in the precision that it picks on this machine; `compiled`: that, compiled for the window.

Loading and a warm-up of one window (in which `compiled` compiles) are not counted. "agreement" is the share of pixels
with the label of `classic`. Without `--image` it is a procedural street scene. With `--camvid`, the images of its val
split are predicted by `classic` and `shipped` and both are scored.
"""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from gffnet.cli.arguments import folder, path, size
from gffnet.cli.arguments import scale as factor
from gffnet.data.datasets import open_dataset
from gffnet.data.io import as_array, read_image
from gffnet.inference.precision import keep_pages
from gffnet.inference.predictor import load
from gffnet.inference.sliding_window import window_starts
from gffnet.inference.tiling import most_resident
from gffnet.metrics.confusion import ConfusionMatrix
from gffnet.models.gffnet import SegmentationModel, load_model
from gffnet.models.ops import use_reference
from gffnet.recipe import EvaluationRecipe
from gffnet.streets import render_street
from harness import add_count, add_out, machine, make_parser, ratios, report, run, spread, timing

Predict = Callable[[NDArray[np.uint8], EvaluationRecipe], NDArray[np.uint8]]
VARIANTS = ("classic", "float32", "shipped", "compiled")
SCALES = (0.75, 1.0, 1.25, 1.5, 1.75)


class Run(NamedTuple):
    """One prediction."""

    seconds: float
    memory: int
    """Peak of the process, in bytes."""
    labels: NDArray[np.uint8]


def main() -> None:
    """Measure, print, and keep it if asked."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--image", type=path)
    parser.add_argument("--size", type=size, default=(1024, 2048))
    parser.add_argument("--crop", type=size, default=(864, 864))
    parser.add_argument("--scales", type=factor, nargs="+", default=SCALES)
    add_count(parser, "--rounds", 2)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--camvid", type=folder)
    add_count(parser, "--images", None)
    add_out(parser)
    arguments = parser.parse_args()
    lines = [f"{machine('numpy', 'opencv-python-headless')}, {load_model(arguments.model)[1].recipe}", ""]
    if arguments.camvid:
        protocol = EvaluationRecipe(None, scales=tuple(arguments.scales), flip=True)
        lines += on_camvid(arguments.model, arguments.camvid, arguments.images, protocol)
    else:
        image = as_array(read_image(arguments.image)) if arguments.image else render_street(1, arguments.size).image
        protocol = EvaluationRecipe(arguments.crop, scales=tuple(arguments.scales), flip=True)
        lines += on_one_image(arguments.model, image, protocol, arguments.only, arguments.rounds)
    report(lines, arguments.out)


def on_one_image(
    model: str, image: NDArray[np.uint8], protocol: EvaluationRecipe, variants: list[str], rounds: int
) -> list[str]:
    """Every variant on one image, in turns; a table in Markdown."""
    runs: dict[str, list[Run]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                run = pool.submit(run_once, variant, model, image, protocol).result()
            print(f"{variant}: {run.seconds:.1f} s, {run.memory / 1e9:.2f} GB", flush=True)
            runs[variant].append(run)
    base = runs[variants[0]]
    lines = [
        f"{image.shape[0]}x{image.shape[1]}, windows of {protocol.crop}, scales {protocol.scales}, {rounds} rounds",
        "",
        f"| variant | seconds | times as fast as {variants[0]} | peak memory | agreement |",
        "|---|---|---|---|---|",
    ]
    for variant, its in runs.items():
        seconds = [run.seconds for run in its]
        faster = spread(ratios([run.seconds for run in base], seconds), 2)
        same = (its[0].labels == base[0].labels).mean()
        memory = median(run.memory for run in its) / 1e9
        lines.append(f"| {variant} | {spread(timing(seconds), 1)} | {faster} | {memory:.2f} GB | {100 * same:.3f} % |")
    return lines


def run_once(variant: str, model: str, image: NDArray[np.uint8], protocol: EvaluationRecipe) -> Run:
    """Predict an image, after a warm-up on one window."""
    predict = make(variant, model)
    height, width = protocol.crop or image.shape[:2]
    predict(np.ascontiguousarray(image[:height, :width]), EvaluationRecipe(protocol.crop, flip=True))
    start = time.perf_counter()
    labels = predict(image, protocol)
    return Run(time.perf_counter() - start, most_resident() or 0, labels)


def make(variant: str, model: str) -> Predict:
    """The function of a variant, from an image to labels."""
    if variant == "classic":
        network, _ = load_model(model)
        use_reference(network)
        return partial(classic, network)
    precision = "float32" if variant == "float32" else "auto"
    keep_pages()  # as the command line does
    return load(model, "cpu", precision, compiled=variant == "compiled").predict


@torch.inference_mode()
def classic(network: SegmentationModel, image: NDArray[np.uint8], protocol: EvaluationRecipe) -> NDArray[np.uint8]:
    """The algorithm that is in use for PSPNet and its relatives."""
    height, width = image.shape[:2]
    total: Any = 0.0
    for scale in protocol.scales:
        scaled_height, scaled_width = round(height * scale), round(width * scale)
        scaled = cv2.resize(image.astype(np.float32), (scaled_width, scaled_height), interpolation=cv2.INTER_LINEAR)
        crop_height, crop_width = protocol.crop or (scaled_height, scaled_width)
        down, right = max(crop_height - scaled_height, 0), max(crop_width - scaled_width, 0)
        above, before = down // 2, right // 2
        sides = above, down - above, before, right - before
        padded = cv2.copyMakeBorder(scaled, *sides, cv2.BORDER_CONSTANT, value=network.mean)
        sums: NDArray[np.float64] | None = None
        count = np.zeros(padded.shape[:2])
        for top in window_starts(padded.shape[0], crop_height, protocol.overlap):
            for left in window_starts(padded.shape[1], crop_width, protocol.overlap):
                rows, columns = slice(top, top + crop_height), slice(left, left + crop_width)
                probabilities = _window(network, padded[rows, columns])
                if sums is None:
                    sums = np.zeros((*padded.shape[:2], probabilities.shape[2]))
                sums[rows, columns] += probabilities
                count[rows, columns] += 1
        assert sums is not None
        sums = (sums / count[:, :, None])[above : above + scaled_height, before : before + scaled_width]
        total = total + cv2.resize(sums, (width, height), interpolation=cv2.INTER_LINEAR)
    labels: NDArray[np.uint8] = np.argmax(total, axis=2).astype(np.uint8)
    return labels


def _window(network: SegmentationModel, window: NDArray[Any]) -> NDArray[np.float32]:
    """The probabilities of a window (h, w, C), averaged with those of its flip, as (h, w, K)."""
    x = torch.from_numpy(np.ascontiguousarray(window.transpose(2, 0, 1)))[None]
    results = []
    for view in (x, x.flip(3)):
        logits = network(view).logits
        logits = F.interpolate(logits, size=view.shape[2:], mode="bilinear", align_corners=False)
        results.append(F.softmax(logits, dim=1))
    mean = (results[0] + results[1].flip(3)) / 2
    found: NDArray[np.float32] = mean[0].numpy().transpose(1, 2, 0)
    return found


def on_camvid(model: str, root: Path, images: int | None, protocol: EvaluationRecipe) -> list[str]:
    """Both on CamVid's val split: how far they agree, and what each scores."""
    dataset = open_dataset("camvid", root, "val")
    predict = {variant: make(variant, model) for variant in ("classic", "shipped")}
    matrices = {variant: ConfusionMatrix(len(dataset.classes.names)) for variant in predict}
    seconds = dict.fromkeys(predict, 0.0)
    same, number = [], min(images or len(dataset), len(dataset))
    for i in range(number):
        sample = dataset[i]
        found = {}
        for variant in predict:
            start = time.perf_counter()
            found[variant] = predict[variant](sample.image.permute(1, 2, 0).numpy(), protocol)
            seconds[variant] += time.perf_counter() - start
            matrices[variant].update(sample.labels.numpy(), found[variant])
        same.append((found["classic"] == found["shipped"]).mean())
    miou = {variant: 100 * matrix.scores().miou for variant, matrix in matrices.items()}
    return [
        f"CamVid val, {number} images, whole, scales {protocol.scales} with horizontal flip",
        "",
        "| variant | images a second | mIoU |",
        "|---|---|---|",
        *(f"| {variant} | {number / seconds[variant]:.2f} | {miou[variant]:.3f} % |" for variant in predict),
        "",
        f"agreement {100 * np.mean(same):.3f} %, mIoU changes by {miou['shipped'] - miou['classic']:+.3f} points, "
        f"{seconds['classic'] / seconds['shipped']:.2f} times as fast",
    ]


if __name__ == "__main__":
    run(main)

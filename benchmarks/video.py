"""Videos: frames per second beside the same frames as images, and what `--smooth` changes.

    python benchmarks/video.py speed IMAGES [--frames 16] [--size HxW] [--rounds 5] [--recipe NAME] [--write RESULT ...]
    python benchmarks/video.py drive CAMVID [--seconds 0.1 0.2 0.4] [--strides 1 2 5 15]
    python benchmarks/video.py pan CAMVID [--seconds 0.1 0.2 0.4] [--images 6] [--frames 20]

`--model` names another than the model that ships, which was trained on val.

`speed` makes a video (H.264, 25 frames/s) out of the images of a folder, and predicts it and the images by what `gffnet
predict` runs, into files, in one process and interleaved; by the model that ships or an untrained network of a recipe.

`drive` smooths CamVid val: 101 consecutive frames of a drive at 15 Hz, all labelled. With a stride s, every s-th frame
makes a video, from each of the first s on. `pan` smooths videos at 25 Hz made of single frames of val: the
camera moves along the photograph by 1.5 pixels a frame and zooms in by 0.3 %, noise of σ = 4 grey levels is added, and
H.264 compresses it (crf 30).

- *flicker*: share of pixels whose predicted class differs from that of the frame before.
- *still*: the same of the pixels whose true class is known and equal in both frames.
- *in place*: with the optical flow set to 0.
- *plain*: the exponential average of each pixel, without flow, fit and cuts.
- *cuts*: frames of CamVid, 1000 random pairs and those that follow each other, taken for a cut.

Every part takes `--out FILE`.
"""

import argparse
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gffnet.cli.arguments import Parser, folder, size
from gffnet.data.datasets import open_files
from gffnet.data.io import as_array
from gffnet.errors import UserError
from gffnet.inference.batch import RESULTS, predict_files
from gffnet.inference.precision import keep_pages
from gffnet.inference.predictor import Predictor, load
from gffnet.inference.sliding_window import most_probable
from gffnet.inference.smoothing import Smoothing
from gffnet.inference.video import frames
from gffnet.metrics.confusion import ConfusionMatrix
from harness import add_count, add_out, interleaved, machine, make_parser, positive, ratios, report, run, spread, timing
from large_image import untrained

Picture = NDArray[np.uint8]
Labels = NDArray[np.uint8]

RATE = 25
CAMVID_RATE = 15
"""Frames of val per second: every second one of a video of 30."""
SMOOTH = 0.2


def main() -> None:
    """Measure, print, and write to --out."""
    parser = make_parser(__doc__)
    parts = parser.add_subparsers(required=True, metavar="speed|drive|pan", parser_class=Parser)
    part = parts.add_parser("speed")
    part.set_defaults(run=speed)
    part.add_argument("images", type=folder)
    add_count(part, "--frames", 16)
    part.add_argument("--size", type=size, help="to which the images are resized")
    add_count(part, "--rounds", 5)
    part.add_argument("--recipe", help="of an untrained network (default: the model that ships)")
    part.add_argument("--write", nargs="+", default=list(RESULTS), choices=RESULTS)
    for name, measure in {"drive": drive, "pan": pan}.items():
        part = parts.add_parser(name)
        part.set_defaults(run=measure)
        part.add_argument("root", type=folder)
        part.add_argument("--seconds", type=positive("--seconds"), nargs="+", default=[0.1, 0.2, 0.4])
        if name == "drive":
            add_count(part, "--strides", [1, 2, 5, 15])
        else:
            add_count(part, "--images", 6)
            add_count(part, "--frames", 20, least=2)
    for part in parts.choices.values():
        part.add_argument("--model", help="default: the model that ships")
        add_out(part)
    arguments = parser.parse_args()
    keep_pages()  # as the command line does
    report([machine("av", "opencv-python-headless"), *arguments.run(arguments)], arguments.out)


# Speed


def speed(arguments: argparse.Namespace) -> list[str]:
    """Predict a video and its frames as images."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.recipe:
            untrained(arguments.recipe, None, folder / "model")
        predictor = load(folder / "model" if arguments.recipe else arguments.model)
        sources = sorted(path for path in arguments.images.glob("*") if path.suffix in {".png", ".jpg"})
        if not sources:
            raise UserError(f"{arguments.images} holds no .png or .jpg: name a folder of images.")
        (folder / "images").mkdir()
        pictures = []
        for i, path in enumerate(islice(cycle(sources), arguments.frames)):
            picture = Image.open(path).convert("RGB")
            if arguments.size:
                picture = picture.resize(arguments.size[::-1], Image.Resampling.BICUBIC)
            picture.save(folder / "images" / f"{i:04d}.png")
            pictures.append(np.asarray(picture))
        film = write_film(folder / "film.mp4", pictures, crf=18)
        predict = partial(predict_anew, predictor, folder / "out", arguments.write)
        calls: dict[str, Callable[[], object]] = {
            "images": partial(predict, folder / "images"),
            "video": partial(predict, film),
            f"video, --smooth {SMOOTH}": partial(predict, film, smooth=SMOOTH),
        }
        seconds = interleaved(calls, arguments.rounds, warm_up=1)
    height, width = pictures[0].shape[:2]
    return [
        f"{predictor.config.recipe}, {predictor.precision.name}, {arguments.frames} frames of {width}x{height}, "
        f"{' '.join(arguments.write)}, {arguments.rounds} rounds",
        "",
        "| input | frames/s | of images |",
        "|---|---|---|",
        *(
            f"| {name} | {spread(timing([arguments.frames / s for s in each]), 2)} "
            f"| {spread(ratios(seconds['images'], each), 2)} |"
            for name, each in seconds.items()
        ),
    ]


def predict_anew(predictor: Predictor, out: Path, results: list[str], path: Path, smooth: float | None = None) -> None:
    """Predict a folder or a video into a new folder."""
    shutil.rmtree(out, ignore_errors=True)
    summary = predict_files(predictor, [path], out, results=results, smooth=smooth)
    assert not summary.failed, summary.failed


def write_film(path: Path, pictures: list[Picture], crf: int) -> Path:
    """Write pictures as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": str(crf)})
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


# Smoothing


class Seen(NamedTuple):
    """A frame, what the network says about it, and the truth."""

    picture: Picture
    probabilities: Tensor
    truth: Labels
    time: float


class InPlace(Smoothing):
    """Without optical flow: the average of a pixel is that of its place, whatever is seen there."""

    def _motion(self, grey: Picture, before: Picture) -> NDArray[np.float32]:
        return np.zeros((*grey.shape, 2), np.float32)


class Plain(Smoothing):
    """The exponential average of every pixel."""

    def update(self, image: Picture, probabilities: Tensor, time: float) -> Tensor:
        """Return the average."""
        before, elapsed, self._time = self._average, time - self._time, time
        weight = math.exp(-elapsed / self._seconds)
        self._average = probabilities if before is None else torch.lerp(probabilities, before, weight)
        return self._average


class Tally:
    """What is measured of the label maps of videos."""

    def __init__(self, classes: int) -> None:
        """No frame yet."""
        self.confusion, self.classes = ConfusionMatrix(classes), classes
        self.changed, self.pixels, self.changed_still, self.pixels_still = 0, 0, 0, 0

    def add(self, videos: list[list[Seen]], smoothing: Callable[[], Smoothing] | None) -> "Tally":
        """Smooth videos, each from its beginning; None: not at all."""
        for video in videos:
            smooth, before = smoothing and smoothing(), None
            for seen in video:
                average = seen.probabilities.float()
                if smooth:
                    average = smooth.update(seen.picture, average, seen.time)
                labels = most_probable(average).numpy()
                self.confusion.update(torch.from_numpy(seen.truth), torch.from_numpy(labels))
                if before is not None:
                    change = labels != before[1]
                    still = (seen.truth == before[0]) & (seen.truth < self.classes)
                    self.changed, self.pixels = self.changed + int(change.sum()), self.pixels + change.size
                    self.changed_still += int(change[still].sum())
                    self.pixels_still += int(still.sum())
                before = seen.truth, labels
        return self

    def row(self) -> str:
        """As cells of a table."""
        miou = self.confusion.scores().miou or 0.0
        flicker, still = self.changed / self.pixels, self.changed_still / self.pixels_still
        return f"{100 * flicker:.2f} | {100 * still:.2f} | {100 * miou:.2f} |"


def table(predictor: Predictor, videos: dict[str, list[list[Seen]]], seconds: list[float]) -> list[str]:
    """A row for every kind of video and strength."""
    lines = ["", "| frames/s | `--smooth` | flicker | still | mIoU |", "|---|---|---|---|---|"]
    for name, some in videos.items():
        lines.append(f"| {name} | none | {Tally(len(predictor.config.classes)).add(some, None).row()}")
        for kind, title in ((Smoothing, ""), (InPlace, ", in place"), (Plain, ", plain")):
            for tau in seconds:
                tally = Tally(len(predictor.config.classes)).add(some, partial(kind, predictor, tau))
                lines.append(f"| {name} | {tau:g}{title} | {tally.row()}")
    return lines


def camvid(root: Path, split: str) -> list[tuple[Picture, Labels]]:
    """The images of a split in the order of their names, and their label maps."""
    dataset = open_files("camvid", root, split)
    order = sorted(range(len(dataset)), key=lambda i: dataset.files[i][0].name)
    samples = (dataset[i] for i in order)
    return [(np.ascontiguousarray(as_array(sample.image)), sample.labels.numpy()) for sample in samples]


def drive(arguments: argparse.Namespace) -> list[str]:
    """Smooth a drive."""
    predictor = load(arguments.model)
    seen = [
        Seen(image, predictor.probabilities(image).half(), labels, i / CAMVID_RATE)
        for i, (image, labels) in enumerate(camvid(arguments.root, "val"))
    ]
    videos = {
        f"{CAMVID_RATE / stride:g}": [seen[first::stride] for first in range(stride)] for stride in arguments.strides
    }
    lines = [f"CamVid val, {len(seen)} frames, {predictor.config.recipe}, {predictor.precision.name}"]
    return [*lines, *table(predictor, videos, arguments.seconds), "", *cuts(predictor, arguments)]


def cuts(predictor: Predictor, arguments: argparse.Namespace) -> list[str]:
    """How many pairs of frames are taken for a cut."""
    train, val = ([image for image, _ in camvid(arguments.root, split)] for split in ("train", "val"))
    both = [*train, *val]
    draw = np.random.default_rng(0)
    random = [(both[i], both[j]) for i, j in (draw.choice(len(both), 2, replace=False) for _ in range(1000))]
    lines = [f"taken for a cut: {np.mean([is_cut(predictor, *pair) for pair in random]):.1%} of random pairs"]
    for stride in arguments.strides:
        found = [is_cut(predictor, *pair) for pair in zip(val, val[stride:], strict=False)]
        lines.append(f"at {CAMVID_RATE / stride:g} frames/s {sum(found)} of {len(found)} pairs of a drive")
    return ["; ".join(lines)]


def is_cut(predictor: Predictor, first: Picture, second: Picture) -> bool:
    """Whether nothing of the first frame is left in the average after the second."""
    smoothing, ones = Smoothing(predictor, 1.0), torch.ones(1, *first.shape[:2])
    smoothing.update(first, ones, 0.0)
    return bool((smoothing.update(second, 0 * ones, 0.04) == 0).all())


def pan(arguments: argparse.Namespace) -> list[str]:
    """Smooth videos that are made of photographs."""
    predictor = load(arguments.model)
    samples = camvid(arguments.root, "val")
    samples = samples[:: -(-len(samples) // arguments.images)]
    videos = [list(panned(predictor, *sample, arguments.frames)) for sample in samples]
    lines = [
        f"{len(videos)} photographs of CamVid val, {arguments.frames} frames of each, {predictor.config.recipe}, "
        f"{predictor.precision.name}"
    ]
    return [*lines, *table(predictor, {str(RATE): videos}, arguments.seconds)]


def panned(predictor: Predictor, source: Picture, truth: Labels, number: int) -> Iterator[Seen]:
    """The frames of a video over a photograph, compressed, and the labels moved alike."""
    height, width = source.shape[0] - 40, source.shape[1] - 48
    noise = np.random.default_rng(0)
    pictures, truths = [], []
    for i in range(number):
        scale = 1.003**i
        # Where the pixels of the frame lie in the photograph.
        into = np.array([[1 / scale, 0, 1.3 * i], [0, 1 / scale, 0.7 * i]], np.float32)
        flags = cv2.WARP_INVERSE_MAP
        moved = cv2.warpAffine(source, into, (width, height), flags=flags | cv2.INTER_CUBIC)
        pictures.append(np.clip(moved + noise.normal(0, 4, moved.shape), 0, 255).astype(np.uint8))
        truths.append(cv2.warpAffine(truth, into, (width, height), flags=flags | cv2.INTER_NEAREST))
    with tempfile.TemporaryDirectory() as folder:
        for frame, labels in zip(frames(write_film(Path(folder) / "film.mp4", pictures, 30)), truths, strict=True):
            yield Seen(frame.image, predictor.probabilities(frame.image).half(), labels, float(frame.time))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    run(main)

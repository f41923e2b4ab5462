"""Training samples a second on one core: from PNG pairs of 1024x2048 to crops of 864x864 with the paper's augmentation.

    python -m pip install -c constraints.txt -e '.[bench]'
    python benchmarks/input_pipeline.py [--rounds 7] [--samples 24] [--data CITYSCAPES] [--out FILE]

Five pipelines take turns on the same items of 8 pairs (procedural streets, if no data are given), each with draws of
its own from the same distributions. Two are ours, three as their authors document: "classic" is OpenCV and numpy as in
PSPNet's and mmseg's training, scaling eight bits as mmseg does, which is faster; torchvision's v2 transforms on
tensors; albumentations with OpenCV's threads off. Ours hands out uint8, for the network normalises, on its device;
users of the others take normalised float32, contiguous as batches are. So the first table compares what each is used
for, the second float32 from all (ours by the network's code, on the same core), the third uint8 as it lies in memory.
"of classic" is the ratio of speeds, "decoding" the share of the decoder alone. The disk (files are in the page cache),
batching, workers and the device are left out.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice, product
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", NO_ALBUMENTATIONS_UPDATE="1")

import numpy as np
import torch
from torch.nn.functional import interpolate
from torchvision.io import decode_image
from torchvision.transforms import v2
from torchvision.tv_tensors import Image, Mask

from gffnet.cli.arguments import folder
from gffnet.data.cache import build_cache, with_cache
from gffnet.data.cityscapes import TRAIN_IDS, Cityscapes
from gffnet.data.dataset import Dataset
from gffnet.data.io import as_array, read_image, read_labels
from gffnet.data.loader import TrainingStream
from gffnet.data.transforms import Augmentation
from gffnet.models.gffnet import build_network
from gffnet.recipe import load_recipe
from gffnet.streets import write_streets
from harness import add_count, add_out, interleaved, machine, make_parser, one_core, ratios, report, run, spread, timing

try:
    import albumentations as A
    import cv2
except ImportError as error:
    raise SystemExit(f"error: {error}: run python -m pip install -c constraints.txt -e '.[bench]'") from None

PAIRS, SIZE, CHECKED, RECIPE = 8, (1024, 2048), 48, load_recipe("cityscapes/gffnet_r101")
CROP, SCALES, JITTER = RECIPE.training.crop, RECIPE.training.scales, RECIPE.training.jitter
MEAN, STD, PADDING = RECIPE.model.mean, RECIPE.model.std, [round(level) for level in RECIPE.model.mean]
UNIT_MEAN, UNIT_STD = ([level / 255 for level in levels] for levels in (MEAN, STD))
TABLE = np.array([TRAIN_IDS.get(label, 255) for label in range(256)], np.uint8)
Pair = tuple[Any, Any]  # image and labels
Files = list[tuple[str, str]]  # of every item
Pipeline = Callable[[int, str], Pair]  # from an item to a training sample of uint8 or float32, or to what is decoded


def ours(stream: TrainingStream, files: Files | None = None) -> Pipeline:
    """What `gffnet train` reads; `files` only if it decodes them."""
    with torch.device("meta"):  # normalising takes no weights
        network = build_network(RECIPE.model.without_weights(), 19)

    def sample(k: int, form: str) -> Pair:
        if form == "decoding":
            return (as_array(read_image(files[k][0])), read_labels(files[k][1])) if files else (None, None)
        image, labels = (part.as_subclass(torch.Tensor) for part in stream[k][:2])
        return network.normalize(image[None])[0] if form == "float32" else image, labels

    return sample


def classic(files: Files) -> Pipeline:
    """OpenCV and numpy."""
    rng = np.random.default_rng(0)

    def sample(k: int, form: str) -> Pair:
        image, labels = cv2.imread(files[k][0]), cv2.imread(files[k][1], cv2.IMREAD_GRAYSCALE)
        if form == "decoding":
            return image, labels
        image, labels = cv2.cvtColor(image, cv2.COLOR_BGR2RGB), cv2.LUT(labels, TABLE)
        scale = rng.uniform(*SCALES)
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        labels = cv2.resize(labels, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        gaps = [max(0, crop - side) for crop, side in zip(CROP, labels.shape, strict=True)]
        if any(gaps):
            sides = [side for gap in gaps for side in (gap // 2, gap - gap // 2)]
            image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, value=PADDING)
            labels = cv2.copyMakeBorder(labels, *sides, cv2.BORDER_CONSTANT, value=255)
        top, left = (rng.integers(side - crop + 1) for side, crop in zip(labels.shape, CROP, strict=True))
        image, labels = (part[top : top + CROP[0], left : left + CROP[1]] for part in (image, labels))
        if rng.random() < 0.5:
            image, labels = cv2.flip(image, 1), cv2.flip(labels, 1)
        image = cv2.add(image, (*rng.integers(-JITTER, JITTER + 1, 3).tolist(), 0))
        if form == "float32":
            image = image.astype(np.float32)
            cv2.subtract(image, (*MEAN, 0), image)
            cv2.multiply(image, (*(1 / level for level in STD), 0), image)
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(np.ascontiguousarray(labels))

    return sample


def torchvision(files: Files) -> Pipeline:
    """Transforms v2."""
    torch.manual_seed(0)

    def shift(image: torch.Tensor) -> torch.Tensor:  # there is none in torchvision
        levels = torch.randint(-JITTER, JITTER + 1, (3, 1, 1), dtype=torch.int16)
        return Image(image.as_subclass(torch.Tensor).to(torch.int16).add_(levels).clamp_(0, 255).to(torch.uint8))

    augment = [
        v2.ScaleJitter(SIZE[::-1], SCALES),
        v2.RandomCrop(CROP, pad_if_needed=True, fill={Image: PADDING, Mask: 255}),
        v2.RandomHorizontalFlip(),
        v2.Lambda(shift, Image),
    ]
    to_float = v2.ToDtype({Image: torch.float32, "others": None}, scale=True)
    last = {"uint8": [], "float32": [to_float, v2.Normalize(UNIT_MEAN, UNIT_STD)]}
    transforms = {form: v2.Compose([*augment, *end, v2.ToPureTensor()]) for form, end in last.items()}

    def sample(k: int, form: str) -> Pair:
        image, labels = decode_image(files[k][0], "RGB"), decode_image(files[k][1])
        if form == "decoding":
            return image, labels
        image, labels = transforms[form](Image(image), Mask(labels))
        return image, torch.from_numpy(TABLE)[labels[0].int()]

    return sample


def albumentations(files: Files) -> Pipeline:
    """Albumentations 2."""
    augment = [
        A.RandomScale((SCALES[0] - 1, SCALES[1] - 1), p=1),
        A.PadIfNeeded(*CROP, border_mode=cv2.BORDER_CONSTANT, fill=PADDING, fill_mask=255),
        A.RandomCrop(*CROP),
        A.HorizontalFlip(p=0.5),
        A.RGBShift(*([(-JITTER, JITTER)] * 3), p=1),
    ]
    last = {"uint8": [], "float32": [A.Normalize(UNIT_MEAN, UNIT_STD)]}
    transforms = {form: A.Compose([*augment, *end, A.ToTensorV2()], seed=0) for form, end in last.items()}

    def sample(k: int, form: str) -> Pair:
        image, labels = cv2.imread(files[k][0], cv2.IMREAD_COLOR_RGB), cv2.imread(files[k][1], cv2.IMREAD_GRAYSCALE)
        if form == "decoding":
            return image, labels
        out = transforms[form](image=image, mask=cv2.LUT(labels, TABLE))
        return out["image"], out["mask"]

    return sample


def pipelines(dataset: Dataset, root: Path, folder: Path, items: int) -> dict[str, Pipeline]:
    """All by name; `folder` is for the caches."""
    view = Augmentation(CROP, SCALES, JITTER, RECIPE.training.flip, MEAN)
    stream = TrainingStream(dataset, view, seed=0, length=items, cache_bytes=0)
    files = [(str(image), str(labels)) for image, labels in (dataset.files[stream.index(k)] for k in range(items))]
    every = {"ours, PNG files": ours(stream, files)}
    build_cache(dataset, "train", folder)
    cached = with_cache(Cityscapes(root, "train", files=dataset.files), "train", folder)
    every["ours, memory-mapped cache"] = ours(TrainingStream(cached, view, seed=0, length=items))
    peers = {"classic": classic, "torchvision v2": torchvision, "albumentations": albumentations}
    return every | {name: peer(files) for name, peer in peers.items()}


def check(dataset: Dataset, every: dict[str, Pipeline]) -> None:
    """Assert that all hand out alike, and ours what the whole image gives, scaled and then cropped."""
    for form in ("uint8", "float32"):
        looks = []
        for pipeline in every.values():
            images, labels = zip(*(pipeline(k, form) for k in range(CHECKED)), strict=True)
            assert {(x.shape, x.dtype) for x in images} == {((3, *CROP), getattr(torch, form))}
            assert {(x.shape, x.dtype) for x in labels} == {(CROP, torch.uint8)}
            color = torch.stack([image.float().mean((1, 2)) for image in images]).mean(0)
            shares = torch.stack(labels).flatten().int().bincount(minlength=256) / (CHECKED * labels[0].numel())
            assert shares[19:255].sum() == 0  # none but train ids and 255
            looks.append(torch.cat([color / torch.tensor(STD) if form == "uint8" else color, shares]))
        assert all((look - looks[0]).abs().max() < 0.2 for look in looks)
    view = Augmentation(CROP, (0.9, SCALES[1]), 0, False, MEAN)
    for k, (image, labels, _) in enumerate(dataset):
        got, got_labels = view(image, labels, np.random.default_rng(k))
        rng = np.random.default_rng(k)  # draws as the view does: the flip, the scale, the position
        _, scale, position = rng.random(), rng.uniform(*view.scales), rng.random(2)
        size = [round(side * scale) for side in SIZE]
        starts = [int(u * (side - crop + 1)) for u, side, crop in zip(position, size, CROP, strict=True)]
        window = (..., *(slice(start, start + crop) for start, crop in zip(starts, CROP, strict=True)))
        off = (interpolate(image[None], size, mode="bilinear", antialias=True)[0][window].short() - got).abs()
        assert off.float().mean() < 0.5
        assert (off > 2).float().mean() < 0.01
        # The nearest pixels in whole numbers: `interpolate` finds them in float32, which misses some at ties.
        rows, columns = ((2 * torch.arange(new) + 1) * old // (2 * new) for new, old in zip(size, SIZE, strict=True))
        assert labels[rows][:, columns][window].equal(got_labels)


def work(pipeline: Pipeline, form: str, items: Iterator[int], samples: int) -> None:
    """The next items."""
    for k in islice(items, samples):
        image, _ = pipeline(k, form)
        _ = image.contiguous() if form == "float32" else image


def table(forms: dict[str, str], seconds: dict[str, list[float]], samples: int) -> list[str]:
    """A comparison, as lines of Markdown; `forms` is what each pipeline hands out."""
    lines = ["| pipeline | hands out | samples/s | of classic | decoding |", "|---|---|---|---|---|"]
    whole = {name: seconds[name + form] for name, form in forms.items()}
    for name, form in forms.items():
        decoding = seconds[name + "decoding"]
        speed, ratio = timing([samples / s for s in whole[name]]), ratios(whole["classic"], whole[name])
        share = ratios(decoding, whole[name]).median
        lines.append(f"| {name} | {form} | {spread(speed, 1)} | {spread(ratio, 2)} | {share:.0%} |")
    return lines


def main() -> None:
    """Check that all make the same, time them, and print the tables."""
    parser = make_parser(__doc__)
    add_count(parser, "--rounds", 7)
    add_count(parser, "--samples", 24, help="of every pipeline in a round")
    parser.add_argument("--data", type=folder, default=Path(tempfile.gettempdir()) / "gffnet-input-pipeline")
    add_out(parser)
    options = parser.parse_args()
    if options.data == parser.get_default("data") and len(list(options.data.rglob("*.png"))) < 2 * PAIRS:
        write_streets(options.data, PAIRS, 0, SIZE)
    files = Cityscapes(options.data, "train").files
    dataset = Cityscapes(options.data, "train", files=files[:: max(1, len(files) // PAIRS)][:PAIRS])
    with tempfile.TemporaryDirectory() as cache:
        every = pipelines(dataset, options.data, Path(cache), max(CHECKED, options.samples * (options.rounds + 1)))
        one_core()
        cv2.setNumThreads(0)
        check(dataset, every)
        timed = product(every, ("uint8", "float32", "decoding"))
        calls = {name + form: partial(work, every[name], form, count(), options.samples) for name, form in timed}
        seconds = interleaved(calls, options.rounds, warm_up=1)
    lines = [machine("torchvision", "opencv-python-headless", "albumentations", "pillow", "imagecodecs", "numpy")]
    size = sum(image.stat().st_size for image, _ in dataset.files) / len(dataset) / 1e6
    lines += [f"{options.rounds} rounds of {options.samples} samples, images of {size:.1f} MB"]
    used = {name: "uint8" if name.startswith("ours") else "float32" for name in every}
    titled = {"As each is used": used} | {f"All {form}": dict.fromkeys(every, form) for form in ("float32", "uint8")}
    for title, forms in titled.items():
        lines += ["", f"**{title}**", "", *table(forms, seconds, options.samples)]
    report(lines, options.out)


if __name__ == "__main__":
    run(main)

"""What `precision: auto` picks, beside what each dtype takes, and both memory layouts.

    python benchmarks/precision.py [--threads 1 2] [--networks r18 lite0] [--runs 3] [--out FILE]

`auto` measures anew, with an empty cache: "measured in" is what that takes, once for a network on a machine. Prediction
is `Predictor.predict` of one image of 360x480. A training step is forward pass, loss with auxiliary head, backward pass
and AdamW on images of 240x320, four at a time of ResNet-18 and eight of EfficientNet-Lite0. The networks have random
weights: `GFFNet("resnet18", 11, channels=256, output_stride=16)`, as in `camvid/long/gffnet_r18`, and
`GFFNet("tf_efficientnet_lite0", 11, channels=64, output_stride=32)`. Layouts compare the same network, folded and
called directly where it predicts.
"""

import copy
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import gffnet
from gffnet.inference.precision import Precision, keep_pages, pick_precision
from gffnet.inference.predictor import Predictor
from gffnet.models.gffnet import SegmentationModel
from gffnet.models.ops import size_of
from gffnet.training.task import AuxiliaryHead
from harness import add_count, add_out, interleaved, machine, make_parser, ratios, report, run, spread, timing

CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
LAYOUTS = {"channels-first": torch.contiguous_format, "channels-last": torch.channels_last}
BATCH = {"r18": 4, "lite0": 8}


def network_of(name: str) -> gffnet.GFFNet:
    """One of the networks, unfolded."""
    torch.manual_seed(0)
    if name == "r18":
        return gffnet.GFFNet("resnet18", 11, channels=256, output_stride=16)
    return gffnet.GFFNet("tf_efficientnet_lite0", 11, channels=64, output_stride=32)


def prediction(network: gffnet.GFFNet, dtype: torch.dtype) -> Callable[[], object]:
    """A call that predicts an image."""
    predictor = Predictor(network, network.config, CPU, Precision(dtype, ""))
    image = torch.randint(256, (3, 360, 480), dtype=torch.uint8)
    return partial(predictor.predict, image, crop="none", scales=1.0)


def forward(network: SegmentationModel, dtype: torch.dtype, layout: torch.memory_format) -> Callable[[], object]:
    """A call of the folded network."""
    folded = copy.deepcopy(network).fold().to(dtype).to(memory_format=layout)
    image = torch.randint(256, (1, 3, 360, 480), dtype=torch.uint8).contiguous(memory_format=layout)
    return torch.inference_mode()(partial(folded, image))


def training(network: gffnet.GFFNet, dtype: torch.dtype, batch: int, layout: torch.memory_format) -> Callable[[], None]:
    """A call that trains for one iteration."""
    own = copy.deepcopy(network).train().requires_grad_(True).to(memory_format=layout)
    classes = len(network.config.classes)
    head = AuxiliaryHead(own.backbone.channels[2], classes).to(memory_format=layout)
    optimizer = torch.optim.AdamW([*own.parameters(), *head.parameters()], 1e-4, fused=True)
    images = torch.randint(256, (batch, 3, 240, 320), dtype=torch.uint8).contiguous(memory_format=layout)
    labels = torch.randint(classes, (batch, 240, 320))

    def loss() -> Tensor:
        maps, context = own.features(images)
        main = own.decode(own.reduce(maps, context, size_of(images)))
        return F.cross_entropy(main.float(), labels) + 0.4 * F.cross_entropy(head(maps[2], (240, 320)).float(), labels)

    def call() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return call


def measure(name: str, threads: int, runs: int) -> tuple[list[str], list[str]]:
    """Rows of the table of dtypes and of that of layouts, of one network."""
    torch.set_num_threads(threads)
    network, dtypes, layouts = network_of(name), [], []
    for step in ("predict", "train"):
        start = time.perf_counter()
        picked = pick_precision("auto", CPU, network, training=step == "train")
        took = time.perf_counter() - start
        calls: dict[str, Callable[[], object]] = {}
        for dtype, of in DTYPES.items():
            for layout, memory in LAYOUTS.items():
                train = partial(training, network, of, BATCH[name], memory)
                calls[f"{dtype} {layout}"] = forward(network, of, memory) if step == "predict" else train()
        if step == "predict":
            calls |= {dtype: prediction(network, of) for dtype, of in DTYPES.items()}
        seconds = interleaved(calls, runs, warm_up=1)
        if step == "train":
            seconds |= {dtype: seconds[f"{dtype} channels-last"] for dtype in DTYPES}
        ms = {call: timing([1000 * t for t in times]) for call, times in seconds.items()}
        best = min(ms[dtype].median for dtype in DTYPES)
        start_of_row = f"| {name} | {step} | {threads} |"
        dtypes.append(
            f"{start_of_row} {spread(ms['float32'], 0)} | {spread(ms['bfloat16'], 0)} | {picked.name}: {picked.reason} "
            f"| {took:.1f} s | {ms[picked.name].median / best:.2f} |"
        )
        of_first = [
            spread(ratios(seconds[f"{dtype} channels-last"], seconds[f"{dtype} channels-first"]), 2) for dtype in DTYPES
        ]
        layouts.append(f"{start_of_row} {' | '.join(of_first)} |")
    return dtypes, layouts


def main() -> None:
    """Measure everything, and print two tables."""
    parser = make_parser(__doc__)
    add_count(parser, "--threads", [1, 2])
    parser.add_argument("--networks", nargs="+", default=[*BATCH], choices=[*BATCH])
    add_count(parser, "--runs", 3)
    add_out(parser)
    options = parser.parse_args()
    keep_pages()
    os.environ.pop("GFFNET_PRECISION", None)
    head, dtypes, layouts = f"{machine(threads=options.threads)}, {options.runs} runs", [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for name in options.networks:
            for threads in options.threads:
                of_dtypes, of_layouts = measure(name, threads, options.runs)
                dtypes += of_dtypes
                layouts += of_layouts
    columns = "network | step | threads"
    lines = [
        head,
        "",
        f"| {columns} | float32 ms | bfloat16 ms | auto | measured in | of the best |",
        f"|{'---|' * 8}",
        *dtypes,
        "",
        f"| {columns} | channels-last of channels-first, float32 | bfloat16 |",
        f"|{'---|' * 5}",
        *layouts,
    ]
    report(lines, options.out)


if __name__ == "__main__":
    run(main)

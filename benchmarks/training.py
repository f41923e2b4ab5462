"""Training iterations: images a second of one forward pass, loss with auxiliary head, backward pass and SGD step.

    python benchmarks/training.py [--size 512x512] [--batch 1] [--backbones r18 r101] [--runs 5] [--only PATTERN ...]
                                  [--keep-pages] [--device cuda] [--out FILE]

A setup is a network, the form of its operations, a dtype, a memory layout and how it is run, such as
"gffnet-1x1 executed bfloat16 channels-last eager"; 1x1 and 3x3 are the kernel of the dense pyramid. All setups take
turns, an iteration each, on random images. The reference of every network is itself as a textbook would write and run
it: "plain float32 channels-first eager". `--only` takes shell patterns of setups, such as "pspnet * compiled", instead
of the usual ones. Weights are float32 throughout; bfloat16 is autocast's.

"of peak" is the FLOPs of the iteration's convolutions and matrix products, as executed, over its time, over what a
large matrix product of that dtype reaches on the same threads. Convolutions that skip what dilation puts
outside their map can exceed it.

segmentation_models_pytorch's PSPNet trains beside ours in a plain loop, on images that are normalised already, without
an auxiliary head. By default it ends at the backbone's third level (encoder_depth=3), a much lighter network than the
paper's; `smp-dilated` has all five, dilated to stride 8, which is as near as it comes: what follows the pyramid pooling
is still a 1x1 convolution instead of a 3x3, and the classifier a 3x3.
"""

import dataclasses
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from functools import cache
from itertools import product
from typing import NamedTuple

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gffnet.cli.arguments import size
from gffnet.errors import UserError
from gffnet.inference.precision import keep_pages, pick_device
from gffnet.models.gffnet import build_network
from gffnet.models.ops import size_of, use_reference
from gffnet.recipe import load_recipe
from gffnet.training.task import AuxiliaryHead
from harness import Report, add_count, add_out, interleaved, machine, make_parser, ratios, run, spread, timing

CLASSES, IGNORE, AUXILIARY_WEIGHT = 19, 255, 0.4
LAYOUTS = {"channels-first": torch.contiguous_format, "channels-last": torch.channels_last}
OURS, THEIRS = ("gffnet-1x1", "gffnet-3x3", "pspnet"), ("smp", "smp-dilated")
ENCODERS = {"r18": "resnet18", "r101": "resnet101"}
USUAL = ("* plain float32 channels-first eager", "* executed bfloat16 *-last eager", "smp* bfloat16 *-last eager")


class Setup(NamedTuple):
    """What is trained, and how."""

    network: str
    form: str
    dtype: str
    layout: str
    mode: str

    def __str__(self) -> str:
        return " ".join(self)

    @property
    def reference(self) -> "Setup":
        """The same network as a textbook has it."""
        return Setup(self.network, "plain", "float32", "channels-first", "eager")


class Ours(nn.Module):
    """A network of gffnet with its auxiliary head: images in grey levels and labels → the loss."""

    def __init__(self, name: str, backbone: str) -> None:
        super().__init__()
        kind, _, kernel = name.partition("-")
        recipe = load_recipe(f"cityscapes/{kind}_{backbone}").model.without_weights()
        if kernel:
            recipe = dataclasses.replace(recipe, pyramid_kernel=int(kernel[0]))
        self.network = build_network(recipe, CLASSES)
        self.auxiliary = AuxiliaryHead(self.network.backbone.channels[2], CLASSES)

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        """The main loss and 0.4 of the auxiliary one."""
        maps, context = self.network.features(image)
        main = self.network.decode(self.network.reduce(maps, context, size_of(image)))
        auxiliary = self.auxiliary(maps[2], size_of(image))
        return mean_loss(main, labels) + AUXILIARY_WEIGHT * mean_loss(auxiliary, labels)


class Theirs(nn.Module):
    """segmentation_models_pytorch's PSPNet: normalised images and labels → the loss."""

    def __init__(self, name: str, backbone: str) -> None:
        super().__init__()
        depth = {"encoder_depth": 5} if name == "smp-dilated" else {}
        self.network = smp.PSPNet(ENCODERS[backbone], encoder_weights=None, classes=CLASSES, **depth)
        if depth:
            self.network.encoder.make_dilated(8)

    def forward(self, image: Tensor, labels: Tensor) -> Tensor:
        """The loss."""
        return F.cross_entropy(self.network(image).float(), labels, ignore_index=IGNORE)


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in float32. Channels-last logits are rows of classes, over which a softmax need not copy them."""
    if logits.is_contiguous(memory_format=torch.channels_last):
        logits, labels = logits.permute(0, 2, 3, 1).flatten(0, 2), labels.flatten()
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORE)


def setups(patterns: Sequence[str]) -> list[Setup]:
    """Those that match any of `patterns`, each after its reference."""
    modes = product(("float32", "bfloat16"), LAYOUTS, ("eager", "compiled"))
    forms = [*product(OURS, ("plain", "executed")), *product(THEIRS, ("plain",))]
    every = [Setup(*form, *mode) for form, mode in product(forms, modes)]
    chosen = [setup for setup in every if any(fnmatch(str(setup), pattern) for pattern in patterns)]
    if not chosen:
        raise UserError(f"--only {' '.join(patterns)} matches no setup. There are: {', '.join(map(str, every))}.")
    return list(dict.fromkeys(s for setup in chosen for s in (setup.reference, setup)))


@cache
def trainee(name: str, backbone: str, layout: str, device: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A network with random weights and its optimiser, shared by the setups that run it differently."""
    torch.manual_seed(0)
    with torch.device(device):
        module = (Ours if name in OURS else Theirs)(name, backbone)
    module = module.to(memory_format=LAYOUTS[layout]).train()
    return module, torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)


def batch_of(name: str, layout: str, shape: tuple[int, int, int], device: str) -> tuple[Tensor, Tensor]:
    """Random images, eight bits for ours and normalised for theirs, and labels of `shape`."""
    labels = torch.randint(0, CLASSES, shape, device=device)
    image = torch.randint(0, 256, (shape[0], 3, *shape[1:]), dtype=torch.uint8, device=device)
    return (image if name in OURS else (image - 127.5) / 58).contiguous(memory_format=LAYOUTS[layout]), labels


def iteration(setup: Setup, backbone: str, shape: tuple[int, int, int], device: str) -> Callable[[], None]:
    """A call that trains `setup` for one iteration on images of `shape`: how many, height, width."""
    module, optimizer = trainee(setup.network, backbone, setup.layout, device)
    image, labels = batch_of(setup.network, setup.layout, shape, device)
    loss = torch.compile(module, dynamic=False) if setup.mode == "compiled" else module

    def call() -> None:
        use_reference(module, setup.form == "plain")
        with torch.autocast(device, torch.bfloat16, enabled=setup.dtype == "bfloat16"):
            value = loss(image, labels)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        wait(value)

    return call


def wait(result: Tensor) -> None:
    """Until its device is done."""
    if result.is_cuda:
        torch.cuda.synchronize()


@cache
def flops(name: str, form: str, backbone: str, size: tuple[int, int]) -> tuple[int, int]:
    """MACs of the network's forward pass and FLOPs of a whole iteration, of one image; counted without memory."""
    module, _ = trainee(name, backbone, "channels-last", "meta")
    use_reference(module, form == "plain")
    image, labels = batch_of(name, "channels-last", (2, *size), "meta")  # two: a value a channel is not normalised
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.network(image)
    macs = counter.get_total_flops() // 4
    with FlopCounterMode(display=False) as counter:
        module(image, labels).backward()
    return macs, counter.get_total_flops() // 2


def product_of(dtype: str, side: int, device: str) -> Callable[[], None]:
    """A call that multiplies two square matrices."""
    a, b = (torch.randn(side, side, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    return lambda: wait(torch.mm(a, b))


def measure(
    backbone: str, chosen: list[Setup], shape: tuple[int, int, int], runs: int, device: str
) -> tuple[list[str], dict[str, float]]:
    """The table of one backbone as lines of Markdown, and FLOPs a second of a matrix product by dtype."""
    side = 8192 if device == "cuda" else 2048
    calls = {str(setup): iteration(setup, backbone, shape, device) for setup in chosen}
    products = {dtype: product_of(dtype, side, device) for dtype in ("float32", "bfloat16")}
    seconds = interleaved(calls | products, runs, warm_up=3 if device == "cuda" else 1)
    peak = {dtype: 2 * side**3 / min(seconds[dtype]) for dtype in products}
    columns = "network, form, format, layout, run, GMAC forward, GFLOP iteration, images/s, of plain float32"
    lines = [f"| {' | '.join(columns.split(', '))} | of our PSPNet | of peak |", f"|{'---|' * 11}"]
    ours = seconds.get("pspnet executed bfloat16 channels-last eager")
    for setup in chosen:
        own = seconds[str(setup)]
        macs, whole = flops(setup.network, setup.form, backbone, shape[1:])
        speed = timing([shape[0] / t for t in own])
        faster = ratios(seconds[str(setup.reference)], own)
        than_ours = spread(ratios(ours, own), 2) if ours else "—"
        lines.append(
            f"| {' | '.join(setup)} | {macs / 1e9:.1f} | {whole / 1e9:.1f} | {spread(speed, 3)} | {spread(faster, 2)} "
            f"| {than_ours} | {speed.median * whole / peak[setup.dtype]:.0%} |"
        )
    return lines, peak


def main() -> None:
    """Measure every backbone, print a table each, and keep them if asked."""
    parser = make_parser(__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--size", type=size, help="512x512, on a GPU 864x864")
    add_count(parser, "--batch", None, help="1, on a GPU 4")
    parser.add_argument("--backbones", nargs="+", default=["r18", "r101"], choices=list(ENCODERS))
    add_count(parser, "--runs", 5)
    parser.add_argument("--only", nargs="+", metavar="PATTERN", help="setups to measure")
    parser.add_argument("--keep-pages", action="store_true", help="have the allocator keep what is freed")
    add_out(parser)
    options = parser.parse_args()
    chosen = setups(options.only or USUAL)
    if options.keep_pages:
        keep_pages()
    gpu = pick_device(options.device).type == "cuda"
    shape = (options.batch or (4 if gpu else 1), *(options.size or ((864, 864) if gpu else (512, 512))))
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    report = Report(options.out)
    report.add(
        f"{machine('segmentation-models-pytorch')}, {torch.cuda.get_device_name() if gpu else 'CPU'}, "
        f"{shape[1]}x{shape[2]}, batch {shape[0]}, {options.runs} runs{', pages kept' * options.keep_pages}"
    )
    for backbone in options.backbones:
        table, peak = measure(backbone, chosen, shape, options.runs, options.device)
        trainee.cache_clear()
        of = ", ".join(f"{dtype} {value / 1e9:.0f}" for dtype, value in peak.items())
        of += f", ratio {peak['bfloat16'] / peak['float32']:.1f}"
        report.add("", f"**{backbone}**; matrix product, GFLOP/s: {of}", "", *table)


if __name__ == "__main__":
    run(main)

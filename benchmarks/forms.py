"""The reference and the efficient implementation of every operation that has both, on the maps of real networks.

    python benchmarks/forms.py [--backbones resnet18 tf_efficientnet_lite0] [--channels 48 128 256]
                               [--sizes 128x256 256x512] [--dtypes float32 bfloat16] [--runs 3] [--whole] [--out FILE]

A GFFNet of each backbone, with an output stride of 8 for ResNets (strides 4 8 8 8) and else 32 (4 8 16 32), sees an
image of each size; what its operations take in is kept, and they run on it again by themselves: forward without
gradients, or with the backward pass, in both implementations by turns. Operations of a kind count together. The
pyramid's kernel is 1x1 and 3x3 in turn. With `--whole`, whole networks are timed instead, folded for the forward pass
and with four images for the backward pass, all operations of a kind in one implementation. Values are the efficient
time over that of the reference: above 1, the reference is faster.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

import gffnet
from gffnet.cli.arguments import size
from gffnet.inference.precision import keep_pages
from gffnet.models.ops import ConcatConv2d, EquivalentForms
from harness import Report, add_count, add_out, interleaved, machine, make_parser, run

Call = tuple[EquivalentForms, tuple[Any, ...]]


def kind(module: EquivalentForms) -> str:
    """The name of an operation, with its kernel."""
    kernel = f" {module.kernel_size[0]}x{module.kernel_size[0]}" if isinstance(module, ConcatConv2d) else ""
    return type(module).__name__ + kernel


def network_of(backbone: str, channels: int, kernel: int) -> gffnet.GFFNet:
    """A GFFNet with random weights, channels-last."""
    stride = 8 if backbone.startswith("resnet") else 32
    torch.manual_seed(0)
    network = gffnet.GFFNet(backbone, 11, channels=channels, output_stride=stride, pyramid_kernel=kernel)
    return network.to(memory_format=torch.channels_last)


def operations(backbone: str, channels: int, kernel: int, of: tuple[int, int]) -> dict[str, list[Call]]:
    """The operations of a network by kind, with what they take in for an image of a size."""
    network = network_of(backbone, channels, kernel).eval()
    calls: dict[str, list[Call]] = defaultdict(list)
    for module in network.modules():
        if isinstance(module, EquivalentForms):
            module.register_forward_pre_hook(lambda m, inputs: calls[kind(m)].append((m, inputs)))
    with torch.no_grad():
        network(torch.randint(256, (1, 3, *of), dtype=torch.uint8).contiguous(memory_format=torch.channels_last))
    return calls


def repeated(calls: list[Call], dtype: torch.dtype, training: bool, reference: bool) -> Callable[[], None]:
    """A call of all these operations in one implementation; in training under autocast, else in the dtype."""
    ready = []
    for module, inputs in calls:
        module.to(torch.float32 if training else dtype)

        def prepare(x: Tensor) -> Tensor:
            x = x.detach().to(dtype)
            return x.requires_grad_() if training else x

        ready.append((module, tree_map_only(Tensor, prepare, inputs)))

    def call() -> None:
        for module, inputs in ready:
            module.reference = reference
            with (
                torch.set_grad_enabled(training),
                torch.autocast("cpu", dtype, enabled=training and dtype != torch.float32),
            ):
                outputs = [x for x in tree_leaves(module(*inputs)) if isinstance(x, Tensor)]
            if training:
                torch.autograd.backward(outputs, [torch.ones_like(x) for x in outputs])
                for leaf in [*tree_leaves(inputs), *module.parameters()]:
                    if isinstance(leaf, Tensor | nn.Parameter):
                        leaf.grad = None

    return call


def ratio(calls: list[Call], dtype: torch.dtype, training: bool, runs: int) -> float:
    """Time of the efficient implementation over that of the reference, both the least."""
    forms = {name: repeated(calls, dtype, training, name == "reference") for name in ("reference", "efficient")}
    seconds = interleaved(forms, runs, warm_up=1)
    return min(seconds["efficient"]) / min(seconds["reference"])


def network_ratios(
    backbone: str, channels: int, kernel: int, of: tuple[int, int], dtype: torch.dtype, runs: int
) -> dict[str, float]:
    """The ratios of a whole network for every kind of operation in it, by kind and step."""
    found = {}
    for training in (False, True):
        network = network_of(backbone, channels, kernel)
        network = network.train() if training else network.fold().to(dtype)
        images = torch.randint(256, (4 if training else 1, 3, *of), dtype=torch.uint8)
        images = images.contiguous(memory_format=torch.channels_last)
        parts = [m for m in network.modules() if isinstance(m, EquivalentForms)]

        def call(
            reference: str,
            network: nn.Module = network,
            images: Tensor = images,
            parts: list[EquivalentForms] = parts,
            training: bool = training,
        ) -> None:
            for part in parts:
                part.reference = kind(part) == reference
            with (
                torch.inference_mode(not training),
                torch.autocast("cpu", dtype, enabled=training and dtype != torch.float32),
            ):
                logits = network(images).logits
            if training:
                logits.float().square().mean().backward()
                network.zero_grad()

        kinds = sorted({kind(part) for part in parts})
        seconds = interleaved({name: partial(call, name) for name in ("none", *kinds)}, runs, warm_up=1)
        step = "with backward" if training else "forward"
        found |= {f"{name}, {step}": min(seconds["none"]) / min(seconds[name]) for name in kinds}
    return found


def row(
    backbone: str, channels: int, of: tuple[int, int], dtype: torch.dtype, runs: int, whole: bool
) -> dict[str, float]:
    """All ratios of one network, by kind and step."""
    if whole:
        one, three = (network_ratios(backbone, channels, kernel, of, dtype, runs) for kernel in (1, 3))
        return three | one
    calls = operations(backbone, channels, 3, of) | operations(backbone, channels, 1, of)
    return {
        f"{name}, {step}": ratio(found, dtype, step != "forward", runs)
        for name, found in calls.items()
        for step in ("forward", "with backward")
    }


def main() -> None:
    """Measure, and print a table."""
    parser = make_parser(__doc__)
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "tf_efficientnet_lite0"])
    add_count(parser, "--channels", [48, 128, 256])
    parser.add_argument("--sizes", nargs="+", type=size, default=[(128, 256), (256, 512)])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    add_count(parser, "--runs", 3)
    parser.add_argument("--whole", action="store_true", help="time whole networks")
    add_out(parser)
    options = parser.parse_args()
    keep_pages()
    kinds = ("LevelSum", "ConcatConv2d 1x1", "ConcatConv2d 3x3", "PooledConv2d", "PyramidPooling")
    columns = [f"{name}, {step}" for name in kinds for step in ("forward", "with backward")]
    report = Report(options.out)
    report.add(f"{machine()}, {options.runs} runs", "")
    report.add(f"| backbone | channels | image | dtype | {' | '.join(columns)} |", f"|{'---|' * (4 + len(columns))}")
    for backbone in options.backbones:
        for channels in options.channels:
            for of in options.sizes:
                for dtype in options.dtypes:
                    ratios = row(backbone, channels, of, getattr(torch, dtype), options.runs, options.whole)
                    shown = " | ".join(f"{ratios[column]:.2f}" for column in columns)
                    report.add(f"| {backbone} | {channels} | {of[0]}x{of[1]} | {dtype} | {shown} |")


if __name__ == "__main__":
    run(main)

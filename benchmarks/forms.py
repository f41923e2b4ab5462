"""The reference and the efficient implementation of every operation that has both, on the maps of real networks.

    python benchmarks/forms.py [--backbones resnet18 tf_efficientnet_lite0] [--channels 48 128 256]
                               [--sizes 128x256 256x512] [--dtypes float32 bfloat16] [--runs 3] [--out FILE]

A GFFNet of each backbone, with an output stride of 8 for ResNets (strides 4 8 8 8) and else 32 (4 8 16 32), sees an
image of each size; what its operations take in is kept, and they run on it again by themselves: forward without
gradients, or with the backward pass, in both implementations by turns. Operations of a kind count together. The
pyramid's kernel is 1x1 and 3x3 in turn. Values are the efficient time over that of the reference: above 1, the
reference is faster.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

import gffnet
from gffnet.cli.arguments import size
from gffnet.inference.precision import keep_pages
from gffnet.models.ops import ConcatConv2d, EquivalentForms
from harness import interleaved, machine, report

Call = tuple[EquivalentForms, tuple[Any, ...]]


def kind(module: EquivalentForms) -> str:
    """The name of an operation, with its kernel."""
    kernel = f" {module.kernel_size[0]}x{module.kernel_size[0]}" if isinstance(module, ConcatConv2d) else ""
    return type(module).__name__ + kernel


def operations(backbone: str, channels: int, kernel: int, of: tuple[int, int]) -> dict[str, list[Call]]:
    """The operations of a network by kind, with what they take in for an image of a size."""
    stride = 8 if backbone.startswith("resnet") else 32
    torch.manual_seed(0)
    network = gffnet.GFFNet(backbone, 11, channels=channels, output_stride=stride, pyramid_kernel=kernel)
    network = network.eval().to(memory_format=torch.channels_last)
    calls: dict[str, list[Call]] = defaultdict(list)
    for module in network.modules():
        if isinstance(module, EquivalentForms):
            module.register_forward_pre_hook(lambda m, inputs: calls[kind(m)].append((m, inputs)))
    with torch.no_grad():
        network(torch.randint(256, (1, 3, *of), dtype=torch.uint8).contiguous(memory_format=torch.channels_last))
    return calls


def run(calls: list[Call], dtype: torch.dtype, training: bool, reference: bool) -> Callable[[], None]:
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
    forms = {name: run(calls, dtype, training, name == "reference") for name in ("reference", "efficient")}
    seconds = interleaved(forms, runs, warm_up=1)
    return min(seconds["efficient"]) / min(seconds["reference"])


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "tf_efficientnet_lite0"])
    parser.add_argument("--channels", nargs="+", type=int, default=[48, 128, 256])
    parser.add_argument("--sizes", nargs="+", type=size, default=[(128, 256), (256, 512)])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    keep_pages()
    kinds = ("LevelSum", "ConcatConv2d 1x1", "ConcatConv2d 3x3", "PooledConv2d", "PyramidPooling")
    columns = [f"{name}, {step}" for name in kinds for step in ("forward", "with backward")]
    lines = [f"{machine()}, {options.runs} runs", ""]
    lines += [f"| backbone | channels | image | dtype | {' | '.join(columns)} |", f"|{'---|' * (4 + len(columns))}"]
    print("\n".join(lines), flush=True)
    for backbone in options.backbones:
        for channels in options.channels:
            for of in options.sizes:
                one, three = (operations(backbone, channels, kernel, of) for kernel in (1, 3))
                calls = {**one, "ConcatConv2d 3x3": three["ConcatConv2d 3x3"]}
                for dtype in options.dtypes:
                    measure = partial(ratio, dtype=getattr(torch, dtype), runs=options.runs)
                    ratios = [
                        f"{measure(calls[name], training=training):.2f}" for name in kinds for training in (False, True)
                    ]
                    lines.append(f"| {backbone} | {channels} | {of[0]}x{of[1]} | {dtype} | {' | '.join(ratios)} |")
                    print(lines[-1], flush=True)
    if options.out:
        report(lines, options.out)


if __name__ == "__main__":
    main()

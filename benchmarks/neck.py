"""Gated Fully Fusion as the feature pyramid of a detector, beside torchvision's FPN of the same width.

    python benchmarks/neck.py [--size 512x512] [--channels 64 128] [--runs 15] [--out FILE]

Both get the maps C2..C5 of a ResNet-50 (random, channels-last, float32) and return four maps of `channels`. Counted are
parameters and multiply-accumulates; timed are one forward pass in inference mode, as it is and with batch normalisation
folded (which the FPN has none of), and one forward and backward pass in training. The clock is the CPU time of one
thread (`time.process_time`), which other processes hardly change.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import FeaturePyramidNetwork

from gffnet import GatedFullyFusion
from gffnet.cli.arguments import size
from gffnet.errors import UserError
from gffnet.models.folding import fold_norms
from harness import add_count, add_out, interleaved, machine, make_parser, one_core, ratios, report, run, spread, timing

IN_CHANNELS = (256, 512, 1024, 2048)
STRIDES = (4, 8, 16, 32)


class FPN(nn.Module):
    """torchvision's FPN, from maps to maps as lists."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fpn = FeaturePyramidNetwork(list(IN_CHANNELS), channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """`X_1..X_4` → four maps."""
        fused: dict[str, Tensor] = self.fpn({str(level): x for level, x in enumerate(maps)})
        return list(fused.values())


def necks(channels: int) -> dict[str, nn.Module]:
    """Return what is compared, the FPN first."""
    return {
        "torchvision FPN": FPN(channels),
        "GFF, two 3x3 (the paper)": GatedFullyFusion(IN_CHANNELS, channels),
        "GFF, one 3x3": GatedFullyFusion(IN_CHANNELS, channels, refinement=1),
        "GFF, two separable 3x3": GatedFullyFusion(IN_CHANNELS, channels, separable=True),
        "GFF, one separable 3x3": GatedFullyFusion(IN_CHANNELS, channels, refinement=1, separable=True),
        "GFF, no 3x3": GatedFullyFusion(IN_CHANNELS, channels, refinement=0),
    }


def macs(neck: nn.Module, maps: list[Tensor]) -> int:
    """Multiply-accumulates of one forward pass."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        neck(maps)
    return counter.get_total_flops() // 2


def train(neck: nn.Module, maps: list[Tensor]) -> None:
    """One forward and backward pass."""
    neck.zero_grad()
    torch.stack([x.sum() for x in neck(maps)]).sum().backward()


def main() -> None:
    """Measure every width; print one table each."""
    parser = make_parser(__doc__)
    parser.add_argument("--size", type=size, default=(512, 512))
    add_count(parser, "--channels", [64, 128])
    add_count(parser, "--runs", 15)
    add_out(parser)
    arguments = parser.parse_args()
    if min(arguments.size) < STRIDES[-1]:
        raise UserError("--size {}x{} must be 32x32 or more, the stride of the last map.".format(*arguments.size))
    one_core()
    height, width = arguments.size
    lines = [f"{machine('torchvision')}, {height}x{width}, {arguments.runs} runs, CPU time"]
    for channels in arguments.channels:
        lines += ["", f"**{channels} channels**", "", *table(channels, (height, width), arguments.runs)]
    report(lines, arguments.out)


def table(channels: int, image: tuple[int, int], runs: int) -> list[str]:
    """The table of one width, as lines of Markdown."""
    maps = [
        torch.randn(1, c, image[0] // s, image[1] // s).relu().contiguous(memory_format=torch.channels_last)
        for c, s in zip(IN_CHANNELS, STRIDES, strict=True)
    ]
    training = {name: neck.to(memory_format=torch.channels_last).train() for name, neck in necks(channels).items()}
    plain = {name: neck.to(memory_format=torch.channels_last).eval() for name, neck in necks(channels).items()}
    folded = {name: neck.to(memory_format=torch.channels_last).eval() for name, neck in necks(channels).items()}
    for neck in folded.values():
        fold_norms(neck, maps)
    with torch.inference_mode():
        forward = interleaved(_calls(plain, maps), runs, clock=time.process_time)
        forward_folded = interleaved(_calls(folded, maps), runs, clock=time.process_time)
    step = interleaved(
        {name: partial(train, neck, maps) for name, neck in training.items()}, runs, clock=time.process_time
    )
    lines = [
        "| neck | parameters (M) | GMAC | inference ms | of FPN | folded ms | of FPN | training ms | of FPN |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    first = next(iter(plain))
    for name, neck in plain.items():
        cells = [f"{sum(p.numel() for p in neck.parameters()) / 1e6:.2f}", f"{macs(neck, maps) / 1e9:.2f}"]
        for seconds in (forward, forward_folded, step):
            t = timing(seconds[name])
            cells += [f"{1e3 * t.median:.0f}", spread(ratios(seconds[name], seconds[first]), 2)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _calls(necks: dict[str, nn.Module], maps: list[Tensor]) -> dict[str, Callable[[], object]]:
    return {name: partial(neck, maps) for name, neck in necks.items()}


if __name__ == "__main__":
    run(main)

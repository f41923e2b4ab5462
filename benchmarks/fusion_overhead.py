"""What GFF and DFP cost on top of a PSPNet: wall time of one forward pass, and where the extra goes.

    python benchmarks/fusion_overhead.py [--size 512x512] [--backbones r18 r101] [--runs 7] [--out FILE]

Four networks take turns: PSPNet and PSPNet + GFF + DFP, each written out plainly and as executed here. "plain
PSPNet" is the baseline of the first ratio: the same modules in their plain form, same dtype, memory format and
threads. Weights are random; batch normalisation is not folded; eager mode.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gffnet.cli.arguments import size
from gffnet.models.gffnet import SegmentationModel, build_network
from gffnet.models.ops import use_reference
from gffnet.recipe import load_recipe
from harness import Timing, interleaved, machine, ratios, timing

CLASSES = 19
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """Measure every backbone and dtype, print a table each, and keep it if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=size, default=(512, 512))
    parser.add_argument("--backbones", nargs="+", default=["r18", "r101"], choices=["r18", "r101"])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = [f"{machine()}, {arguments.size[0]}x{arguments.size[1]}, {arguments.runs} runs", ""]
    for backbone in arguments.backbones:
        for name, dtype in DTYPES.items():
            lines += measure(backbone, name, dtype, arguments.size, arguments.runs)
            print("\n".join(lines), flush=True)
            if arguments.out:
                arguments.out.write_text("\n".join(lines) + "\n")
            lines = [*lines, ""] if arguments.out else []


@torch.inference_mode()
def measure(backbone: str, name: str, dtype: torch.dtype, size: tuple[int, int], runs: int) -> list[str]:
    """The table of one backbone and dtype, as lines of Markdown."""
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    networks = {kind: network(f"cityscapes/{kind}_{backbone}", dtype) for kind in ("pspnet", "gffnet")}
    calls = {
        f"{kind} {form}": partial(forward, networks[kind], image, form == "plain")
        for form in ("plain", "executed")
        for kind in networks
    }
    seconds = interleaved(calls, runs)
    lines = [
        f"**{backbone}, {name}**",
        "",
        "| network | form | ms | range | of plain PSPNet | of our PSPNet |",
        "|---|---|---|---|---|---|",
    ]
    for call, values in seconds.items():
        t = timing(values)
        of_plain, of_ours = (ratios(values, seconds[f"pspnet {form}"]) for form in ("plain", "executed"))
        lines.append(
            f"| {' | '.join(call.split())} | {1e3 * t.median:.0f} | {1e3 * t.low:.0f}-{1e3 * t.high:.0f} "
            f"| {_spread(of_plain)} | {_spread(of_ours)} |"
        )
    return [*lines, "", *parts(networks["gffnet"], image, runs)]


def _spread(ratio: Timing) -> str:
    return f"{ratio.median:.3f} ({ratio.low:.3f}-{ratio.high:.3f})"


def parts(net: SegmentationModel, image: Tensor, runs: int) -> list[str]:
    """Where the time of GFF + DFP goes, part by part, plain and as executed."""
    calls = {}
    for form in ("plain", "executed"):
        calls |= {f"{part} {form}": call for part, call in _part_calls(net, image, form == "plain").items()}
    seconds = {name: timing(values) for name, values in interleaved(calls, runs).items()}
    lines = ["| part of GFFNet | plain ms | executed ms |", "|---|---|---|"]
    for part in _part_calls(net, image, False):
        lines.append(
            f"| {part} | {1e3 * seconds[part + ' plain'].median:.1f} | {1e3 * seconds[part + ' executed'].median:.1f} |"
        )
    return lines


def _part_calls(net: SegmentationModel, image: Tensor, plain: bool) -> dict[str, Callable[[], object]]:
    """Calls that run one part each, on inputs made beforehand."""
    assert net.fusion is not None
    assert net.pyramid is not None
    size = (image.shape[-2], image.shape[-1])
    maps, y0 = net.features(image)
    reduced, gates = net.fusion.reduce(maps), net.fusion.gates(maps)
    mixed = net.fusion.mix(reduced, gates)
    fused = net.fusion.fuse(reduced, gates)
    ys = net.pyramid(y0, fused)

    def timed(call: Callable[[], object]) -> object:
        use_reference(net, plain)
        return call()

    calls: dict[str, Callable[[], object]] = {
        "normalize, backbone": lambda: net.backbone(net.normalize(image)),
        "context": lambda: net.context(maps[-1]),
        "reduce and gates": lambda: net.reduce(maps, y0, size),
        "mix, Eq. (5)": lambda: net.fusion.mix(reduced, gates),
        "refine, eight 3x3": lambda: [refine(x) for refine, x in zip(net.fusion.refinements, mixed, strict=True)],
        "dense pyramid, Eq. (6)": lambda: net.pyramid(y0, fused),
        "head": lambda: net.head(ys, size),
    }
    return {name: partial(timed, call) for name, call in calls.items()}


def network(recipe: str, dtype: torch.dtype) -> SegmentationModel:
    """The recipe's network with random weights, ready to run."""
    bare = load_recipe(recipe).model.without_weights()
    return build_network(bare, CLASSES).eval().to(dtype=dtype, memory_format=torch.channels_last)


def forward(net: SegmentationModel, image: Tensor, plain: bool) -> Tensor:
    """One forward pass in the form asked for."""
    use_reference(net, plain)
    out: Tensor = net(image).logits
    return out


if __name__ == "__main__":
    main()

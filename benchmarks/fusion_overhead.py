"""The cost of GFF and DFP on top of a PSPNet: wall time of one forward pass, and of its parts.

    python benchmarks/fusion_overhead.py [--size 512x512] [--backbones r18 r101] [--runs 7] [--out FILE]

Four networks run interleaved: PSPNet and PSPNet + GFF + DFP, each in its reference and its efficient implementation
(`gffnet.models.ops`), with the same dtype, memory format and threads. The first ratio is to the reference PSPNet, the
second to the efficient one. Weights are random; batch normalisation is not folded; eager mode.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from gffnet.cli.arguments import size
from gffnet.models.gffnet import SegmentationModel, build_network
from gffnet.models.ops import use_reference
from gffnet.recipe import load_recipe
from harness import Report, add_count, add_out, interleaved, machine, make_parser, ratios, run, spread, timing

CLASSES = 19
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def main() -> None:
    """Measure every backbone and dtype; print one table each, and write them if asked."""
    parser = make_parser(__doc__)
    parser.add_argument("--size", type=size, default=(512, 512))
    parser.add_argument("--backbones", nargs="+", default=["r18", "r101"], choices=["r18", "r101"])
    add_count(parser, "--runs", 7)
    add_out(parser)
    arguments = parser.parse_args()
    report = Report(arguments.out)
    report.add(f"{machine()}, {arguments.size[0]}x{arguments.size[1]}, {arguments.runs} runs")
    for backbone in arguments.backbones:
        for name, dtype in DTYPES.items():
            report.add("", *measure(backbone, name, dtype, arguments.size, arguments.runs))


@torch.inference_mode()
def measure(backbone: str, name: str, dtype: torch.dtype, size: tuple[int, int], runs: int) -> list[str]:
    """The table of one backbone and dtype, as lines of Markdown."""
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    networks = {kind: network(f"cityscapes/{kind}_{backbone}", dtype) for kind in ("pspnet", "gffnet")}
    calls = {
        f"{kind} {form}": partial(forward, networks[kind], image, form == "reference")
        for form in ("reference", "efficient")
        for kind in networks
    }
    seconds = interleaved(calls, runs)
    lines = [
        f"**{backbone}, {name}**",
        "",
        "| network | implementation | ms | range | of reference PSPNet | of efficient PSPNet |",
        "|---|---|---|---|---|---|",
    ]
    for call, values in seconds.items():
        t = timing(values)
        of_reference, of_efficient = (ratios(values, seconds[f"pspnet {form}"]) for form in ("reference", "efficient"))
        lines.append(
            f"| {' | '.join(call.split())} | {1e3 * t.median:.0f} | {1e3 * t.low:.0f}-{1e3 * t.high:.0f} "
            f"| {spread(of_reference, 3)} | {spread(of_efficient, 3)} |"
        )
    return [*lines, "", *parts(networks["gffnet"], image, runs)]


def parts(net: SegmentationModel, image: Tensor, runs: int) -> list[str]:
    """Measure every part of GFF + DFP, reference and efficient."""
    calls = {}
    for form in ("reference", "efficient"):
        calls |= {f"{part} {form}": call for part, call in _part_calls(net, image, form == "reference").items()}
    seconds = {name: timing(values) for name, values in interleaved(calls, runs).items()}
    lines = ["| part of GFFNet | reference ms | efficient ms |", "|---|---|---|"]
    for part in _part_calls(net, image, False):
        lines.append(
            f"| {part} | {1e3 * seconds[part + ' reference'].median:.1f} "
            f"| {1e3 * seconds[part + ' efficient'].median:.1f} |"
        )
    return lines


def _part_calls(net: SegmentationModel, image: Tensor, reference: bool) -> dict[str, Callable[[], object]]:
    """Return calls that run one part each, on inputs computed beforehand."""
    assert net.fusion is not None
    assert net.pyramid is not None
    size = (image.shape[-2], image.shape[-1])
    maps, y0 = net.features(image)
    reduced, gates = net.fusion.reduce(maps), net.fusion.gates(maps)
    mixed = net.fusion.mix(reduced, gates)
    fused = net.fusion.fuse(reduced, gates)
    ys = net.pyramid(y0, fused)

    def timed(call: Callable[[], object]) -> object:
        use_reference(net, reference)
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
    """Build the network of a recipe with random weights."""
    bare = load_recipe(recipe).model.without_weights()
    return build_network(bare, CLASSES).eval().to(dtype=dtype, memory_format=torch.channels_last)


def forward(net: SegmentationModel, image: Tensor, reference: bool) -> Tensor:
    """Run one forward pass."""
    use_reference(net, reference)
    out: Tensor = net(image).logits
    return out


if __name__ == "__main__":
    run(main)

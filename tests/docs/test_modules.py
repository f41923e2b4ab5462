"""The page docs/modules.md: its blocks run, and its numbers are true."""

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.segmentation import fcn_resnet50
from torchvision.ops import FeaturePyramidNetwork

from gffnet import GatedFullyFusion
from tests.docs.pages import blocks, read_page

PAGE = read_page("modules.md")
SECTIONS = {part.splitlines()[0].removeprefix("# "): part for part in PAGE.split("\n## ")}
WITH_CODE = [title for title, part in SECTIONS.items() if "```python" in part]


DETECTOR = "As the feature pyramid of a detector"
RGBD = "Color and depth: the maps of two backbones"


def run(title: str) -> dict:
    """Run the blocks of a section one after the other; what they leave defined."""
    names: dict = {"__name__": "docs.modules"}
    for block in blocks(SECTIONS[title], "python"):
        exec(compile(block, f"docs/modules.md, {title}", "exec"), names)
    return names


def section_on(library: str) -> str:
    """The title of the one section that plugs into `library`."""
    (title,) = (title for title in WITH_CODE if library in title)
    return title


@pytest.mark.parametrize("title", WITH_CODE)
def test_the_blocks_run_and_print_what_they_say(title, capsys):
    run(title)
    said = [re.findall(r"\(.*\)", line.split("  # ")[1]) for line in SECTIONS[title].splitlines() if "print(" in line]
    printed = re.findall(r"\([\d, ]+\)", capsys.readouterr().out)
    assert printed == [shape for line in said for group in line for shape in re.findall(r"\([\d, ]+\)", group)]


@pytest.mark.parametrize("library", ["torchvision", "segmentation_models_pytorch"])
def test_training_reaches_every_parameter_of_the_plugged_networks(library):
    network = run(section_on(library))["network"]
    logits = network(torch.randn(2, 3, 64, 96))
    (logits * torch.randn_like(logits)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_training_reaches_every_parameter_of_the_detector_s_neck():
    names = run(DETECTOR)
    sum(names["losses"].values()).backward()
    assert set(names["losses"]) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    fusion = names["detector"].backbone.fusion
    assert [name for name, p in fusion.named_parameters() if p.grad is None or not p.grad.any()] == []
    with torch.no_grad():
        (found,) = names["detector"].eval()([torch.rand(3, 128, 160)])
    assert found["boxes"].shape[1:] == (4,)


def test_color_and_depth_both_reach_the_logits():
    names = run(RGBD)
    color, depth = names["color"].requires_grad_(), names["depth"].requires_grad_()
    logits = names["network"](color, depth)
    (logits * torch.randn_like(logits)).sum().backward()
    assert color.grad.any()
    assert depth.grad.any()
    # timm starts the last normalisation of a residual block at zero, so its convolutions learn from the second step on.
    own = [(name, p) for name, p in names["network"].named_parameters() if name.split(".")[0] not in ("color", "depth")]
    assert [name for name, p in own if p.grad is None or not p.grad.any()] == []


def test_the_costs_of_necks_in_the_table():
    """Parameters and multiply-accumulates; a separable neck has fewer of either than torchvision's FPN."""
    in_channels = (256, 512, 1024, 2048)
    rows = [row for row in SECTIONS[DETECTOR].splitlines() if row.startswith(("| torchvision FPN", "| GFF,"))]
    necks = {
        "torchvision FPN": lambda c: FeaturePyramidNetwork(list(in_channels), c),
        "GFF, two 3x3 (the paper)": lambda c: GatedFullyFusion(in_channels, c),
        "GFF, one 3x3": lambda c: GatedFullyFusion(in_channels, c, refinement=1),
        "GFF, one separable 3x3": lambda c: GatedFullyFusion(in_channels, c, refinement=1, separable=True),
    }
    counted = []
    for channels in (64, 128):
        for name, build in necks.items():
            with torch.device("meta"):
                neck = build(channels).eval()
                maps = [torch.zeros(1, c, 512 // s, 512 // s) for c, s in zip(in_channels, (4, 8, 16, 32), strict=True)]
                with FlopCounterMode(display=False) as counter, torch.no_grad():
                    neck(dict(enumerate(maps)) if name == "torchvision FPN" else maps)
            parameters = sum(p.numel() for p in neck.parameters())
            counted.append([name, str(channels), f"{parameters / 1e6:.2f}", f"{counter.get_total_flops() / 2e9:.2f}"])
    assert [[cell.strip() for cell in row.split("|")[1:5]] for row in rows] == counted
    for fpn, separable in ((0, 3), (4, 7)):
        assert all(float(counted[separable][i]) < float(counted[fpn][i]) for i in (2, 3))


def test_a_closed_gate_changes_every_level():
    names = run("Gated Fully Fusion")
    for before, after in zip(names["fused"], names["without_first"], strict=True):
        assert not torch.allclose(before, after)


def test_the_costs_in_the_table():
    section = section_on("torchvision")
    gated = run(section)["GatedFCN"]
    with torch.device("meta"):
        networks = [
            fcn_resnet50(weights=None, weights_backbone=None, num_classes=19),
            gated(num_classes=19),
            gated(num_classes=19, channels=128),
        ]
        rows = []
        for network in networks:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                network.eval()(torch.zeros(1, 3, 512, 512))
            parameters = sum(p.numel() for p in network.parameters())
            rows.append((f"{parameters / 1e6:.2f}", f"{counter.get_total_flops() / 2e9:.1f}"))
    assert re.findall(r"\| ([\d.]+) \| ([\d.]+) \|", SECTIONS[section]) == rows

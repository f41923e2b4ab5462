"""The page docs/scaling.md: its numbers are those of the cost model."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from gffnet.inference.sliding_window import axes
from gffnet.models.gffnet import build_network
from gffnet.recipe import EvaluationRecipe, load_recipe
from gffnet.reports.cost import count_macs
from gffnet.training.dry_run import plan

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The cells below the first row of the table whose first heading this is."""
    lines = PAGE[PAGE.index(f"\n| {heading} |") :].strip().split("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


@cache
def planned(recipe: str, devices: int) -> dict[str, Any]:
    return plan(load_recipe(recipe), 1.0, devices).to_mapping()


@pytest.mark.slow
@pytest.mark.parametrize("row", table("recipe"), ids=lambda row: row[0])
def test_what_a_run_takes(row: list[str]) -> None:
    recipe, size, operations, run, *gigabytes = row
    alone, shared = planned(recipe, 1), planned(recipe, 8)
    flops = alone["flops"]
    assert size == f"{alone['iterations']:,} x {alone['batch']}, {alone['crop'][0]}x{alone['crop'][1]}"
    assert operations == f"{flops['image_forward'] / 1e12:.2f} + {flops['image_backward'] / 1e12:.2f}"
    assert run == f"{flops['run'] / 1e15:.0f}"
    taken = (alone["memory"]["needed"], shared["memory"]["needed"], alone["disk"]["most"])
    assert gigabytes == [f"{amount / 1e9:.1f}" for amount in taken]


def test_hours() -> None:
    """3684 PFLOP, as the table above says, spread evenly."""
    (operations,) = (float(row[3]) * 1e15 for row in table("recipe") if row[0] == "cityscapes/gffnet_r101")
    for sustained, images, *hours in table("TFLOP/s that a device sustains"):
        speed = float(sustained) * 1e12
        assert images == f"{speed * 800_000 / operations:.1f}"
        assert hours == [f"{operations / (speed * n) / 3600:.1f} h" for n in (1, 2, 4, 8)]


def test_cores_that_feed_a_gpu() -> None:
    for _, rate, slow, fast, _ in table("read from"):
        assert (slow, fast) == (f"{21.7 / float(rate):.1f}", f"{62 / float(rate):.1f}")


def passes_over(size: tuple[int, int], protocol: EvaluationRecipe) -> int:
    count = 0
    for scale in protocol.scales:
        rows, columns = axes((round(size[0] * scale), round(size[1] * scale)), protocol)
        count += len(rows.starts) * len(columns.starts) * (1 + protocol.flip)
    return count


HOW = {
    "whole": EvaluationRecipe(),
    "windows of 864x864": EvaluationRecipe(crop=(864, 864)),
    "the same, five scales and mirror images": EvaluationRecipe(
        crop=(864, 864), scales=(0.75, 1.0, 1.25, 1.5, 1.75), flip=True
    ),
}


@cache
def network(recipe: str) -> torch.nn.Module:
    with torch.device("meta"):
        return build_network(load_recipe(recipe).model.without_weights(), 19).eval()


@cache
def pass_flops(recipe: str, size: tuple[int, int]) -> int:
    return 2 * count_macs(network(recipe), torch.empty(1, 3, *size, device="meta"))


@pytest.mark.parametrize("row", table("model"), ids=lambda row: f"{row[0]}, {row[1]}, {row[2]}")
def test_what_a_million_images_take(row: list[str]) -> None:
    recipe, shape, how, passes, operations, hours = row
    height, width = map(int, shape.split("x"))
    protocol = HOW[how]
    assert int(passes) == passes_over((height, width), protocol)
    flops = int(passes) * pass_flops(recipe, protocol.crop or (height, width))
    assert operations == f"{flops / 1e12:.2f}"
    assert hours == f"{1e6 * flops / 100e12 / 3600:.1f}"

"""Computing costs in docs/training.md and docs/predict.md are those that the networks count."""

from functools import cache

import pytest

from gffnet.inference.sliding_window import axes
from gffnet.recipe import EvaluationRecipe, load_recipe
from gffnet.reports.cost import costs
from tests.docs.pages import read_page

SUSTAINED = 100e12
"""FLOP/s, as the pages say."""


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading."""
    text = read_page(page)
    lines = text[text.index(f"\n| {heading} |") :].strip().split("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


@cache
def forward_flops(recipe: str, size: tuple[int, int]) -> int:
    return costs([("", load_recipe(recipe))], size)[0]["executed_flops"]


@pytest.mark.parametrize("row", table("training.md", "recipe"), ids=lambda row: row[0])
def test_training(row: list[str]) -> None:
    name, size, forward, run, hours = row
    training = load_recipe(name).training
    assert size == f"{training.iterations:,} x {training.batch}, {training.crop[0]}x{training.crop[1]}"
    flops = forward_flops(name, training.crop)
    total = 3 * flops * training.iterations * training.batch
    assert forward == f"{flops / 1e12:.2f}"
    assert run == f"{total / 1e15:.0f}"
    assert hours == f"{total / SUSTAINED / 3600:.1f}"


PROTOCOLS = {
    "whole": EvaluationRecipe(),
    "windows of 864x864": EvaluationRecipe(crop=(864, 864)),
    "windows, five scales, flip": EvaluationRecipe(crop=(864, 864), scales=(0.75, 1.0, 1.25, 1.5, 1.75), flip=True),
}


def passes_over(size: tuple[int, int], protocol: EvaluationRecipe) -> int:
    count = 0
    for scale in protocol.scales:
        rows, columns = axes((round(size[0] * scale), round(size[1] * scale)), protocol)
        count += len(rows.starts) * len(columns.starts) * (1 + protocol.flip)
    return count


@pytest.mark.parametrize("row", table("predict.md", "model"), ids=lambda row: f"{row[0]}, {row[1]}, {row[2]}")
def test_prediction(row: list[str]) -> None:
    recipe, shape, how, passes, operations, hours = row
    height, width = map(int, shape.split("x"))
    protocol = PROTOCOLS[how]
    assert int(passes) == passes_over((height, width), protocol)
    flops = int(passes) * forward_flops(recipe, protocol.crop or (height, width))
    assert operations == f"{flops / 1e12:.2f}"
    assert hours == f"{1e6 * flops / SUSTAINED / 3600:.1f}"


def test_the_cost_of_a_million_images() -> None:
    """By the formula and the figures of the page: r = 6.5 images a second, L = 1375, 30 seconds, 1 an hour."""
    rows = table("cluster.md", "actors")
    assert [row[0] for row in rows] == ["1", "3", "10", "30", "100", "300", "1000"]
    for actors, an_hour, hours, actor_hours, cost, bound in rows:
        seconds = 30 + 1e6 / min(6.5 * int(actors), 1375)
        assert an_hour == f"{3600e6 / seconds:,.0f}"
        assert hours == f"{seconds / 3600:.2f}"
        assert actor_hours.replace(",", "") == cost.replace(",", "") == f"{int(actors) * seconds / 3600:.0f}"
        assert bound == ("the network" if 6.5 * int(actors) < 1375 else "listing and driver")

"""The tables of docs/export.md are true; its block is run in tests/export."""

import re

import pytest

from gffnet.export.export import TOLERANCES, smallest_side
from gffnet.recipe import ModelRecipe
from tests.docs.pages import read_page
from tests.export.networks import network

PAGE = read_page("export.md")


def test_the_tolerances() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) %[^|]*\| ([\d.]+) \|$", PAGE, flags=re.MULTILINE)
    told = {name: (float(agreement) / 100, float(difference)) for name, agreement, difference in rows}
    assert told == {name: pytest.approx(tuple(tolerance)) for name, tolerance in TOLERANCES.items()}


@pytest.mark.parametrize(("stride", "least"), [(8, 16), (16, 32), (32, 64)])
def test_the_smallest_images(stride: int, least: int) -> None:
    assert f"{least} pixels at an output stride of {stride}" in " ".join(PAGE.split()) or f"{least} at {stride}" in PAGE
    assert smallest_side(network(ModelRecipe(context="none"), (4, 8, min(16, stride), stride))) == least

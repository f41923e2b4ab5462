"""Counts against the paper, hand arithmetic, and every recipe there is."""

import pytest
import torch
from torch import nn

from gffnet.recipe import load_recipe, recipe_names
from gffnet.reports.cost import costs, count_macs

NETWORKS = {repr(load_recipe(name).model.without_weights()): name for name in recipe_names()}
"""A recipe of each network that recipes have; classes aside, they share many."""
TABLE_3 = ["cityscapes/pspnet_r101", "cityscapes/pspnet_r101_gff", "cityscapes/gffnet_r101"]


def test_macs_of_a_convolution_and_a_product_by_hand() -> None:
    with torch.device("meta"):
        conv = nn.Conv2d(5, 7, 3, padding=1)
        image = torch.empty(1, 5, 11, 13)
        linear = nn.Linear(6, 4, bias=False)
        rows = torch.empty(9, 6)
    assert count_macs(conv, image) == 11 * 13 * 7 * 5 * 9
    assert count_macs(linear, rows) == 9 * 6 * 4


def test_pspnet_is_the_papers() -> None:
    recipe = load_recipe(TABLE_3[0])
    at_512 = costs([("", recipe)], (512, 512))[0]
    assert round(at_512["params"] / 1e6, 2) == 65.58
    assert int(at_512["macs"] / 1e8) / 10 == 254.6
    assert costs([("", recipe)], (768, 768))[0]["macs"] / 1e9 == pytest.approx(572.9, rel=1e-3)
    assert at_512["flops"] == 2 * at_512["macs"]


def test_table_3_as_the_text_has_it() -> None:
    psp, gff, both = costs([(name, load_recipe(name)) for name in TABLE_3], (512, 512))
    assert psp["params_increase_percent"] == psp["macs_increase_percent"] == 0
    assert both["params_increase_percent"] == pytest.approx(10.3, abs=0.05)
    assert both["macs_increase_percent"] == pytest.approx(18.6, abs=0.05)
    assert both["executed_macs_increase_percent"] <= 3
    assert gff["executed_macs"] < both["executed_macs"] < both["macs"]
    assert both["executed_macs_increase_percent"] == pytest.approx(100 * (both["executed_macs"] / psp["macs"] - 1))
    # By hand, at stride 8 there are 64 x 64 positions, at stride 4 four times as many: the blocks of H_1..H_4, y_0's
    # reduction and the wider classifier.
    low, high = 64 * 64, 128 * 128
    dfp = 65536 * (9 * low + 5 * high)
    assert both["macs"] - gff["macs"] == dfp


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS.values())
def test_every_network_of_a_recipe_builds_and_costs(name: str) -> None:
    counted = costs([("", load_recipe(name))], (256, 256))[0]  # no map smaller than the grids of pyramid pooling
    assert counted["params"] > 1e6
    assert 0 < counted["executed_macs"] <= counted["macs"]

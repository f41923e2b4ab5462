"""The paper's rows, and which scores may stand beside them."""

import re
from typing import Any

import pytest

from gffnet.data.catalog import CITYSCAPES
from gffnet.evaluation.paper import PaperRow, match, paper_rows
from gffnet.evaluation.protocol import plain
from gffnet.recipe import RECIPES, load_recipe, recipe_names

MULTI = [0.75, 1.0, 1.25, 1.5, 1.75]


def protocol(recipe: str, **other: Any) -> dict[str, Any]:
    """The record of scores that were measured as the recipe says."""
    of = load_recipe(recipe)
    record = {**plain(of.evaluation), "dataset": of.data.name, "split": of.data.val_split, "recipe": recipe}
    return {**record, **other}


def printed(recipe: str) -> list[str]:
    """The paper's figures in the header of a recipe."""
    lines = (RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8").splitlines()
    found = [re.match(r"# paper (.+) \| ours ", line) for line in lines]
    return [line[1] for line in found if line and line[1] != "—"]


def shown(row: PaperRow) -> str:
    """The scores of a row as headers print them."""
    return f"{row.miou} / {row.pixel_accuracy}" if row.pixel_accuracy else str(row.miou)


@pytest.mark.parametrize("recipe", recipe_names())
def test_the_rows_are_those_of_the_headers(recipe: str) -> None:
    assert [shown(row) for row in paper_rows() if row.recipe == recipe] == printed(recipe)


@pytest.mark.parametrize("row", paper_rows(), ids=lambda row: row.where)
def test_a_row_stands_beside_its_recipe_scored_as_its_table_says(row: PaperRow) -> None:
    scales = {} if row.scales is None else {"scales": list(row.scales)}
    found = match(protocol(row.recipe, split=row.split, **scales))
    assert found.row is row
    assert found.remark.startswith("Table")
    assert ("does not say" in found.remark) == (row.scales is None)


def test_the_classes_of_table_7() -> None:
    (row,) = [row for row in paper_rows() if row.per_class]
    assert tuple(row.per_class) == CITYSCAPES.names
    assert sum(row.per_class.values()) / 19 == pytest.approx(row.miou, abs=0.05)


def test_single_and_multi_scale_are_two_rows() -> None:
    one, many = (match(protocol("cityscapes/gffnet_r101", scales=scales)).row for scales in ([1.0], MULTI))
    assert one is not None
    assert many is not None
    assert (one.miou, many.miou) == (81.2, 81.8)
    assert one.where == "Tables 2 and 3, PSPNet + GFF + DFP"
    assert match(protocol("cityscapes/pspnet_r101")).remark == "Tables 1, 2 and 3, PSPNet"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "streets"}, "it is of cityscapes"),
        ({"split": "train"}, "it is of val"),
        ({"scales": [1.0, 2.0]}, "its scales are 1"),
        ({"flip": True}, "mirrored"),
        ({"crop": None}, "its window is 864x864"),
        ({"crop": [512, 512], "overlap": 0.5}, "its window is 864x864, its windows overlap by one third"),
    ],
)
def test_another_protocol_has_no_row(changes: dict[str, Any], said: str) -> None:
    found = match(protocol("cityscapes/pspnet_r18", **changes))
    assert found.row is None
    assert found.remark.startswith("the paper's row (Table 4, PSPNet ResNet18) was measured otherwise: it")
    assert said in found.remark


def test_the_finished_network_on_val_is_not_the_row_of_test() -> None:
    assert "it is of test" in match(protocol("cityscapes/gffnet_r101_trainval")).remark


def test_a_recipe_that_the_paper_does_not_have() -> None:
    assert match(protocol("camvid/gffnet_r18")).remark == "the paper has no row for camvid/gffnet_r18"
    assert match({}).row is None

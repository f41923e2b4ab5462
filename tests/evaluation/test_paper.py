"""The paper's rows, and which scores may stand beside them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gffnet.data.cityscapes import CITYSCAPES
from gffnet.evaluation.evaluate import plain
from gffnet.evaluation.paper import PaperRow, match, paper_rows, paper_tables
from gffnet.recipe import RECIPES, load_recipe, recipe_names

MULTI = [0.75, 1.0, 1.25, 1.5, 1.75]
PRINTED = Path(__file__).parents[3] / "shared" / "paper" / "tables.yaml"


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
        ({"flip": True}, "without horizontal flip"),
        ({"crop": None}, "its window is 864x864"),
        ({"crop": [512, 512], "overlap": 0.5}, "its window is 864x864, its windows overlap by one third"),
    ],
)
def test_another_protocol_has_no_row(changes: dict[str, Any], said: str) -> None:
    found = match(protocol("cityscapes/pspnet_r18", **changes))
    assert found.row is None
    assert found.remark.startswith("the paper's row (Table 4, PSPNet ResNet18) was measured otherwise: it")
    assert said in found.remark


def test_a_part_of_the_split_is_told() -> None:
    of = protocol("cityscapes/pspnet_r18")
    assert match(of, 500).remark == match(of).remark == "Table 4, PSPNet ResNet18"
    assert match(of, 1).remark == "Table 4, PSPNet ResNet18; ours is of 1 image, not the 500 of val"
    trainval = PaperRow("ade20k/pspnet_r50", (6,), "PSPNet", 40.0, split="train+val")
    assert trainval.part(20210 + 2000) == ""
    assert trainval.part(2000) == "of 2000 images, not the 22210 of train+val"
    assert PaperRow("mine/net", (1,), "mine", 40.0).part(7) == ""


def test_the_finished_network_on_val_is_not_the_row_of_test() -> None:
    assert "it is of test" in match(protocol("cityscapes/gffnet_r101_trainval")).remark


def test_a_recipe_that_the_paper_does_not_have() -> None:
    assert match(protocol("camvid/gffnet_r18")).remark == "the paper has no row for camvid/gffnet_r18"
    assert match({}).row is None


def scores(number: int) -> list[tuple[str, str, dict[str, float]]]:
    """What a table of ours holds: method, group, scores."""
    (table,) = [table for table in paper_tables() if table.number == number]
    return [(row.method, row.group, dict(row.scores)) for row in table.rows]


@pytest.mark.skipif(not PRINTED.is_file(), reason=f"the list of what the paper prints is not at {PRINTED}")
def test_every_number_is_printed_so_in_the_paper() -> None:
    paper = yaml.safe_load(PRINTED.read_text())
    of = {int(re.findall(r"[0-9]+", name)[0]): table for name, table in paper.items() if name.startswith("table")}
    for number in (1, 2, 4, 8, 9):
        names = [(name.removesuffix(" (published)"), "", {"miou": miou}) for name, miou in of[number].items()]
        assert scores(number) == names
    params = {"params_m": "params"}
    table3 = {name: {params.get(key, key): value for key, value in row.items()} for name, row in of[3].items()}
    assert {name: row for name, _, row in scores(3)} == table3
    groups = {"train_fine_only": "fine train set only", "train_fine_and_val_fine": "fine train and val set"}
    rows = [(name, groups[group], {"miou": miou}) for group, part in of[5].items() for name, miou in part.items()]
    assert scores(5) == rows
    pairs = {name: (row["miou"], row.get("pixel_accuracy")) for name, _, row in scores(6)}
    assert pairs == {name: tuple(row) for name, row in of[6].items()}
    classes = of[7].pop("classes")
    (table7,) = [table for table in paper_tables() if table.number == 7]
    for row, (method, values) in zip(table7.rows, of[7].items(), strict=True):
        assert (row.method, list(row.per_class), list(row.per_class.values())) == (method, classes, values)


def test_what_is_printed_more_than_once_is_the_same_everywhere() -> None:
    for table in paper_tables():
        for line in table.rows:
            if line.row is not None:
                assert table.number in line.row.tables
                assert line.scores["miou"] == line.row.miou
                assert line.scores.get("pixel_accuracy") == line.row.pixel_accuracy


def test_means_of_table_7_are_those_printed() -> None:
    (table,) = [table for table in paper_tables() if table.number == 7]
    for line in table.rows:
        assert sum(line.per_class.values()) / 19 == pytest.approx(line.scores["miou"], abs=0.06)


def test_the_nearest_row_is_told_also_where_it_does_not_fit() -> None:
    fits, not_quite = match(protocol("cityscapes/pspnet_r18")), match(protocol("cityscapes/pspnet_r18", flip=True))
    assert fits.nearest is fits.row is not_quite.nearest
    assert not_quite.row is None
    assert match(protocol("camvid/gffnet_r18")).nearest is None

"""Scores as tables."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gffnet.evaluation.evaluate import evaluate
from gffnet.evaluation.results import Table, all_tables, summary, title_of, write_tables
from gffnet.metrics.scoring import Scoring
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.evaluation.test_paper import protocol

NAMES = ("road", "a|b <i>", "car")


def scores(recipe: str = "camvid/gffnet_r18", details: bool = True, **other: Any) -> dict[str, Any]:
    """Of one image without a car."""
    counts = Scoring(3, details=details)
    labels = np.zeros((20, 30), np.uint8)
    labels[:, 12:] = 1
    counts.update(labels, np.roll(labels, 2, axis=1))
    record = {**protocol(recipe), "absent": "left out", **other}
    return {**counts.report(NAMES), "images": 1, "images_per_second": 1.0, "protocol": record}


def table(of: dict[str, Any], title: str) -> Table:
    (found,) = [table for table in all_tables(of) if title in table.title]
    return found


def test_every_table_has_its_numbers() -> None:
    of = scores()
    assert title_of(of) == "camvid/gffnet_r18 on camvid val, 1 image"
    rows = {row[0]: row[1:] for row in table(of, "By class").rows}
    assert list(rows) == list(NAMES)
    assert rows["car"] == ["—", "—", "—"]
    assert rows["road"][0] == f"{100 * of['per_class']['road']:.1f}"
    assert rows["road"][2] == f"{100 * of['boundary_f']['3']['per_class']['road']:.1f}"
    assert [row[0] for row in table(of, "by width").rows] == ["1 px", "3 px", "5 px", "9 px"]
    bands = table(of, "By distance").rows
    assert [bands[0][0], bands[-1][0]] == ["0 to 2 px", "above 32 px"]
    assert sum(int(row[3]) for row in bands) == 600
    assert table(of, "By size").rows[0][0] == "small: 0 to 1,024 px"
    assert dict(table(of, "Protocol").rows)["crop"] == "none: the whole image at once"  # type: ignore[arg-type]
    assert all(len(row) == len(one.headings) for one in all_tables(of) for row in one.rows)


def test_absent_classes_are_named_with_what_becomes_of_them() -> None:
    assert table(scores(), "By class").note == (
        "Neither labelled nor predicted anywhere: car. Such classes are left out of the means."
    )
    assert "count as 0" in table(scores(absent="zero"), "By class").note


def test_without_details_there_are_no_tables_of_them() -> None:
    of = scores(details=False)
    assert [one.title.split(",")[0] for one in all_tables(of)] == ["Scores", "By class", "Protocol"]
    assert table(of, "By class").headings == ["class", "IoU", "accuracy"]


def test_nothing_was_labelled() -> None:
    of = scores()
    nothing = Scoring(3)
    nothing.update(np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8))
    of |= nothing.report(NAMES)
    assert summary(of).rows[0] == ["ours", "—", "—", "—", "—"]
    assert all_tables(of)


@pytest.mark.parametrize(
    ("recipe", "row", "remark"),
    [
        ("cityscapes/gffnet_r101", ["81.2", "—"], "Paper: Tables 2 and 3, PSPNet + GFF + DFP."),
        ("cityscapes/pspnet_r18", ["73.0", "—"], "Paper: Table 4, PSPNet ResNet18."),
        ("ade20k/gffnet_r101", ["45.33", "82.01"], "Paper: Table 6, GFFNet ResNet101; the paper does not say"),
        ("streets/demo", ["—", "—"], "No figure of the paper stands beside ours: the paper has no row for"),
    ],
)
def test_the_paper_stands_beside_ours_where_it_may(recipe: str, row: list[str], remark: str) -> None:
    found = summary(scores(recipe))
    assert found.rows[1][:3] == ["paper", *row]
    assert found.note.startswith(remark)
    assert found.note.endswith(".")


def test_the_papers_classes_stand_beside_ours() -> None:
    of = scores("cityscapes/gffnet_r101_trainval", split="test")
    found = table(of, "By class")
    assert found.headings[-1] == "IoU in the paper"
    assert [row[-1] for row in found.rows] == ["98.7", "—", "96.5"]


class Page(HTMLParser):
    """Its elements, every one of them closed, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_in_itself_and_accessible(tmp_path: Path) -> None:
    write_tables(tmp_path / "new", scores())
    text = (tmp_path / "new/scores.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.elements}
    assert not any({"src", "href", "onclick"} & attributes.keys() for _, attributes in page.elements)
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    headers = [attributes for tag, attributes in page.elements if tag == "th"]
    assert {attributes["scope"] for attributes in headers} == {"col", "row"}
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    named = {attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes}
    assert named == set(identities)
    assert len(identities) == len(set(identities)) == 6
    assert "a|b <i>" in page.text
    assert re.search(r'style="--part:\d+\.\d%"', text)


def test_the_markdown_has_its_columns(tmp_path: Path) -> None:
    write_tables(tmp_path, scores())
    text = (tmp_path / "scores.md").read_text(encoding="utf-8")
    assert text.startswith("# camvid/gffnet\\_r18 on camvid val, 1 image\n\n## Scores\n\n| percent | mIoU |")
    assert r"| a\|b \<i> |" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_scores_as_evaluate_returns_them(tmp_path: Path) -> None:
    from gffnet.data.datasets import open_dataset
    from tests.data.trees import camvid_tree

    val = open_dataset("camvid", camvid_tree(tmp_path), "val")
    write_tables(tmp_path, evaluate(tiny.predictor(), val, "camvid", "val", EvaluationRecipe((32, 48))))
    assert "| crop | 32 x 48 pixels |" in (tmp_path / "scores.md").read_text(encoding="utf-8")

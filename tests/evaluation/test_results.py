"""The files of an evaluation: written, read again, and set as tables."""

import csv
import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from gffnet.errors import UserError
from gffnet.evaluation.results import (
    ImageScore,
    Result,
    Table,
    all_tables,
    markdown,
    read_confusion,
    read_images,
    read_result,
    score_image,
    summary,
    title_of,
    write_confusion,
    write_images,
    write_result,
    write_scores,
    write_tables,
)
from gffnet.metrics.scores import ScoreAccumulator, Scores
from tests.evaluation.test_paper import protocol
from tests.html_page import Page

NAMES = ("road", "a|b <i>", "car")


def scores(recipe: str = "camvid/gffnet_r18", details: bool = True, **other: Any) -> Scores:
    """Of one image without a car."""
    accumulator = ScoreAccumulator(3, details=details)
    labels = np.zeros((20, 30), np.uint8)
    labels[:, 12:] = 1
    accumulator.update(labels, np.roll(labels, 2, axis=1))
    record = {**protocol(recipe), "absent": "left out", **other}
    return dataclasses.replace(accumulator.compute(NAMES), images=1, images_per_second=1.0, protocol=record)


# The folder


def result() -> Result:
    """Of the image that `scores` is of, and one without labels."""
    labels = np.zeros((20, 30), np.uint8)
    labels[:, 12:] = 1
    predicted = np.roll(labels, 2, axis=1)
    unlabelled = score_image(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8), 3)
    confusion = np.array([[(predicted[labels == i] == j).sum() for j in range(4)] for i in range(3)], np.int64)
    return Result(scores(), [("a, b", score_image(labels, predicted, 3)), ("void", unlabelled)], confusion)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    whole = result()
    write_result(tmp_path / "out", whole)
    names = {"scores.json", "scores.md", "scores.html", "images.csv", "confusion.csv"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    read = read_result(tmp_path / "out")
    assert read.scores == whole.scores
    assert json.loads((tmp_path / "out/scores.json").read_text()) == whole.scores.to_json()
    assert str(read.images) == str(whole.images), "also that a score is not a number"
    assert read.confusion is not None
    assert np.array_equal(read.confusion, whole.confusion)
    assert (tmp_path / "out/confusion.csv").read_text().splitlines()[0].split(",")[1] == NAMES[0]
    alone = read_result(tmp_path / "out/scores.json")
    assert (alone.scores, alone.images, alone.confusion) == (read.scores, [], None)


def test_an_older_evaluation_has_scores_alone(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.json", scores())
    read = read_result(tmp_path)
    assert (read.images, read.confusion) == ([], None)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"protocol": {}, "per_class": {}, "miou": 0}'])
def test_what_holds_no_scores_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    with pytest.raises(UserError, match="does not exist"):
        read_result(tmp_path)
    path.write_text(text)
    with pytest.raises(UserError, match=f"{path} does not hold scores"):
        read_result(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("miou", "high", "miou is 'high': "),
        ("per_class", {"road": "x"}, "per_class.road is 'x': "),
        ("iou_by_distance", [{"from": 1, "to": 2}], "iou_by_distance.0.miou is missing"),
        ("protocol", {"dataset": "camvid", "split": "val"}, "recipe is missing"),
        ("protocol", {"dataset": 3, "split": "val", "recipe": "mine"}, "dataset is 3: "),
        ("protocol", {"dataset": "camvid", "split": "val", "recipe": "mine", "crop": "wide"}, "crop"),
    ],
)
def test_a_damaged_key_is_named(key: str, value: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(scores().to_json() | {key: value}))
    with pytest.raises(UserError, match=re.escape(f"{path}")) as caught:
        read_result(tmp_path)
    assert said in str(caught.value)


# Scores of images


def test_an_image_is_scored_over_the_classes_that_its_labels_hold() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 2, 3, 255], (30, 40)).astype(np.uint8)
    predicted = rng.integers(0, 5, labels.shape, dtype=np.uint8)
    score = score_image(labels, predicted, 5)
    known = labels < 5
    wanted = jaccard_score(labels[known], predicted[known], labels=[0, 2, 3], average="macro")
    assert score == (known.sum(), (labels == predicted)[known].sum(), pytest.approx(wanted))


def test_an_image_without_a_label_has_no_score(tmp_path: Path) -> None:
    unlabelled = score_image(np.full((2, 3), 255, np.uint8), np.zeros((2, 3), np.uint8), 4)
    assert unlabelled[:2] == (0, 0)
    assert math.isnan(unlabelled.miou)
    write_images(tmp_path / "new/images.csv", [("a, b", ImageScore(4, 3, 0.5)), ("c", unlabelled)])
    with (tmp_path / "new/images.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["name", "pixels", "pixel_accuracy", "miou"], ["a, b", "4", "0.75", "0.5"], ["c", "0", "", ""]]


def test_scores_are_read_as_they_were_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 10**9, 50)
    rows = [("void", ImageScore(0, 0, math.nan))]
    rows += [
        (f'"{i}",', ImageScore(int(n), int(rng.integers(0, n + 1)), float(rng.random()))) for i, n in enumerate(sizes)
    ]
    write_images(tmp_path / "images.csv", rows)
    read = read_images(tmp_path / "images.csv")
    assert read[1:] == rows[1:]
    assert (read[0][0], read[0][1][:2], math.isnan(read[0][1].miou)) == ("void", (0, 0), True)


@pytest.mark.parametrize("text", ["name,pixels\na,3\n", "name,pixels,pixel_accuracy,miou\na,three,1,1\n"])
def test_a_file_without_scores_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text(text)
    with pytest.raises(UserError, match=r"images.csv holds no scores of images"):
        read_images(tmp_path / "images.csv")


# The confusion matrix


CLASSES = ('a, "b"', "no class", "c\nd")
COUNTS = np.array([[2**60, 0, 3, 4], [5, 6, 7, 0], [0, 0, 0, 1]], np.int64)


def test_it_is_read_as_it_was_written_to_the_last_pixel(tmp_path: Path) -> None:
    path = tmp_path / "new/confusion.csv"
    write_confusion(path, CLASSES, COUNTS)
    assert np.array_equal(read_confusion(path), COUNTS)
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["label", *CLASSES, "no class"]
    assert [row[0] for row in rows[1:]] == list(CLASSES)
    assert rows[1][1] == str(2**60)


@pytest.mark.parametrize(
    "text",
    ["", "label,a,no class\n", "label,a,no class\na,1\n", "label,a,no class\na,1,x\n", "label,a,no class\nb,1,2\n"],
)
def test_what_is_no_matrix_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "confusion.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=f"{path} is no confusion matrix"):
        read_confusion(path)


# Tables


def table(of: Scores, title: str) -> Table:
    (found,) = [table for table in all_tables(of) if title in table.title]
    return found


def test_every_table_has_its_numbers() -> None:
    of = scores()
    assert title_of(of) == "camvid/gffnet_r18 on camvid val, 1 image"
    rows = {row[0]: row[1:] for row in table(of, "By class").rows}
    assert list(rows) == list(NAMES)
    assert rows["car"] == ["—", "—", "—"]
    assert rows["road"][0] == f"{100 * of.per_class['road']:.1f}"
    assert rows["road"][2] == f"{100 * of.boundary_f['3'].per_class['road']:.1f}"
    assert [row[0] for row in table(of, "by tolerance").rows] == ["1 px", "3 px", "5 px", "9 px"]
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
    nothing = ScoreAccumulator(3)
    nothing.update(np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8))
    of = dataclasses.replace(nothing.compute(NAMES), images=1, protocol=scores().protocol)
    assert summary(of).rows[0] == ["ours", "—", "—", "—", "—"]
    assert all_tables(of)


@pytest.mark.parametrize(
    ("recipe", "row", "remark"),
    [
        ("cityscapes/gffnet_r101", ["81.2", "—"], "Paper: Tables 2 and 3, PSPNet + GFF + DFP"),
        ("cityscapes/pspnet_r18", ["73.0", "—"], "Paper: Table 4, PSPNet ResNet18; ours is of 1 image"),
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


def test_the_page_is_whole_in_itself_and_accessible(tmp_path: Path) -> None:
    write_tables(tmp_path / "new", scores())
    text = (tmp_path / "new/scores.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in page.tags}
    assert not any({"src", "href", "onclick"} & attributes.keys() for _, attributes in page.tags)
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    headers = page.all("th")
    assert {attributes["scope"] for attributes in headers} == {"col", "row"}
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    named = {attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes}
    assert named == set(identities)
    assert len(identities) == len(set(identities)) == 6
    assert "a|b <i>" in page.text
    assert re.search(r'style="--part:\d+\.\d%"', text)


def test_markdown_has_its_columns_and_no_markup_of_names(tmp_path: Path) -> None:
    write_tables(tmp_path, scores())
    text = (tmp_path / "scores.md").read_text(encoding="utf-8")
    assert text.startswith("# camvid/gffnet\\_r18 on camvid val, 1 image\n\n## Scores\n\n| percent ")
    assert re.search(r"^\| a\\\|b \\<i> +\|", text, flags=re.MULTILINE)
    assert re.search(r"^\| crop +\| none: the whole image at once +\|$", text, flags=re.MULTILINE)
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_cells_of_a_table_stay_as_they_are() -> None:
    """Numbers are not set anew, and a table may be empty."""
    text = markdown("x", [Table("one", ["a", "b"], [["1e3", "007.50"], ["", "-0"]]), Table("none", ["a", "b"], [])])
    assert re.sub(" +", " ", text).splitlines()[4:8] == [
        "| a | b |",
        "|:----|-------:|",
        "| 1e3 | 007.50 |",
        "| | -0 |",
    ]
    assert "## none\n\n| a | b |\n" in re.sub(" +", " ", text)

"""What follows the report on data of one's own."""

import shlex
from pathlib import Path

import pytest

from gffnet.cli.main import make_parser
from gffnet.data.check.findings import Place
from gffnet.data.check.next_step import next_step, rare_classes
from gffnet.data.check.report import Report
from gffnet.data.check.statistics import Statistics
from gffnet.recipe import load_recipe

TRAIN = "train on it: gffnet train folder/gffnet_r18 --root 'my data'"


def report(
    pixels: tuple[int, ...], dataset: str = "folder", findings: tuple[str, ...] = (), splits: str = "train val"
) -> Report:
    """Of splits with so many pixels of each class."""
    names = tuple("abcdefgh"[: len(pixels)])
    images = tuple(int(count > 0) for count in pixels)
    numbers = Statistics(1, None, None, 1, names, pixels, images, 0, {})
    found = [Place(Path()).finding(code, "", "") for code in findings]
    return Report(dataset, Path("my data"), dict.fromkeys(splits.split(), numbers), found, 1.0, 4)


def test_sound_data_are_to_be_trained_on() -> None:
    assert next_step(report((50, 50))) == [TRAIN]
    assert next_step(report((50, 50), findings=("grey-image", "class-absent"))) == [TRAIN]


def test_rare_classes_are_to_be_shown_more_often() -> None:
    """Of four classes an even share is 25 %, a tenth of it 2.5 %."""
    few = report((6000, 3500, 260, 240))
    assert rare_classes(few) == {"d": 0.024}
    rare, train = next_step(few)
    assert rare.startswith("rare: d 2.4 % of the labelled pixels; training.class_balance=0.5 has half of the crops")
    assert train == f"{TRAIN} --set training.class_balance=0.5"
    assert rare_classes(report((6000, 3500, 250, 0))) == {}  # what never occurs cannot be shown


def test_the_command_is_one() -> None:
    command = next_step(report((6000, 3500, 260, 240)))[-1].removeprefix("train on it: gffnet ")
    arguments = make_parser().parse_args(shlex.split(command))
    assert arguments.root == Path("my data")
    assert load_recipe(arguments.recipe, arguments.set).training.class_balance == 0.5


@pytest.mark.parametrize(
    "other",
    [report((5, 5), findings=("label-missing",)), report((5, 5), "camvid"), report((5, 5), splits="train")],
    ids=["errors", "a release", "one split"],
)
def test_else_nothing_is_said(other: Report) -> None:
    assert next_step(other) == []

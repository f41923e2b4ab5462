"""Which images a report shows, and what of them."""

import math
from pathlib import Path

import numpy as np
import pytest

from gffnet.data.datasets import open_dataset
from gffnet.evaluation.results import ImageScore
from gffnet.recipe import EvaluationRecipe
from gffnet.reports.report import (
    Choice,
    Example,
    choose,
    example_content,
    image_chart,
    make_example,
    seen_classes,
    spread,
)
from tests import tiny
from tests.data.trees import camvid_tree

NOT_SCORED = ImageScore(0, 0, math.nan)
PALETTE = ((10, 20, 30), (40, 50, 60))


def images(scores: list[float]) -> list[tuple[str, ImageScore]]:
    return [(f"image {i}", ImageScore(10, 5, score)) for i, score in enumerate(scores)]


def test_the_worst_and_the_best_are_chosen_and_some_between() -> None:
    scores = [0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6, 0.55, 0.05, 0.95]
    chosen = choose([*images(scores), ("void", NOT_SCORED)], 8)
    ranked = sorted(range(12), key=lambda i: scores[i])
    places = [choice.place for choice in chosen]
    assert places[:3] == ranked[:3]
    assert places[-3:] == ranked[-3:]
    assert all(ranked.index(place) in range(3, 9) for place in places[3:5])
    assert [choice.why for choice in chosen][:3] == ["worst of 12", "second worst of 12", "third worst of 12"]
    assert [choice.why for choice in chosen][-2:] == ["second best of 12", "best of 12"]
    assert chosen[3].why == f"typical: number {ranked.index(places[3]) + 1} of 12"
    assert [choice.miou for choice in chosen] == sorted(scores[place] for place in places)


@pytest.mark.parametrize("count", range(12))
def test_any_number_can_be_chosen(count: int) -> None:
    scores = np.random.default_rng(0).random(9).tolist()
    chosen = choose(images(scores), count)
    places = [choice.place for choice in chosen]
    assert len(places) == len(set(places)) == min(count, 9)
    assert [choice.miou for choice in chosen] == sorted(scores[place] for place in places)
    assert len(spread(9, count)) == min(count, 9)
    assert len({choice.place for choice in spread(9, count)}) == min(count, 9)


def test_places_beyond_the_third_are_numbers() -> None:
    whys = [choice.why for choice in choose(images(np.arange(60).tolist()), 60)]
    assert whys[20] == "number 21 from the worst, of 60"
    assert whys[-4] == "number 4 from the best, of 60"


def test_images_spread_from_the_first_to_the_last() -> None:
    assert [choice.place for choice in spread(40, 4)] == [0, 13, 26, 39]
    assert choose([("void", NOT_SCORED)], 3) == []


def test_images_from_the_worst_to_the_best() -> None:
    chart = image_chart([*images([0.75, 0.25]), ("void", NOT_SCORED)])
    assert chart is not None
    assert "up to 2: mean IoU from 25 to 75" in chart.description


@pytest.mark.parametrize("protocol", [EvaluationRecipe(), EvaluationRecipe(scales=(1.0, 1.5), flip=True)])
def test_the_prediction_shown_is_the_one_that_was_scored(protocol: EvaluationRecipe, tmp_path: Path) -> None:
    predictor = tiny.predictor(tiny.recipe(tiny.GFFNET))
    sample = open_dataset("camvid", camvid_tree(tmp_path), "val")[1]
    example = make_example(predictor, sample, protocol, Choice(1, "worst of 3", 0.125))
    image = sample.image.permute(1, 2, 0).numpy()
    assert np.array_equal(example.prediction, predictor.predict(image, protocol))
    assert example.gates is not None
    assert [gate.shape for gate in example.gates] == [image.shape[:2]] * 4
    assert example.closed is not None
    assert [level for level, _, _ in example.closed] == [1, 2, 3, 4]
    for _, changed, share in example.closed:
        assert share == pytest.approx(changed.mean())
    plain = make_example(tiny.predictor(), sample, protocol, Choice(1, "", None))
    assert (plain.gates, plain.closed) == (None, None)


def example() -> Example:
    """Half of the labelled pixels right."""
    labels = np.array([[0, 0, 1, 1], [255, 255, 255, 255]], np.uint8)
    prediction = np.array([[0, 1, 0, 1], [0, 0, 0, 0]], np.uint8)
    rgb = np.full((2, 4, 3), 90, np.uint8)
    gate = np.full((2, 4), 0.25, np.float32)
    return Example("x", rgb, labels, prediction, (gate,), [(1, labels == 1, 0.25)], "worst of 1", 0.3)


def test_wrong_pixels_are_those_that_are_labelled() -> None:
    content = example_content(example(), PALETTE)
    seen, gates, closed = content["rows"]
    assert [shown.caption for shown in seen] == ["image", "ground truth", "prediction", "wrong: 50.0 %"]
    assert [shown.sharp for shown in seen] == [False, True, True, False]
    assert (gates[0].level, gates[0].caption) == (1, ", mean 0.25")
    assert closed[0].alt == "Pixels of x that change with G_1 closed: 25.0%."
    assert (content["why"], content["miou"]) == ("worst of 1", 0.3)


def test_only_the_classes_that_are_seen_are_in_the_legend() -> None:
    palette = (*PALETTE, (70, 80, 90))
    assert seen_classes([example()], ("a", "b", "c"), palette) == [("a", "#0a141e"), ("b", "#28323c")]
    assert seen_classes([], ("a", "b", "c"), palette) == []

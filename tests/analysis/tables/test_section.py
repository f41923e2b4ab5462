import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_rel

from gffnet.reports.tables import (
    Line,
    Spread,
    compared,
    find_scores,
    gain_errors,
    gains,
    means,
    same_seeds,
    seed_notes,
    spreads,
)
from tests.analysis.scored import save_run, save_scores


def test_mean_and_deviation_by_hand():
    of = Spread((1.0, 2.0, 6.0))
    assert of.mean == 3
    assert of.deviation == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert Spread((5.0,)).deviation is None


def test_scores_in_percent_from_where_they_are(tmp_path):
    sizes = [{"name": "small", "miou": 0.25}, {"name": "large", "miou": 0.75}]
    details = {"boundary_f": {"3": {"mean": 0.5}}, "iou_by_size": sizes}
    save_scores(tmp_path / "a", "camvid/gffnet_r18", 0.5, details)
    save_scores(tmp_path / "b", "camvid/gffnet_r18", 0.6, {**details, "pixel_accuracy": None})
    keys = {
        "miou": ("miou",),
        "f": ("boundary_f", "3", "mean"),
        "large": ("iou_by_size", "large", "miou"),
        "no size": ("iou_by_size", "tiny", "miou"),
        "accuracy": ("pixel_accuracy",),
        "nothing": ("boundary_f", "9", "mean"),
    }
    found = spreads(find_scores([tmp_path]), keys)
    assert {key: of.values for key, of in found.items()} == {"miou": (50, 60), "f": (50, 50), "large": (75, 75)}
    assert means(found)["miou"] == 55
    assert spreads([], keys) == {}


def test_gains_of_what_both_have():
    assert gains({"a": 3.0, "b": 1.0}, {"a": 1.0, "c": 1.0}) == {"a": 2.0}


def test_the_standard_error_of_a_gain_by_hand():
    of = {"a": Spread((1.0, 3.0)), "b": Spread((1.0, 3.0)), "c": Spread((2.0, 2.0)), "d": Spread((1.0, 2.0))}
    over = {"a": Spread((0.0, 1.0, 2.0)), "b": Spread((5.0,)), "c": Spread((1.0, 1.0))}
    assert gain_errors(of, over) == {"a": pytest.approx(math.sqrt(2 / 2 + 1 / 3)), "c": 0}


def test_where_both_have_the_same_seeds_the_error_is_that_of_the_pairs():
    ours, theirs = (54.2, 53.7, 51.6), (55.6, 57.7, 59.1)
    line = Line("GFFNet", ours={"miou": Spread(theirs)}, seeds=(2, 0, 1))
    baseline = Line("PSPNet", ours={"miou": Spread(ours)}, seeds=(0, 1, 2))
    found = compared(line, baseline)
    test = ttest_rel((57.7, 59.1, 55.6), ours)  # t = mean difference / its standard error
    assert found.gain_error["miou"] == pytest.approx((np.mean(theirs) - np.mean(ours)) / test.statistic)
    unpaired = compared(line, replace(baseline, seeds=(0, 1, 3)))
    assert unpaired.gain_error["miou"] == pytest.approx(
        math.hypot(*(np.std(x, ddof=1) for x in (ours, theirs))) / 3**0.5
    )


@pytest.mark.parametrize(
    ("of", "over", "pairs"),
    [
        ((0, 1), (0, 1), [(0, 0), (1, 1)]),
        ((4, 10, 2), (2, 4, 10), [(0, 1), (1, 2), (2, 0)]),
        ((0, 1), (0, 1, 2), []),
        ((0, 1, 1), (0, 1, 1), []),
        ((0, 0), (0, 1), []),
        ((0, 1), (0, None), []),
        ((None, None), (None, None), []),
        ((0,), (0,), []),
        ((), (), []),
    ],
)
def test_pairs_are_runs_of_one_seed_each(of, over, pairs):
    assert same_seeds(of, over) == pairs


def test_a_seed_that_was_run_twice_is_told(tmp_path):
    for i, seed in enumerate((0, 1, 0)):
        save_run(tmp_path / str(i), "camvid/gffnet_r18", 0.5, f"seed={seed}")
    assert seed_notes(find_scores([tmp_path])) == ("2 of the runs have seed 0",)
    assert seed_notes(find_scores([tmp_path / "0", tmp_path / "1"])) == ()

"""Tables of scores: what is found on disk, what may stand beside the paper's rows, and every format read back."""

import csv
import itertools
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import sem, ttest_rel

from gffnet.data.datasets import dataset_classes
from gffnet.errors import UserError
from gffnet.evaluation.paper import paper_tables
from gffnet.recipe import load_recipe
from gffnet.recipe.describe import method_name
from gffnet.reports.tables import (
    COLUMNS,
    FORMATS,
    Column,
    Row,
    Samples,
    Table,
    find_scores,
    format_of,
    make_dataset_tables,
    make_paper_tables,
    records,
    samples,
    seed_pairs,
    table3_cost,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    to_text,
    with_gain,
    write_tables,
)
from tests.reports.scored import COST, MULTI, save_run, save_scores


def test_whatever_holds_scores_is_found(tmp_path):
    run = save_run(tmp_path / "runs" / "a", "camvid/gffnet_r18", 0.5, "seed=7")
    alone = save_scores(tmp_path / "alone", "camvid/pspnet_r18", 0.4)
    assert [one.scores.miou for one in find_scores([tmp_path])] == [0.4, 0.5]
    for path in (run, run / "scores", run / "scores" / "scores.json"):
        (one,) = find_scores([path])
        assert (one.name, one.seed, one.changes) == ("camvid/gffnet_r18", 7, ())
    (one,) = find_scores([alone])
    assert (one.seed, one.changes) == (None, ())
    assert one.recipe.model.fusion == "none"


def test_what_a_run_has_otherwise_than_its_recipe(tmp_path):
    changes = ["training.iterations=2000", "model.dropout=0.2", "training.workers=0", "seed=1", "evaluation.flip=true"]
    (one,) = find_scores([save_run(tmp_path, "camvid/gffnet_r18", 0.5, *changes)])
    assert one.changes == ("model.dropout 0.2", "training.iterations 2000")
    assert not one.in_paper


def test_unlike_recipes_of_one_own_name_are_not_averaged(tmp_path):
    runs = {}
    for number, changes in {"a": ["seed=1"], "b": ["seed=2"], "c": ["training.iterations=9"]}.items():
        run = runs[number] = save_run(tmp_path / number, "camvid/gffnet_r18", 0.5, *changes)
        (run / "run.json").write_text(json.dumps({"recipe": "mine", "sessions": []}))
        scores = json.loads((run / "scores/scores.json").read_text())
        scores["protocol"]["recipe"] = "mine"
        (run / "scores/scores.json").write_text(json.dumps(scores))
    assert [run.changes for run in find_scores([tmp_path])] == [(), (), ("training.iterations 9",)]
    table = make_dataset_tables(find_scores([tmp_path]))[0]
    assert [len(row.seeds) for row in table.rows if row.seeds] == [2, 1]


def test_what_was_replaced_in_python_is_no_recipe_of_the_paper(tmp_path):
    run = save_run(tmp_path, "cityscapes/gffnet_r101", 0.5)
    assert find_scores([run])[0].in_paper
    (run / "run.json").write_text(
        json.dumps({"recipe": "cityscapes/gffnet_r101", "sessions": [], "python": {"loss": "mine.Loss"}})
    )
    (one,) = find_scores([run])
    assert one.changes == ("loss mine.Loss",)
    assert not one.in_paper


def test_a_run_folder_of_another_recipe_tells_nothing(tmp_path):
    run = save_run(tmp_path / "run", "camvid/gffnet_r18", 0.5, "seed=7")
    save_scores(run / "scores", "camvid/pspnet_r18", 0.4)
    (one,) = find_scores([run])
    assert one.seed is None


def test_the_same_network_by_the_same_protocol_counts_once(tmp_path):
    for name, changes in (("a", {}), ("b", {}), ("c", {"scales": MULTI}), ("d", {"weights_sha256": "other"})):
        save_scores(tmp_path / name, "camvid/gffnet_r18", 0.5, **{"weights_sha256": "one", **changes})
    assert len(find_scores([tmp_path, tmp_path / "a"])) == 3


def test_scores_of_other_data_or_windows_are_not_the_same(tmp_path):
    """One network, scored on two folders whose splits have one name, or by windows that overlap otherwise."""
    changes = {
        "a": ({"images": 2, "pixels": 100}, {}),
        "b": ({"images": 2, "pixels": 120}, {}),
        "c": ({"images": 3, "pixels": 100}, {}),
        "d": ({"images": 2, "pixels": 100}, {"crop": [64, 64], "overlap": 1 / 3}),
        "e": ({"images": 2, "pixels": 100}, {"crop": [64, 64], "overlap": 0.33}),
        "f": ({"images": 2, "pixels": 100, "boundary_f": {"3": {"mean": 0.25, "per_class": {}}}}, {}),  # is `a`
    }
    for name, (scores, protocol) in changes.items():
        save_scores(tmp_path / name, "folder/gffnet_r18", 0.5, scores, weights_sha256="one", **protocol)
    found = find_scores([tmp_path])
    assert {run.path.parent.name for run in found} == {"b", "c", "d", "e", "f"}
    (complete,) = [run for run in found if run.path.parent.name == "f"]
    assert complete.by_column()["boundary_f"] == 25


def test_a_part_of_a_split_is_a_row_of_its_own_that_says_so(tmp_path):
    for seed, (images, miou) in enumerate({500: 0.8, 2: 0.4}.items()):
        save_run(tmp_path / str(images), "cityscapes/pspnet_r101", miou, f"seed={seed}", other={"images": images})
    table = make_paper_tables(find_scores([tmp_path]), {})[0]
    rows = [row for row in table.rows if row.recipe == "cityscapes/pspnet_r101"]
    assert {row.protocol.partition(", window")[0]: row.ours["miou"].values for row in rows} == {
        "cityscapes val": pytest.approx((80,)),
        "cityscapes val, 2 images": pytest.approx((40,)),
    }
    assert [note.partition(": ")[2] for note in rows[0].notes] == ["of 2 images, not the 500 of val"]


def test_a_class_that_is_called_like_a_score(tmp_path):
    sizes = [{"name": "small", "from": 0, "to": 1024, "miou": 0.25, "objects": 1, "per_class": {}}]
    classes = {"small": 0.5, "miou": 0.125, "road": 0.75}
    save_scores(tmp_path, "folder/gffnet_r18", 0.375, {"per_class": classes, "iou_by_size": sizes})
    (run,) = find_scores([tmp_path])
    found = {key: value for key, value in run.by_column().items() if value is not None}
    expected = {"miou": 37.5, "miou (class)": 12.5, "small": 25, "small (class)": 50, "road": 75, "pixel_accuracy": 90}
    assert found == expected


def test_the_protocol_in_words(tmp_path):
    save_scores(tmp_path / "a", "camvid/gffnet_r18", 0.5)
    save_scores(tmp_path / "b", "cityscapes/gffnet_r101", 0.5, scales=MULTI, flip=True)
    whole, window = (one.measured for one in find_scores([tmp_path]))
    assert whole == ("camvid val", "whole images", "single scale", "without flip")
    expected = ("window 864x864, overlap 0.3333", "scales 0.75 1 1.25 1.5 1.75", "with flip")
    assert window == ("cityscapes val", *expected)
    save_scores(tmp_path / "a", "camvid/gffnet_r18", 0.5, {"images": 1})
    save_scores(tmp_path / "b", "camvid/gffnet_r18", 0.5, {"images": None}, crop=[64, 96], overlap=0.33)
    assert [one.measured[:2] for one in find_scores([tmp_path])] == [
        ("camvid val, 1 image", "whole images"),
        ("camvid val", "window 64x96, overlap 0.33"),
    ]


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        find_scores([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"holds no scores\.json.*gffnet evaluate --model"):
        find_scores([tmp_path])
    for text in ("{", "[]", json.dumps({"miou": 0.5}), ""):
        (tmp_path / "scores.json").write_text(text)
        with pytest.raises(UserError, match=r"scores\.json"):
            find_scores([tmp_path])


def test_mean_and_deviation_by_hand():
    of = Samples((1.0, 2.0, 6.0))
    assert of.mean == 3
    assert of.deviation == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert Samples((5.0,)).deviation is None


def test_scores_in_percent_from_where_they_are(tmp_path):
    sizes = [
        {"name": name, "from": start, "to": end, "miou": miou, "objects": 1, "per_class": {}}
        for name, start, end, miou in (("small", 0, 1024, 0.25), ("large", 9216, None, 0.75))
    ]
    bands = [
        {"from": start, "to": end, "miou": miou, "pixel_accuracy": miou + 0.1, "pixels": 1, "per_class": {}}
        for start, end, miou in ((0, 2, 0.3), (2, 32, 0.4), (32, None, 0.7))
    ]
    details = {"boundary_f": {"3": {"mean": 0.5, "per_class": {}}}, "iou_by_size": sizes, "iou_by_distance": bands}
    save_scores(tmp_path / "a", "camvid/gffnet_r18", 0.5, details)
    save_scores(tmp_path / "b", "camvid/gffnet_r18", 0.6, {**details, "pixel_accuracy": None})
    found = samples(find_scores([tmp_path]))
    assert {key: of.values for key, of in found.items()} == {
        "road": (50, 50),
        "miou": (50, 60),
        "boundary_f": (50, 50),
        "small": (25, 25),
        "large": (75, 75),
        "near": (30, 30),
        "far": (70, 70),
        "near_accuracy": pytest.approx((40, 40)),
        "far_accuracy": pytest.approx((80, 80)),
    }
    assert found["miou"].mean == 55
    assert samples([]) == {}


def test_gains_and_their_standard_errors_by_hand():
    ours = Row(
        "A", ours={"a": Samples((1.0, 3.0)), "b": Samples((1.0, 3.0)), "c": Samples((2.0, 2.0)), "d": Samples((1.0,))}
    )
    theirs = Row("B", ours={"a": Samples((0.0, 1.0, 2.0)), "b": Samples((5.0,)), "c": Samples((1.0, 1.0))})
    found = with_gain(ours, theirs)
    assert found.ours_gain == {"a": 1, "b": -3, "c": 1}
    assert found.gain_error == {"a": pytest.approx(math.sqrt(2 / 2 + 1 / 3)), "c": 0}


def test_where_both_have_the_same_seeds_the_error_is_that_of_the_pairs():
    ours, theirs = (54.2, 53.7, 51.6), (55.6, 57.7, 59.1)
    line = Row("GFFNet", ours={"miou": Samples(theirs)}, seeds=(2, 0, 1))
    baseline = Row("PSPNet", ours={"miou": Samples(ours)}, seeds=(0, 1, 2))
    found = with_gain(line, baseline)
    test = ttest_rel((57.7, 59.1, 55.6), ours)  # t = mean difference / its standard error
    assert found.gain_error["miou"] == pytest.approx((np.mean(theirs) - np.mean(ours)) / test.statistic)
    unpaired = with_gain(line, replace(baseline, seeds=(0, 5, 3)))
    assert unpaired.gain_error["miou"] == pytest.approx(
        math.hypot(*(np.std(x, ddof=1) for x in (ours, theirs))) / 3**0.5
    )


def test_gain_of_the_seeds_that_both_have():
    ours = Row("A", ours={"miou": Samples((50.0, 90.0, 53.0))}, seeds=(0, 7, 1))
    theirs = Row("B", ours={"miou": Samples((51.0, 40.0))}, seeds=(1, 0))
    found = with_gain(ours, theirs)
    assert found.ours_gain["miou"] == (10 + 2) / 2  # not 64.3 - 45.5
    assert found.gain_error["miou"] == pytest.approx(np.std([10, 2], ddof=1) / 2**0.5)


@pytest.mark.parametrize(
    ("of", "over", "pairs"),
    [
        ((0, 1), (0, 1), [(0, 0), (1, 1)]),
        ((4, 10, 2), (2, 4, 10), [(0, 1), (1, 2), (2, 0)]),
        ((0, 1), (0, 1, 2), [(0, 0), (1, 1)]),
        ((2, 0, 5), (9, 5, 2), [(0, 2), (2, 1)]),
        ((0, 1), (1, 2), []),
        ((0, 1, None), (0, 1), []),
        ((0, 1, 1), (0, 1, 1), []),
        ((0, 0), (0, 1), []),
        ((0, 1), (0, None), []),
        ((None, None), (None, None), []),
        ((0,), (0,), []),
        ((), (), []),
    ],
)
def test_pairs_are_runs_of_one_seed_each(of, over, pairs):
    assert seed_pairs(of, over) == pairs


def test_a_seed_that_was_run_twice_is_noted(tmp_path):
    for i, seed in enumerate((0, 1, 0)):
        save_run(tmp_path / str(i), "camvid/gffnet_r18", 0.5, f"seed={seed}")

    def notes(*paths):
        return [row.notes for row in make_dataset_tables(find_scores(paths))[0].rows if row.ours]

    assert notes(tmp_path) == [("2 of the runs have seed 0",)]
    assert notes(tmp_path / "0", tmp_path / "1") == [()]


def section(number, *paths):
    return make_paper_tables(find_scores(paths), COST)[number - 1]


def line(number, method, *paths):
    (found,) = [line for line in section(number, *paths).rows if line.method == method]
    return found


def test_without_runs_all_is_the_papers():
    sections = make_paper_tables([], COST)
    assert [one.name for one in sections] == [f"table{n}" for n in range(1, 10)]
    for one, table in zip(sections, paper_tables(), strict=True):
        assert [line.method for line in one.rows] == [row.method for row in table.rows]
        assert all(line.paper.items() >= row.scores.items() for line, row in zip(one.rows, table.rows, strict=True))
        assert not any(line.ours for line in one.rows) or one.name == "table3"
        assert not any(line.notes or line.seeds for line in one.rows)


def test_mean_spread_and_gains_over_seeds(tmp_path):
    for seed, (psp, gff) in enumerate(((0.70, 0.75), (0.72, 0.77), (0.74, 0.82))):
        save_run(tmp_path / f"psp{seed}", "cityscapes/pspnet_r101", psp, f"seed={seed}")
        save_run(tmp_path / f"gff{seed}", "cityscapes/pspnet_r101_gff", gff, f"seed={seed}")
    for number in (1, 2, 3):  # which print the same row
        found = line(number, "PSPNet + GFF", tmp_path)
        assert found.ours["miou"].mean == pytest.approx(78)
        assert found.ours["miou"].deviation == pytest.approx((9 + 1 + 16) ** 0.5 / 2**0.5)
        assert found.seeds == (0, 1, 2)
        assert found.paper_gain["miou"] == pytest.approx(80.4 - 78.6)
        assert found.ours_gain["miou"] == pytest.approx(78 - 72)
        assert found.notes == ()
    assert line(2, "PSPNet", tmp_path).ours_gain == {}
    assert not line(2, "PSPNet + GFF + DFP", tmp_path).ours


def test_single_and_multi_scale_are_two_rows(tmp_path):
    save_scores(tmp_path / "a", "cityscapes/gffnet_r101", 0.8)
    save_scores(tmp_path / "b", "cityscapes/gffnet_r101", 0.9, scales=MULTI)
    one, many = (line(2, f"PSPNet + GFF + DFP{name}", tmp_path) for name in ("", " + MS"))
    assert (one.ours["miou"].values, many.ours["miou"].values) == ((80,), (90,))
    assert many.paper_gain == many.ours_gain == {}, "its baseline is single-scale"
    assert one.notes == many.notes == ()


def test_another_protocol_is_a_dash_with_its_reason(tmp_path):
    save_scores(tmp_path, "cityscapes/gffnet_r18", 0.9, crop=[512, 512])
    found = line(4, "PSPNet ResNet18 + GFF + DFP", tmp_path)
    assert found.ours == {}
    (note,) = found.notes
    assert note.startswith(str(tmp_path / "scores.json"))
    assert "measured otherwise: its window is 864x864" in note
    assert sum(len(one.notes) for one in section(4, tmp_path).rows) == 1


def test_other_settings_are_a_dash_with_the_reason(tmp_path):
    save_run(tmp_path / "short", "cityscapes/pspnet_r18", 0.6, "training.iterations=2000")
    found = line(4, "PSPNet ResNet18", tmp_path)
    assert found.ours == {}
    assert "its settings are not those of cityscapes/pspnet_r18: training.iterations 2000" in found.notes[0]
    save_run(tmp_path / "whole", "cityscapes/pspnet_r18", 0.7)
    found = line(4, "PSPNet ResNet18", tmp_path)
    assert found.ours["miou"].values == (70,)
    assert len(found.notes) == 1


def test_where_the_paper_is_silent_protocols_stand_apart(tmp_path):
    for i, (recipe, miou, scales) in enumerate(
        (("pspnet", 0.40, MULTI), ("gffnet", 0.42, [1.0]), ("gffnet", 0.44, [1.0]), ("gffnet", 0.45, MULTI))
    ):
        save_scores(tmp_path / str(i), f"ade20k/{recipe}_r101", miou, scales=scales)
    lines = [one for one in section(6, tmp_path).rows if one.ours]
    assert [(one.method, one.ours["miou"].values) for one in lines] == [
        ("PSPNet ResNet101, scales 0.75 1 1.25 1.5 1.75", (40,)),
        ("GFFNet ResNet101, single scale", (42, 44)),
        ("GFFNet ResNet101, scales 0.75 1 1.25 1.5 1.75", (45,)),
    ]
    assert [one.ours_gain.get("miou") for one in lines] == [None, None, pytest.approx(5)]
    assert lines[1].ours["pixel_accuracy"].mean == 90


def test_classes_of_table_7(tmp_path):
    classes = {"road": 0.9, "bicycle": 0.6}
    save_scores(tmp_path, "cityscapes/gffnet_r101_trainval", 0.8, {"per_class": classes}, split="test", scales=MULTI)
    found = line(7, "GFFNet", tmp_path)
    assert {key: of.mean for key, of in found.ours.items()} == {
        "road": 90,
        "bicycle": 60,
        "miou": 80,
        "pixel_accuracy": 90,
    }
    test = [one for one in section(5, tmp_path).rows if one.ours]
    assert [(one.method, one.group) for one in test] == [("GFFNet ResNet101", "fine train and val set")]


def test_costs_stand_beside_the_papers(monkeypatch):
    def counted(recipes, size):
        macs = [size[0] * 10**9 * (1 + i) for i in range(len(recipes))]
        return [
            {"recipe": name, "params": len(name) * 10**6, "macs": one, "executed_macs": one // 2}
            for (name, _), one in zip(recipes, macs, strict=True)
        ]

    monkeypatch.setattr("gffnet.reports.tables.costs", counted)
    cost = table3_cost()
    assert list(cost) == list(COST)
    assert cost["cityscapes/gffnet_r101"] == {"params": 22, "gmac_512": 1536, "gmac_768": 2304, "executed": 1152}
    plain, gff, _ = make_paper_tables([], cost)[2].rows
    assert (plain.ours["gmac_512"].values, plain.ours_gain) == ((512,), {})
    assert gff.paper_gain["gflops"] == pytest.approx(20)
    assert gff.ours_gain["gmac_768"] == 768
    assert "miou" not in gff.ours


def dataset_tables(*paths):
    return make_dataset_tables(find_scores(paths))


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ("camvid/pspnet_r18", "PSPNet"),
        ("camvid/pspnet_r18_gated_fpn", "PSPNet + Gated FPN"),
        ("camvid/gffnet_r18", "PSPNet + GFF + DFP"),
        ("cityscapes/denseaspp_d121_gff", "DenseASPP + GFF"),
    ],
)
def test_networks_are_named_as_the_paper_names_them(recipe, name):
    assert method_name(load_recipe(recipe).model) == name


def test_the_ablation_in_the_order_of_the_paper(tmp_path):
    for seed in range(2):
        save_run(tmp_path / f"a{seed}", "camvid/gffnet_r18", 0.54 + 0.02 * seed, f"seed={seed}")
        save_run(tmp_path / f"b{seed}", "camvid/pspnet_r18", 0.50, f"seed={seed}")
    (found,) = dataset_tables(tmp_path)
    assert (found.name, found.title) == ("camvid", "camvid: not in the paper")
    methods = [line.method for line in found.rows]
    assert methods[:7] == [
        "PSPNet",
        *(f"PSPNet + {fusion}" for fusion in ("Concat", "Addition", "FPN", "Gated FPN", "GFF", "GFF + DFP")),
    ]
    assert [bool(line.ours) for line in found.rows[:7]] == [True, *[False] * 5, True]
    last = found.rows[6]
    assert last.ours["miou"].mean == pytest.approx(55)
    assert last.ours_gain["miou"] == pytest.approx(5)
    assert last.gain_error["miou"] == pytest.approx(1)
    assert last.seeds == (0, 1)
    assert found.rows[0].ours_gain == found.rows[0].gain_error == {}


def test_thin_classes_and_the_iou_of_every_class(tmp_path):
    of_class = dict.fromkeys(dataset_classes("camvid").names, 0.5)
    for seed, pole in enumerate((0.1, 0.3)):
        classes = {"per_class": {**of_class, "pole": pole, "sign": 0.2, "pedestrian": 0.4, "bicyclist": 0.5}}
        save_run(tmp_path / str(seed), "camvid/gffnet_r18", 0.5, f"seed={seed}", other=classes)
    whole, by_class = dataset_tables(tmp_path)
    thin = next(line for line in whole.rows if line.ours).ours["thin"]
    assert thin.values == pytest.approx((30, 35))
    assert "Thin classes: pole, sign, pedestrian, bicyclist." in whole.remark
    assert (by_class.name, by_class.by_class, len(by_class.columns)) == ("camvid_classes", True, 11)
    (line,) = by_class.rows
    assert line.method == "PSPNet + GFF + DFP"
    assert line.ours["pole"].values == pytest.approx((10, 30))


def test_protocols_and_settings_are_never_mixed(tmp_path):
    save_scores(tmp_path / "p", "camvid/pspnet_r18", 0.5)
    save_scores(tmp_path / "p2", "camvid/pspnet_r18", 0.6, scales=MULTI)
    save_scores(tmp_path / "a", "camvid/gffnet_r18", 0.7)
    save_scores(tmp_path / "b", "camvid/gffnet_r18", 0.8, scales=MULTI)
    save_run(tmp_path / "c", "camvid/gffnet_r18", 0.9, "training.iterations=3000")
    (found,) = dataset_tables(tmp_path)
    found_rows = {line.method: (line.ours["miou"].mean, line.ours_gain.get("miou")) for line in found.rows if line.ours}
    many = "scales 0.75 1 1.25 1.5 1.75"
    assert found_rows == {
        "PSPNet": (50, None),
        f"PSPNet, {many}": (60, None),
        "PSPNet + GFF + DFP": (70, pytest.approx(20)),
        f"PSPNet + GFF + DFP, {many}": (80, pytest.approx(20)),
        "PSPNet + GFF + DFP, training.iterations 3000": (90, None),
    }
    assert "camvid val, whole images, single scale, without flip" in found.remark


def test_every_split_has_a_table_and_settings_of_all_runs_are_said_once(tmp_path):
    for split, miou in (("only_a", 0.5), ("only_b", 0.3)):
        changes = ("training.iterations=500", f"data.train_split=without_{split[-1]}")
        for name, gain in (("pspnet_r18", 0), ("gffnet_r18", 0.1)):
            folder = tmp_path / split / name
            save_run(folder, f"camvid/{name}", miou + gain, *changes, split=split, weights_sha256=f"{split} {name}")
    _, one, other = dataset_tables(tmp_path)  # the first has their means
    assert [table.name for table in (one, other)] == ["camvid_only_a", "camvid_only_b"]
    assert [table.title for table in (one, other)] == [f"camvid, only_{name}: not in the paper" for name in "ab"]
    for table, miou in ((one, 50), (other, 30)):
        scored = {line.method: (line.ours["miou"].mean, line.ours_gain) for line in table.rows if line.ours}
        assert scored["PSPNet"] == (pytest.approx(miou), {})
        assert scored["PSPNet + GFF + DFP"][1]["miou"] == pytest.approx(10)
    assert "All runs have data.train_split without_a, training.iterations 500." in one.remark


FOLDS = ("0001TP", "0006R0")


def save_folds(folder, recipe, mious, seeds=(0, 1), folds=FOLDS, **other):
    """Runs of a recipe, in percent by seed and fold."""
    for seed, of_seed in zip(seeds, mious, strict=True):
        for fold, miou in zip(folds, of_seed, strict=True):
            splits = [f"data.train_split=without_{fold}", f"data.val_split=only_{fold}"]
            out = folder / f"without_{fold}" / recipe / f"seed_{seed}"
            save_run(out, recipe, miou / 100, *splits, f"seed={seed}", split=f"only_{fold}", **other)


def test_cross_validation_by_hand(tmp_path):
    """Each seed's score is the mean over the folds; differences are taken between runs of one seed and fold."""
    gff, addition = [[54.0, 46.0], [56.0, 45.0], [99.0, 99.0]], [[53.0, 43.0], [54.0, 45.0]]
    save_folds(tmp_path, "camvid/pspnet_lite0_gff", gff, seeds=(0, 1, 2))
    save_folds(tmp_path, "camvid/pspnet_lite0_addition", addition)
    runs = find_scores([tmp_path])
    table = make_dataset_tables(runs, baseline="camvid/pspnet_lite0_addition")[0]
    assert table.name == "camvid_folds"
    rows = {row.recipe: row for row in table.rows if row.ours}
    of_gff, of_addition = rows["camvid/pspnet_lite0_gff"], rows["camvid/pspnet_lite0_addition"]
    assert of_gff.ours["miou"].values == pytest.approx((50, 50.5, 99))
    assert of_gff.ours["miou_0001TP"].mean == pytest.approx((54 + 56 + 99) / 3)
    assert of_addition.ours["miou_0006R0"].values == pytest.approx((43, 45))
    d = np.subtract(gff[:2], addition).ravel()
    assert of_gff.ours_gain["miou"] == pytest.approx(d.mean())
    assert of_gff.gain_error["miou"] == pytest.approx(sem(d))
    assert (of_gff.seeds, of_gff.notes, of_addition.ours_gain) == ((0, 1, 2), (), {})
    assert of_gff.method == "PSPNet + GFF"
    assert "All runs have" not in table.remark  # train_split and val_split are what folds differ in
    assert "over PSPNet + Addition" in table.remark
    assert [one.name for one in make_dataset_tables(runs)] == [
        "camvid_folds",
        "camvid_only_0001TP",
        "camvid_only_0006R0",
    ]


def test_cross_validation_over_pspnet_by_default(tmp_path):
    save_folds(tmp_path, "camvid/pspnet_lite0", [[40.0, 30.0], [41.0, 32.0]])
    save_folds(tmp_path, "camvid/gffnet_lite0", [[50.0, 41.0], [50.0, 42.0]])
    rows = {row.recipe: row for row in make_dataset_tables(find_scores([tmp_path]))[0].rows}
    d = np.array([10, 11, 9, 10])
    assert rows["camvid/gffnet_lite0"].ours_gain["miou"] == pytest.approx(d.mean())
    assert rows["camvid/gffnet_lite0"].gain_error["miou"] == pytest.approx(sem(d))


def test_a_seed_without_one_of_the_folds_is_noted(tmp_path):
    save_folds(tmp_path, "camvid/gffnet_lite0", [[50.0, 41.0]], seeds=(0,))
    save_folds(tmp_path, "camvid/gffnet_lite0", [[60.0]], seeds=(1,), folds=("0006R0",))
    save_folds(tmp_path / "again", "camvid/gffnet_lite0", [[70.0]], seeds=(0,), folds=("0006R0",))
    (row,) = [row for row in make_dataset_tables(find_scores([tmp_path]))[0].rows if row.ours]
    assert row.ours["miou"].values in {(45.5,), (60.0,)}
    assert (row.seeds, row.notes[0]) == ((0,), "not there: seed 1 on only_0001TP")
    assert row.notes[1] == "1 runs left out, of a seed and fold that another has"


def test_a_class_that_is_absent_from_a_fold_is_noted(tmp_path):
    """It has no mean, nor have the thin classes; the other classes keep theirs."""
    whole = dict.fromkeys(dataset_classes("camvid").names, 0.5)
    for fold, absent in (("0001TP", ()), ("0006R0", ("pole", "fence"))):
        of_fold = whole | dict.fromkeys(absent)
        save_folds(tmp_path, "camvid/gffnet_lite0", [[50.0]], seeds=(0,), folds=(fold,), other={"per_class": of_fold})
    table, by_class, *_ = make_dataset_tables(find_scores([tmp_path]))
    (row,) = [row for row in table.rows if row.ours]
    note = "no mean of pole, fence, nor of the thin classes: neither labelled nor predicted in only_0006R0"
    assert row.notes == (note,)
    assert "thin" not in row.ours
    assert by_class.name == "camvid_folds_classes"
    lines = to_markdown([by_class]).splitlines()
    assert "| pole | —¹ |" in lines
    assert "| road | 50.0¹ |" in lines
    assert f"¹ {note.replace('_', chr(92) + '_')}" in lines


def test_a_split_that_was_left_out_of_no_training_is_no_fold(tmp_path):
    for fold in FOLDS:
        save_run(tmp_path / fold, "camvid/gffnet_lite0", 0.5, split=f"only_{fold}")  # trained on train
    assert [one.name for one in make_dataset_tables(find_scores([tmp_path]))] == [
        f"camvid_only_{fold}" for fold in FOLDS
    ]
    save_folds(tmp_path / "one", "camvid/gffnet_lite0", [[50.0]], seeds=(0,), folds=("0001TP",))
    assert len(make_dataset_tables(find_scores([tmp_path / "one"]))) == 1


def test_settings_of_all_folds_are_said_once_and_kept_apart(tmp_path):
    save_folds(tmp_path, "camvid/gffnet_lite0", [[50.0, 41.0]], seeds=(0,))
    for fold in FOLDS:
        changes = [f"data.train_split=without_{fold}", f"data.val_split=only_{fold}", "training.iterations=7"]
        save_run(tmp_path / "short" / fold, "camvid/gffnet_lite0", 0.2, *changes, split=f"only_{fold}")
    table = make_dataset_tables(find_scores([tmp_path]))[0]
    assert [(row.method, row.ours["miou"].mean) for row in table.rows if row.ours] == [
        ("PSPNet + GFF + DFP", pytest.approx(45.5)),
        ("PSPNet + GFF + DFP, training.iterations 7", pytest.approx(20)),
    ]


def test_a_changed_network_is_compared_with_the_recipe_itself(tmp_path):
    for number, changes in enumerate(([], ["model.gate_channels=each"], ["training.iterations=7"])):
        save_run(tmp_path / str(number), "camvid/pspnet_lite0_gff", 0.5 + number / 10, *changes)
    (table, *_) = make_dataset_tables(find_scores([tmp_path]), baseline="camvid/pspnet_lite0_gff")
    assert {row.method: row.ours_gain.get("miou") for row in table.rows if row.ours} == {
        "PSPNet + GFF": None,
        "PSPNet + GFF, model.gate_channels each": pytest.approx(10),
        "PSPNet + GFF, training.iterations 7": None,
    }


def test_values_that_follow_from_the_images_of_a_fold_do_not_part_its_runs(tmp_path):
    """Crops and iterations of `folder/*` are auto: a fold has others than the next, unless `--set` gave them."""
    for (fold, crop), given in itertools.product((("a", 64), ("b", 96)), ("", " --set training.crop=[8,8]")):
        folder = tmp_path / f"{fold}{bool(given)}"
        changes = [f"data.train_split=without_{fold}", f"data.val_split=only_{fold}", f"training.crop=[{crop},{crop}]"]
        save_run(folder, "folder/pspnet_lite0", crop / 100, *changes, split=f"only_{fold}", crop=None)
        command = f"python -m gffnet train folder/pspnet_lite0{given}"
        record = {"recipe": "folder/pspnet_lite0", "sessions": [{"command": command}]}
        (folder / "run.json").write_text(json.dumps(record))
    table = make_dataset_tables(find_scores([tmp_path]))[0]
    assert {row.method: row.ours["miou"].mean for row in table.rows if row.ours} == {"PSPNet": pytest.approx(80)}
    assert sum("not there" in note for row in table.rows for note in row.notes) == 2


def test_recipes_of_ones_own_beside_a_shipped_baseline(tmp_path):
    """Their changes are counted from other recipes, so that the recipes themselves are compared."""
    few = ["training.iterations=7"]
    for number, (name, changes) in enumerate((("mine", few), ("other", ["training.iterations=8"]))):
        folder = save_run(tmp_path / name, "camvid/gffnet_lite0", 0.5 + number / 10, *changes)
        for file in (folder / "run.json", folder / "scores/scores.json"):
            file.write_text(file.read_text().replace("camvid/gffnet_lite0", name))
    save_run(tmp_path / "shipped", "camvid/pspnet_lite0_gff", 0.4, *few)
    (table, *_) = make_dataset_tables(find_scores([tmp_path]), baseline="camvid/pspnet_lite0_gff")
    gains = {row.recipe: row.ours_gain.get("miou") for row in table.rows if row.ours}
    assert gains == {"mine": pytest.approx(10), "other": None, "camvid/pspnet_lite0_gff": None}


def test_a_fold_more_of_one_run_changes_no_mean(tmp_path):
    save_folds(tmp_path, "camvid/gffnet_lite0", [[50.0, 41.0], [52.0, 43.0]])
    save_folds(tmp_path, "camvid/pspnet_lite0", [[40.0, 31.0], [42.0, 33.0]])
    save_folds(tmp_path, "camvid/gffnet_lite0", [[99.0]], seeds=(0,), folds=("0016E5",))
    table = make_dataset_tables(find_scores([tmp_path]))[0]
    rows = {row.recipe: (row.ours["miou"].values, row.seeds, row.notes) for row in table.rows if row.ours}
    assert rows["camvid/gffnet_lite0"] == (pytest.approx((45.5, 47.5)), (0, 1), ())
    assert rows["camvid/pspnet_lite0"] == (pytest.approx((35.5, 37.5)), (0, 1), ())


@pytest.mark.parametrize("file", ["run.json", "recipe.yaml"])
def test_a_damaged_record_is_said(tmp_path, file):
    """A run of unknown settings stands in no row of the shipped recipe."""
    folder = save_run(tmp_path, "cityscapes/pspnet_r101", 0.7, "training.iterations=3")
    (folder / file).write_text("{")
    (run,) = find_scores([tmp_path])
    assert (run.in_paper, run.changes) == (False, (f"settings unknown: {file} is damaged",))


def test_a_record_of_another_tool_in_a_folder_on_the_way(tmp_path):
    folder = save_run(tmp_path, "cityscapes/pspnet_r101", 0.7, "training.iterations=3")
    scores = folder / "scores"
    assert (scores / "scores.json").is_file()
    (scores / "run.json").write_text('{"step": 1}\n{"step": 2}\n')
    (run,) = find_scores([tmp_path])
    assert run.changes == ("training.iterations 3",)


def test_a_baseline_of_one_of_two_data_sets(tmp_path):
    save_run(tmp_path / "camvid", "camvid/gffnet_lite0", 0.5)
    save_run(tmp_path / "streets", "streets/gffnet_lite0", 0.5)
    tables = make_dataset_tables(find_scores([tmp_path]), baseline="camvid/gffnet_lite0")
    assert {table.name.removesuffix("_classes") for table in tables} == {"camvid", "streets"}


def test_an_unknown_baseline(tmp_path):
    save_run(tmp_path, "camvid/gffnet_lite0", 0.5)
    with pytest.raises(UserError, match=r"--baseline camvid/gffnet_lite: .* Did you mean 'camvid/gffnet_lite0'"):
        make_dataset_tables(find_scores([tmp_path]), baseline="camvid/gffnet_lite")


def test_what_stands_in_the_paper_is_not_told_again(tmp_path):
    save_scores(tmp_path / "a", "cityscapes/gffnet_r101", 0.8)
    assert dataset_tables(tmp_path) == []
    save_scores(tmp_path / "b", "cityscapes/gffnet_r101", 0.7, flip=True)
    save_scores(tmp_path / "c", "cityscapes/pspnet_r101_continued", 0.6)
    (found,) = dataset_tables(tmp_path)
    assert found.title == "cityscapes: what stands in no row of the paper"
    assert {line.recipe for line in found.rows} == {"cityscapes/gffnet_r101", "cityscapes/pspnet_r101_continued"}
    assert all(line.recipe in line.method for line in found.rows)


def test_networks_of_one_name_and_unknown_ones(tmp_path):
    save_scores(tmp_path / "a", "streets/demo", 0.8)
    save_scores(tmp_path / "b", "streets/demo", 0.7, recipe="mine", weights_sha256="other")
    (found,) = dataset_tables(tmp_path)
    methods = [line.method for line in found.rows]
    assert "PSPNet + GFF + DFP (streets/demo)" in methods
    assert "PSPNet + GFF + DFP (streets/gffnet_lite0)" in methods
    assert methods[-1] == "mine"
    assert found.rows[-1].ours["miou"].mean == 70


def test_recipes_of_another_folder_are_another_protocol_of_training(tmp_path):
    save_scores(tmp_path / "full", "camvid/pspnet_r18", 0.7)
    save_scores(tmp_path / "small", "camvid/reduced/gffnet_r18", 0.5)
    (found,) = dataset_tables(tmp_path)
    (gffnet,) = [line for line in found.rows if line.recipe == "camvid/reduced/gffnet_r18"]
    assert gffnet.ours_gain == {}
    save_scores(tmp_path / "plain", "camvid/reduced/pspnet_r18", 0.4)
    (found,) = dataset_tables(tmp_path)
    (gffnet,) = [line for line in found.rows if line.recipe == "camvid/reduced/gffnet_r18"]
    assert gffnet.ours_gain["miou"] == pytest.approx(10)
    (found,) = dataset_tables(tmp_path / "small")
    assert all(line.recipe.startswith("camvid/reduced/") for line in found.rows)
    assert [line.method for line in found.rows][-2:] == ["PSPNet + GFF + DFP", "PSPNet + GFF + literal DFP"]


def test_ones_own_recipe_is_compared_where_it_is_trained_the_same(tmp_path):
    for name, iterations in (("same", 1500), ("longer", 3000)):
        base = load_recipe("camvid/reduced/gffnet_r18", [f"training.iterations={iterations}"])
        folder = tmp_path / name
        save_scores(folder / "scores", "camvid/reduced/gffnet_r18", 0.5, recipe=name)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(base.to_mapping()))
        (folder / "run.json").write_text(json.dumps({"recipe": name, "sessions": []}))
    save_scores(tmp_path / "plain", "camvid/reduced/pspnet_r18", 0.4)
    (found,) = dataset_tables(tmp_path)
    found_rows = {line.recipe: line.ours_gain.get("miou") for line in found.rows if line.ours}
    assert found_rows == {"same": pytest.approx(10), "longer": None, "camvid/reduced/pspnet_r18": None}


def test_an_unknown_data_set(tmp_path):
    save_scores(tmp_path, "camvid/gffnet_r18", 0.5, dataset="orchard", recipe="mine")
    (found,) = dataset_tables(tmp_path)
    assert found.name == "orchard"


FULL = Row(
    "A",
    "group",
    "some/recipe",
    "a protocol",
    {"x": 79.55, "y": 1.0},
    {"x": Samples((80.0, 82.0)), "y": Samples((0.5,))},
    {"x": 0.55},
    {"x": 1.0},
    seeds=(0, None),
    notes=("why", "what"),
)


def texts(table):
    return [[cell.text for cell in cells] for _, cells in table.rows]


def test_figures_as_they_are_read():
    section = Table("s", "S", [Column("x", "X")], [FULL, Row("B", paper={"x": 3.0}, notes=("why",))])
    table = to_text(section)
    assert table.headings == ["method", "paper", "ours", "ours − paper", "runs"]
    assert texts(table) == [
        ["A", "79.55 (+0.6)", "81.0 ± 1.4 (+1.0)", "+1.5", "2 (seed 0, 1 unknown)"],
        ["B", "3.0", "—", "—", "—"],
    ]
    assert [group for group, _ in table.rows] == ["group", ""]
    assert table.notes == ["why", "what"]
    assert [cells[2].notes for _, cells in table.rows] == [(1, 2), (1,)]
    assert to_text(section, seeds=False).rows[0][1][-1].text == "2"


def test_several_scores_and_such_as_one_side_has():
    scores = [
        Column("x", "X", difference=False),
        Column("y", "Y", 2, ours_only=True),
        Column("y", "Z", paper_only=True),
    ]
    table = to_text(Table("s", "S", scores, [FULL]))
    assert table.headings == ["method", "X, paper", "X, ours", "Y", "Z", "runs"]
    assert texts(table)[0][1:5] == ["79.55 (+0.6)", "81.0 ± 1.4 (+1.0)", "0.50", "1.0"]
    assert [cell.notes for cell in table.rows[0][1]] == [(), (), (1, 2), (), (), ()]


def test_a_table_by_class_is_turned():
    table = to_text(
        Table("s", "S", [Column("x", "X"), Column("y", "Y")], [Row("B", paper={"x": 3.0}), FULL], by_class=True)
    )
    assert table.headings == ["class", "B", "A", "ours"]
    assert texts(table) == [["X", "3.0", "79.55", "81.0 ± 1.4"], ["Y", "—", "1.0", "0.5"]]


def test_a_table_by_class_without_the_paper_has_one_column_a_method():
    scores = [Column("x", "X", ours_only=True), Column("y", "Y", ours_only=True)]
    table = to_text(Table("s", "S", scores, [FULL], by_class=True))
    assert table.headings == ["class", "A"]
    assert texts(table) == [["X", "81.0 ± 1.4"], ["Y", "0.5"]]


def test_a_gain_has_its_standard_error():
    line = Row("A", recipe="r", ours={"x": Samples((1.0, 2.0))}, ours_gain={"x": -0.5}, gain_error={"x": 0.25})
    assert texts(to_text(Table("s", "S", [Column("x", "X", ours_only=True)], [line])))[0][1] == "1.5 ± 0.7 (−0.5 ± 0.2)"


NASTY = r"a|b_c \d {e} $f$ & 50% #1 ~^ <i>g</i> `h` *j* [k](l) " + '"m"'
HARD = Table(
    "hard",
    f"T {NASTY}",
    [Column("x", f"X {NASTY}")],
    [
        Row(
            NASTY,
            f"group {NASTY}",
            "r",
            "p",
            {"x": 1.0},
            {"x": Samples((0.5, 1.5))},
            seeds=(0, 1),
            notes=(f"n {NASTY}",),
        )
    ],
    f"remark {NASTY}",
)


@pytest.fixture
def tables(tmp_path):
    for seed, miou in enumerate((0.5, 0.6)):
        save_run(tmp_path / f"a{seed}", "camvid/gffnet_r18", miou, f"seed={seed}")
        save_run(tmp_path / f"b{seed}", "cityscapes/pspnet_r101_gff", miou, f"seed={seed}")
    save_run(tmp_path / "c", "cityscapes/pspnet_r18", 0.5, flip=True)
    scored = find_scores([tmp_path])
    return [*make_paper_tables(scored, COST), *make_dataset_tables(scored), HARD]


class Reader(HTMLParser):
    """The cells of tables, and all that a page would load."""

    def __init__(self):
        super().__init__()
        self.tables, self.text, self.loaded = [], [], []
        self.raised = self.within = False

    def handle_starttag(self, tag, attributes):
        self.loaded += [value for key, value in attributes if key in {"src", "href"}]
        self.raised |= tag == "sup"
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")
            self.within = True

    def handle_endtag(self, tag):
        self.raised &= tag != "sup"
        self.within &= tag not in {"td", "th"}

    def handle_data(self, data):
        self.text.append(data)
        if self.within and not self.raised:
            self.tables[-1][-1][-1] += data


def cells(of):
    """The text of a table, without its groups."""
    table = to_text(of)
    return [list(table.headings), *[[cell.text for cell in row] for _, row in table.rows]]


def test_html(tables):
    page = to_html(tables)
    reader = Reader()
    reader.feed(page)
    assert reader.loaded == []
    assert "<script" not in page
    read = [[[text.strip() for text in row] for row in table if len(row) > 1] for table in reader.tables]
    assert read == [cells(section) for section in tables]
    assert page.count('class="group"') == 2 + 1
    assert NASTY in "".join(reader.text)


def test_markdown(tables):
    text = to_markdown(tables)
    written = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert len(written) == len(tables)
    for block, table in zip(written, tables, strict=True):
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
        assert {len(row) for row in rows} == {len(cells(table)[0])}
        plain = [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in row] for row in rows]
        bare = [[re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹˒]+$", "", cell) for cell in row] for row in plain if row[1]]
        assert [bare[0], *bare[2:]] == cells(table)
    assert "—¹" in text


def test_csv(tables):
    lines = list(csv.DictReader(to_csv(tables).splitlines()))
    assert list(lines[0]) == list(COLUMNS)
    found_rows = list(records(tables))
    assert len(lines) == len(found_rows)
    for line, of in zip(lines, found_rows, strict=True):
        assert line == {key: "" if value is None else str(value) for key, value in of.items()}
    (row,) = [line for line in lines if line["table"] == "table1" and line["recipe"] == "cityscapes/pspnet_r101_gff"]
    assert float(row["paper"]) == 80.4
    assert float(row["ours"]) == pytest.approx(55)
    assert float(row["deviation"]) == pytest.approx(50**0.5)
    assert float(row["ours_minus_paper"]) == pytest.approx(55 - 80.4)
    assert (row["runs"], row["seeds"]) == ("2", "0 1")


def test_latex(tables):
    text = to_latex(tables)
    assert text.isascii() or "±" in text.split("\n\n")[0]
    assert len(re.findall(r"\\begin\{table\*?\}", text)) == len(re.findall(r"\\end\{table\*?\}", text)) == len(tables)
    for block, table in zip(text.split("\n\n")[1:], tables, strict=True):
        bare = re.sub(r"\\[{}$&#%_]", "", block)
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        body = [line for line in bare.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {line.count("&") + 1 for line in body} == {len(cells(table)[0])}
        assert len(body) == len(cells(table))


@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="LaTeX is not installed: apt-get install texlive-latex-base"
)
def test_latex_compiles(tables, tmp_path):
    (tmp_path / "tables.tex").write_text(to_latex(tables))
    packages = r"\usepackage{booktabs,graphicx}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}\input{{tables}}\end{{document}}"
    (tmp_path / "main.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert "Missing character" not in (tmp_path / "main.log").read_text()


def test_the_ending_says_what_is_written(tables, tmp_path):
    for ending, form in FORMATS.items():
        path = tmp_path / "deep" / f"tables{ending.upper()}"
        write_tables(path, tables)
        assert path.read_text() == form(tables)
    with pytest.raises(UserError, match=r"tables\.pdf must end in \.md, \.csv, \.tex, \.html"):
        format_of(Path("tables.pdf"))


def test_a_page_fits_a_phone(tables, tmp_path, browser):
    write_tables(tmp_path / "tables.html", tables)
    page = browser.new_page(viewport={"width": 360, "height": 700})
    page.goto((tmp_path / "tables.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.close()

import json

import pytest
import yaml

from gffnet.data.catalog import dataset_classes
from gffnet.recipe import load_recipe
from gffnet.reports.tables import find_scores, method_name, own_sections
from tests.analysis.scored import MULTI, save_run, save_scores


def sections(*paths):
    return own_sections(find_scores(paths))


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
    (found,) = sections(tmp_path)
    assert (found.name, found.title) == ("camvid", "camvid: not in the paper")
    methods = [line.method for line in found.lines]
    assert methods[:7] == [
        "PSPNet",
        *(f"PSPNet + {fusion}" for fusion in ("Concat", "Addition", "FPN", "Gated FPN", "GFF", "GFF + DFP")),
    ]
    assert [bool(line.ours) for line in found.lines[:7]] == [True, *[False] * 5, True]
    last = found.lines[6]
    assert last.ours["miou"].mean == pytest.approx(55)
    assert last.ours_gain["miou"] == pytest.approx(5)
    assert last.gain_error["miou"] == pytest.approx(1)
    assert last.seeds == (0, 1)
    assert found.lines[0].ours_gain == found.lines[0].gain_error == {}


def test_thin_classes_and_the_iou_of_every_class(tmp_path):
    of_class = dict.fromkeys(dataset_classes("camvid").names, 0.5)
    for seed, pole in enumerate((0.1, 0.3)):
        classes = {"per_class": {**of_class, "pole": pole, "sign": 0.2, "pedestrian": 0.4, "bicyclist": 0.5}}
        save_run(tmp_path / str(seed), "camvid/gffnet_r18", 0.5, f"seed={seed}", other=classes)
    whole, by_class = sections(tmp_path)
    thin = next(line for line in whole.lines if line.ours).ours["thin"]
    assert thin.values == pytest.approx((30, 35))
    assert "Thin classes: pole, sign, pedestrian, bicyclist." in whole.remark
    assert (by_class.name, by_class.by_class, len(by_class.scores)) == ("camvid_classes", True, 11)
    (line,) = by_class.lines
    assert line.method == "PSPNet + GFF + DFP"
    assert line.ours["pole"].values == pytest.approx((10, 30))


def test_protocols_and_settings_are_never_mixed(tmp_path):
    save_scores(tmp_path / "p", "camvid/pspnet_r18", 0.5)
    save_scores(tmp_path / "p2", "camvid/pspnet_r18", 0.6, scales=MULTI)
    save_scores(tmp_path / "a", "camvid/gffnet_r18", 0.7)
    save_scores(tmp_path / "b", "camvid/gffnet_r18", 0.8, scales=MULTI)
    save_run(tmp_path / "c", "camvid/gffnet_r18", 0.9, "training.iterations=3000")
    (found,) = sections(tmp_path)
    told = {line.method: (line.ours["miou"].mean, line.ours_gain.get("miou")) for line in found.lines if line.ours}
    many = "scales 0.75 1 1.25 1.5 1.75"
    assert told == {
        "PSPNet": (50, None),
        f"PSPNet, {many}": (60, None),
        "PSPNet + GFF + DFP": (70, pytest.approx(20)),
        f"PSPNet + GFF + DFP, {many}": (80, pytest.approx(20)),
        "PSPNet + GFF + DFP, training.iterations 3000": (90, None),
    }
    assert "camvid val, whole images, single scale, not mirrored" in found.remark


def test_what_stands_in_the_paper_is_not_told_again(tmp_path):
    save_scores(tmp_path / "a", "cityscapes/gffnet_r101", 0.8)
    assert sections(tmp_path) == []
    save_scores(tmp_path / "b", "cityscapes/gffnet_r101", 0.7, flip=True)
    save_scores(tmp_path / "c", "cityscapes/pspnet_r101_continued", 0.6)
    (found,) = sections(tmp_path)
    assert found.title == "cityscapes: what stands in no row of the paper"
    assert {line.recipe for line in found.lines} == {"cityscapes/gffnet_r101", "cityscapes/pspnet_r101_continued"}
    assert all(line.recipe in line.method for line in found.lines)


def test_networks_of_one_name_and_such_as_nobody_knows(tmp_path):
    save_scores(tmp_path / "a", "streets/demo", 0.8)
    save_scores(tmp_path / "b", "streets/demo", 0.7, recipe="mine", weights_sha256="other")
    (found,) = sections(tmp_path)
    methods = [line.method for line in found.lines]
    assert "PSPNet + GFF + DFP (streets/demo)" in methods
    assert "PSPNet + GFF + DFP (streets/gffnet_r18)" in methods
    assert methods[-1] == "mine"
    assert found.lines[-1].ours["miou"].mean == 70


def test_recipes_of_another_folder_are_another_protocol_of_training(tmp_path):
    save_scores(tmp_path / "full", "camvid/pspnet_r18", 0.7)
    save_scores(tmp_path / "small", "camvid/reduced/gffnet_r18", 0.5)
    (found,) = sections(tmp_path)
    (gffnet,) = [line for line in found.lines if line.recipe == "camvid/reduced/gffnet_r18"]
    assert gffnet.ours_gain == {}
    save_scores(tmp_path / "plain", "camvid/reduced/pspnet_r18", 0.4)
    (found,) = sections(tmp_path)
    (gffnet,) = [line for line in found.lines if line.recipe == "camvid/reduced/gffnet_r18"]
    assert gffnet.ours_gain["miou"] == pytest.approx(10)
    (found,) = sections(tmp_path / "small")
    assert all(line.recipe.startswith("camvid/reduced/") for line in found.lines)
    assert [line.method for line in found.lines][-2:] == ["PSPNet + GFF + DFP", "PSPNet + GFF + literal DFP"]


def test_ones_own_recipe_is_compared_where_it_trains_alike(tmp_path):
    for name, iterations in (("alike", 1500), ("longer", 3000)):
        base = load_recipe("camvid/reduced/gffnet_r18", [f"training.iterations={iterations}"])
        folder = tmp_path / name
        save_scores(folder / "scores", "camvid/reduced/gffnet_r18", 0.5, recipe=name)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(base.to_mapping()))
        (folder / "run.json").write_text(json.dumps({"recipe": name, "sessions": []}))
    save_scores(tmp_path / "plain", "camvid/reduced/pspnet_r18", 0.4)
    (found,) = sections(tmp_path)
    told = {line.recipe: line.ours_gain.get("miou") for line in found.lines if line.ours}
    assert told == {"alike": pytest.approx(10), "longer": None, "camvid/reduced/pspnet_r18": None}


def test_a_data_set_that_nobody_knows(tmp_path):
    save_scores(tmp_path, "camvid/gffnet_r18", 0.5, dataset="orchard", recipe="mine")
    (found,) = sections(tmp_path)
    assert found.name == "orchard"

"""What of ours stands beside the paper's rows, and what does not."""

import pytest

from gffnet.evaluation.paper import paper_tables
from gffnet.reports.tables import find_scores, paper_sections, table3_cost
from tests.analysis.scored import COST, MULTI, save_run, save_scores


def section(number, *paths):
    return paper_sections(find_scores(paths), COST)[number - 1]


def line(number, method, *paths):
    (found,) = [line for line in section(number, *paths).lines if line.method == method]
    return found


def test_without_runs_all_is_the_papers():
    sections = paper_sections([], COST)
    assert [one.name for one in sections] == [f"table{n}" for n in range(1, 10)]
    for one, table in zip(sections, paper_tables(), strict=True):
        assert [line.method for line in one.lines] == [row.method for row in table.rows]
        assert all(line.paper.items() >= row.scores.items() for line, row in zip(one.lines, table.rows, strict=True))
        assert not any(line.ours for line in one.lines) or one.name == "table3"
        assert not any(line.notes or line.seeds for line in one.lines)


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
    assert sum(len(one.notes) for one in section(4, tmp_path).lines) == 1


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
    lines = [one for one in section(6, tmp_path).lines if one.ours]
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
    test = [one for one in section(5, tmp_path).lines if one.ours]
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
    plain, gff, _ = paper_sections([], cost)[2].lines
    assert (plain.ours["gmac_512"].values, plain.ours_gain) == ((512,), {})
    assert gff.paper_gain["gflops"] == pytest.approx(20)
    assert gff.ours_gain["gmac_768"] == 768
    assert "miou" not in gff.ours

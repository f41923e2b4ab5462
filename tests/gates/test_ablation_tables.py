"""What an ablation is reported as: tables, the observation in words, and files."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from gffnet.data.io import as_array, read_image
from gffnet.errors import CannotWrite
from gffnet.gates.ablation import HOLDS, IN_PART, NOT, UNDECIDED, all_tables, title_of, verdict, write_ablation
from gffnet.gates.figures import class_changes_figure
from tests.gates import records


def test_every_closing_has_its_row() -> None:
    of = records.record()
    table = all_tables(of)[0]
    assert [row[0] for row in table.rows][:6] == ["as learned", "G1", "G2", "G3", "G4", "G1 G2"]
    first, pair = of["closings"][0], of["closings"][4]
    assert table.rows[1][1] == f"{100 * first['scores']['miou']:.2f}"
    assert table.rows[1][2] == f"{100 * first['difference']['miou']:+.2f}"
    assert table.rows[1][5] == f"{100 * first['scores']['boundary_f']['3']['mean']:.2f}"
    alone = [closing["difference"]["miou"] for closing in of["closings"][:2]]
    assert table.rows[5][-1] == f"{100 * sum(alone):+.2f}"
    assert float(table.rows[5][2]) == pytest.approx(100 * pair["difference"]["miou"], abs=0.005)
    assert {len(row) for row in table.rows} == {len(table.headings)}


def test_parts_have_the_scores_as_learned_and_what_each_gate_changes() -> None:
    of = records.record()
    _, classes, distances, sizes, _ = all_tables(of)
    name = next(iter(of["learned"]["per_class"]))
    changes = [closing["difference"]["per_class"][name] for closing in of["closings"][:4]]
    assert classes.rows[0] == [
        *(name, f"{100 * of['learned']['per_class'][name]:.2f}"),
        *(f"{100 * change:+.2f}" for change in changes),
    ]
    assert distances.headings == ["distance", "as learned", "G1", "G2", "G3", "G4"]
    assert [row[0] for row in distances.rows] == [
        *("0 to 2 px", "2 to 4 px", "4 to 8 px", "8 to 16 px", "16 to 32 px", "above 32 px")
    ]
    assert distances.rows[-1][1:] == ["—"] * 5, "no pixel is so far from a boundary"
    assert [row[0].split(":")[0] for row in sizes.rows] == ["small", "medium", "large"]


def test_numbers_below_the_last_digit_have_no_sign() -> None:
    of = records.record()
    of["closings"][0]["difference"]["miou"] = -1e-9
    assert all_tables(of)[0].rows[1][2] == "+0.00"


def test_what_a_gate_serves_and_by_how_much() -> None:
    table = all_tables(records.record())[-1]
    assert table.rows[1] == ["G2", "2.00", "2.00", "0.50", "[0.50, 0.50]", "2.00", "2.00", "undecided"]


@pytest.mark.parametrize(
    ("value", "pairs", "levels", "said"),
    [(0.0, True, 4, "gates closed"), (1.0, False, 4, "gates opened"), (0.5, True, 5, "gates at 0.5")],
)
def test_titles(value: float, pairs: bool, levels: int, said: str) -> None:
    of = records.record(levels=levels, pairs=pairs, value=value)
    assert title_of(of) == f"cam_vid/r18 on camvid val, 9 images of 101: {said}"
    assert len(all_tables(of)[0].rows) == 1 + levels + pairs * levels * (levels - 1) // 2


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (HOLDS, "holds here: every gate does so."),
        (IN_PART, "holds in part here: not every gate does so"),
        (NOT, "does not hold here: the upper gates serve boundaries more"),
        (UNDECIDED, "is not decided here: too little is lost"),
    ],
)
def test_the_observation_in_words(of: str, said: str) -> None:
    record = records.record(levels=5)
    record["observation"] |= {"verdict": of, "lean_apart": 0.25, "interval": [0.125, 0.375]}
    record["observation"]["gates"][4]["serves"] = "too small to say"
    text = verdict(record)
    assert text.startswith("The paper's observation, G1 and G2 serve boundaries and G3, G4 and G5 large patterns, ")
    assert said in text
    assert "Mean lean, lower less upper gates: +0.25 [0.12, 0.38]." in text
    assert text.endswith("G5 loses less than 0.1 points.")


def test_all_is_written(tmp_path: Path) -> None:
    of = records.record()
    write_ablation(tmp_path / "out", of)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"ablation.json", "ablation.md", "by_class.png", "by_distance.png"}
    assert json.loads((tmp_path / "out/ablation.json").read_text()) == of
    assert np.array_equal(as_array(read_image(tmp_path / "out/by_class.png")), class_changes_figure(title_of(of), of))
    text = (tmp_path / "out/ablation.md").read_text()
    assert text.startswith("# cam\\_vid/r18 on camvid val, 9 images of 101: gates closed\n\n## With gates closed")
    assert "| gates | mIoU | change |" in re.sub(" +", " ", text)
    assert "class \\<0>$\\_" in text
    assert verdict(of).split(" Mean")[0] in text


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite):
        write_ablation(tmp_path / "file", records.record(3, 2))

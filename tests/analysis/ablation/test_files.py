"""The files that closing gates leaves."""

import json
from pathlib import Path

import numpy as np
import pytest

from gffnet.data.io import as_array, read_image
from gffnet.errors import CannotWrite
from gffnet.gates.ablation import class_figure, verdict, write_ablation
from tests.analysis import records


def test_all_is_written(tmp_path: Path) -> None:
    of = records.record()
    write_ablation(tmp_path / "out", of)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"ablation.json", "ablation.md", "by_class.png", "by_distance.png"}
    assert json.loads((tmp_path / "out/ablation.json").read_text()) == of
    assert np.array_equal(as_array(read_image(tmp_path / "out/by_class.png")), class_figure(of))
    text = (tmp_path / "out/ablation.md").read_text()
    assert text.startswith("# cam\\_vid/r18 on camvid val, 9 images of 101: gates closed\n\n## With gates closed")
    assert "| gates | mIoU | change |" in text
    assert "class \\<0>$\\_" in text
    assert verdict(of).split(" Mean")[0] in text


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite):
        write_ablation(tmp_path / "file", records.record(3, 2))

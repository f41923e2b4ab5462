"""The page docs/report.md: its Python runs, and what it says of numbers is so."""

import re
from pathlib import Path

import pytest

from gffnet.reports.report import MOST_CELLS
from gffnet.streets import write_streets
from tests import tiny
from tests.analysis.runs import make_run

PAGE = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")


def test_the_python_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    write_streets(tmp_path / "data/streets", 1, 2, size=(64, 128), workers=1)
    make_run(tmp_path / "runs/streets/gffnet_r18", tiny.GFFNET, dataset="streets")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/report.md", "exec"), {"__name__": "docs.report"})
    assert Path("report.html").read_text(encoding="utf-8").count("<article") == 2
    assert Path("runs/streets/gffnet_r18/scores/scores.json").is_file()


def test_numbers() -> None:
    assert f"more than {MOST_CELLS} classes it is a picture" in PAGE

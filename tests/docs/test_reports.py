"""The page docs/reports.md: its Python runs, and its numbers are the code's."""

from pathlib import Path

import pytest

from gffnet.data.io import write_image
from gffnet.models.gffnet import save_model
from gffnet.reports.report import MAX_CELLS
from gffnet.streets import write_streets
from tests import tiny
from tests.docs.pages import blocks, read_page
from tests.reports.runs import make_run

PAGE = read_page("reports.md")
REPORT, COMPARISON = blocks(PAGE, "python")


def test_the_block_on_reports_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_streets(tmp_path / "data/streets", 1, 2, size=(64, 128), workers=1)
    make_run(tmp_path / "runs/streets/gffnet_r18", tiny.GFFNET, dataset="streets")
    monkeypatch.chdir(tmp_path)
    exec(compile(REPORT, "docs/reports.md", "exec"), {"__name__": "docs.reports"})
    assert Path("report.html").read_text(encoding="utf-8").count("<article") == 2
    assert Path("runs/streets/gffnet_r18/scores/scores.json").is_file()


def test_the_block_on_comparisons_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, model in (("pspnet_r18", tiny.PSPNET), ("gffnet_r18", tiny.GFFNET)):
        recipe = tiny.recipe(model)
        save_model(tmp_path / "runs/camvid" / name / "model", tiny.network(recipe), tiny.config(recipe))
    write_image(tmp_path / "photo.jpg", tiny.picture(1, 64, 96))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "docs.reports"}
    exec(compile(COMPARISON, "docs/reports.md", "exec"), names)
    assert Path("compared/photo.pdf").is_file()
    assert names["numbers"]["images"][0]["changed"] >= 0  # type: ignore[index]


def test_numbers() -> None:
    assert f"more than {MAX_CELLS} classes it is a picture" in " ".join(PAGE.split())

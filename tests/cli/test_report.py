"""`gffnet report`: what it writes, says and refuses."""

from pathlib import Path

import pytest

from gffnet.cli.main import main
from tests import tiny
from tests.data.trees import camvid_tree
from tests.reports.runs import make_run

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_training_alone_and_then_with_data_and_baseline(run: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["report", str(run)]) == 0
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == ("", f"report: {run}/report.html")
    page = (run / "report.html").read_text(encoding="utf-8")
    assert 'id="training"' in page
    assert 'id="protocol"' not in page

    root, other = camvid_tree(tmp_path / "CamVid"), make_run(tmp_path / "other", tiny.PSPNET, seed=1)
    words = ["report", str(run), "--root", str(root), "--baseline", str(other), "--images", "3", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "new/page.html")]) == 0
    assert f"scores: {run}/scores" in capsys.readouterr().err
    page = (tmp_path / "new/page.html").read_text(encoding="utf-8")
    for part in ("scores", "confusion", "images", "gates", "training", "cost", "protocol", "again"):
        assert f'id="{part}"' in page
    assert page.count("<article") == 3
    assert "points over" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images", "many"], "--images 'many' must be a whole number from 0 to 200"),
        (["--dataset", "camvid"], "Pass --root DIR"),
        (["--root", "nowhere"], "nowhere"),
        (["--dataset", "camvit", "--root", "."], "Did you mean 'camvid'?"),
        (["--scores", "nowhere"], "nowhere"),
        (["--baseline", "nowhere"], "nowhere does not exist"),
        (["--out", "."], "--out . is a folder"),
    ],
)
def test_mistakes(words: list[str], said: str, run: Path, capsys: Captured) -> None:
    assert main(["report", str(run), *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert not (run / "report.html").exists()


def test_what_is_no_run(tmp_path: Path, capsys: Captured) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert f"run {tmp_path} is no run folder" in capsys.readouterr().err

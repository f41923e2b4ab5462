"""`gffnet tables`: what it prints and writes, and what it says to mistakes."""

import json
from pathlib import Path

import pytest
from rich.cells import cell_len

from gffnet.cli.main import main
from tests.reports.scored import COST, save_run

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs that are not counted anew."""
    monkeypatch.setattr("gffnet.reports.tables.table3_cost", lambda: COST)


def test_without_runs_the_tables_are_the_papers(capsys: Captured) -> None:
    assert main(["tables"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "gffnet tables RUN..." in err
    assert main(["tables", "--all"]) == 0
    printed = capsys.readouterr().out
    for text in ("Table 1.", "Table 9.", "80.4 (+1.8)", "DeepLabv3+", "fine train and val set", "motorcycle", "40.20"):
        assert text in printed


def test_ours_is_printed_and_written(tmp_path: Path, capsys: Captured) -> None:
    for seed in range(2):
        save_run(tmp_path / "runs" / str(seed), "cityscapes/pspnet_r101_gff", 0.7 + 0.1 * seed, f"seed={seed}")
    save_run(tmp_path / "runs" / "x", "camvid/gffnet_r18", 0.5)
    runs = ["tables", str(tmp_path / "runs")]
    assert main(runs) == 0
    printed = capsys.readouterr().out
    assert "75.0 ± 7.1" in printed
    assert [title for title in (f"Table {i}." for i in range(1, 10)) if title in printed] == [
        f"Table {i}." for i in (1, 2, 3)
    ]
    assert "camvid: not in the paper" in printed
    for ending in ("md", "csv", "tex", "html"):
        path = tmp_path / f"tables.{ending}"
        assert main([*runs, "--out", str(path)]) == 0
        assert "PSPNet + GFF" in path.read_text()
        out, err = capsys.readouterr()
        assert (out, err) == ("", f"tables: {path}\n")
    assert main([*runs, "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    (found,) = [entry for entry in entries if entry["table"] == "camvid" and entry["ours"] and entry["score"] == "miou"]
    assert (found["ours"], found["seeds"], found["recipe"]) == (50, "0", "camvid/gffnet_r18")


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_what_is_printed_fits_and_is_whole(
    columns: int, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wide table is printed in pieces with the first column in each; no number is cut or wrapped."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.chdir(tmp_path)
    for name in ("camvid/gffnet_r18", "camvid/pspnet_r18"):
        for seed in range(2):
            save_run(Path(name) / str(seed), name, 0.5 + 0.1 * seed, f"seed={seed}", "training.iterations=7")
    save_run(Path("flipped"), "cityscapes/gffnet_r101", 0.5, flip=True)
    assert main(["tables", "--all", "."]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(map(cell_len, lines)) <= columns
    assert "…" not in printed
    assert "55.0 ± 7.1 (0.0 ± 0.0)" in printed
    for column in ("GMAC at 768x768", "540.0 (+40.0)"):
        assert column in " ".join(printed.split())
    note = next(i for i, line in enumerate(lines) if line.startswith("1: "))
    assert lines[note + 1].startswith("   ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["--out", "tables.xls"], "must end in .md, .csv, .tex, .html"),
        (["--out", "FILE/tables.md"], "cannot write"),
        (["EMPTY"], "holds no scores.json"),
    ],
)
def test_mistakes(words: list[str], said: str, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    places = {"FILE": str(tmp_path / "file"), "EMPTY": str(tmp_path / "empty")}
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    assert main(["tables", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1

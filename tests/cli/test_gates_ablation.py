"""`gffnet gates-ablation`: what it prints and writes, against `gffnet evaluate`, and its mistakes."""

import json
from pathlib import Path

import pytest

import gffnet.gates.ablation as ablation
from gffnet.cli.main import main
from gffnet.models.gffnet import save_model
from tests import tiny
from tests.gates import closing

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """A tiny network, a data set, and a protocol of several windows."""
    recipe = tiny.recipe(tiny.GFFNET, evaluation={"crop": [24, 32], "overlap": 0.25})
    save_model(tmp_path / "run/model", closing.network(), tiny.config(recipe))
    root = closing.scenes(tmp_path / "CamVid")
    places = ["--model", str(tmp_path / "run"), "--dataset", "camvid", "--root", str(root)]
    return [*places, "--device", "cpu", "--precision", "float32"]


def test_without_closing_it_is_evaluate(given: list[str], capsys: Captured) -> None:
    """Every number, through both commands, with a protocol of one's own."""
    protocol = ["--scales", "0.75", "1", "--flip", "--batch", "2", "--json"]
    assert main(["gates-ablation", *given, *protocol, "--no-pairs"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert main(["evaluate", *given, *protocol]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert {**record["protocol"], "value": None} == {**scores.pop("protocol"), "value": None}
    assert record["learned"] == {key: scores[key] for key in scores if key not in {"images", "images_per_second"}}
    assert record["images"] == record["of_images"] == scores["images"] == 3
    assert len(record["closings"]) == 4


def test_all_is_written_and_printed(given: list[str], tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "out"
    assert main(["gates-ablation", *given, "--limit", "2", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"ablation.json", "ablation.md", "by_class.png", "by_distance.png"}
    record = json.loads((out / "ablation.json").read_text())
    assert (record["images"], record["of_images"]) == (2, 3)
    printed = capsys.readouterr().out
    for text in ("2 images of 3", "G3 G4", "pedestrian", "above 32 px", "large", "serves", "The paper's observation"):
        assert text in printed
    assert f"{100 * record['closings'][0]['scores']['miou']:.2f}" in printed


@pytest.mark.parametrize("name", ["ablation.json", "ablation.md", "by_class.png", "by_distance.png"])
def test_files_of_others_are_not_replaced(name: str, given: list[str], tmp_path: Path, capsys: Captured) -> None:
    """Such as those of `gffnet ablation`."""
    words = ["gates-ablation", *given, "--limit", "1", "--no-pairs", "--out", str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text('{"runs": []}')
    assert main(words) == 2
    assert f"out/{name} is there already, and is not of an earlier command" in capsys.readouterr().err
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ['{"runs": []}']
    (tmp_path / "out" / name).unlink()
    assert main(words) == main(words) == 0
    for written in ("ablation.md", "by_class.png"):  # as if interrupted before
        (tmp_path / "out" / written).unlink()
    assert main(words) == 0


def test_interrupted_and_resumed(
    given: list[str], tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["gates-ablation", *given[:-1], "auto", "--no-pairs", "--out", str(tmp_path / "out")]
    monkeypatch.setenv("GFFNET_PRECISION", "bfloat16")
    with monkeypatch.context() as broken:
        broken.setattr(ablation, "predict_edited", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(words) == 130
    assert "resume with --resume" in capsys.readouterr().err
    monkeypatch.setenv("GFFNET_PRECISION", "float32")
    assert main([*words, "--resume", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["images"], record["protocol"]["precision"]) == (3, "bfloat16")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--resume"], "--out DIR"),
        (["--limit", "0"], "--limit '0'"),
        (["--value", "2"], "from 0, which closes a gate, to 1"),
        (["--compile"], "unrecognized arguments: --compile"),
        (["--memory", "1MB"], "too little for an image"),
    ],
)
def test_mistakes(options: list[str], said: str, given: list[str], capsys: Captured) -> None:
    assert main(["gates-ablation", *given, *options]) == 2
    assert said in capsys.readouterr().err


def test_a_model_without_gates(given: list[str], tmp_path: Path, capsys: Captured) -> None:
    save_model(tmp_path / "run/model", tiny.network(tiny.recipe()), tiny.config(tiny.recipe()))
    assert main(["gates-ablation", *given]) == 2
    assert "has no gates: its fusion is 'none'" in capsys.readouterr().err

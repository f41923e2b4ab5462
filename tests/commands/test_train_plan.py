"""`gffnet train --plan`: what it prints, and that nothing but printing comes of it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from gffnet.cli.main import main
from gffnet.cli.train_plan import _duration, _flops, _number, _size, print_plan
from gffnet.training.dry_run import Plan, Room, Speed, Throughput, plan
from tests import tiny
from tests.data.trees import folder_tree

Captured = pytest.CaptureFixture[str]
MEASURED = Throughput(2.0, 1, (32, 48), 5, 4e11, 1e12, 0.99)


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(tiny.recipe(tiny.GFFNET, iterations=86_400, batch=4).to_mapping()))
    return str(path)


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan(tiny.recipe(tiny.GFFNET, iterations=86_400, batch=4), 1.0)


def shown(captured: Captured, of: Plan, **changes: Any) -> str:
    """What is printed of a plan, on lines of any length."""
    print_plan("tests/tiny", dataclasses.replace(of, **changes))
    return " ".join(captured.readouterr().out.split())


def test_the_plan_for_other_hardware(
    recipe: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = Path(recipe).name  # a whole path may be too long for one line
    assert main(["train", name, "--plan", "--throughput", "2", "--set", "model.backbone.weights=imagenet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"{name}: 2 days at 2 images/s, 12 hours on 4 such\n")
    for said in ("1 device: 2 days   2: 24 hours   4: 12 hours", "86,400 iterations of 4 images of 32x48", "as given"):
        assert said in out
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"], "nothing was written"


def test_the_plan_as_json_and_nothing_else(recipe: str, capsys: Captured) -> None:
    words = ["train", recipe, "--plan", "--json", "--throughput", "2", "--devices", "4", "--out", "nowhere"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    mapping = json.loads(out)
    assert err == ""
    assert mapping["recipe"] == recipe
    assert mapping["devices"] == 4
    assert mapping["memory"]["images"] == 1
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--json"], "--json goes with --plan only"),
        (["--throughput", "2"], "--throughput goes with --plan only"),
        (["--plan", "--throughput", "0"], "--throughput '0' must be a number of images a second above 0"),
        (["--plan", "--throughput", "fast"], "--throughput 'fast'"),
        (["--plan", "--throughput", "inf"], "--throughput 'inf'"),
        (["--plan", "--throughput", "1", "--devices", "3"], "training.batch 4 cannot be shared evenly by 3"),
    ],
)
def test_mistakes(words: list[str], said: str, recipe: str, capsys: Captured) -> None:
    assert main(["train", recipe, *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_classes_of_ones_own_data(tmp_path: Path, capsys: Captured) -> None:
    root = folder_tree(tmp_path / "mine")
    words = ["train", "folder/gffnet_r18", "--plan", "--json", "--throughput", "1", "--root", str(root)]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["classes"] != 19


def test_what_was_measured(planned: Plan, capsys: Captured) -> None:
    text = shown(capsys, planned, speed=Speed(2.0, MEASURED))
    assert text.startswith(f"tests/tiny: 2 days here ({planned.here}), 12 hours on 4 such run")
    assert "with 1 image of 32x48 at a time: 400 GFLOP/s, 40% of a matrix product's 1 TFLOP/s" in text
    assert "scaled" not in text
    assert "doubtful" not in text
    smaller = dataclasses.replace(MEASURED, crop=(16, 16), processor=0.5)
    text = shown(capsys, planned, speed=Speed(2.0, smaller), devices=2)
    assert "24 hours on 2 devices, 2 days on one, here" in text
    assert "scaled to the crop by its number of pixels" in text
    assert "doubtful, see below" in text
    assert "other programs were running, and left 50% of the processor" in text


def test_what_could_not_be_measured(planned: Plan, capsys: Captured) -> None:
    text = shown(capsys, planned, speed=Speed(None, reason="there is a reason"))
    assert "tests/tiny: how long it takes is not known: there is a reason" in text
    assert "plan for another machine by --throughput" in text


def test_what_fits(planned: Plan, capsys: Captured) -> None:
    memory = planned.memory
    assert " fits: with what" in shown(capsys, planned, room=Room(10**12, 4))
    assert " fit" not in shown(capsys, planned, room=Room(None, 4))
    text = shown(capsys, planned, room=Room(memory.needed(2), 2))
    assert "does not fit" in text
    assert "2 images at a time would fit: --set training.device_batch=2" in text
    text = shown(capsys, planned, room=Room(memory.lasting, None, (16, 32)))
    assert "--set training.crop='[16, 32]' --set training.device_batch=1" in text
    assert "nor does one image, of any size" in shown(capsys, planned, room=Room(1, None))


def test_numbers_are_short() -> None:
    days = 86400.0
    times = (0.04, 59, 89, 90, 3600, 5400, days, 36 * 3600, 9.04 * days, 400 * days, 900 * days)
    assert [_duration(seconds) for seconds in times] == [
        "0.04 seconds",
        "59 seconds",
        "89 seconds",
        "1.5 minutes",
        "60 minutes",
        "1.5 hours",
        "24 hours",
        "1.5 days",
        "9 days",
        "400 days",
        "2.5 years",
    ]
    assert [_size(size) for size in (2.4e6, 9.99e8, 2.87e10)] == ["2 MB", "999 MB", "28.7 GB"]
    assert [_flops(flops) for flops in (1.26e5, 4e9, 4.6e12, 3.684e18)] == [
        "0.13 MFLOP",
        "4 GFLOP",
        "4.6 TFLOP",
        "3684 PFLOP",
    ]
    assert [_number(value) for value in (0.0123, 9.96, 12.3, 1234.5)] == ["0.012", "10", "12", "1234"]

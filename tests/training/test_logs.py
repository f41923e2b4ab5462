"""Tables, TensorBoard and Weights & Biases, read back by what others read them with."""

import csv
import importlib.util
import itertools
import json
import logging
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from gffnet.errors import UserError
from gffnet.training.callbacks import Log, Tables, TensorBoard, WeightsAndBiases, series

ROOT = Path(__file__).parents[2]
CLASSES = ("road", "traffic light", 'a, "b"')


def losses(iteration: int, **more: Any) -> dict[str, Any]:
    return {
        **{"iteration": iteration, "loss": 1 / iteration, "auxiliary_loss": 2 / iteration, "learning_rate": 0.5},
        **{"images_per_second": 8.0, "memory": 10**9, **more},
    }


def scores(iteration: int) -> dict[str, Any]:
    iou = [0.25, None, iteration / 100]
    return {"iteration": iteration, "miou": iteration / 50, "pixel_accuracy": 0.75, "iou": iou, "seconds": 3.5}


STORY = [losses(10), losses(20), scores(20), losses(30), losses(40), scores(40)]


def tell(log: Log, first: int = 0, last: int = 40) -> Log:
    log.start(first)
    for event in STORY:
        if first < event["iteration"] <= last:
            log.write(event)
    return log


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# Tables


def test_tables_hold_every_event(tmp_path: Path) -> None:
    tell(Tables(tmp_path, CLASSES)).close()
    rows = read(tmp_path / "losses.csv")
    assert [int(row["iteration"]) for row in rows] == [10, 20, 30, 40]
    assert [float(row["loss"]) for row in rows] == [1 / 10, 1 / 20, 1 / 30, 1 / 40]
    assert {row["gradient_norm"] for row in rows} == {""}
    assert read(tmp_path / "scores.csv") == [
        {
            **{"iteration": str(i), "miou": str(i / 50), "pixel_accuracy": "0.75", "seconds": "3.5"},
            **{"road": "0.25", "traffic light": "", 'a, "b"': str(i / 100)},
        }
        for i in (20, 40)
    ]


def test_norms_have_a_column(tmp_path: Path) -> None:
    tables = Tables(tmp_path, CLASSES)
    tables.start(0)
    tables.write(losses(10, gradient_norm=1.5))
    assert read(tmp_path / "losses.csv")[0]["gradient_norm"] == "1.5"


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("at", [0, 10, 20, 40])
def test_tables_of_a_resumed_run_are_those_of_an_unbroken_one(at: int, torn: bool, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    tell(Tables(whole, CLASSES))
    tell(Tables(broken, CLASSES))
    if torn:
        for name, text in (("losses.csv", "50,0.0"), ("scores.csv", '50,1.0,0.75,3.5,0.25,,"0.')):
            with (broken / name).open("a") as file:
                file.write(text)
    tell(Tables(broken, CLASSES), first=at)
    for name in ("losses.csv", "scores.csv"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(path.name for path in broken.iterdir()) == ["losses.csv", "scores.csv"]


def test_every_cut_of_a_table_leaves_its_whole_lines(tmp_path: Path) -> None:
    tell(Tables(tmp_path, CLASSES))
    path = tmp_path / "scores.csv"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        Tables(tmp_path, CLASSES).start(40)
        lines = whole[:length].count(b"\n")
        assert path.read_bytes().splitlines() == whole.splitlines()[: max(lines, 1)]


def test_a_table_of_other_columns_is_taken_over_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "losses.csv").write_text("loss,iteration,gone\n0.5,10,x\n0.25,20,y\n,,\n")
    Tables(tmp_path, CLASSES).start(10)
    (row,) = read(tmp_path / "losses.csv")
    assert (row["iteration"], row["loss"], row["memory"]) == ("10", "0.5", "")
    assert "gone" not in row


def test_a_full_disk_surfaces(tmp_path: Path) -> None:
    tables = Tables(tmp_path, CLASSES)
    tables.start(0)
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no device that is always full")
    tables.losses = full
    with pytest.raises(OSError, match="No space left"):
        tables.write(losses(10))


# TensorBoard


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions follow each other by seconds at least: event files are read in the order of that."""
    count = itertools.count(1_700_000_000)
    monkeypatch.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: float(next(count))))


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.usefixtures("seconds")
def test_tensorboard_shows_every_series(tmp_path: Path) -> None:
    tell(TensorBoard(tmp_path, CLASSES)).close()
    shown = points(tmp_path)
    assert shown["loss/main"] == [(i, pytest.approx(1 / i)) for i in (10, 20, 30, 40)]
    assert shown["score/miou"] == [(20, pytest.approx(0.4)), (40, pytest.approx(0.8))]
    assert shown["iou/road"] == [(20, 0.25), (40, 0.25)]
    assert set(shown) == {
        *("loss/main", "loss/auxiliary", "learning_rate", "throughput/images_per_second", "memory"),
        *("score/miou", "score/pixel_accuracy", "throughput/validation_seconds", "iou/road", 'iou/a, "b"'),
    }


@pytest.mark.usefixtures("seconds")
def test_tensorboard_is_up_to_date_after_every_event(tmp_path: Path) -> None:
    """As where the process is killed."""
    board = tell(TensorBoard(tmp_path, CLASSES), last=20)
    assert points(tmp_path)["score/miou"] == [(20, pytest.approx(0.4))]
    board.close()


@pytest.mark.usefixtures("seconds")
@pytest.mark.parametrize("at", [0, 10, 20, 40])
def test_tensorboard_shows_a_resumed_run_as_an_unbroken_one(at: int, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    tell(TensorBoard(whole, CLASSES)).close()
    tell(TensorBoard(broken, CLASSES)).close(failed=True)
    tell(TensorBoard(broken, CLASSES), first=at).close()
    assert points(broken) == points(whole)


def test_tensorboard_is_imported_when_it_starts() -> None:
    """By the one process that writes."""
    code = "import sys, gffnet.training.callbacks; print('tensorboard' in sys.modules, 'wandb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


# Weights & Biases


def wandb_log(folder: Path) -> WeightsAndBiases:
    return WeightsAndBiases(folder, CLASSES, "tests", {"training": {"batch": 2}}, name="a run")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Quiet, without a network, and nothing outside the folder of the test."""
    wandb = pytest.importorskip("wandb")
    for name, value in {
        **{"WANDB_MODE": "offline", "WANDB_X_DISABLE_STATS": "true", "WANDB_X_DISABLE_MACHINE_INFO": "true"},
        **{f"WANDB_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "CACHE", "DATA")},
    }.items():
        monkeypatch.setenv(name, value)
    yield
    wandb.teardown()


def sent(folder: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """What every offline run in a run folder would send: its history, row by row."""
    from wandb.proto.wandb_internal_pb2 import Record

    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        rows = []
        for data in records(path.read_bytes()):
            if items := Record.FromString(data).history.item:
                rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
        yield path, rows


def records(log: bytes) -> Iterator[bytes]:
    """Of a log in LevelDB's format after a header of 7 bytes, as far as it is one block of 32 KiB of whole records."""
    at = 7
    while at + 7 <= len(log):
        _, length, kind = struct.unpack_from("<IHB", log, at)
        assert kind == 1, "a record that is whole"
        yield log[at + 7 : at + 7 + length]
        at += 7 + length


SESSION = """
import sys
from pathlib import Path
from tests.training.test_logs import tell, wandb_log

folder, first, last, failed = sys.argv[1:]
tell(wandb_log(Path(folder)), int(first), int(last)).close(failed == "failed")
"""


def session(folder: Path, first: int, last: int, end: str) -> str:
    """A session of a run in a process of its own, as it is in truth; returns what it said."""
    command = [sys.executable, "-c", SESSION, str(folder), str(first), str(last), end]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=ROOT)
    return done.stdout + done.stderr


@pytest.mark.usefixtures("offline")
def test_a_resumed_run_goes_on_with_its_run_at_weights_and_biases(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert session(run, 0, 20, "failed") == ""
    identity = (run / "wandb_id").read_text()
    assert session(run, 20, 40, "finished") == ""
    assert (run / "wandb_id").read_text() == identity
    (first, before), (second, after) = sent(run)
    assert first.name == second.name == f"run-{identity}.wandb"
    rows = [{key: value for key, value in row.items() if key[0] != "_"} for row in (*before, *after)]
    assert rows == [{"iteration": event["iteration"], **series(event, CLASSES)} for event in STORY]
    assert [row["_step"] for row in (*before, *after)] == [20, 40, 41, 60, 80, 81]
    session(run, 0, 10, "finished")  # begun anew: a run of its own
    assert (run / "wandb_id").read_text() != identity


class Server:
    """In place of the package: a server that knows up to which step it was told."""

    Settings = type("Settings", (SimpleNamespace,), {"model_fields": ()})

    def __init__(self) -> None:
        self.step = 0
        self.rows: list[dict[str, Any]] = []
        self.url = "https://example.org/run"
        self.options: list[dict[str, Any]] = []
        self.exit_codes: list[int] = []

    def setup(self, settings: Any) -> None:
        """Settings for all runs."""

    def init(self, **options: Any) -> "Server":
        self.options.append(options)
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "iteration")

    def log(self, row: dict[str, Any], step: int) -> None:
        assert step >= self.step
        self.rows.append(row)
        self.step = step + 1

    def finish(self, exit_code: int) -> None:
        self.exit_codes.append(exit_code)


@pytest.mark.parametrize("at", [10, 20, 30])
def test_what_weights_and_biases_knows_is_not_sent_again(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("wandb")
    server = Server()
    monkeypatch.setitem(sys.modules, "wandb", server)
    monkeypatch.setattr("gffnet.training.callbacks.find_spec", lambda name: SimpleNamespace(origin=name))
    with caplog.at_level(logging.INFO, "gffnet"):
        log = tell(wandb_log(tmp_path), last=30)
        log.close(failed=True)
        tell(wandb_log(tmp_path), first=at).close()
    assert server.rows == [{"iteration": event["iteration"], **series(event, CLASSES)} for event in STORY]
    assert server.exit_codes == [1, 0]
    first, second = server.options
    assert first["id"] == second["id"] == (tmp_path / "wandb_id").read_text()
    assert (first["project"], first["name"], first["config"]) == ("tests", "a run", {"training": {"batch": 2}})
    assert [record.message for record in caplog.records] == 2 * ["Weights & Biases: https://example.org/run"]


def test_where_the_package_is_missing_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        assert name == "wandb"

    monkeypatch.setattr("gffnet.training.callbacks.find_spec", missing)
    with pytest.raises(UserError, match=r"needs the package wandb, which is missing: `pip install 'gffnet\[wandb\]'`"):
        wandb_log(tmp_path)


def test_a_folder_called_wandb_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder_of_no_package").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    found = importlib.util.find_spec("folder_of_no_package")
    assert found is not None
    monkeypatch.setattr("gffnet.training.callbacks.find_spec", lambda name: found)
    with pytest.raises(UserError, match="is missing"):
        wandb_log(tmp_path)


@pytest.mark.parametrize("make", [lambda folder: Tables(folder, CLASSES), lambda folder: TensorBoard(folder, CLASSES)])
def test_nothing_is_written_before_the_start(make: Callable[[Path], Log], tmp_path: Path) -> None:
    log = make(tmp_path / "run")
    assert isinstance(log, Log)
    log.close()
    assert not (tmp_path / "run").exists()


def test_what_is_not_known_has_no_series() -> None:
    assert "memory" not in series(losses(10, memory=None), CLASSES)
    assert "iou/traffic light" not in series(scores(10), CLASSES)

"""How long a run waits for its data: what counts, and that it is said where it is much."""

import logging
import time
from itertools import accumulate
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from lightning import Trainer

from gffnet.data.loader import TrainingStream
from gffnet.training import callbacks as data_wait
from gffnet.training.callbacks import DataWait
from gffnet.training.task import SegmentationTask
from gffnet.training.train import train
from tests import tiny
from tests.data.trees import camvid_tree

TRAINER: Any = Mock(spec=Trainer)


def watched(waits: DataWait, monkeypatch: pytest.MonkeyPatch, *steps: tuple[str, float]) -> None:
    """Let a callback see events, each so many seconds after the one before."""
    clock = iter(accumulate((seconds for _, seconds in steps), initial=100.0))
    next(clock)
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    for event, now in zip((event for event, _ in steps), clock, strict=True):  # noqa: B007
        more = {"start": (None, 0), "end": (None, None, 0), "validated": ()}[event]
        hook = {"start": "on_train_batch_start", "end": "on_train_batch_end", "validated": "on_validation_end"}[event]
        getattr(waits, hook)(TRAINER, None, *more)


def test_the_time_between_iterations_counts_but_for_validation_and_the_first_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = DataWait(4, 8)
    assert waits.share == 0
    watched(
        waits,
        monkeypatch,
        ("start", 50),
        ("end", 3),
        ("start", 2),
        ("end", 5),
        ("validated", 1000),
        ("start", 1),
        ("end", 4),
        ("start", 1),
    )
    assert (waits.waited, waits.seconds) == (2 + 1, 3 + 2 + 5 + 4 + 1)
    assert waits.share == pytest.approx(3 / 15)


def test_the_remedy_fits_the_machine() -> None:
    few, many = DataWait(4, 8), DataWait(8, 8)
    for waits in (few, many):
        waits.waited, waits.seconds = 10.0, 20.0
        assert waits.remedy().startswith("50% of the time went by waiting for data. What helps: a ")
        assert waits.remedy().endswith("a cache made by `gffnet data cache`, or a faster disk.")
    assert "helps: a higher training.workers (4 now, 8 at most here), a cache" in few.remedy()
    assert "workers" not in many.remedy()


@pytest.mark.parametrize("slow", ["data", "training"])
def test_a_run_says_so_at_its_end(
    slow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    part: Any = {"data": TrainingStream, "training": SegmentationTask}[slow]
    name = {"data": "__getitem__", "training": "training_step"}[slow]
    real = getattr(part, name)

    def slowly(self: Any, *arguments: Any) -> Any:
        time.sleep(0.3)
        return real(self, *arguments)

    monkeypatch.setattr(part, name, slowly)
    monkeypatch.setattr(data_wait, "ENOUGH", 0.5)
    root = camvid_tree(tmp_path / "CamVid")
    with caplog.at_level(logging.WARNING, "gffnet"):
        train(tiny.recipe(validate_every=6, workers=0), "x", root, tmp_path / "run", progress=False)
    assert ("of the time went by waiting for data" in caplog.text) == (slow == "data")

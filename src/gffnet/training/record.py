"""What ran, in RUN/run.json: enough to run it again, and to see what became of it.

    {
      "gffnet": version that the run began with,  "recipe": its name,  "parameters": of the network,
      "data": {"name": ..., "splits": {"train": {"split": ..., "samples": ..., "fingerprint": ...}, "val": ...}},
      "sessions": [one entry for the start and for every time that the run went on]
    }

A session that was killed has no end: `"ended": null`. The file is whole at every moment.
"""

import json
import logging
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gffnet
from gffnet.data.dataset import Dataset
from gffnet.errors import CannotWrite, RunFailed, Stopped, UserError
from gffnet.files import atomic_write
from gffnet.inference.precision import Precision
from gffnet.training.callbacks import History
from gffnet.training.run_folder import commit, hardware, versions
from gffnet.training.run_folder import describe_dataset as describe

RECORD = "run.json"

log = logging.getLogger("gffnet")


@dataclass(frozen=True)
class Facts:
    """What a run is told to do, as far as its record holds it."""

    recipe: str
    """Its name."""
    dataset: str
    """Its name."""
    splits: Mapping[str, tuple[str, Dataset]]
    """For each use, `train` and `val`, the name of the split and its samples."""
    parameters: int
    precision: Precision
    processes: int = 1
    devices: int = 1
    """On every node."""
    nodes: int = 1


@contextmanager
def recorded(out: Path, facts: Facts, history: History, iteration: int = 0, writes: bool = True) -> Iterator[None]:
    """Keep the record of the session that the `with` block is, and close the logs of its history.

    Args:
        out: the run folder.
        facts: of the run.
        history: of the run, which knows how far it came and how fast.
        iteration: that the session goes on from.
        writes: whether this process is the one that writes.

    Raises:
        CannotWrite: there is no room for the record; where the session has failed, that error is raised instead.
    """
    if writes:
        for change in begin(out, facts, iteration):
            log.warning("%s", change)
    try:
        yield
    except BaseException as error:
        history.close(failed=True)
        if writes:
            with suppress(CannotWrite):
                end(out, _outcome(error), history)
        raise
    history.close()
    if writes:
        end(out, "finished", history)


def begin(out: Path, facts: Facts, iteration: int = 0) -> list[str]:
    """Add a session that starts now to the record of the run in `out`.

    Returns:
        A sentence for every split that is not what it was when the run began.

    Raises:
        CannotWrite: there is no room.
    """
    stored, data = _read(out / RECORD), describe(facts.dataset, facts.splits)
    whole: dict[str, Any] = {
        "gffnet": gffnet.__version__,
        "recipe": facts.recipe,
        "data": data,
        "parameters": facts.parameters,
    }
    if iteration:  # what the run began with stays, whatever it goes on with
        whole |= {key: stored[key] for key in whole.keys() & stored.keys()}
    changes = _changes(whole["data"], data)
    session = {
        "started": _now(),
        "ended": None,
        "outcome": None,
        "from_iteration": iteration,
        "to_iteration": None,
        "command": _command(),
        "versions": versions(),
        "git": commit(),
        "hardware": hardware(),
        "processes": facts.processes,
        "devices": facts.devices,
        "nodes": facts.nodes,
        "precision": {"name": facts.precision.name, "reason": facts.precision.reason},
        "data": data if changes else None,
        "images_per_second": None,
        "memory": None,
    }
    _write(out / RECORD, {**whole, "sessions": [*stored.get("sessions", []), session]})
    return changes


def end(out: Path, outcome: str, history: History) -> None:
    """Complete the entry of the session that `begin` has added.

    Args:
        out: the run folder.
        outcome: how it ended, such as `finished`.
        history: knows how far it came, how fast, and the most memory that it took.

    Raises:
        CannotWrite: there is no room.
    """
    stored = _read(out / RECORD)
    if not stored.get("sessions"):
        return  # somebody has deleted it meanwhile
    session = stored["sessions"][-1]
    session |= {
        "ended": _now(),
        "outcome": outcome,
        "to_iteration": max(session["from_iteration"], history.iteration),
        "images_per_second": history.images_per_second,
        "memory": history.memory,
    }
    _write(out / RECORD, stored)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the data sets of two sessions, in sentences."""
    changes = []
    for use, new in now["splits"].items():
        old = before["splits"].get(use)
        if old is not None and old["fingerprint"] != new["fingerprint"]:
            changes.append(
                f"data set {now['name']!r}, split {new['split']!r}, is not what the run began with: it has "
                f"{new['samples']} samples and had {old['samples']}; names, sizes or labels differ. The run goes on, "
                "with what is there now."
            )
    return changes


def _outcome(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt | SystemExit | Stopped):
        return "interrupted"
    kind = "" if isinstance(error, UserError | RunFailed) else f"{type(error).__name__}: "
    return f"failed: {kind}{' '.join(str(error).split())[:1000]}"


def _command() -> str:
    """The command line of this process, with the program by its name alone."""
    program = Path(sys.argv[0])
    started = ["python", "-m", program.parent.name] if program.name == "__main__.py" else [program.name]
    return shlex.join([*started, *sys.argv[1:]])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read(path: Path) -> dict[str, Any]:
    """The record as far as there is one; one that cannot be read is said and left out."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        stored["sessions"], stored["data"]["splits"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError) as error:
        log.warning("%s cannot be read (%s): the record of the run begins anew", path, error)
        return {}
    record: dict[str, Any] = stored
    return record


def _write(path: Path, record: dict[str, Any]) -> None:
    atomic_write(path, (json.dumps(record, indent=2) + "\n").encode(), durable=True)

"""Records of a run beside its history: tables, TensorBoard, Weights & Biases.

RUN/losses.csv, RUN/scores.csv   one line an event; per-class IoU in columns by the names of the classes
RUN/tensorboard/                 for `tensorboard --logdir RUN`
RUN/wandb_id                     the run at Weights & Biases that a resumed run goes on with

An event is a line of the history. A run that goes on from an iteration repeats what came after it, and a log must then
tell what that of an unbroken run does.
"""

import csv
import io
import logging
import secrets
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from gffnet.errors import UserError
from gffnet.files import write_whole

LOSSES = (
    "iteration",
    "loss",
    "auxiliary_loss",
    "learning_rate",
    "images_per_second",
    "memory",
    "gradient_norm",
)
"""Columns of `losses.csv`."""
SCORES = ("iteration", "miou", "pixel_accuracy", "seconds")
"""First columns of `scores.csv`; the classes follow."""
SERIES = {
    "loss": "loss/main",
    "auxiliary_loss": "loss/auxiliary",
    "learning_rate": "learning_rate",
    "gradient_norm": "gradient_norm",
    "images_per_second": "throughput/images_per_second",
    "seconds": "throughput/validation_seconds",
    "memory": "memory",
    "miou": "score/miou",
    "pixel_accuracy": "score/pixel_accuracy",
}
"""Names of an event's values in TensorBoard and at Weights & Biases; those of the classes are `iou/CLASS`."""

log = logging.getLogger("gffnet")


@runtime_checkable
class Log(Protocol):
    """What is told every event of a run, by the one process that writes. Nothing is written before `start`."""

    def start(self, iteration: int) -> None:
        """Begin, or go on from an iteration: drop or hide what was told of later ones."""

    def write(self, event: dict[str, Any]) -> None:
        """Take an event."""

    def close(self, failed: bool = False) -> None:
        """Finish; `failed`: the run was broken off. May be called without `start`."""


def series(event: Mapping[str, Any], classes: Sequence[str]) -> dict[str, float]:
    """The values of an event by the names of their series; what is not known has none."""
    named = {name: event.get(key) for key, name in SERIES.items()}
    named |= {f"iou/{name}": value for name, value in zip(classes, event.get("iou", ()), strict=False)}
    return {name: value for name, value in named.items() if value is not None}


class Tables:
    """`losses.csv` and `scores.csv`: a header, then one line an event. A cell of what is not known is empty."""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        """`folder`: of the run; `classes`: their names."""
        self.losses = folder / "losses.csv"
        self.scores = folder / "scores.csv"
        self.classes = tuple(classes)

    def start(self, iteration: int) -> None:
        """Write the tables anew, with what they told up to `iteration`.

        Raises:
            CannotWrite: there is no room.
        """
        for path, columns in ((self.losses, LOSSES), (self.scores, (*SCORES, *self.classes))):
            kept = [row for row in _rows(path, columns) if int(row[0]) <= iteration]
            write_whole(path, _text([columns, *kept]).encode())

    def write(self, event: dict[str, Any]) -> None:
        """Append a line to the table of the event.

        Raises:
            OSError: there is no room.
        """
        if "miou" in event:
            path, row = self.scores, [*(event[key] for key in SCORES), *event["iou"]]
        else:
            path, row = self.losses, [event.get(key) for key in LOSSES]
        with path.open("a", encoding="utf-8", newline="") as file:
            file.write(_text([row]))

    def close(self, failed: bool = False) -> None:
        """Nothing: every line is written when it is told."""


def _text(rows: Sequence[Sequence[Any]]) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def _rows(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """The lines of a table below its header, in the order of `columns`; a torn last line is left out."""
    if not path.is_file():
        return []
    text = path.read_bytes().decode("utf-8", errors="replace")
    rows = [row for row in csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline="")) if row]
    header, lines = (rows[0], rows[1:]) if rows else ([], [])
    if header != list(columns):  # as another version wrote it
        named = (dict(zip(header, line, strict=False)) for line in lines)
        lines = [[line.get(name, "") for name in columns] for line in named]
    return [line for line in lines if line[0].isdecimal()]


class TensorBoard:
    """Event files for TensorBoard, which leaves out what a resumed run repeats."""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        """`folder`: of the run; `classes`: their names."""
        self.folder = folder / "tensorboard"
        self.classes = tuple(classes)
        self._writer: Any = None

    def start(self, iteration: int) -> None:
        """Begin a new file, which says that of the others nothing after `iteration` counts."""
        from torch.utils.tensorboard import SummaryWriter  # takes a while to import

        self._writer = SummaryWriter(str(self.folder), purge_step=iteration + 1)

    def write(self, event: dict[str, Any]) -> None:
        """Write a point of every series.

        Raises:
            OSError: there is no room.
        """
        for name, value in series(event, self.classes).items():
            self._writer.add_scalar(name, value, event["iteration"])
        self._writer.flush()

    def close(self, failed: bool = False) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases:
    """A run at Weights & Biases, or, with WANDB_MODE=offline, in RUN/wandb/ for `wandb sync`."""

    def __init__(
        self, folder: Path, classes: Sequence[str], project: str, config: Mapping[str, Any], name: str | None = None
    ) -> None:
        """`folder`: of the run; `classes`: their names; `config`: the recipe, as nested plain values; `name`: to show.

        Raises:
            UserError: the package is missing.
        """
        found = find_spec("wandb")
        if found is None or found.origin is None:  # a mere folder of that name, such as W&B itself makes, is no package
            raise UserError(
                "logging to Weights & Biases needs the package wandb, which is missing: `pip install 'gffnet[wandb]'`."
            )
        self.folder = folder
        self.classes = tuple(classes)
        self.project = project
        self.config = dict(config)
        self.name = name
        self._run: Any = None

    def start(self, iteration: int) -> None:
        """Begin a run there, or go on with the one that the run folder knows.

        Raises:
            wandb.Error: the server cannot be reached, or there is no login.
        """
        import wandb  # optional, and slow to import

        # On a terminal the login asks for a key; where nobody answers, it must not wait for ever.
        wandb.setup(wandb.Settings(silent=True, login_timeout=60))
        self.folder.mkdir(parents=True, exist_ok=True)
        # Not the console: the progress bar would fill the log of the run.
        settings: dict[str, Any] = {"silent": True, "console": "off"}
        if "finish_timeout" in wandb.Settings.model_fields:
            settings["finish_timeout"] = 300
        self._run = wandb.init(
            project=self.project,
            name=self.name,
            config=self.config,
            dir=str(self.folder),
            id=self._id(iteration),
            resume="allow",
            settings=wandb.Settings(**settings),
        )
        self._run.define_metric("*", step_metric="iteration")
        log.info("Weights & Biases: %s", self._run.url or f"offline, in {self.folder / 'wandb'}")

    def write(self, event: dict[str, Any]) -> None:
        """Send the values of an event, unless the run has them from before it was broken off."""
        # Its steps must grow, and losses and scores may belong to one iteration: two steps an iteration.
        step = 2 * event["iteration"] + ("miou" in event)
        if step >= self._run.step:
            self._run.log({"iteration": event["iteration"], **series(event, self.classes)}, step=step)

    def close(self, failed: bool = False) -> None:
        """Send what is left, for five minutes at most, and say how the run ended."""
        if self._run is not None:
            self._run.finish(exit_code=int(failed))

    def _id(self, iteration: int) -> str:
        """Of the run there: that of before where this one goes on, else a new one."""
        path = self.folder / "wandb_id"
        known = path.read_text(encoding="utf-8").strip() if iteration and path.is_file() else ""
        if not known:
            known = secrets.token_hex(4)
            write_whole(path, known.encode())
        return known

"""Train and evaluate several recipes with several seeds, and make one table of them.

    OUT/RECIPE/seed_S/                  the run, with train.log and evaluate.log
    OUT/RECIPE/seed_S/scores/           its evaluation
    OUT/without_FOLD/RECIPE/seed_S/     in place of both, in a cross-validation
    OUT/ablation.md, .json              the table, and all numbers; also of finished runs that earlier calls name
    OUT/ablation_1.md, .json, ...       earlier tables that have runs of other settings

Every run is a `gffnet train` and a `gffnet evaluate` in processes of their own. The folders tell what is done: the same
command started again keeps finished runs and evaluations, and resumes interrupted ones.
"""

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property, lru_cache
from itertools import chain, product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import gffnet
from gffnet.console import screen
from gffnet.data.dataset import Dataset, fingerprint, fold_splits
from gffnet.data.datasets import open_dataset
from gffnet.errors import Damaged, RunFailed, Stopped, UserError
from gffnet.evaluation.evaluate import PARTIAL_FOLDER, plain, saved_settings
from gffnet.evaluation.results import SCORES, read_result
from gffnet.files import atomic_write, cannot_write, utf8, write_json
from gffnet.inference.precision import pick_device
from gffnet.models.gffnet import load_model
from gffnet.models.model_io import CONFIG, hash_weights
from gffnet.parallel import available_cores, restored_signals
from gffnet.recipe import Recipe, load_recorded
from gffnet.recipe.describe import method_name
from gffnet.reports.cost import costs
from gffnet.reports.tables import (
    DETAIL_COLUMNS,
    FOLD_KEYS,
    SCORE_COLUMNS,
    THIN,
    Row,
    ScoredRun,
    Table,
    absence_notes,
    fold_columns,
    mean_over,
    read_scored,
    records,
    samples,
    samples_over_folds,
    to_markdown,
    unlike,
    with_gain,
)
from gffnet.training.callbacks import HISTORY
from gffnet.training.dry_run import free_memory
from gffnet.training.run_folder import RECIPE, is_locked, recorded_fingerprints, resume_point
from gffnet.training.train import find_launch, read_recipe, recipe_folder

TITLE = "Ablation"
LEGEND = (
    "Scores in percent: mean over the seeds ± sample standard deviation. In brackets: the gain over the first recipe, "
    "± its standard error, of the differences between runs of one seed (in a cross-validation, of one seed and fold) "
    "where both have two seeds or more in common."
)
PROGRAM = (sys.executable, "-m", "gffnet")
"""What runs the commands."""
_WEIGHTS = "weights_sha256"
"""Where a protocol records whose scores these are."""
POLL, LOCKED_SECONDS = 0.2, 120.0
"""Seconds between two looks at the processes, and until the end of those that a killed ablation left is not awaited."""


@dataclass(frozen=True)
class Run:
    """A recipe with a seed, and in a cross-validation a fold."""

    name: str
    """Of the recipe, and of the folder."""
    source: str
    """The recipe as it was given."""
    seed: int
    folder: Path
    recipe: Recipe
    """With its seed; `auto` values hold their defaults until the run has started, see `started`."""
    auto: frozenset[str] = frozenset()
    """The keys of these."""
    fold: str | None = None
    """That it is validated on, and trained without."""
    damaged: str = ""
    """What is damaged in its folder, and what to do; such a run is neither trained nor evaluated."""

    @property
    def title(self) -> str:
        return f"{self.name}, seed {self.seed}" + (f", without {self.fold}" if self.fold else "")

    @property
    def scores(self) -> Path:
        """The folder of its evaluation."""
        return self.folder / "scores"

    @property
    def iteration(self) -> int:
        """The newest in its history; 0 before that."""
        try:
            with (self.folder / HISTORY).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return 0
        for line in reversed(lines):
            with suppress(ValueError, LookupError, TypeError):
                return int(json.loads(line)["iteration"])
        return 0

    @property
    def started(self) -> Recipe | None:
        """The recipe as the run has recorded it, with every value; None before it has started."""
        file = self.folder / RECIPE
        with suppress(OSError, UserError):
            return _recorded(file, file.stat().st_mtime_ns)
        return None

    @property
    def iterations(self) -> int | None:
        """That it trains; None if they follow from the data and it has not started."""
        recipe = self.started or (None if "training.iterations" in self.auto else self.recipe)
        return recipe.training.iterations if recipe else None

    @property
    def protocol(self) -> dict[str, Any]:
        """How it is evaluated; a window that follows from the training images is told in words."""
        found, training = plain(self.recipe.evaluation), self.recipe.training
        if "evaluation.crop" in self.auto:  # it is that of training
            known = "training.crop" not in self.auto
            found["crop"] = list(training.crop) if known else f"auto, at most {training.max_crop}"
        return found

    @property
    def trained(self) -> bool:
        return (self.folder / "model" / CONFIG).is_file()  # the last file that a run writes

    @property
    def weights(self) -> str | None:
        """SHA-256 of its finished network, as scores record it; None if there is none that can be loaded."""
        model = self.folder / "model"
        with suppress(OSError, UserError):
            return _hashed(model, (model / CONFIG).stat().st_mtime_ns)
        return None


@lru_cache(maxsize=1024)
def _hashed(model: Path, changed: int) -> str:
    """The hash of a network; `changed`, the time of its last change, makes it be computed anew."""
    return hash_weights(load_model(model)[0])


@lru_cache(maxsize=1024)
def _recorded(file: Path, changed: int) -> Recipe:
    """The recipe.yaml of a run; `changed`, the time of its last change, makes it be read anew."""
    return load_recorded(file)


class Failure(NamedTuple):
    """A run that failed."""

    run: Run
    reason: str


@dataclass(frozen=True)
class Ablation:
    """Recipes, of which the first is the baseline, seeds, and how they are trained and evaluated."""

    recipes: Sequence[str]
    """Names or YAML files."""
    root: Path
    """Folder of the data set."""
    out: Path
    seeds: Sequence[int]
    split: str | None = None
    """To evaluate on; None: the split that the recipes validate on."""
    folds: Sequence[str] = ()
    """Cross-validation: every run is trained on the split `without_FOLD` and scored on `only_FOLD` for each of these.
    A score of the table is then the mean over the folds."""
    overrides: Sequence[str] = ()
    """`section.key=value` changes of every recipe."""
    plugins: Sequence[str] = ()
    cache: Path | None = None
    devices: int | None = None
    """Per run; None: one."""
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    precision: str = "auto"
    """Of the evaluation."""
    _measured: dict[str, dict[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Dry runs by command and environment."""

    @cached_property
    def runs(self) -> list[Run]:
        """Every recipe with every seed.

        Raises:
            UserError: a recipe, seed or fold twice, recipes of several data sets, splits or protocols, splits beside
                folds, or a folder holds a run of another recipe.
        """
        names = [recipe_folder(recipe) for recipe in self.recipes]
        for what, values in ("recipe", names), ("seed", self.seeds), ("fold", self.folds):
            twice = [value for value, count in Counter(values).items() if count > 1]
            if twice:
                raise UserError(f"{what} {twice[0]} is there twice: name every {what} once{self._of_one_name(names)}.")
        self._check_options()
        pick_device(self.device)
        launch = None if self.devices is None or self.device == "cpu" else find_launch(self.devices)
        runs = []
        folds: Sequence[str | None] = self.folds or [None]
        for name, source in zip(names, self.recipes, strict=True):
            for seed, fold in product(self.seeds, folds):
                runs.append(self._run(name, source, seed, fold))
        for run in runs:
            first = next(other for other in runs if other.fold == run.fold)
            if _data(run.recipe) != _data(first.recipe):
                raise UserError(
                    f"recipe {run.source} is of {_data(run.recipe)}, and {first.source} of {_data(first.recipe)}: "
                    "compare recipes of one data set and split, or set the same: --set data.train_split=train."
                )
            if other := [key for key, value in run.protocol.items() if value != first.protocol[key]]:
                key = other[0]
                value = first.protocol[key]
                remedy = None if isinstance(value, str) else value
                raise UserError(
                    f"recipe {run.source} is evaluated with {key} {run.protocol[key]}, and {first.source} with "
                    f"{value}: scores of one table are of one protocol. Set the same for all: "
                    f"--set evaluation.{key}={json.dumps(remedy).replace(' ', '')}."
                )
            if launch is not None:
                launch.split(run.recipe.training.batch)
        return runs

    def _folder(self, name: str, seed: int, fold: str | None) -> Path:
        return self.out / (f"without_{fold}" if fold else "") / name / f"seed_{seed}"

    def _run(self, name: str, source: str, seed: int, fold: str | None) -> Run:
        folder, changes, damaged = self._folder(name, seed, fold), self._changes(seed, fold), ""
        recipe, auto = read_recipe(source, changes)
        try:
            recipe, _ = read_recipe(source, changes, resumed=folder)
            resume_point(folder, recipe, resume=True)
        except Damaged as error:
            damaged = str(error)
        return Run(name, source, seed, folder, recipe, frozenset(auto), fold, damaged)

    def _of_one_name(self, names: Sequence[str]) -> str:
        """What to do about files that have one name; empty if there are none."""
        sources = sorted({source for name, source in zip(names, self.recipes, strict=True) if names.count(name) > 1})
        return f"; rename one of {' and '.join(sources)}, whose runs would share a folder" if len(sources) > 1 else ""

    def check_data(self) -> None:
        """Open every split once, so that a mistake is said before anything starts.

        Raises:
            UserError: as `open_dataset`; or a run has been trained on other data.
        """
        found: dict[str, Dataset] = {}
        for name, split in dict.fromkeys(
            (run.recipe.data.name, split)
            for run in self.runs
            for split in (run.recipe.data.train_split, run.recipe.data.val_split, self._split(run))
        ):
            try:
                found[split] = open_dataset(name, self.root, split, self.cache)
            except UserError as error:
                fold = next((fold for fold in self.folds if split in fold_splits(fold)), None)
                if fold is None or repr(split) not in str(error):
                    raise
                raise UserError(
                    f"--folds {fold}: {error} A fold F needs the splits without_F and only_F; "
                    "write folds with spaces between."
                ) from None
        now: dict[str, str] = {}
        for run in self.runs:
            for split, before in recorded_fingerprints(run.folder).items():
                if split in found and split not in now:
                    now[split] = fingerprint(found[split])
                if now.get(split, before) != before:
                    raise UserError(
                        f"--root {self.root}: {run.folder} was trained on other data, as its split {split!r} tells: "
                        "files or classes have changed since. Give the data that it was trained on, or another --out."
                    )

    def _check_options(self) -> None:
        """Raise `UserError` for options that contradict each other."""
        if not all(self.folds):
            raise UserError(
                "--folds '': a fold has a name, such as 0006R0 of CamVid; leave out --folds to train on one split."
            )
        if any(override.partition("=")[0].strip() == "seed" for override in self.overrides):
            raise UserError("--set seed=...: the seeds of an ablation are those of --seeds.")
        if self.folds and (self.split or any(each.partition("=")[0].strip() in FOLD_KEYS for each in self.overrides)):
            given = "--split" if self.split else "--set data.train_split or data.val_split"
            raise UserError(f"{given}: the splits of --folds are without_FOLD and only_FOLD; leave one of the two out.")
        if self.device not in {"auto", "cpu", "cuda"}:
            raise UserError(
                f"--device {self.device}: an ablation takes auto, cpu or cuda, and divides all GPUs among its runs."
            )

    @property
    def scored_splits(self) -> list[str]:
        """The split to evaluate on, or those of the folds."""
        return list(dict.fromkeys(self._split(run) for run in self.runs))

    def _split(self, run: Run) -> str:
        return self.split or run.recipe.data.val_split

    def _changes(self, seed: int, fold: str | None) -> list[str]:
        """The overrides of a run."""
        return [*self.overrides, *self._splits(fold), f"seed={seed}"]

    def _splits(self, fold: str | None) -> list[str]:
        return [f"{key}={split}" for key, split in zip(FOLD_KEYS, fold_splits(fold), strict=True)] if fold else []

    def train_command(self, run: Run) -> list[str]:
        """What trains a run, or resumes it."""
        changes = [word for override in self._changes(run.seed, run.fold) for word in ("--set", override)]
        out = ["--out", str(run.folder)]
        return [*PROGRAM, "train", run.source, *out, *self._data_options(), *changes, *self._device_options, "--resume"]

    def evaluate_command(self, run: Run) -> list[str]:
        """What scores a trained run, or resumes that; partial results of another network, protocol, kind of device or
        version of gffnet are removed by it."""
        dataset = ["--dataset", run.recipe.data.name, "--split", self._split(run)]
        how = ["--device", self.device, "--precision", self.precision]
        same = {"gffnet": gffnet.__version__, "device": pick_device(self.device).type}
        partial = saved_settings(run.scores / PARTIAL_FOLDER)
        fits = all(self._fits(run, settings) and same.items() <= settings.items() for settings in partial)
        out = ["--out", str(run.scores), *["--resume"] * fits]
        data = self._data_options(run.recipe.plugins)  # a run's plug-ins are imported only if they are named
        return [*PROGRAM, "evaluate", "--model", str(run.folder), *dataset, *data, *how, *out]

    def _data_options(self, plugins: Sequence[str] = ()) -> list[str]:
        cache = [] if self.cache is None else ["--cache", str(self.cache)]
        named = [word for plugin in dict.fromkeys((*self.plugins, *plugins)) for word in ("--plugin", plugin)]
        return ["--root", str(self.root), *cache, *named]

    @property
    def _device_options(self) -> list[str]:
        return [] if self.devices is None else ["--devices", str(self.devices)]

    # What is left, and what it takes

    def evaluated(self, run: Run) -> bool:
        """Whether the finished network of a run is scored as the evaluation would score it.

        By the same split and protocol; on the same kind of device and in the same precision, if they are not `auto`.
        Scores that do not record whose they are must be newer than the network.
        """
        file = run.scores / SCORES
        if run.damaged or not run.trained or not file.is_file():
            return False
        try:
            found = read_result(file).scores.protocol
        except UserError:  # damaged
            return False
        newer = file.stat().st_mtime >= (run.folder / "model" / CONFIG).stat().st_mtime
        return (newer or _WEIGHTS in found) and self._fits(run, found)

    def _fits(self, run: Run, protocol: Mapping[str, Any]) -> bool:
        """Whether scores of this protocol, and of these weights if it has them, are what the evaluation would make."""
        recipe = run.started or run.recipe
        wanted = {**plain(recipe.evaluation), "dataset": recipe.data.name, "split": self._split(run)}
        wanted |= {"precision": self.precision} if self.precision != "auto" else {}
        device = str(protocol.get("device")).partition(":")[0]
        same = wanted == {key: protocol.get(key) for key in wanted} and self.device in {"auto", device}
        return same and (_WEIGHTS not in protocol or protocol[_WEIGHTS] == run.weights)

    def left(self) -> list[Run]:
        """The runs to train or to evaluate, seed after seed, so that whole seeds are done first."""
        left = [run for run in self.runs if not run.damaged and not self.evaluated(run)]
        return sorted(left, key=lambda run: list(self.seeds).index(run.seed))

    @property
    def damaged(self) -> list[Failure]:
        """The runs of which a file is damaged."""
        return [Failure(run, run.damaged) for run in self.runs if run.damaged]

    def state(self, run: Run) -> str:
        """What is done of a run, in words."""
        if run.damaged:
            return "damaged"
        if self.evaluated(run):
            return "done"
        if run.trained:
            return "trained, to be evaluated"
        iteration = resume_point(run.folder, run.recipe, resume=True).iteration
        return f"to be resumed at iteration {iteration:,}" if iteration else "to be trained"

    def iterations_left(self, run: Run) -> int | None:
        """To train; None if they follow from the data and the run has not started."""
        if run.trained or run.damaged:
            return 0
        total = run.iterations
        return None if total is None else total - resume_point(run.folder, run.recipe, resume=True).iteration

    def measure(self, source: str, environment: dict[str, str], fold: str | None = None) -> dict[str, Any]:
        """The dry run of a recipe, `gffnet train --plan --quick --json`, once, in a process of its own.

        In a cross-validation, it needs a fold: the data set may have no other splits.

        Raises:
            RunFailed: it failed.
        """
        overrides = [*self.overrides, *self._splits(fold)]
        changes = [word for override in overrides for word in ("--set", override)]
        options = [*self._data_options(), *changes, *self._device_options]
        command = [*PROGRAM, "train", source, "--plan", "--quick", "--json", *options]
        key = json.dumps([command, environment], sort_keys=True)
        if key in self._measured:
            return self._measured[key]
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **environment},
            preexec_fn=_PREEXEC,
        )
        if done.returncode:
            raise RunFailed(f"the dry run of {source} failed: {_last_error(done.stderr)}")
        self._measured[key] = json.loads(done.stdout)
        return self._measured[key]

    def slots(self, jobs: int | None = None) -> "list[dict[str, str]]":
        """Environments for the runs that are processed at a time: their GPUs, or their threads.

        Args:
            jobs: their number; None: one a GPU (or `devices` of them); on a CPU half its cores, as far as memory goes.
        """
        visible = self._gpus()
        if visible:
            each = min(self.devices or 1, len(visible))
            groups = [visible[i : i + each] for i in range(0, len(visible) - each + 1, each)]
            jobs = jobs or len(groups)
            return [{"CUDA_VISIBLE_DEVICES": ",".join(groups[i % len(groups)])} for i in range(jobs)]
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if self.device == "cpu" else {}
        cores = available_cores()
        if jobs is None:
            jobs = max(1, min(cores // 2 // (self.devices or 1), len(self.left())))
            if jobs > 1:
                jobs = self._within_memory(jobs, {**hidden, "OMP_NUM_THREADS": str(max(1, cores // jobs))})
        share = max(1, cores // jobs // (self.devices or 1))
        threads = os.environ.get("OMP_NUM_THREADS", str(share - share // 4))  # of four cores, one may load
        return [{**hidden, "OMP_NUM_THREADS": threads} for _ in range(jobs)]

    def _gpus(self) -> list[str]:
        """The GPUs to be divided, as CUDA_VISIBLE_DEVICES names them."""
        if self.device == "cpu":
            return []
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
        return (named or [str(i) for i in range(count)])[:count]

    def _within_memory(self, jobs: int, environment: dict[str, str]) -> int:
        """`jobs`, or as many as the memory holds of the recipe with the most operations per iteration."""
        free = free_memory(torch.device("cpu"))

        def operations(run: Run) -> float:
            (row,) = costs([(run.name, run.recipe)], run.recipe.training.crop)
            return float(row["macs"]) * (run.recipe.training.device_batch or run.recipe.training.batch)

        unfinished = {run.name: run for run in self.left() if not run.trained}
        if free is None or not unfinished:
            return jobs
        largest = max(unfinished.values(), key=operations)
        screen.print(f"measuring the memory of {largest.name}, for --jobs")
        peak = self.measure(largest.source, environment, largest.fold)["memory"]["peak"]
        return jobs if not peak else max(1, min(jobs, int(free / (1.1 * peak))))

    # Running

    def run(self, slots: Sequence[dict[str, str]]) -> list[Failure]:
        """Train and evaluate what is left, as many at a time as there are `slots`.

        Returns:
            The runs that failed, and those that are damaged; the others are done.

        Raises:
            Stopped, KeyboardInterrupt: SIGTERM or Ctrl-C was received; the processes have saved what they did.
            CannotWrite: a folder cannot be written to.
        """
        left = self.left()
        with stop_signals() as received, _Shown(self.runs) as shown:
            _wait_for_locks(left, received)
            scheduler = _Scheduler(self, left, slots, shown)
            try:
                while scheduler.busy:
                    scheduler.step(received)
                    time.sleep(POLL)
            finally:
                scheduler.kill()
        if received:
            again = f"{len(self.left())} of {len(self.runs)} runs are left; resume with the same command"
            if received[0] == signal.SIGINT:
                raise KeyboardInterrupt(again)
            raise Stopped(f"stopped by SIGTERM: {again}.")
        return [*self.damaged, *scheduler.failures]

    # The table

    def table(self) -> Table:
        """The scores of the runs that are done (see `tabulated`), a row for every recipe, with gains over the first.

        Raises:
            UserError: a `scores.json` is damaged.
        """
        methods = {run.name: method_name(run.recipe.model) for run in self.tabulated}
        repeated = {method for method, count in Counter(methods.values()).items() if count > 1}
        rows: list[Row] = []
        measured: tuple[str, ...] = ()
        for name, method in methods.items():
            of = [run for run in self.tabulated if run.name == name]
            left = [run for run in of if not self.evaluated(run)]
            seeds = sorted({run.seed for run in of} - {run.seed for run in left})
            scored = {seed: [_scored(run) for run in of if run.seed == seed] for seed in seeds}
            if scored and not measured:
                measured = next(iter(scored.values()))[0].measured
                if self.folds:
                    measured = (mean_over(self.folds), *measured[1:])
            missing = ", ".join(f"{run.seed}{f' without {run.fold}' if run.fold else ''}" for run in left)
            absent = absence_notes(chain(*scored.values())) if self.folds else []
            row = Row(
                f"{method} ({name})" if method in repeated else method,
                recipe=name,
                protocol=", ".join(measured) if scored else "",
                ours=samples_over_folds([*scored.values()])
                if self.folds
                else samples([run for (run,) in scored.values()]),
                seeds=tuple(seeds),
                notes=(*[f"not done: seed {missing}"] * bool(missing), *absent),
            )
            rows.append(with_gain(row, rows[0]) if rows else row)
        columns = [*SCORE_COLUMNS, THIN, *fold_columns(self.folds), *DETAIL_COLUMNS]
        columns = [column for column in columns if any(column.key in row.ours for row in rows)]
        return Table(
            "ablation",
            f"{TITLE} on {self.runs[0].recipe.data.name} {', '.join(self.scored_splits)}",
            columns or [SCORE_COLUMNS[0]],
            rows,
            f"Protocol: {', '.join(measured)}." if measured else "",
        )

    def write(self, table: Table, failures: Sequence[Failure] = ()) -> None:
        """Write `ablation.json` and `ablation.md`; an earlier table with other runs, or one of others, is renamed.

        Raises:
            CannotWrite: they cannot be written.
        """
        self._keep_earlier_table()
        text = to_markdown([table], title=TITLE, legend=LEGEND)
        write_json(self.out / "ablation.json", self.to_mapping(table, failures))  # first: it says whose the table is
        atomic_write(self.out / "ablation.md", text)

    @cached_property
    def tabulated(self) -> list[Run]:
        """The runs of the table: these, and the finished ones of earlier calls into `out` whose settings agree.

        With such, recipes stand in the order of the earlier table, which so keeps its baseline.
        """
        before, agree = self._earlier_table()
        own, found = {(run.name, run.seed) for run in self.runs}, list[Run]()
        folds: Sequence[str | None] = self.folds or [None]
        for name, seed in dict.fromkeys((name, seed) for name, seed, _ in before):
            if agree and (name, seed) not in own:
                with suppress(UserError):  # of a recipe.yaml that is missing or damaged
                    runs = [self._earlier_run(name, seed, fold) for fold in folds]
                    found += runs if all(self.evaluated(run) and self._agrees(run) for run in runs) else []
        names = [*(name for name, _, _ in before if found), *(run.name for run in self.runs)]
        return sorted([*found, *self.runs], key=lambda run: names.index(run.name))

    def _earlier_run(self, name: str, seed: int, fold: str | None) -> Run:
        folder = self._folder(name, seed, fold)
        return Run(name, name, seed, folder, load_recorded(folder / RECIPE), fold=fold)

    def _agrees(self, run: Run) -> bool:
        """Whether a run is of the same data and protocol as those of this call, and of the same recipe if they have one
        name."""
        of_fold = [other for other in self.runs if other.fold == run.fold]
        of_name = [other for other in of_fold if other.name == run.name]
        first = of_fold[0].started or of_fold[0].recipe
        same = (_data(run.recipe), run.recipe.evaluation) == (_data(first), first.evaluation)
        return same and not any(unlike(run.recipe, other.started or other.recipe) for other in of_name[:1])

    def _earlier_table(self) -> tuple[list[tuple[str, int, str | None]], bool]:
        """Recipe, seed and fold of the finished runs of the table in `out`, and whether its settings are the same."""
        try:
            record = json.loads((self.out / "ablation.json").read_text(encoding="utf-8"))
            runs = [(run["recipe"], run["seed"], run.get("fold")) for run in record["runs"] if run["done"]]
            settings = record["split"], sorted(record["overrides"])
        except FileNotFoundError:
            return [], not (self.out / "ablation.md").exists()  # a table without a record is another's
        except (OSError, ValueError, LookupError, TypeError, AttributeError):  # damaged
            return [], False
        return runs, settings == (", ".join(self.scored_splits), sorted(self.overrides))

    def _keep_earlier_table(self) -> None:
        """Rename the table in `out` if it has runs that this one has not, or is another's."""
        before, agree = self._earlier_table()
        if agree and {*before} <= {(run.name, run.seed, run.fold) for run in self.tabulated}:
            return
        files = [self.out / name for name in ("ablation.md", "ablation.json")]
        taken = {path.stem for path in self.out.glob("ablation_*")}
        number = next(i for i in range(1, sys.maxsize) if f"ablation_{i}" not in taken)
        for each in files:
            with suppress(FileNotFoundError):
                each.rename(each.with_stem(f"ablation_{number}"))
        what = "the table of earlier runs, of other settings," if before else "what was in the place of the table"
        screen.print(f"{what} is now {files[0].with_stem(f'ablation_{number}')}")

    def to_mapping(self, table: Table, failures: Sequence[Failure] = ()) -> dict[str, Any]:
        """All numbers as plain values: every run, and every score of the table."""
        reasons = {failure.run.folder: failure.reason for failure in failures}
        runs = []
        for run in self.tabulated:
            done = self.evaluated(run)
            scores = read_scored(run.scores / SCORES).scores if done else None
            runs.append(
                {
                    "recipe": run.name,
                    "seed": run.seed,
                    **({"fold": run.fold} if run.fold else {}),
                    "folder": str(run.folder),
                    "done": done,
                    "failed": reasons.get(run.folder),
                    "miou": scores.miou if scores else None,
                    "pixel_accuracy": scores.pixel_accuracy if scores else None,
                }
            )
        return {
            "split": ", ".join(self.scored_splits),
            "overrides": list(self.overrides),
            "runs": runs,
            "scores": list(records([table])),
        }


def _scored(run: Run) -> ScoredRun:
    """The evaluation of a run, of which it is known what was trained even if run.json is damaged."""
    return replace(read_scored(run.scores / SCORES), recipe=run.started or run.recipe)


def _data(recipe: Recipe) -> str:
    data = recipe.data
    return f"{data.name} (train: {data.train_split}, validation: {data.val_split})"


# Processes


@dataclass
class _Process:
    """A command of a run that is being executed."""

    run: Run
    slot: dict[str, str]
    stage: str
    """`train` or `evaluate`."""
    process: "subprocess.Popen[bytes]"
    log: Path
    began: float = field(default_factory=time.monotonic)


class _Scheduler:
    """Start processes where slots are free, and the evaluation of a run after its training."""

    def __init__(
        self, ablation: Ablation, left: Sequence[Run], slots: Sequence[dict[str, str]], shown: "_Shown"
    ) -> None:
        self.ablation = ablation
        self.waiting = deque(left)
        self.slots = list(slots)
        self.shown = shown
        self.active: list[_Process] = []
        self.failures: list[Failure] = []
        self.signals = 0

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.active)

    def step(self, received: list[int]) -> None:
        """Pass on signals, look after the processes that ended, and start others."""
        if len(received) > self.signals:
            self.signals = len(received)
            self.waiting.clear()
            if self.signals == 1:
                number = len(self.active)
                screen.print(f"stopping: {number} run{'s' * (number != 1)} saving; press Ctrl-C again to stop at once")
            for each in self.active:
                with suppress(ProcessLookupError):
                    each.process.terminate() if self.signals == 1 else _kill(each.process)
        for each in [each for each in self.active if each.process.poll() is not None]:
            self.active.remove(each)
            self._ended(each)
        while self.waiting and self.slots:
            run = self.waiting.popleft()
            self._start(run, self.slots.pop(), "evaluate" if run.trained else "train")
        self.shown.update(self.active)

    def _start(self, run: Run, slot: dict[str, str], stage: str) -> None:
        command = self.ablation.evaluate_command(run) if stage == "evaluate" else self.ablation.train_command(run)
        path = run.folder / f"{stage}.log"
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as log:
                log.write(utf8(f"$ {shlex.join(command)}\n"))
                log.flush()
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **slot},
                    start_new_session=True,  # Ctrl-C in the terminal reaches this process alone, which passes it on
                    preexec_fn=_PREEXEC,
                )
        except OSError as error:
            raise cannot_write(path, error) from None
        self.active.append(_Process(run, slot, stage, process, path))

    def _ended(self, each: _Process) -> None:
        code, seconds = each.process.returncode, time.monotonic() - each.began
        if code:
            self.slots.append(each.slot)
            if not self.signals:
                failure = Failure(each.run, _reason(each.stage, code, each.log))
                self.failures.append(failure)
                screen.print(f"failed: {each.run.title}: {failure.reason}")
            return
        took = timedelta(seconds=round(seconds))
        if each.stage == "train" and not self.signals:
            screen.print(f"trained in {took}: {each.run.title}")
            self._start(each.run, each.slot, "evaluate")
            return
        self.slots.append(each.slot)
        if each.stage == "evaluate":
            with suppress(UserError):
                miou = read_scored(each.run.scores / SCORES).scores.miou
                score = "" if miou is None else f", mIoU {100 * miou:.1f}"
                screen.print(f"evaluated in {took}: {each.run.title}{score}")

    def kill(self) -> None:
        """End what is running after an error."""
        for each in self.active:
            with suppress(ProcessLookupError):
                _kill(each.process)
            each.process.wait()
        self.active = []


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process at once, and where there are process groups those that it started."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:  # Windows
        process.kill()


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """In a new process: receive SIGTERM, upon which it saves, if the ablation is killed."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


_PREEXEC = _end_with_parent if _libc is not None else None


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list instead of being ended by them."""
    received: list[int] = []
    with restored_signals() as before:
        for number in before:
            signal.signal(number, lambda number, _: received.append(number))
        yield received


def _wait_for_locks(runs: Sequence[Run], received: Sequence[int]) -> None:
    """Wait for the processes that an ablation left which was killed: they are saving."""
    end = time.monotonic() + LOCKED_SECONDS
    locked = [run for run in runs if is_locked(run.folder)]
    if locked:
        screen.print(f"waiting for {len(locked)} run(s) that still write to their folders")
    while any(is_locked(run.folder) for run in locked) and time.monotonic() < end and not received:
        time.sleep(POLL)


def _reason(stage: str, code: int, log: Path) -> str:
    """Why a process failed, in one line."""
    with suppress(OSError):
        text = log.read_text(encoding="utf-8", errors="replace").rpartition("\n$ ")[2]
        if error := _last_error(text):
            return f"{error} (see {log})"
    if code == -9:  # SIGKILL, which Windows lacks
        return f"{stage} was killed, perhaps because memory ran out: try fewer --jobs (see {log})"
    return f"{stage} ended with exit code {code} (see {log})"


def _last_error(text: str) -> str:
    """The last line that says `error: ...`, else the last line of a traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else lines[-1] if any("Traceback" in line for line in lines) else ""


class _Shown:
    """Progress on standard error: a bar of all iterations, one of each run that is processed, and lines above them."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        columns = TextColumn("{task.description}", markup=False), BarColumn(24), TextColumn("{task.fields[state]}")
        self.bars = Progress(
            *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=screen, disable=not screen.is_terminal,
            transient=True, speed_estimate_period=600.0,
        )  # fmt: skip
        self.tasks: dict[str, TaskID] = {}
        self.whole = TaskID(0)

    def __enter__(self) -> "_Shown":
        self.bars.start()
        self.whole = self.bars.add_task("all runs", total=None, state="")
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def update(self, active: Sequence[_Process]) -> None:
        """Show what is processed."""
        if not screen.is_terminal:
            return
        now = {each.run.title: each for each in active}
        for title in [title for title in self.tasks if title not in now]:
            self.bars.remove_task(self.tasks.pop(title))
        for title, each in now.items():
            if title not in self.tasks:
                self.tasks[title] = self.bars.add_task(title, total=each.run.iterations, state="")
            iteration, total = each.run.iteration, each.run.iterations
            state = "evaluating" if each.stage == "evaluate" else f"{iteration}/{total or '?'}"
            self.bars.update(self.tasks[title], completed=iteration, total=total, state=state)
        trained = sum(run.trained for run in self.runs)
        done, whole = self.progress()
        self.bars.update(self.whole, completed=done, total=whole, state=f"{trained}/{len(self.runs)} trained")

    def progress(self) -> tuple[float, float | None]:
        """Iterations that are done, and those of all runs: one that is not known counts as the mean of the others."""
        totals = [run.iterations for run in self.runs]
        known = [total for total in totals if total is not None]
        done = sum((total or 0) if run.trained else run.iteration for run, total in zip(self.runs, totals, strict=True))
        return done, len(self.runs) * sum(known) / len(known) if known else None


# The plan


class Estimate(NamedTuple):
    """What is left to do of a recipe."""

    recipe: str
    states: tuple[str, ...]
    """Of its runs, by seed."""
    seconds: float
    """Training that is left, of all its runs."""


def estimate(ablation: Ablation, slots: Sequence[dict[str, str]]) -> list[Estimate]:
    """Measure every recipe that is left to train in a dry run.

    Raises:
        RunFailed: a dry run failed.
    """
    found = []
    for name in dict.fromkeys(run.name for run in ablation.runs):
        runs = [run for run in ablation.runs if run.name == name]
        unfinished = [run for run in runs if not run.trained and not run.damaged]
        seconds = 0.0
        if unfinished:
            screen.print(f"measuring {name}")
            measured = ablation.measure(unfinished[0].source, slots[0], unfinished[0].fold)
            per_iteration, total = measured["seconds_per_iteration"], measured["iterations"]
            starts = (resume_point(run.folder, run.recipe, resume=True).iteration for run in unfinished)
            seconds = sum(per_iteration * (total - start) for start in starts)
        found.append(Estimate(name, tuple(map(ablation.state, runs)), seconds))
    return found

"""Scores to fill tables with: what `gffnet evaluate --out` wrote, and what the run folder says of how they came."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gffnet.errors import UserError
from gffnet.evaluation.paper import Match, match
from gffnet.evaluation.result import SCORES, read_result
from gffnet.recipe import Recipe, load_recipe, recipe_from_mapping, recipe_names
from gffnet.training.record import RECORD
from gffnet.training.run_folder import differences

_ABOVE = 3
"""Folders above the scores that are looked in for the run that they are of."""
_NO_MATTER = {
    "seed",
    "precision",
    "training.workers",
    "training.init_from",
    "training.validate_every",
    "training.checkpoint_every",
    "training.keep_every",
    "training.compile",
    "training.device_batch",
}
"""What a run may have otherwise than its recipe and still be a run of it; its evaluation is told by the protocol."""

Protocol = tuple[str, ...]
"""What must be the same for scores to be compared, in words."""


@dataclass(frozen=True, eq=False)
class Scored:
    """One evaluation of one network."""

    path: Path
    """Of its `scores.json`."""
    scores: Mapping[str, Any]
    recipe: Recipe | None
    """What it was trained by; None: neither a run folder nor the package knows."""
    seed: int | None
    """None: the run folder is not there to tell."""
    changes: tuple[str, ...]
    """What the run has otherwise than the recipe that it is called after, such as `training.iterations 2000`."""

    @property
    def name(self) -> str:
        """The recipe's."""
        return str(self.scores["protocol"].get("recipe"))

    @property
    def protocol(self) -> Mapping[str, Any]:
        """As `scores.json` holds it."""
        protocol: Mapping[str, Any] = self.scores["protocol"]
        return protocol

    @property
    def found(self) -> Match:
        """The paper's row that it may stand in by recipe and protocol, or why there is none."""
        return match(self.protocol)

    @property
    def in_paper(self) -> bool:
        """Whether it stands in a row of the paper: the settings are the recipe's, too."""
        return self.found.row is not None and not self.changes

    @property
    def measured(self) -> Protocol:
        """The protocol in words: data set and split, window, scales, mirroring."""
        get = self.protocol.get
        crop, scales = get("crop"), " ".join(f"{scale:g}" for scale in get("scales") or [1.0])
        window = f"window {crop[0]}x{crop[1]}, overlap {get('overlap'):.2g}" if crop else "whole images"
        scale = "single scale" if scales == "1" else f"scales {scales}"
        return f"{get('dataset')} {get('split')}", window, scale, "mirrored" if get("flip") else "not mirrored"


def find_scores(paths: Sequence[Path]) -> list[Scored]:
    """The scores in files and folders, which are searched to any depth; the same weights by the same protocol once.

    Raises:
        UserError: a path does not exist or holds no scores, or a file is damaged.
    """
    files: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise UserError(
                f"{path} does not exist: give a folder that `gffnet evaluate --out` wrote, or one above it."
            )
        found = sorted(path.rglob(SCORES)) if path.is_dir() else [path]
        if not found:
            raise UserError(
                f"{path} holds no {SCORES}, at whatever depth. Score the run first: gffnet evaluate --model {path} "
                f"--dataset NAME --root DIR --out {path / 'scores'}."
            )
        files.update(dict.fromkeys(found))
    scored: dict[tuple[Any, ...], Scored] = {}
    for file in files:
        one = _read(file)
        scored.setdefault((one.protocol.get("weights_sha256", file), one.measured), one)
    return list(scored.values())


def _read(path: Path) -> Scored:
    """The scores in a file."""
    scores = read_result(path).scores
    name = scores["protocol"].get("recipe")
    shipped = load_recipe(name) if name in recipe_names() else None
    own = _of_run(path, name)
    changes = _changes(own, shipped) if own and shipped else ()
    return Scored(path, scores, own or shipped, own.seed if own else None, changes)


def _of_run(path: Path, name: str) -> Recipe | None:
    """The recipe in the run folder that holds the scores in a file, if it is a run of that name."""
    for folder in path.absolute().parents[:_ABOVE]:
        try:
            if json.loads((folder / RECORD).read_text(encoding="utf-8"))["recipe"] == name:
                stored = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
                return recipe_from_mapping(stored, str(folder / "recipe.yaml"))
        except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
            continue  # no run folder, or none that tells
    return None


def unlike(own: Recipe, other: Recipe) -> list[str]:
    """The settings in which two recipes differ, but for those that do not matter and for the evaluation."""
    found = differences(other.to_mapping(), own.to_mapping())
    return [key for key in found if key not in _NO_MATTER and not key.startswith("evaluation.")]


def _changes(own: Recipe, shipped: Recipe) -> tuple[str, ...]:
    """The settings of a run that are not its recipe's, with their values."""
    return tuple(f"{key} {_value(own.to_mapping(), key)}" for key in unlike(own, shipped))


def _value(mapping: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key."""
    value: Any = mapping
    for part in key.split("."):
        value = value[part]
    return value

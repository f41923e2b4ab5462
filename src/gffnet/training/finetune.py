"""Initialise a network from a trained run (`training.init_from`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from gffnet.errors import UserError
from gffnet.inference.model_io import load_model
from gffnet.models.gffnet import SegmentationModel


class Initialized(NamedTuple):
    """Which parts of a network were initialised from a run, and which have fresh weights."""

    loaded: tuple[str, ...]
    """Such as `backbone`."""
    fresh: tuple[str, ...]
    """The auxiliary head is always among them, since no model has one."""

    def __str__(self) -> str:
        return f"{', '.join(self.loaded)}; fresh: {', '.join(self.fresh)}"


def initialize_from(run: str | Path, network: SegmentationModel, classes: Sequence[str], whole: bool) -> Initialized:
    """Load backbone and context of a trained run into `network`, or all of it, strictly.

    With `whole`, the classifier's weights are loaded for the classes that the run knows by the same name, in any order;
    those of the other classes stay fresh.

    Args:
        run: a run folder, a model folder or a checkpoint.
        network: changed in place.
        classes: the names of its classes, in order.
        whole: load all parts, not only backbone and context.

    Raises:
        UserError: there is no such run, or a part has another architecture.
    """
    trained, config = load_model(run)
    parts = [name for name, _ in network.named_children()]
    loaded = [name for name in parts if name != "head"] if whole else ["backbone", "context"]
    for part in loaded:
        source = getattr(trained, part)
        if source is None:
            raise _mismatch(run, part, "the run has none")
        try:
            getattr(network, part).load_state_dict(source.state_dict())
        except RuntimeError as error:
            raise _mismatch(run, part, " ".join(str(error).split())[:200]) from None
    fresh = [name for name in parts if name not in loaded]
    if whole:
        known = [name for name in classes if name in config.classes]
        new = [name for name in classes if name not in known]
        _load_classes(run, trained, config.classes, network, classes)
        if known:
            loaded.append("head" if not new else f"head for {_listed(known)}")
        fresh = [f"head for {_listed(new)}"] if new else []
    return Initialized(tuple(loaded), (*fresh, "auxiliary head"))


def _load_classes(
    run: str | Path, trained: SegmentationModel, old: Sequence[str], network: SegmentationModel, new: Sequence[str]
) -> None:
    """Load the classifier's weights of the classes that both networks have."""
    source, target = trained.head.classifier, network.head.classifier
    if source.weight.shape[1:] != target.weight.shape[1:]:
        raise _mismatch(run, "head", f"it takes {source.weight.shape[1]} channels instead of {target.weight.shape[1]}")
    assert source.bias is not None
    assert target.bias is not None
    with torch.no_grad():
        for row, name in enumerate(new):
            if name in old:
                target.weight[row] = source.weight[old.index(name)]
                target.bias[row] = source.bias[old.index(name)]


def _mismatch(run: str | Path, part: str, reason: str) -> UserError:
    return UserError(
        f"training.init_from {run}: its {part} does not fit this recipe ({reason}). Name a run with the same backbone "
        "and context."
    )


def _listed(names: Sequence[str]) -> str:
    """Class names, shortened where there are many."""
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more classes"

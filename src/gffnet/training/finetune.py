"""Starting from a trained run: which of its weights are taken over, and which layers start fresh."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from gffnet.errors import UserError
from gffnet.inference.model_io import load_model
from gffnet.models.gffnet import SegmentationModel


class TakenOver(NamedTuple):
    """What came of a start from a trained run."""

    loaded: tuple[str, ...]
    """Parts of the network whose weights were taken over, such as `backbone`."""
    fresh: tuple[str, ...]
    """Parts that start fresh; the auxiliary head always does, for no model has one."""

    def __str__(self) -> str:
        return f"{', '.join(self.loaded)}; fresh: {', '.join(self.fresh)}"


def start_from(run: str | Path, network: SegmentationModel, classes: Sequence[str], whole: bool) -> TakenOver:
    """Load backbone and context of the trained `run` into `network`, or all of it (`whole`), strictly.

    With `whole`, the classifier takes over the classes that the run knows by the same name, in whatever order, and
    starts fresh for the others.

    Args:
        run: a run folder, a model folder or a checkpoint.
        network: changed in place.
        classes: the names of its classes, in their order.
        whole: not just backbone and context.

    Raises:
        UserError: there is no such run, or a part of it is of another architecture.
    """
    trained, config = load_model(run)
    parts = [name for name, _ in network.named_children()]
    wanted = [name for name in parts if name != "head"] if whole else ["backbone", "context"]
    for part in wanted:
        _load_part(run, part, trained, network)
    fresh = [name for name in parts if name not in wanted]
    if whole:
        known = [name for name in classes if name in config.classes]
        _load_classes(run, trained, config.classes, network, classes)
        if known:
            wanted.append("head" if len(known) == len(classes) else f"head for {_listed(known)}")
        new = [name for name in classes if name not in known]
        fresh = [f"head for {_listed(new)}"] if new else []
    return TakenOver(tuple(wanted), (*fresh, "auxiliary head"))


def _load_part(run: str | Path, part: str, trained: SegmentationModel, network: SegmentationModel) -> None:
    """Load one part of the network, all of its keys and shapes."""
    source = getattr(trained, part)
    try:
        if source is None:
            raise RuntimeError("the run has none")
        getattr(network, part).load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise _misfit(run, part, " ".join(str(error).split())[:200]) from None


def _load_classes(
    run: str | Path, trained: SegmentationModel, before: Sequence[str], network: SegmentationModel, now: Sequence[str]
) -> None:
    """Load the classifier's weights of the classes that both have."""
    source, target = trained.head.classifier, network.head.classifier
    if source.weight.shape[1:] != target.weight.shape[1:]:
        raise _misfit(run, "head", f"it takes {source.weight.shape[1]} channels instead of {target.weight.shape[1]}")
    assert source.bias is not None
    assert target.bias is not None
    with torch.no_grad():
        for row, name in enumerate(now):
            if name in before:
                target.weight[row] = source.weight[before.index(name)]
                target.bias[row] = source.bias[before.index(name)]


def _misfit(run: str | Path, part: str, reason: str) -> UserError:
    return UserError(
        f"training.init_from {run}: its {part} does not fit this recipe ({reason}). Name a run with the same backbone "
        "and context."
    )


def _listed(names: Sequence[str]) -> str:
    """The names of classes, the first of them where there are many."""
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more classes"

"""Initialise a network from a trained run (`training.init_from`)."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from gffnet.data.dataset import normalized_name
from gffnet.errors import UserError, one_line
from gffnet.models.gffnet import SegmentationModel, load_model

log = logging.getLogger("gffnet")


def initialize_from(run: str | Path, network: SegmentationModel, classes: Sequence[str], whole: bool) -> str:
    """Load backbone and context of a trained run into `network`, or all of it, strictly.

    With `whole`, the classifier's weights are loaded for the classes that the run knows by the same name, in any order;
    those of the other classes stay fresh.

    Args:
        run: a run folder, a model folder or a checkpoint.
        network: changed in place.
        classes: the names of its classes, in order.
        whole: load all parts, not only backbone and context.

    Returns:
        Which parts are loaded, and which are fresh: `backbone, context; fresh: head, auxiliary head`. The auxiliary
        head is always fresh, since no model has one.

    Raises:
        UserError: there is no such run, or a part has another architecture.
    """

    def mismatch(part: str, reason: str) -> UserError:
        return UserError(
            f"training.init_from {run}: its {part} does not fit this recipe ({reason}). Name a run with the same "
            "backbone and context."
        )

    trained, config = load_model(run)
    parts = [name for name, _ in network.named_children()]
    loaded = [name for name in parts if name != "head"] if whole else ["backbone", "context"]
    for part in loaded:
        source = getattr(trained, part)
        if source is None:
            raise mismatch(part, "the run has none")
        try:
            getattr(network, part).load_state_dict(source.state_dict())
        except RuntimeError as error:
            raise mismatch(part, one_line(error)[:200]) from None
    fresh = [name for name in parts if name not in loaded]
    if whole:
        old, new = trained.head.classifier.state_dict(), network.head.classifier.state_dict()
        if old["weight"].shape[1:] != new["weight"].shape[1:]:
            raise mismatch("head", f"it takes {old['weight'].shape[1]} channels instead of {new['weight'].shape[1]}")
        rows = [(row, config.classes.index(name)) for row, name in enumerate(classes) if name in config.classes]
        with torch.no_grad():
            for row, source_row in rows:
                for key, value in new.items():
                    value[row] = old[key][source_row]
        known = [classes[row] for row, _ in rows]
        unknown = [name for name in classes if name not in known]
        if known:
            loaded.append(f"head for {_shortened(known)}" if unknown else "head")
        fresh = [f"head for {_shortened(unknown)}"] if unknown else []
        _warn_of_similar(unknown, [name for name in config.classes if name not in known])
    return f"{', '.join(loaded)}; fresh: {', '.join([*fresh, 'auxiliary head'])}"


def _warn_of_similar(fresh: Sequence[str], left: Sequence[str]) -> None:
    """Warn of a class whose head is fresh only since the run spells its name otherwise; `left`: its other classes."""
    near = {normalized_name(name): name for name in left}
    for name in fresh:
        if (key := normalized_name(name)) in near:
            log.warning(
                "the head for class %r is fresh: the run calls it %r, and what is loaded goes by the same name. Give "
                "it that name, or train on.",
                *(name, near[key]),
            )
            return


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more classes"

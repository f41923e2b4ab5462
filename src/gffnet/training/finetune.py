"""Initialise a network from a trained run (`training.init_from`)."""

from collections.abc import Sequence
from pathlib import Path

import torch

from gffnet.errors import UserError
from gffnet.models.gffnet import SegmentationModel, load_model


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
            raise mismatch(part, " ".join(str(error).split())[:200]) from None
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
    return f"{', '.join(loaded)}; fresh: {', '.join([*fresh, 'auxiliary head'])}"


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more classes"

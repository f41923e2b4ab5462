"""Starting from a trained run: which of its weights are taken over, and which layers start fresh."""

from pathlib import Path
from typing import NamedTuple

from gffnet.errors import UserError
from gffnet.inference.model_folder import load_model
from gffnet.models.network import SceneParser


class TakenOver(NamedTuple):
    """What came of a start from a trained run."""

    loaded: tuple[str, ...]
    """Parts of the network whose weights were taken over, such as `backbone`."""
    fresh: tuple[str, ...]
    """Parts that start fresh; the auxiliary head always does, for no model has one."""

    def __str__(self) -> str:
        return f"{', '.join(self.loaded)}; fresh: {', '.join(self.fresh)}"


def start_from(run: str | Path, network: SceneParser, whole: bool) -> TakenOver:
    """Load backbone and context of the trained `run` into `network`, or all of it (`whole`), strictly.

    With `whole`, a head for another number of classes starts fresh.

    Raises:
        UserError: there is no such run, or a part of it is of another architecture.
    """
    trained, _ = load_model(run)
    wanted = [name for name, _ in network.named_children()] if whole else ["backbone", "context"]
    before, now = trained.head.classifier.out_channels, network.head.classifier.out_channels
    fresh = [name for name, _ in network.named_children() if name not in wanted]
    if whole and before != now:
        wanted.remove("head")
        fresh.append(f"head (for {now} classes instead of {before})")
    for part in wanted:
        _load_part(run, part, trained, network)
    return TakenOver(tuple(wanted), (*fresh, "auxiliary head"))


def _load_part(run: str | Path, part: str, trained: SceneParser, network: SceneParser) -> None:
    """Load one part of the network, all of its keys and shapes."""
    source = getattr(trained, part)
    try:
        if source is None:
            raise RuntimeError("the run has none")
        getattr(network, part).load_state_dict(source.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"training.init_from {run}: its {part} does not fit this recipe ({reason}). "
            "Name a run with the same backbone and context."
        ) from None

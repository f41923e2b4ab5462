"""The model card: README.md of a model folder, with metadata for the hub. Unknown facts are left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from gffnet.models.model_io import ModelConfig, WeightFormat

TASK = "image-segmentation"
METRICS = ("mean_iou", "accuracy")
"""The hub's names of mIoU and pixel accuracy."""
SECTIONS = ("Data", "Training", "Scores", "Cost")
"""Headings of the facts that a run adds, in the order of the card."""

_CONTEXTS = {"pyramid_pooling": "pyramid pooling", "dense_aspp": "DenseASPP"}
_FUSIONS = {
    "concat": "fusion by concatenation",
    "addition": "fusion by addition",
    "fpn": "a feature pyramid network (FPN)",
    "gated_fpn": "a gated FPN",
    "gff": "Gated Fully Fusion",
}
_PYRAMIDS = {"dense": "a Dense Feature Pyramid", "literal": "a Dense Feature Pyramid (Eq. 6 taken literally)"}


@dataclass(frozen=True)
class Facts:
    """The facts that a model card states."""

    config: ModelConfig
    name: str | None = None
    """OWNER/NAME on the hub."""
    license: str | None = None
    """The hub's identifier, such as `apache-2.0`."""
    weights: WeightFormat = "float32"
    """Dtype of kernels on the disk."""
    results: Sequence[EvalResult] = ()
    """Scores for the head."""
    sections: Mapping[str, str] = field(default_factory=dict)
    """Markdown by heading, of `SECTIONS`."""
    weak: Sequence[str] = ()
    """Classes of low IoU."""
    limits: str = ""
    """Markdown of the limits, in place of those of any model."""
    license_text: str = ""
    """Text of the licence, if the model has one of its own."""


def make_card(facts: Facts) -> ModelCard:
    """Return the model card; `str(card)` is the text."""
    config, gated = facts.config, ["gated-fully-fusion"] if facts.config.model.fusion == "gff" else []
    title = facts.name.partition("/")[2] if facts.name else config.recipe
    data = ModelCardData(
        library_name="gffnet",
        pipeline_tag=TASK,
        license=facts.license,
        tags=["semantic-segmentation", "scene-parsing", *gated, config.model.backbone.name, "pytorch"],
        datasets=None if config.dataset in ("", "folder") else [config.dataset],
        metrics=list(METRICS) if facts.results else None,
        model_name=title,
        eval_results=list(facts.results) or None,
    )
    content: dict[str, Any] = {
        "facts": facts,
        "title": title,
        "network": describe_network(config),
        "headings": SECTIONS,
    }
    template = Path(__file__).with_name("model_card.md.jinja")
    card: ModelCard = ModelCard.from_template(data, str(template), **content)
    return card


def describe_network(config: ModelConfig) -> str:
    """Describe the network in words."""
    model = config.model
    parts = {
        f"context `{model.context}`": (model.context, _CONTEXTS),
        f"fusion `{model.fusion}`": (model.fusion, _FUSIONS),
        f"pyramid `{model.dense_pyramid}`": (model.dense_pyramid, _PYRAMIDS),
    }
    found = [words.get(name, own) for own, (name, words) in parts.items() if name != "none"]
    listed = ", ".join(found[:-1]) + (" and " if len(found) > 1 else "") + found[-1] if found else "no context module"
    return f"`{model.backbone.name}` with {listed}"

"""A network as a model of the hub, with from_pretrained, save_pretrained and push_to_hub, and its model card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData, ModelHubMixin

from gffnet.errors import UserError
from gffnet.files import atomic_write
from gffnet.inference.model_io import (
    CARD,
    ModelConfig,
    WeightFormat,
    check_upload,
    fetch,
    is_hub_name,
    load_model,
    save_model,
    upload,
)
from gffnet.models.gffnet import SegmentationModel


class PretrainedModel(SegmentationModel, ModelHubMixin):
    """The network of a MODEL, a plain `nn.Module`, with its `ModelConfig` as `config`.

    The methods of `ModelHubMixin` read and write the model folders of `gffnet.inference.model_io`: safetensors, and a
    `config.json` of which every key is validated. Without a network connection they fail at once.
    """

    def __init__(self, network: SegmentationModel, config: ModelConfig) -> None:
        """Share the modules of `network`."""
        parts = (network.backbone, network.context, network.fusion, network.pyramid, network.head)
        super().__init__(*parts, network.mean, network.std)
        self.config = config
        self.train(network.training)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # no further options
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> "PretrainedModel":
        """Return the network of a MODEL, in evaluation mode, float32, on the CPU.

        Args:
            pretrained_model_name_or_path: OWNER/NAME or OWNER/NAME@REVISION on the hub, or a run folder, a model folder
                or a checkpoint.
            revision: branch, tag or commit on the hub.
            token, cache_dir, force_download, local_files_only: as for `gffnet.inference.model_io.fetch`.

        Raises:
            UserError: there is no such model, it cannot be downloaded, or it is not one of gffnet.
        """
        model = pretrained_model_name_or_path
        if not is_hub_name(model):
            if revision is not None:
                raise UserError(f"revision {revision!r}: {model} is no name on the hub, so it has none. Leave it out.")
            return cls(*load_model(model))
        name = f"{model}@{revision}" if revision else str(model)
        cache: dict[str, Any] = {"cache_dir": cache_dir, "local_files_only": local_files_only}
        return cls(*load_model(fetch(name, token=token, force_download=force_download, **cache)))

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        weights: WeightFormat = "float32",
        max_shard_size: str | None = None,
        **card: Any,
    ) -> None:
        """Write a model folder, and a model card unless the folder has one.

        Args:
            save_directory: the folder.
            weights: dtype of kernels on the disk.
            max_shard_size: maximal size of a weights file, such as `16MB`; None: one file.
            card: as for `generate_model_card`.

        Raises:
            UserError: a weight does not fit into a shard or a dtype, or there is no room.
        """
        folder = Path(save_directory)
        save_model(folder, self, self.config, weights, max_shard_size)
        if not (folder / CARD).exists():
            atomic_write(folder / CARD, str(self.generate_model_card(weights=weights, **card)).encode())

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "A model of gffnet",
        **options: Any,
    ) -> str:
        """Upload the model to the hub in one commit; return its address.

        Args:
            repo_id: OWNER/NAME; created if it does not exist.
            private: whether a new repository is private; None: the owner's default.
            token: instead of that of `hf auth login`.
            commit_message: message of the commit.
            options: as for `save_pretrained`.

        Raises:
            UserError: the hub cannot be reached or refuses, or as for `save_pretrained`.
        """
        check_upload(repo_id)
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, name=repo_id, **options)
            return upload(Path(folder), repo_id, private=private, token=token, message=commit_message)

    def generate_model_card(
        self, name: str | None = None, license: str | None = None, weights: WeightFormat = "float32"
    ) -> ModelCard:
        """Return a card with the facts of `config`; `gffnet publish` adds those of the run.

        Args:
            name: OWNER/NAME on the hub.
            license: the hub's identifier, such as `apache-2.0`.
            weights: dtype of kernels on the disk.
        """
        return make_card(Facts(self.config, name, license, weights))


# The model card: README.md of a model folder, with a head for the hub. Unknown facts are left out.

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


def make_card(facts: Facts) -> ModelCard:
    """Return the model card; `str(card)` is the text."""
    config, gated = facts.config, ["gated-fully-fusion"] if facts.config.model.fusion == "gff" else []
    title = facts.name.partition("/")[2] if facts.name else config.recipe
    data = ModelCardData(
        library_name="gffnet",
        pipeline_tag=TASK,
        license=facts.license,
        tags=["semantic-segmentation", "scene-parsing", *gated, config.model.backbone.name, "pytorch"],
        datasets=None if config.dataset == "folder" else [config.dataset],
        metrics=list(METRICS) if facts.results else None,
        model_name=title,
        eval_results=list(facts.results) or None,
    )
    content: dict[str, Any] = {"facts": facts, "title": title, "network": describe(config), "headings": SECTIONS}
    template = Path(__file__).with_name("model_card.md.jinja")
    card: ModelCard = ModelCard.from_template(data, str(template), **content)
    return card


def describe(config: ModelConfig) -> str:
    """Describe the network in words."""
    model = config.model
    parts = [_CONTEXTS.get(model.context), _FUSIONS.get(model.fusion), _PYRAMIDS.get(model.dense_pyramid)]
    found = [part for part in parts if part]
    listed = ", ".join(found[:-1]) + (" and " if len(found) > 1 else "") + found[-1] if found else "no context module"
    return f"`{model.backbone.name}` with {listed}"

"""The network of Figure 3: backbone, context, fusion, pyramid, head; and its construction from a recipe."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelHubMixin
from jaxtyping import Float, Num
from torch import Tensor, nn

from gffnet.errors import UserError
from gffnet.files import atomic_write
from gffnet.models.backbones import Backbone, build_backbone
from gffnet.models.context import CONTEXTS, Context
from gffnet.models.fusion import FUSIONS, Fusion, GatedFusion
from gffnet.models.layers import Encoded, Gates, Output, Pyramid, init_predictor
from gffnet.models.model_card import Facts, make_card
from gffnet.models.model_io import (
    CARD,
    CONFIG,
    ModelConfig,
    WeightFormat,
    check_upload,
    fetch,
    is_hub_name,
    one_line,
    read_model,
    upload,
    write_model,
)
from gffnet.models.ops import ConcatConv2d, resize, size_of
from gffnet.models.pyramid import PYRAMIDS, DenseFeaturePyramid, FeaturePyramid, LiteralDensePyramid
from gffnet.recipe import ModelRecipe


class Head(nn.Module):
    """All maps resized to the finest and concatenated, dropout, a 1x1 classifier, then resized to the image.

    Dropout zeroes whole channels, as in PSPNet. It and the classifier commute with resizing, so both run at the
    resolution of each map.
    """

    def __init__(self, in_channels: Sequence[int], num_classes: int, dropout: float = 0.1) -> None:
        """`in_channels`: channels of the maps."""
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = ConcatConv2d(in_channels, num_classes, 1, bias=True)
        init_predictor(self.classifier)

    def forward(self, maps: Pyramid, size: tuple[int, int]) -> Float[Tensor, "b k h w"]:
        """Maps (B, C_i, H_i, W_i), any order → logits (B, num_classes, *size)."""
        height = max(x.shape[-2] for x in maps)
        width = max(x.shape[-1] for x in maps)
        return resize(self.classifier([self.dropout(x) for x in maps], (height, width)), size)


class SegmentationModel(nn.Module):
    """PSPNet or DenseASPP, optionally with a fusion and a (dense) feature pyramid.

    It returns `Output(logits, gates)` in training and in evaluation, and knows nothing of losses and labels.
    """

    def __init__(
        self,
        backbone: Backbone,
        context: Context,
        fusion: Fusion | None,
        pyramid: FeaturePyramid | None,
        head: Head,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """`fusion` and `pyramid` are both given or both `None`; `mean`, `std`: one per input channel, in 0..255."""
        super().__init__()
        self.backbone = backbone
        self.context = context
        self.fusion = fusion
        self.pyramid = pyramid
        self.head = head
        self.mean = tuple(mean)
        self.std = tuple(std)

    def forward(self, images: Num[Tensor, "b c h w"]) -> Output:
        """Images (B, C, H, W), uint8 or float in 0..255 → logits (B, K, H, W) and the gate maps, finest first."""
        encoded = self.encode(images)
        return Output(self.decode(encoded), encoded.gates)

    def encode(self, images: Num[Tensor, "b c h w"]) -> Encoded:
        """Compute all that precedes the fusion; `decode` turns it into logits, with these or with other gates."""
        maps, context = self.features(images)
        return self.reduce(maps, context, size_of(images))

    def features(self, images: Num[Tensor, "b c h w"]) -> tuple[list[Tensor], Tensor]:
        """Images → the maps `X_1..X_4` of the backbone and the context map `y_0`."""
        maps = self.backbone(self.normalize(images))
        return maps, self.context(maps[-1])

    def reduce(self, maps: Pyramid, context: Tensor, size: tuple[int, int]) -> Encoded:
        """`X_1..X_4` and `y_0` of images of `size` → the reduced maps and the gates."""
        if self.fusion is None:
            return Encoded(None, None, context, size, size)
        if self.fusion.takes_context:
            maps = [*maps, context]
        return Encoded(self.fusion.reduce(maps), self.fusion.gates(maps), context, size, size)

    def decode(self, encoded: Encoded, gates: Gates | None = None) -> Float[Tensor, "b k h w"]:
        """Fuse the reduced maps with the learned gates, or with `gates` of the same shapes → logits (B, K, *size)."""
        if self.fusion is None:
            maps = [encoded.context]
        else:
            assert self.pyramid is not None
            assert encoded.reduced is not None
            context = encoded.context
            fused = self.fusion.fuse(encoded.reduced, encoded.gates if gates is None else gates)
            if self.fusion.takes_context:
                *fused, context = fused
            maps = self.pyramid(context, fused)
        logits: Tensor = self.head(maps, encoded.size)
        return logits

    def normalize(self, images: Num[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """`(images - mean) / std` per channel, computed in at least float32, returned in the dtype of the weights."""
        dtype = next(self.parameters()).dtype
        exact = torch.promote_types(dtype, torch.float32)
        mean, std = (torch.tensor(v, dtype=exact, device=images.device)[:, None, None] for v in (self.mean, self.std))
        return images.to(exact, copy=True).sub_(mean).div_(std).to(dtype)


def build_network(recipe: ModelRecipe, num_classes: int) -> SegmentationModel:
    """Build the network of a recipe.

    It is built on the current default device: within `torch.device("meta")` it takes neither time nor memory.

    Raises:
        UserError: an unknown backbone, unavailable weights, or an output stride that the backbone does not support.
    """
    backbone = build_backbone(recipe.backbone)
    context = CONTEXTS[recipe.context](backbone.channels[-1])
    fusion: Fusion | None = None
    pyramid: FeaturePyramid | None = None
    head_channels: tuple[int, ...] = (context.out_channels,)
    if recipe.fusion != "none":
        kind: Any = FUSIONS[recipe.fusion]
        levels = (*backbone.channels, context.out_channels) if kind.takes_context else backbone.channels
        gated = issubclass(kind, GatedFusion)
        fusion = kind(levels, gate_channels=recipe.gate_channels) if gated else kind(levels)
        context_channels = fusion.channels if fusion.takes_context else context.out_channels
        kind = PYRAMIDS[recipe.dense_pyramid]
        dense = issubclass(kind, DenseFeaturePyramid | LiteralDensePyramid)
        options = {"kernel_size": recipe.pyramid_kernel} if dense else {}
        pyramid = kind(context_channels, len(backbone.channels), fusion.channels, **options)
        head_channels = pyramid.out_channels
    head = Head(head_channels, num_classes, recipe.dropout)
    return SegmentationModel(backbone, context, fusion, pyramid, head, recipe.mean, recipe.std)


def save_model(
    folder: Path,
    network: SegmentationModel,
    config: ModelConfig,
    weights: WeightFormat = "float32",
    max_shard_size: str | None = None,
) -> None:
    """Write a model folder, each file atomically. `weights` and the errors are as for `model_io.write_weights`."""
    write_model(folder, network.state_dict(), config, weights, max_shard_size)


def load_model(model: str | Path) -> tuple[SegmentationModel, ModelConfig]:
    """Return the network of a MODEL, trainable, float32, on the CPU and in evaluation mode, and its config.

    Raises:
        UserError: there is no such model, or its files are missing, damaged, or of different models.
    """
    config, weights, path = read_model(model)
    recipe = config.model.without_weights()
    with torch.device("meta"):
        network = build_network(recipe, len(config.classes))
    if not network.state_dict().keys() >= {name for name, _ in network.named_buffers()}:
        network = build_network(recipe, len(config.classes))  # it computes constants that are not stored
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        reason = one_line(error)[:300]
        raise UserError(f"model {path}: these weights are not of the network in {CONFIG}: {reason}") from None
    return network.eval(), config


class PretrainedModel(SegmentationModel, ModelHubMixin):
    """The network of a MODEL, a plain `nn.Module`, with its `ModelConfig` as `config`.

    The methods of `ModelHubMixin` read and write the model folders of `gffnet.models.model_io`: safetensors, and a
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
            token, cache_dir, force_download, local_files_only: as for `gffnet.models.model_io.fetch`.

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

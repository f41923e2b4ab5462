"""A network with its config, as the hub's own models are handled: from_pretrained, save_pretrained, push_to_hub."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import ModelCard, ModelHubMixin

from gffnet.errors import UserError
from gffnet.files import write_whole
from gffnet.inference.hub import CARD, check_upload, fetch, is_hub_name, upload
from gffnet.inference.model_card import Facts, make_card
from gffnet.inference.model_folder import ModelConfig, load_model, save_model
from gffnet.inference.weight_files import WeightFormat
from gffnet.models.network import SceneParser


class TrainedSceneParser(SceneParser, ModelHubMixin):
    """The network of a MODEL, a plain `nn.Module`, with what the model folder says of it in `config`.

    The methods of `ModelHubMixin` read and write the model folder that all of gffnet does: `config.json`, every key of
    it checked, and safetensors. Without a network they say so at once.
    """

    def __init__(self, network: SceneParser, config: ModelConfig) -> None:
        """`network`: whose parts it takes, and shares."""
        parts = (network.backbone, network.context, network.fusion, network.pyramid, network.head)
        super().__init__(*parts, network.mean, network.std)
        self.config = config
        self.train(network.training)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # it has no other options
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> "TrainedSceneParser":
        """The network of a MODEL, in evaluation mode, float32, on the CPU.

        Args:
            pretrained_model_name_or_path: OWNER/NAME or OWNER/NAME@REVISION on the hub, or a run folder, a model folder
                or a checkpoint.
            revision: branch, tag or commit on the hub.
            token, cache_dir, force_download, local_files_only: as of `gffnet.inference.hub.fetch`.

        Raises:
            UserError: there is no such model, it cannot be fetched, or it is none of gffnet's.
        """
        model = pretrained_model_name_or_path
        if not is_hub_name(model):
            if revision is not None:
                raise UserError(f"revision {revision!r}: {model} is no name on the hub, so it has none. Leave it out.")
            return cls(*load_model(model))
        name = f"{model}@{revision}" if revision else str(model)
        options: dict[str, Any] = {"token": token, "cache_dir": cache_dir}
        folder = fetch(name, force_download=force_download, local_files_only=local_files_only, **options)
        return cls(*load_model(folder))

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        weights: WeightFormat = "float32",
        max_shard_size: str | None = None,
        **card: Any,
    ) -> None:
        """Write the model folder, and a model card where it has none.

        Args:
            save_directory: the folder.
            weights: number format of kernels on the disk.
            max_shard_size: such as `16MB`: no file of weights will be larger; None: one file.
            card: as of `generate_model_card`.

        Raises:
            UserError: a weight does not fit into a shard or a number format, or there is no room.
        """
        folder = Path(save_directory)
        save_model(folder, self, self.config, weights, max_shard_size)
        if not (folder / CARD).exists():
            write_whole(folder / CARD, str(self.generate_model_card(weights=weights, **card)).encode())

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "A model of gffnet",
        **options: Any,
    ) -> str:
        """Put the model on the hub, in one commit; returns its address.

        Args:
            repo_id: OWNER/NAME, made if it is not there.
            private: whether others may not see it, where it is made now; None: as the owner's default is.
            token: to use instead of that of `hf auth login`.
            commit_message: of the commit.
            options: as of `save_pretrained`.

        Raises:
            UserError: the hub cannot be reached or refuses, and as `save_pretrained`.
        """
        check_upload(repo_id)
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, name=repo_id, **options)
            return upload(Path(folder), repo_id, private=private, token=token, message=commit_message)

    def generate_model_card(
        self, name: str | None = None, license: str | None = None, weights: WeightFormat = "float32"
    ) -> ModelCard:
        """The card of what the network says of itself; `gffnet publish` adds what its run knows.

        Args:
            name: OWNER/NAME on the hub.
            license: as the hub abbreviates it, such as `apache-2.0`.
            weights: number format of kernels on the disk.
        """
        return make_card(Facts(self.config, name, license, weights))

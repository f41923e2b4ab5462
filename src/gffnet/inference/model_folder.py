"""The model folder: `config.json` (network, classes, protocol) and safetensors (weights). No code in either."""

import dataclasses
import hashlib
import json
from dataclasses import field
from pathlib import Path

import torch

from gffnet.errors import UserError
from gffnet.files import write_whole
from gffnet.inference.hub import fetch, is_hub_name
from gffnet.inference.weight_files import WEIGHTS, WeightFormat, read_weights, write_weights
from gffnet.models.build import build_network
from gffnet.models.network import SceneParser
from gffnet.recipe import EvaluationRecipe, ModelRecipe, from_mapping, validated

CONFIG = "config.json"
EXPORTED = (".onnx", ".pt2")
"""How the names of exported files end."""
AVERAGED = "average.network."
"""Before the names of the averaged weights in a checkpoint; the trained ones are in `network.`."""


@validated
class ModelConfig:
    """What a trained network is, besides its weights."""

    model: ModelRecipe
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    dataset: str
    recipe: str
    """Name of the recipe that it was trained with."""
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    learned_from: tuple[int, int] | None = None
    """Height and width that its training images had, mostly; None: not known."""

    def __post_init__(self) -> None:
        if not len(self.classes) == len(self.palette) > 0:
            raise UserError(f"it has {len(self.classes)} classes and {len(self.palette)} colours: one each is needed.")
        wrong = [colour for colour in self.palette if not all(0 <= level <= 255 for level in colour)]
        if wrong:
            raise UserError(f"palette: colour {wrong[0]} is not in 0..255.")
        if self.learned_from is not None and min(self.learned_from) < 1:
            raise UserError(f"learned_from {list(self.learned_from)} is no height and width.")

    def to_text(self) -> str:
        """The config as JSON, as `config.json` holds it."""
        return json.dumps(dataclasses.asdict(self), indent=1)


def save_model(
    folder: Path,
    network: SceneParser,
    config: ModelConfig,
    weights: WeightFormat = "float32",
    max_shard_size: str | None = None,
) -> None:
    """Write the model folder. Each file appears whole or not at all.

    `weights` and `max_shard_size` are `kind` and `max_shard_size` of `write_weights`, and errors as well.
    """
    write_weights(folder, network.state_dict(), weights, max_shard_size)
    write_whole(folder / CONFIG, config.to_text().encode())


def hash_weights(network: SceneParser) -> str:
    """SHA-256 over the names, number formats, shapes and values of a network's state, wherever it is kept."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        stored = value.detach().cpu().contiguous()
        digest.update(f"{name} {stored.dtype} {tuple(stored.shape)}\n".encode())
        digest.update(stored.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def load_model(model: str | Path) -> tuple[SceneParser, ModelConfig]:
    """The network and the config of a MODEL: a run folder, a model folder, a checkpoint of a run (.ckpt), or a
    name on the hub.

    Raises:
        UserError: no such model, files missing, damaged, or not of one another.
    """
    path = Path(model)
    if path.suffix == ".ckpt" and path.is_file():
        return _load_checkpoint(path)
    if is_exported(model):
        raise UserError(
            f"model {path} is an exported file, which can predict and no more. Give the run folder that it was "
            "exported from."
        )
    folder = fetch(str(model)) if is_hub_name(model) else find_model(model)
    config = _read_config(folder / CONFIG)
    return _filled(config, read_weights(folder), folder / WEIGHTS), config


def is_exported(model: str | Path) -> bool:
    """Whether a MODEL is an exported file, as its name says."""
    path = Path(model)
    return path.suffix in EXPORTED and not path.is_dir()


def _load_checkpoint(path: Path) -> tuple[SceneParser, ModelConfig]:
    """The network of a run as it was in the midst of training: the averaged one, where the run has one."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)  # which executes nothing
        config = from_mapping(ModelConfig, json.loads(stored["config"]), f"model {path}")
        state: dict[str, torch.Tensor] = stored["state_dict"]
    except UserError:
        raise
    except Exception as error:  # a damaged file makes its parser raise anything
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model {path}: not a whole checkpoint of gffnet ({reason}).") from None
    averaged = any(key.startswith(AVERAGED) for key in state)
    prefix = AVERAGED if averaged else "network."
    weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return _filled(config, weights, path), config


def _filled(config: ModelConfig, weights: dict[str, torch.Tensor], path: Path) -> SceneParser:
    """The network of a config with `weights`, which are those in the file `path`."""
    network = _unfilled(config)
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"model {path}: these weights are not of the network in {CONFIG}: {reason}") from None
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    return network.eval()


def _unfilled(config: ModelConfig) -> SceneParser:
    """The network of a config, to be filled with its weights."""
    recipe = config.model.without_weights()
    with torch.device("meta"):
        network = build_network(recipe, len(config.classes))
    if network.state_dict().keys() >= {name for name, _ in network.named_buffers()}:
        return network
    return build_network(recipe, len(config.classes))  # some constants are not stored, but computed when it is built


def find_model(model: str | Path) -> Path:
    """The model folder of a MODEL given as a run folder or as the model folder itself.

    Raises:
        UserError: there is none.
    """
    path = Path(model)
    for folder in (path, path / "model"):
        if (folder / CONFIG).is_file():
            return folder
    if not path.exists():
        raise UserError(
            f"model {path} does not exist. Give a run folder, such as runs/camvid/gffnet_r18, or a name on the hub, "
            "OWNER/NAME."
        )
    raise UserError(f"model {path} holds no {CONFIG}, nor does {path / 'model'}: it is no run or model folder.")


def _read_config(path: Path) -> ModelConfig:
    """The config in a file, checked."""
    try:
        return from_mapping(ModelConfig, json.loads(path.read_text(encoding="utf-8")), f"model config {path}")
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"model config {path}: not valid: {error}") from None

"""The model folder: `config.json` (network, classes, protocol) and `model.safetensors` (weights). No code in either."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from gffnet.errors import UserError
from gffnet.files import write_whole
from gffnet.models.build import build_network
from gffnet.models.network import SceneParser
from gffnet.recipe import EvaluationRecipe, ModelRecipe, from_mapping

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class ModelConfig:
    """What a trained network is, besides its weights."""

    model: ModelRecipe
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    dataset: str
    recipe: str
    """Name of the recipe that it was trained with."""
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)

    def __post_init__(self) -> None:
        if not len(self.classes) == len(self.palette) > 0:
            raise UserError(f"it has {len(self.classes)} classes and {len(self.palette)} colours: one each is needed.")
        wrong = [colour for colour in self.palette if not all(0 <= level <= 255 for level in colour)]
        if wrong:
            raise UserError(f"palette: colour {wrong[0]} is not in 0..255.")


def save_model(folder: Path, network: SceneParser, config: ModelConfig) -> None:
    """Write the model folder. Each file appears whole or not at all."""
    weights = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    write_whole(folder / WEIGHTS, safetensors.torch.save(weights))
    write_whole(folder / CONFIG, json.dumps(dataclasses.asdict(config), indent=1).encode())


def load_model(model: str | Path) -> tuple[SceneParser, ModelConfig]:
    """The network and the config of a MODEL: a run folder or a model folder.

    Raises:
        UserError: no such model, files missing, damaged, or not of one another.
    """
    folder = find_model(model)
    config = _read_config(folder / CONFIG)
    network = _unfilled(config)
    path = folder / WEIGHTS
    try:
        weights = safetensors.torch.load_file(path)
        network.load_state_dict(weights, assign=True)
    except FileNotFoundError:
        raise UserError(f"model {folder}: {WEIGHTS} is missing; a model folder has it beside {CONFIG}.") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"model {path}: not a whole safetensors file ({error}); copy or train it again.") from None
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"model {path}: these weights are not of the network in {CONFIG}: {reason}") from None
    return network.eval(), config


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
        raise UserError(f"model {path} does not exist. Give a run folder, such as runs/camvid/gffnet_r18.")
    raise UserError(f"model {path} holds no {CONFIG}, nor does {path / 'model'}: it is no run or model folder.")


def _read_config(path: Path) -> ModelConfig:
    """The config in a file, checked."""
    try:
        return from_mapping(ModelConfig, json.loads(path.read_text(encoding="utf-8")), str(path))
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"model config {path}: not valid: {error}") from None

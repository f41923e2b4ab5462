"""The recipe: a frozen, typed description of a run, read from strict YAML. Pure data.

A recipe names a network, its data, its training and its evaluation. The package ships one per row of the paper's
tables that its authors trained (`recipes/<data set>/<row>.yaml`). `base: <data set>/<row>` starts from another recipe,
so that a row of an ablation states nothing but what differs.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from gffnet.errors import UserError, nearest, unknown

RECIPES = Path(__file__).parent / "recipes"

T = TypeVar("T")

DatasetName = Literal["cityscapes", "ade20k", "pascal_context", "coco_stuff_10k", "camvid", "streets", "folder"]
ContextName = Literal["pyramid_pooling", "dense_aspp", "none"]
FusionName = Literal["none", "concat", "addition", "fpn", "gated_fpn", "gff"]
PyramidName = Literal["none", "dense", "literal"]
PrecisionName = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class BackboneRecipe:
    """The network that makes the pyramid `X_1..X_4`."""

    name: str = "resnet101"
    """A timm model name, such as resnet18, resnet50d, densenet121, convnext_tiny."""
    weights: str = "imagenet"
    """`imagenet` (through timm), `none`, or a file (.safetensors, .pth)."""
    output_stride: Literal[8, 16, 32] | None = 8
    """Stride of `X_4`; null: the model's own."""
    in_channels: int = 3


@dataclass(frozen=True)
class ModelRecipe:
    """The network: backbone, context, fusion, pyramid, head."""

    backbone: BackboneRecipe = field(default_factory=BackboneRecipe)
    context: ContextName = "pyramid_pooling"
    fusion: FusionName = "none"
    dense_pyramid: PyramidName = "none"
    gate_channels: Literal["one", "each"] = "one"
    """Gate values a position: `one` for all channels (Eq. 5), or `each` channel its own."""
    pyramid_kernel: Literal[1, 3] = 1
    """Kernel of `H_i` in Eq. (6)."""
    dropout: float = 0.1
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    """Mean grey level (0..255), one per input channel."""
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    """Standard deviation in grey levels, one per input channel."""


@dataclass(frozen=True)
class DataRecipe:
    """Which data set, and which of its splits."""

    name: DatasetName = "cityscapes"
    train_split: str = "train"
    val_split: str = "val"


@dataclass(frozen=True)
class TrainingRecipe:
    """SGD with the poly schedule, as the paper trains."""

    iterations: int = 100_000
    batch: int = 8
    """Global batch size."""
    crop: tuple[int, int] = (864, 864)
    """Height and width of a training crop in pixels."""
    scales: tuple[float, float] = (0.75, 2.0)
    """Range of the random scale."""
    jitter: int = 10
    """Colour jitter in grey levels: one uniform shift in [-jitter, jitter] per channel and image."""
    flip: bool = True
    learning_rate: float = 1e-2
    new_layers_multiplier: float = 10.0
    """Learning rate of everything but the backbone, as a multiple."""
    momentum: float = 0.9
    weight_decay: float = 1e-4
    power: float = 0.9
    """Exponent of the poly schedule `(1 - iteration / iterations) ** power`."""
    auxiliary_weight: float = 0.4
    init_from: str | None = None
    """A run folder to start from."""
    init: Literal["backbone_and_context", "all"] = "backbone_and_context"
    """What `init_from` takes over; the rest starts fresh."""
    validate_every: int = 5000
    """Iterations between validations."""
    workers: int = 4
    """Processes that load data; 0 loads in the training process."""


@dataclass(frozen=True)
class EvaluationRecipe:
    """The protocol that scores are measured with."""

    crop: tuple[int, int] | None = None
    """Height and width of the sliding window in pixels; null: the whole image at once."""
    overlap: float = 1 / 3
    """Overlap of neighbouring windows, as a share of the crop."""
    scales: tuple[float, ...] = (1.0,)
    """Class probabilities are averaged over these scales of the image."""
    flip: bool = False
    """Average with the mirrored image's result."""


@dataclass(frozen=True)
class Recipe:
    """A run, whole."""

    model: ModelRecipe = field(default_factory=ModelRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    seed: int = 0
    precision: PrecisionName = "auto"

    def to_mapping(self) -> dict[str, Any]:
        """The recipe as nested plain values, as its YAML would hold them."""
        return _plain(dataclasses.asdict(self))


def recipe_names() -> list[str]:
    """Names of the recipes that the package ships, such as `cityscapes/gffnet_r101`."""
    return sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml"))


def load_recipe(recipe: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        recipe: the name of a shipped recipe (`camvid/gffnet_r18`) or a YAML file.
        overrides: `section.key=value` changes, the value as YAML: `training.iterations=2000`.

    Raises:
        UserError: the recipe does not exist, is no valid YAML, or holds an unknown key or a value of another type.
    """
    mapping = _resolve(recipe, ())
    for override in overrides:
        _set(mapping, override)
    return recipe_from_mapping(mapping, str(recipe))


def recipe_from_mapping(mapping: Mapping[str, Any], source: str) -> Recipe:
    """The recipe in nested plain values, checked; `source` names their origin in errors.

    Raises:
        UserError: an unknown key, or a value of another type.
    """
    return from_mapping(Recipe, mapping, source)


def from_mapping(kind: type[T], mapping: Mapping[str, Any], source: str) -> T:
    """A dataclass of this module from nested plain values, every key and type checked.

    Raises:
        UserError: an unknown key, or a value of another type.
    """
    _check_keys(kind, mapping, source, "")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=kind)
    try:
        parsed: T = parser.instantiate(parser.parse_object({"it": dict(mapping)})).it
    except ArgumentError as error:
        reason = " ".join(str(error).split()).replace('Parser key "it.', 'key "')
        raise UserError(f"recipe {source}: {reason}") from None
    return parsed


def _check_keys(kind: Any, mapping: Any, source: str, prefix: str) -> None:
    """Raise a UserError for the first key of `mapping` that the dataclass `kind` does not have."""
    if not isinstance(mapping, Mapping):
        raise UserError(f"recipe {source}: {prefix.rstrip('.') or 'the file'} must hold `key: value` lines.")
    hints = get_type_hints(kind)
    for key, value in mapping.items():
        if key not in hints:
            raise UserError(
                f"recipe {source}: {prefix}{key} is unknown.{nearest(str(key), hints)} Allowed: {', '.join(hints)}."
            )
        if dataclasses.is_dataclass(hints[key]):
            _check_keys(hints[key], value, source, f"{prefix}{key}.")


def _resolve(recipe: str | Path, chain: tuple[str, ...]) -> dict[str, Any]:
    """The mapping of a recipe file, laid over that of its `base`."""
    if str(recipe) in chain:
        raise UserError(f"recipe {recipe}: its bases go in a circle: {' -> '.join([*chain, str(recipe)])}.")
    path = _find(recipe)
    try:
        mapping = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path}: not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(mapping, dict):
        raise UserError(f"recipe {path}: must hold `key: value` lines, but is a {type(mapping).__name__}.")
    base = mapping.pop("base", None)
    return mapping if base is None else _merge(_resolve(base, (*chain, str(recipe))), mapping)


def _find(recipe: str | Path) -> Path:
    """The file of a recipe given by name or by path."""
    path = Path(recipe)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise UserError(f"recipe file {path} does not exist. Shipped recipes go by name, without .yaml.")
        return path
    if str(recipe) not in recipe_names():
        raise unknown("recipe", str(recipe), recipe_names())
    return RECIPES / f"{recipe}.yaml"


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` in place of its own, section by section."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _set(mapping: dict[str, Any], override: str) -> None:
    """Apply one `section.key=value` to `mapping`, in place."""
    keys, equals, text = override.partition("=")
    if not equals or not keys:
        raise UserError(f"--set {override!r} must read section.key=value, such as training.iterations=2000.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override!r}: the value {text!r} is not valid YAML.") from None
    *sections, last = keys.split(".")
    for section in sections:
        mapping = mapping.setdefault(section, {})
        if not isinstance(mapping, dict):
            raise UserError(f"--set {override!r}: {section!r} is a value, not a section.")
    mapping[last] = value


def _plain(value: Any) -> Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value

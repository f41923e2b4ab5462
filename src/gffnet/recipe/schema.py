"""The schema of a recipe: its keys, with type, range, default and meaning.

Every section is a frozen dataclass that pydantic validates, from YAML and in Python alike:
`dataclasses.replace(recipe, seed="x")` is refused like `seed: x` in a file. A field's docstring is its description in
the JSON schema.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from functools import wraps
from typing import Annotated, Any, Literal, TypeVar, cast, dataclass_transform, get_args

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from gffnet.errors import UserError
from gffnet.recipe.hints import key_hint, section_hint, value_hint
from gffnet.registry import is_loaded, names, plugin_of

T = TypeVar("T")


class RecipeError(UserError, ValueError):
    """A recipe has an unknown key, a value that its key does not take, or values that exclude each other."""


class _Registered:
    """A text that must be a registered name of `kind`; any text where `from_mapping` reads a record."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Callable[[CoreSchema], Any]) -> Any:
        return {**handler(schema), "enum": names(self.kind)}

    def _check(self, name: str, info: Any) -> str:
        if info.context == _RECORD:
            return name
        found = _any_case(name, allowed := names(self.kind, name))
        if found not in allowed:
            raise PydanticCustomError("unknown_name", "must be one of {names}", {"names": str(allowed)[1:-1]})
        return found


class _AnyCase:
    """Texts of a `Literal`, read whatever their case: `AdamW` is `adamw`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        def fold(value: Any) -> Any:
            return _any_case(value, get_args(source)) if isinstance(value, str) else value

        return core_schema.no_info_before_validator_function(fold, handler(source))


def _any_case(name: str, allowed: Iterable[str]) -> str:
    """The one of the `allowed` names that differs from `name` in case at most, else `name`."""
    return name if name in allowed else next((each for each in allowed if each.lower() == name.lower()), name)


_RECORD = "record"
"""The validation context of what was recorded, where a name need not be registered in this process."""


IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Of red, green and blue, in 0..255."""


def of_channels(rgb: Sequence[float], in_channels: int) -> tuple[float, ...]:
    """Return statistics of `in_channels` channels from those of RGB, as timm makes weights of RGB fit other channels.

    For one channel their average, for n channels red, green, blue, red, ...
    """
    return (sum(rgb) / 3,) if in_channels == 1 else tuple(rgb[channel % 3] for channel in range(in_channels))


class _OfChannels:
    """`mean` or `std`, one per input channel: by default those of the backbone's weights, made from those of RGB."""

    def __init__(self, statistic: Literal["mean", "std"], rgb: tuple[float, ...]) -> None:
        self.statistic: Literal["mean", "std"] = statistic
        self.rgb = rgb

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        return core_schema.with_info_wrap_validator_function(self._fill, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Callable[[CoreSchema], Any]) -> Any:
        return {"anyOf": [handler(schema), {"type": "null"}]}

    def _fill(self, value: Any, validate: Callable[[Any], Any], info: Any) -> Any:
        if value is not None:
            return validate(value)
        backbone = (info.data or {}).get("backbone")
        if backbone is None:  # it is not valid
            return self.rgb
        if info.context == _RECORD:  # which has its own, but for the recipes that are listed
            return of_channels(self.rgb, backbone.in_channels)
        return of_channels(self._of_weights(backbone.name, backbone.weights), backbone.in_channels)

    def _of_weights(self, name: str, weights: str) -> tuple[float, ...]:
        """What timm's weights of a model were trained with; ImageNet's, to the last digit, where they are the same."""
        if weights == "none":
            return self.rgb
        import timm  # takes seconds

        config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
        own = self.rgb if config is None else [255 * level for level in getattr(config, self.statistic)]
        return self.rgb if all(abs(a - b) < 0.01 for a, b in zip(own, self.rgb, strict=True)) else tuple(own)


def _weights(weights: str) -> str:
    return _any_case(weights, ("imagenet", "none"))


def _ascending(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError("have the smaller first")
    return ends


def _seed(value: int) -> int:
    if value >= 2**32:
        raise ValueError("be below 2**32")
    return value


Text = Annotated[str, Strict()]
Flag = Annotated[bool, Strict()]
NonNegativeInt = Annotated[int, Strict(), Field(ge=0)]
PositiveInt = Annotated[int, Strict(), Field(ge=1)]
Seed = Annotated[NonNegativeInt, AfterValidator(_seed)]
Number = Annotated[float, Strict()]
NonNegative = Annotated[Number, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
BelowOne = Annotated[Number, Field(ge=0, lt=1)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
UpToHalf = Annotated[Number, Field(ge=0, le=0.5)]
Probability = Annotated[Number, Field(gt=0, le=1)]
Side = Annotated[int, Strict(), Field(ge=16)]
Crop = tuple[Side, Side]
Range = Annotated[tuple[Positive, Positive], AfterValidator(_ascending), Field(json_schema_extra={"ascending": True})]
Positives = Annotated[tuple[Positive, ...], Field(min_length=1)]
PrecisionName = Annotated[Literal["auto", "float32", "bfloat16", "float16"], _AnyCase()]
OptimizerName = Annotated[Literal["sgd", "nesterov", "adam", "adamw", "lion", "lamb"], _AnyCase()]
ScheduleName = Annotated[Literal["poly", "cosine", "one_cycle", "step"], _AnyCase()]
Milestone = Annotated[Number, Field(gt=0, lt=1)]


@dataclass_transform(frozen_default=True, field_specifiers=(field, Field))
def validated(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass whose arguments are validated, with errors in one line.

    Construction and `dataclasses.replace` raise `RecipeError`; `from_mapping` reads nested plain values.
    """
    config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    made: Any = dataclass(cls, frozen=True, config=config)
    construct = made.__init__

    @wraps(construct)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            construct(self, *args, **kwargs)
        except ValidationError as error:
            raise _readable(made, error, cls.__name__) from None

    made.__init__ = __init__
    return cast(type[T], made)


def _plain(value: object) -> object:
    """A value as YAML has it."""
    return list(value) if isinstance(value, tuple) else value


@validated
class BackboneRecipe:
    """The backbone, which computes the maps `X_1..X_4`."""

    name: Text = "resnet101"
    """A timm model, such as resnet18, resnet50d, densenet121, convnext_tiny."""
    weights: Annotated[Text, AfterValidator(_weights)] = "imagenet"
    """`imagenet` (through timm), `none`, or a file (.safetensors, .pth)."""
    output_stride: Literal[8, 16, 32] | None = 8
    """Stride of `X_4`; null: the model's own."""
    in_channels: PositiveInt = 3
    """Channels of the images. Where a recipe does not set it, that of the training images."""


@validated
class ModelRecipe:
    """The network: backbone, context, fusion, pyramid, head."""

    backbone: BackboneRecipe = field(default_factory=BackboneRecipe)
    """The backbone."""
    context: Annotated[Text, _Registered("context")] = "pyramid_pooling"
    """Context module on `X_4`."""
    fusion: Annotated[Text, _Registered("fusion")] = "none"
    """Fusion of `X_1..X_4`; none: the context map alone is classified."""
    dense_pyramid: Annotated[Text, _Registered("pyramid")] = "none"
    """Pyramid over the fused maps: the Dense Feature Pyramid (`dense`), its literal reading, or none."""
    gate_channels: Annotated[Literal["one", "each"], _AnyCase()] = "one"
    """Gate values per position: `one` for all channels (Eq. 5), or one for `each` channel."""
    pyramid_kernel: Literal[1, 3] = 1
    """Kernel size of `H_i` in Eq. (6)."""
    dropout: BelowOne = 0.1
    """Dropout before the classifier."""
    channels: PositiveInt = 256
    """Channels of the reduced and fused maps and of the pyramid; the context map has these, or C_4 / 4 if more."""
    refinement: NonNegativeInt = 2
    """3x3 convolutions that refine each fused map."""
    separable: Flag = False
    """Make each refinement a depthwise 3x3 and a 1x1 convolution: at 128 channels an eighth of the cost."""
    mean: Annotated[tuple[Number, ...], _OfChannels("mean", IMAGENET_MEAN)] = Field(default=None, validate_default=True)
    """Mean of each input channel, in 0..255. null: of RGB images of 8 bits, that of the ImageNet weights; of others,
    that of the training images."""
    std: Annotated[Positives, _OfChannels("std", IMAGENET_STD)] = Field(default=None, validate_default=True)
    """Standard deviation of each input channel, in 0..255. null: as for `mean`."""
    white_level: Positive | None = None
    """The value that means white in images of more than 8 bits a sample, which is scaled to 255; larger ones are
    clipped. null: found in the training images, if they have more than 8 bits."""

    def __post_init__(self) -> None:
        dark = self.white_level is not None or min(self.std) >= 1  # images of few bright pixels
        if not dark and max(self.std) <= 1 and max(self.mean) <= 1 and min(self.mean) >= 0 < max(self.mean):
            raise RecipeError(
                f"model.mean {list(self.mean)} and model.std {list(self.std)} are in 0..1, and this network takes "
                "images in 0..255: multiply both by 255."
            )
        if not len(self.mean) == len(self.std) == self.backbone.in_channels:
            raise RecipeError(
                f"model.mean has {len(self.mean)} values and model.std {len(self.std)}: "
                f"allowed is one per input channel, and model.backbone.in_channels is {self.backbone.in_channels}; or "
                "leave both out."
            )
        if self.fusion == "none" and self.dense_pyramid != "none":
            raise RecipeError(
                f"model.dense_pyramid {self.dense_pyramid!r} works on fused maps, but model.fusion is 'none': "
                "name a fusion, or set model.dense_pyramid to none."
            )

    def names(self) -> dict[str, str]:
        """The registered names of which the network consists, by kind."""
        return {
            "context": self.context,
            "fusion": self.fusion,
            "pyramid": self.dense_pyramid,
            "backbone": self.backbone.name,
        }

    def without_weights(self) -> "ModelRecipe":
        """The same network with random weights: to count operations, or to load a checkpoint into."""
        return dataclasses.replace(self, backbone=dataclasses.replace(self.backbone, weights="none"))


@validated
class DataRecipe:
    """The data set and its splits."""

    name: Annotated[Text, _Registered("data set")] = "cityscapes"
    """The data set."""
    train_split: Text = "train"
    """Split to train on, or several joined by `+`: train+val."""
    val_split: Text = "val"
    """Split to validate on."""


@validated
class LossRecipe:
    """Cross-entropy over the labelled pixels, as in the paper; every option, of cross-entropy, is off by default."""

    terms: dict[Annotated[Text, _Registered("loss")], NonNegative] = field(
        default_factory=lambda: {"cross_entropy": 1.0}, hash=False
    )
    """Weight of each term of the loss: `cross_entropy`, `dice`, `lovasz`, `focal`, or a registered one. A recipe that
    sets this key names all its terms; to drop a term of its `base`, give it the weight 0."""
    label_smoothing: BelowOne = 0.0
    """Fraction of a pixel's weight that is spread evenly over all classes."""
    class_weighting: Annotated[Literal["none", "median_frequency", "enet"], _AnyCase()] = "none"
    """Class weights from the pixel frequencies of the training split: `median_frequency`, the median frequency divided
    by that of the class (Eigen and Fergus, ICCV-15); `enet`, `1 / ln(1.02 + frequency)` (Paszke et al., 2016)."""
    class_weights: Positives | None = None
    """Explicit weights, one per class in the order of the classes."""
    ohem: Probability | None = None
    """Online hard example mining: only pixels whose class has a probability below this count; 0.7 is common."""
    ohem_keep: Fraction = 1 / 16
    """Fraction of the labelled pixels that count in any case, the hardest first."""

    def __post_init__(self) -> None:
        if not any(self.terms.values()):
            raise RecipeError(
                f"training.loss.terms is {self.terms}: one term at least must have a weight above 0, such as "
                "{cross_entropy: 1}."
            )
        options = ("label_smoothing", "class_weighting", "class_weights", "ohem")
        given = [key for key in options if getattr(self, key) not in (0, "none", None)]
        if given and not self.terms.get("cross_entropy"):
            raise RecipeError(
                f"training.loss.{given[0]} is an option of cross-entropy, which is none of training.loss.terms "
                f"({', '.join(self.terms)}): add cross_entropy to them, or leave {given[0]} out."
            )
        if self.class_weights is not None and self.class_weighting != "none":
            raise RecipeError(
                f"training.loss.class_weights are given, and training.loss.class_weighting is "
                f"{self.class_weighting!r}: keep one of them."
            )


@validated
class TrainingRecipe:
    """Training; by default, SGD with the poly schedule as in the paper."""

    iterations: PositiveInt = 100_000
    """Optimiser steps. In YAML, this, `crop`, `validate_every` and `evaluation.crop` may be `auto`: computed from the
    number and the size of the training images."""
    batch: PositiveInt = 8
    """Images per iteration, over all devices."""
    device_batch: PositiveInt | None = None
    """Images that a device processes at once; gradients are accumulated until the batch is complete. null: all of the
    device's images. Batch normalisation sees `device_batch` images at a time."""
    crop: Crop = (864, 864)
    """Height and width of a training crop, in pixels."""
    max_crop: Side = 512
    """Largest side of an `auto` crop, in pixels: the time of an iteration grows with the area of the crop."""
    scales: Range = (0.75, 2.0)
    """Range of the random scale."""
    jitter: Annotated[NonNegativeInt, Field(le=255)] = 10
    """Color jitter: a uniform shift in [-jitter, jitter], in 0..255, per channel and image."""
    brightness: Fraction = 0.0
    """Random brightness: multiplied by a factor in [1 - x, 1 + x]. This and the next four keys are for images of one
    or three channels; 0 in the paper."""
    contrast: Fraction = 0.0
    """Random contrast: multiplied by a factor in [1 - x, 1 + x]."""
    saturation: Fraction = 0.0
    """Random saturation: multiplied by a factor in [1 - x, 1 + x]."""
    hue: UpToHalf = 0.0
    """Random hue: shifted by up to x of the color circle, either way."""
    blur: Fraction = 0.0
    """Probability of a Gaussian blur, of 0.1 to 2 pixels."""
    flip: Flag = True
    """Random horizontal flip."""
    class_balance: Fraction = 0.0
    """Fraction of the crops that show a class sampled uniformly, however rare; 0 in the paper."""
    optimizer: OptimizerName = "sgd"
    """The optimiser: SGD as in the paper; AdamW learns faster in short runs from random weights."""
    learning_rate: Positive = 1e-2
    """Initial learning rate."""
    new_layers_multiplier: Positive = 10.0
    """Multiplies the learning rate of everything but the backbone."""
    backbone_multiplier: Positive = 1.0
    """Multiplies the learning rate of the backbone."""
    momentum: BelowOne = 0.9
    """Momentum of `sgd` and `nesterov`."""
    weight_decay: NonNegative = 1e-4
    """Weight decay."""
    decay_norms_and_biases: Flag = True
    """Whether weight decay applies to normalisation layers and biases too, as in the paper."""
    freeze_norms: Flag = False
    """Freeze batch normalisation, its statistics and its weights: for batches of one or two images, from trained
    weights."""
    clip_gradients: Positive | None = None
    """Clip the gradient to this total norm; null: never."""
    ema: Probability | None = None
    """Decay of an exponential moving average of the weights, such as 0.999, which is then validated and saved as the
    model; null: none."""
    loss: LossRecipe = field(default_factory=LossRecipe)
    """The loss."""
    schedule: ScheduleName = "poly"
    """Learning rate over the iterations: `poly`, `(1 - iteration / iterations) ** power`, as in the paper; `cosine`,
    half a cosine down to 0; `one_cycle`, up to `learning_rate` within 30 % of the iterations, then down; `step`."""
    power: NonNegative = 0.9
    """Exponent of the schedule `poly`."""
    milestones: tuple[Milestone, ...] = (0.6, 0.9)
    """Fractions of the iterations at which the schedule `step` multiplies the learning rate by `step_factor`."""
    step_factor: Probability = 0.1
    """Factor of the schedule `step`."""
    warm_up: NonNegativeInt = 0
    """Iterations in which the learning rate rises linearly to that of the schedule; 0 in the paper."""
    auxiliary_weight: NonNegative = 0.4
    """Weight of the auxiliary loss on `X_3`; 0: no auxiliary head."""
    init_from: Text | None = None
    """A run folder to initialise from."""
    init: Annotated[Literal["backbone_and_context", "all"], _AnyCase()] = "backbone_and_context"
    """The weights that `init_from` initialises; the others are random."""
    validate_every: PositiveInt = 5000
    """Iterations between validations."""
    checkpoint_every: PositiveInt = 500
    """Iterations between checkpoints to resume from; each replaces the one before."""
    keep_every: PositiveInt | None = None
    """Iterations between checkpoints that are never replaced; null: none."""
    compile: Flag = False
    """Compile the network with `torch.compile`: minutes at the start, faster iterations."""
    workers: NonNegativeInt = 4
    """Processes that load data; 0: the training process loads it. On a CPU, at most a quarter of the cores load, none
    of fewer than four."""

    def __post_init__(self) -> None:
        if self.optimizer == "nesterov" and self.momentum == 0:
            raise RecipeError(
                "training.momentum is 0.0, and training.optimizer 'nesterov' needs one above 0, such as 0.9: set it, "
                "or choose training.optimizer sgd."
            )
        for key, schedule in {"power": "poly", "milestones": "step", "step_factor": "step"}.items():
            value, default = getattr(self, key), getattr(type(self), key)
            if self.schedule != schedule and value != default:
                raise RecipeError(
                    f"training.{key} {_plain(value)} belongs to the schedule {schedule!r}, but training.schedule is "
                    f"{self.schedule!r}: choose {schedule}, or leave training.{key} at {_plain(default)}."
                )
        if self.schedule == "one_cycle" and self.warm_up:
            raise RecipeError(
                f"training.warm_up is {self.warm_up}, but training.schedule 'one_cycle' has a warm-up of its own: set "
                "training.warm_up to 0."
            )

    @model_validator(mode="after")
    def _check_warm_up(self, info: ValidationInfo) -> "TrainingRecipe":
        if info.context != _RECORD and self.warm_up > self.iterations:  # runs of earlier versions may have recorded it
            raise RecipeError(
                f"training.warm_up {self.warm_up} is longer than the run, whose training.iterations are "
                f"{self.iterations}: the learning rate would never rise to its value. Set training.warm_up to "
                f"{self.iterations // 20} or another number up to {self.iterations}."
            )
        return self


@validated
class EvaluationRecipe:
    """The protocol of an evaluation."""

    crop: Crop | None = None
    """Height and width of the sliding window, in pixels; null: the whole image at once."""
    overlap: BelowOne = 1 / 3
    """Overlap of neighbouring windows, relative to the crop."""
    scales: Positives = (1.0,)
    """Class probabilities are averaged over these scales of the image."""
    flip: Flag = False
    """Average with the prediction of the horizontally flipped image."""


@validated
class Recipe:
    """A run: network, data, training, evaluation."""

    model: ModelRecipe = field(default_factory=ModelRecipe)
    """The network."""
    data: DataRecipe = field(default_factory=DataRecipe)
    """The data set."""
    training: TrainingRecipe = field(default_factory=TrainingRecipe)
    """Training."""
    evaluation: EvaluationRecipe = field(default_factory=EvaluationRecipe)
    """The protocol of validation and evaluation."""
    seed: Seed = 0
    """Seed of everything random, below 2³²."""
    precision: PrecisionName = "auto"
    """Precision of training; auto: the fastest on this device, as measured."""
    plugins: tuple[Text, ...] = ()
    """Modules or Python files to import first, which register fusions, data sets, losses, ... of your own. What a
    recipe uses is added by itself."""

    def __post_init__(self) -> None:
        used = [("data set", self.data.name), *self.model.names().items()]
        used += [("loss", name) for name in self.training.loss.terms]
        plugins = [plugin for kind, name in used if (plugin := plugin_of(kind, name))]
        object.__setattr__(self, "plugins", tuple(dict.fromkeys((*self.plugins, *plugins))))

    def to_mapping(self) -> dict[str, Any]:
        """The recipe as nested plain values, as YAML holds it."""
        mapping: dict[str, Any] = TypeAdapter(Recipe).dump_python(self, mode="json")
        return mapping


def from_mapping(kind: type[T], mapping: object, source: str, record: bool = False) -> T:
    """Build a `validated` class such as `Recipe` or `ModelRecipe` from nested plain values.

    Args:
        kind: the class.
        mapping: its values, as read from YAML or JSON; a key that is left out has its default.
        source: their origin, which errors begin with: `recipe camvid/gffnet_r18`.
        record: they were recorded, and are read rather than built: plug-ins that registered their names need not be
            imported.

    Raises:
        UserError: an unknown or missing key, a value of another type or out of range, values that exclude each other.
    """
    try:
        return TypeAdapter(kind).validate_python(mapping, context=_RECORD if record else None)
    except ValidationError as error:
        readable = _readable(kind, error, source)
        if isinstance(mapping, dict) and any(each["type"] == "unknown_name" for each in error.errors()):
            readable = RecipeError(f"{readable}{_plugin_hint(mapping.get('plugins'))}")
        raise readable from None
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _plugin_hint(plugins: object) -> str:
    """Where an unknown name of a recipe or a model comes from, if it records plug-ins that are not imported."""
    recorded = [str(plugin) for plugin in plugins] if isinstance(plugins, list | tuple) else []
    if "__main__" in recorded:
        return " It was registered by a script or notebook: put it into a module, and name that by --plugin MODULE."
    missing = [plugin for plugin in recorded if not is_loaded(plugin)]
    if not missing:
        return ""
    options = " ".join(f"--plugin {plugin}" for plugin in missing)
    return f" The plug-in {' and '.join(missing)} registers it: add {options} (in Python, import it first)."


def dotted_keys(kind: Any = Recipe, prefix: str = "") -> Iterator[str]:
    """The keys of a `validated` class, `training.loss.ohem`, and its sections, each before its keys."""
    for name, of in kind.__pydantic_fields__.items():
        yield prefix + name
        if hasattr(of.annotation, "__pydantic_fields__"):
            yield from dotted_keys(of.annotation, f"{prefix}{name}.")


_UNKNOWN = {"unexpected_keyword_argument", "invalid_key"}


def _readable(kind: Any, error: ValidationError, source: str) -> RecipeError:
    """The first of pydantic's errors as one line: the key, what is allowed, the value. Unknown keys come first."""
    first = min(error.errors(include_url=False), key=lambda each: each["type"] not in _UNKNOWN)
    unknown, value, key, fields, meaning, root = first["type"] in _UNKNOWN, first["input"], "", {}, "", kind
    for name in first["loc"]:
        if hasattr(kind, "__pydantic_fields__"):
            fields = kind.__pydantic_fields__
            if isinstance(name, int) and name < len(fields) and not unknown:  # a positional argument
                name = list(fields)[name]
            key += f".{name}"
            if name in fields:
                kind, meaning = fields[name].annotation, " ".join((fields[name].description or "").split())
        elif name != "[key]":  # pydantic's mark of an error in the key of a mapping, not in its value
            key += f"[{name}]" if isinstance(name, int) else f".{name}"
    key = key[1:]
    if isinstance(cause := first.get("ctx", {}).get("error"), RecipeError):
        text = str(cause)
    elif unknown:
        text = f"{key} is unknown.{key_hint(key, dotted_keys(root))} Allowed: {', '.join(fields)}."
    elif first["type"] == "missing":
        text = f"{key} is missing. {meaning}"
    elif first["type"] == "dataclass_type":
        hint = section_hint(key, value, list(dotted_keys(root)))
        text = f"{key or 'the file'} must hold `key: value` lines, got {value!r}.{hint}"
    else:
        message = re.sub("^(Input|Tuple) should|^Value error,", "must", first["msg"]).replace("tuple", "list")
        words = re.findall(r"'(.+?)'", message)
        of_type = first["type"].endswith("_type") and not key.endswith("]")
        hint = value_hint(value, kind, words) if words or of_type else ""
        text = f"{key}: {message}, got {value!r}.{hint} {meaning}"
    return RecipeError(f"{source}: {text.rstrip()}")

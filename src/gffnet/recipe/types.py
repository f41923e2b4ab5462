"""The parts of a recipe: which keys it has, their types, ranges and defaults."""

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from gffnet.errors import UserError
from gffnet.recipe.checked import Rule

Natural = Annotated[int, Rule("of at least 0", lambda n: n >= 0)]
Count = Annotated[int, Rule("of at least 1", lambda n: n >= 1)]
NotNegative = Annotated[float, Rule("of at least 0", lambda x: x >= 0)]
Positive = Annotated[float, Rule("above 0", lambda x: x > 0)]
Share = Annotated[float, Rule("of at least 0 and below 1", lambda x: 0 <= x < 1)]
Part = Annotated[float, Rule("of at least 0 and at most 1", lambda x: 0 <= x <= 1)]
Probability = Annotated[float, Rule("above 0 and at most 1", lambda x: 0 < x <= 1)]
Crop = Annotated[tuple[int, int], Rule("of at least 16", lambda sides: min(sides) >= 16)]
ScaleRange = Annotated[tuple[float, float], Rule("above 0, the smaller first", lambda ends: 0 < ends[0] <= ends[1])]
Positives = Annotated[tuple[float, ...], Rule("above 0, at least one", lambda xs: bool(xs) and min(xs) > 0)]

DatasetName = Literal["cityscapes", "ade20k", "pascal_context", "coco_stuff_10k", "camvid", "streets", "folder"]
ContextName = Literal["pyramid_pooling", "dense_aspp", "none"]
FusionName = Literal["none", "concat", "addition", "fpn", "gated_fpn", "gff"]
PyramidName = Literal["none", "dense", "literal"]
PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
OptimizerName = Literal["sgd", "nesterov", "adam", "adamw", "lion", "lamb"]


@dataclass(frozen=True)
class BackboneRecipe:
    """The network that makes the pyramid `X_1..X_4`."""

    name: str = "resnet101"
    """A timm model name, such as resnet18, resnet50d, densenet121, convnext_tiny."""
    weights: str = "imagenet"
    """`imagenet` (through timm), `none`, or a file (.safetensors, .pth)."""
    output_stride: Literal[8, 16, 32] | None = 8
    """Stride of `X_4`; null: the model's own."""
    in_channels: Count = 3


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
    dropout: Share = 0.1
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    """Mean grey level (0..255), one per input channel."""
    std: Positives = (58.395, 57.12, 57.375)
    """Standard deviation in grey levels, one per input channel."""

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.backbone.in_channels:
            raise UserError(
                f"model.mean has {len(self.mean)} values and model.std {len(self.std)}: "
                f"allowed is one per input channel, and model.backbone.in_channels is {self.backbone.in_channels}."
            )
        if self.fusion == "none" and self.dense_pyramid != "none":
            raise UserError(
                f"model.dense_pyramid {self.dense_pyramid!r} works on fused maps, but model.fusion is 'none': "
                "name a fusion, or set model.dense_pyramid to none."
            )

    def without_weights(self) -> "ModelRecipe":
        """The same network from random weights: for counting, and where a checkpoint brings its own."""
        return dataclasses.replace(self, backbone=dataclasses.replace(self.backbone, weights="none"))


@dataclass(frozen=True)
class DataRecipe:
    """Which data set, and which of its splits."""

    name: DatasetName = "cityscapes"
    train_split: str = "train"
    val_split: str = "val"


@dataclass(frozen=True)
class LossRecipe:
    """Cross-entropy over the labelled pixels, as the paper has it; what else may be had is off."""

    label_smoothing: Share = 0.0
    """Share of a pixel's weight that goes to all classes alike."""
    class_weighting: Literal["none", "median_frequency", "enet"] = "none"
    """Weights from how often the classes occur in the training split: `median_frequency`, the median frequency over
    that of the class (Eigen and Fergus, ICCV-15); `enet`, `1 / ln(1.02 + frequency)` (Paszke et al., 2016)."""
    class_weights: Positives | None = None
    """Weights of one's own, one per class in the order of the classes."""
    ohem: Probability | None = None
    """Online hard example mining: only pixels whose class has a probability below this count; 0.7 is common."""
    ohem_keep: Part = 1 / 16
    """Share of the labelled pixels that count at least, the hardest ones."""

    def __post_init__(self) -> None:
        if self.class_weights is not None and self.class_weighting != "none":
            raise UserError(
                f"training.loss.class_weights are given, and training.loss.class_weighting is "
                f"{self.class_weighting!r}: keep one of them."
            )


@dataclass(frozen=True)
class TrainingRecipe:
    """SGD with the poly schedule, as the paper trains."""

    iterations: Count = 100_000
    """This, `crop`, `validate_every` and `evaluation.crop` may be `auto` in YAML; see `gffnet.recipe.auto`."""
    batch: Count = 8
    """Images an iteration, over all devices."""
    device_batch: Count | None = None
    """Images that a device takes at once; the gradients of several such parts are added up until the batch is full.
    null: all of the device's share. Batch normalisation sees one part at a time."""
    crop: Crop = (864, 864)
    """Height and width of a training crop in pixels."""
    scales: ScaleRange = (0.75, 2.0)
    """Range of the random scale."""
    jitter: Natural = 10
    """Colour jitter in grey levels: one uniform shift in [-jitter, jitter] per channel and image."""
    flip: bool = True
    class_balance: Part = 0.0
    """Share of the crops that show a class drawn evenly from all, however rare; the paper does without."""
    optimizer: OptimizerName = "sgd"
    """The paper's SGD; or AdamW, which learns faster in short runs from scratch; or another."""
    learning_rate: Positive = 1e-2
    new_layers_multiplier: Positive = 10.0
    """Learning rate of everything but the backbone, as a multiple."""
    backbone_multiplier: Positive = 1.0
    """Learning rate of the backbone, as a multiple."""
    momentum: Share = 0.9
    """Of `sgd` and `nesterov`."""
    weight_decay: NotNegative = 1e-4
    decay_norms_and_biases: bool = True
    """Whether weight decay acts on normalisation and biases too, as in the paper's protocol."""
    freeze_norms: bool = False
    """Keep batch normalisation as it is: its statistics are used and neither they nor its weights are trained. For
    batches of one or two images, from trained weights."""
    clip_gradients: Positive | None = None
    """Greatest norm of the gradient of all weights together; greater ones are scaled down to it."""
    ema: Probability | None = None
    """Decay of the moving average of the weights, such as 0.999, which is then what is validated and kept as the model;
    null: none."""
    loss: LossRecipe = field(default_factory=LossRecipe)
    power: NotNegative = 0.9
    """Exponent of the poly schedule `(1 - iteration / iterations) ** power`."""
    warm_up: Natural = 0
    """Iterations in which the learning rate rises linearly to that of the schedule; the paper does without."""
    auxiliary_weight: NotNegative = 0.4
    init_from: str | None = None
    """A run folder to start from."""
    init: Literal["backbone_and_context", "all"] = "backbone_and_context"
    """What `init_from` takes over; the rest starts fresh."""
    validate_every: Count = 5000
    """Iterations between validations."""
    checkpoint_every: Count = 500
    """Iterations between checkpoints to resume from, at most; each replaces the one before."""
    keep_every: Count | None = None
    """Iterations between checkpoints that are kept for good; null: none."""
    compile: bool = False
    """Compile the network with `torch.compile`: minutes at the start, faster iterations."""
    workers: Natural = 4
    """Processes that load data; 0 loads in the training process."""

    def __post_init__(self) -> None:
        if self.optimizer == "nesterov" and self.momentum == 0:
            raise UserError(
                "training.momentum is 0.0, and training.optimizer 'nesterov' needs one above 0, such as 0.9: set it, "
                "or take training.optimizer sgd."
            )


@dataclass(frozen=True)
class EvaluationRecipe:
    """The protocol that scores are measured with."""

    crop: Crop | None = None
    """Height and width of the sliding window in pixels; null: the whole image at once."""
    overlap: Share = 1 / 3
    """Overlap of neighbouring windows, as a share of the crop."""
    scales: Positives = (1.0,)
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
    seed: Natural = 0
    precision: PrecisionName = "auto"

    def to_mapping(self) -> dict[str, Any]:
        """The recipe as nested plain values, as its YAML would hold them."""
        mapping: dict[str, Any] = _plain(dataclasses.asdict(self))
        return mapping


def _plain(value: Any) -> Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value

"""What was probably meant by an unknown key or a value that its key does not take."""

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches
from types import EllipsisType
from typing import Any, get_args, get_origin

_ALIASES = {
    "data.name": "dataset data_set dataset_name",
    "evaluation": "eval test val validation",
    "evaluation.crop": "window window_size crop_eval",
    "evaluation.flip": "flip_test tta_flip",
    "evaluation.scales": "multi_scale multiscale ms tta",
    "model": "net network architecture",
    "model.backbone.in_channels": "in_chans in_ch input_channels n_channels num_channels",
    "model.backbone.name": "arch backbone backbone_name encoder encoder_name timm_model",
    "model.backbone.output_stride": "os output_strides encoder_output_stride",
    "model.backbone.weights": "backbone_weights checkpoint_path encoder_weights imagenet pretrained pretrained_weights",
    "model.channels": "decoder_channels hidden_channels num_filters width",
    "model.context": "aspp context_module head ppm psp",
    "model.dense_pyramid": "dfp dense_feature_pyramid pyramid",
    "model.dropout": "drop_rate dropout_ratio p_dropout",
    "model.fusion": "fuse fusion_type neck",
    "model.separable": "depthwise depthwise_separable use_separable_conv",
    "precision": "amp bf16 dtype fp16 half mixed_precision",
    "seed": "manual_seed random_seed",
    "training": "train trainer",
    "training.auxiliary_weight": "aux aux_loss aux_loss_weight aux_weight auxiliary deep_supervision",
    "training.batch": "bs batch_size batchsize images_per_batch train_batch_size",
    "training.checkpoint_every": "checkpoint_interval save_every save_interval",
    "training.clip_gradients": "clip_grad clip_grad_norm grad_clip gradient_clip gradient_clip_val max_grad_norm",
    "training.crop": "crop_size image_size img_size input_size patch_size resolution train_size",
    "training.device_batch": "accumulate accumulate_grad_batches accumulation grad_accum "
    "gradient_accumulation_steps micro_batch",
    "training.ema": "ema_decay model_ema",
    "training.flip": "hflip horizontal_flip random_flip",
    "training.freeze_norms": "freeze_bn frozen_bn norm_eval",
    "training.init_from": "finetune finetune_from init_weights load_from",
    "training.iterations": "iters max_iter max_iters max_steps num_iterations num_steps steps total_iters",
    "training.blur": "blur_prob gaussian_blur p_blur",
    "training.brightness": "brightness_limit color_jitter colour_jitter photometric",
    "training.jitter": "rgb_shift",
    "training.learning_rate": "base_lr initial_lr lr lr0 max_lr",
    "training.loss.class_weights": "class_weight ce_weight",
    "training.loss.label_smoothing": "label_smooth smoothing",
    "training.loss.terms": "criterion dice focal loss_fn loss_weights losses lovasz",
    "training.momentum": "beta mom",
    "training.new_layers_multiplier": "head_lr_mult lr_mult",
    "training.backbone_multiplier": "backbone_lr_mult encoder_lr_mult",
    "training.optimizer": "optim optimiser solver",
    "training.scales": "random_scale scale scale_range",
    "training.schedule": "lr_schedule lr_scheduler schedule scheduler",
    "training.validate_every": "eval_every eval_interval val_check_interval val_every val_interval validation_interval",
    "training.warm_up": "warmup warmup_iters warmup_iterations warmup_steps",
    "training.weight_decay": "decay l2 wd",
    "training.workers": "dataloader_workers n_workers num_workers workers_per_gpu",
}
"""Keys, and what other projects call them."""
_KEY_OF = {alias: key for key, aliases in _ALIASES.items() for alias in aliases.split()}
_NO_KEYS = {
    ("classes", "n_classes", "nclass", "num_class", "num_classes"): "The data set, data.name, decides the classes.",
    (
        "data_dir",
        "data_path",
        "data_root",
        "root",
    ): "The folder of the data set is an option of the command: --root DIR.",
    (
        "epoch",
        "epochs",
        "max_epochs",
        "num_epochs",
    ): "Training is measured in iterations: training.iterations; an epoch has images / training.batch of them.",
    ("device", "devices", "gpu", "gpus", "num_gpus"): "Devices are an option of the command: --devices N.",
    ("out", "out_dir", "output_dir", "save_dir", "work_dir"): "The run folder is an option of the command: --out DIR.",
    ("resume", "resume_from"): "To resume is an option of the command: --resume.",
}
_SENTENCES = {alias: sentence for aliases, sentence in _NO_KEYS.items() for alias in aliases}
_VALUES = {
    "adam_w": "adamw",
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp32": "float32",
    "gated_fully_fusion": "gff",
    "half": "float16",
    "add": "addition",
    "sum": "addition",
    "concatenation": "concat",
    "denseaspp": "dense_aspp",
    "dfp": "dense",
    "poly_lr": "poly",
    "ppm": "pyramid_pooling",
    "psp": "pyramid_pooling",
}
"""What other projects call the choices of a key."""
_FLAGS = {
    **dict.fromkeys(("true", "yes", "on", "1", "1.0"), "true"),
    **dict.fromkeys(("false", "no", "off", "0", "0.0"), "false"),
}
"""What is meant by a value in place of true or false."""


def key_hint(key: str, keys: Iterable[str]) -> str:
    """What was probably meant by an unknown key.

    Args:
        key: dotted.
        keys: all dotted keys and sections that there are.

    Returns:
        ` Did you mean training.learning_rate?`, another sentence with a space before it, or an empty string.
    """
    known, (section, _, last) = list(keys), key.rpartition(".")
    word = _plain(last)
    own = [each for each in known if each.rpartition(".")[0] == section]
    here = [each for each in own if _plain(each.rpartition(".")[2]) == word]
    same = [each for each in known if _plain(each.rpartition(".")[2]) == word]
    near = [each for each in same if section and each.startswith(f"{section}.")] or same
    target = _KEY_OF.get(word, "")
    alias = [each for each in own if target.endswith("." + each.rpartition(".")[2])] or _known(target, known)
    if here:
        found = here
    elif word in _SENTENCES:
        return f" {_SENTENCES[word]}"
    else:
        found = alias or near or _close(word, own, 0.6) or _close(word, known, 0.75) or _close(word, own, 0.5)
    return f" Did you mean {' or '.join(found)}?" if found else ""


def section_hint(section: str, value: object, keys: Sequence[str]) -> str:
    """What was probably meant by a single value in place of a section: that of its `name`, or one term of a loss."""
    if isinstance(value, str) and f"{section}.name" in keys:
        return f" Did you mean {section}.name?"
    if isinstance(value, str) and f"{section}.terms" in keys:
        return f" Did you mean {section}.terms={{{value}: 1}}?"
    return ""


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")


def _known(target: str, keys: Sequence[str]) -> list[str]:
    """`target`, a key of a whole recipe, as it is called among `keys`, which may be those of a section alone."""
    return [key for key in keys if target == key or target.endswith(f".{key}")][:1]


def _close(word: str, keys: Sequence[str], cutoff: float) -> list[str]:
    lasts = {key.rpartition(".")[2]: key for key in reversed(keys)}
    return [lasts[each] for each in get_close_matches(word, lasts, n=1, cutoff=cutoff)]


def value_hint(value: object, annotation: Any, choices: Sequence[str]) -> str:
    """What was probably meant by a value that its key does not take.

    Args:
        value: as it is given.
        annotation: the type of the key.
        choices: its names, if it takes names.

    Returns:
        ` Did you mean [512, 512]?`, or an empty string.
    """
    meant = _name(str(value), choices) if choices else _converted(value, _members(annotation))
    return f" Did you mean {meant}?" if meant else ""


def _name(value: str, choices: Sequence[str]) -> str:
    alias = _VALUES.get(_plain(value))
    close = [alias] if alias in choices else get_close_matches(_plain(value), choices, n=1, cutoff=0.5)
    return repr(close[0]) if close else ""


def _converted(value: object, types: Sequence[Any]) -> str:
    """The value in another form, as YAML."""
    text = str(value).strip().lower()
    if type(None) in types and text in {"none", "null"}:
        return "null"
    if bool in types:
        return _FLAGS.get(text, "")
    if isinstance(value, str) and any(get_origin(each) is dict for each in types):
        return f"{{{value}: 1}}"
    numbers = _numbers(text)
    if not numbers:
        return ""
    for tuple_type in types:
        if get_origin(tuple_type) is tuple:
            variable = EllipsisType in map(type, get_args(tuple_type))
            length = len(numbers) if variable else len(get_args(tuple_type))
            numbers = numbers * length if len(numbers) == 1 else numbers
            return f"[{', '.join(f'{number:.15g}' for number in numbers)}]" if len(numbers) == length else ""
    whole = int in types and len(numbers) == 1 and numbers[0].is_integer() and not isinstance(value, bool)
    if whole or (float in types and len(numbers) == 1 and isinstance(value, str)):
        return f"{numbers[0]:.15g}"
    return ""


def _numbers(text: str) -> list[float]:
    """The finite numbers in `512`, `512x512`, `512, 512`, `(512, 512)`; none if there is anything else."""
    try:
        found = [float(part) for part in text.strip("()[]").replace("x", ",").split(",")]
    except ValueError:
        return []
    return found if all(abs(number) < 1e15 for number in found) else []


def _members(annotation: Any) -> list[Any]:
    """The plain types of a union or an annotated type; tuples as they are."""
    if get_origin(annotation) in {tuple, dict} or not get_args(annotation):
        return [annotation]
    if hasattr(annotation, "__metadata__"):
        return _members(annotation.__origin__)
    return [member for each in get_args(annotation) for member in _members(each)]


def nearest_recipes(name: str, names: Sequence[str]) -> list[str]:
    """The recipes whose names are nearest to a mistyped one, at most five, the nearest first."""
    own = name.lower().removesuffix(".yaml")

    def likeness(other: str) -> float:
        last = other.rpartition("/")[2]
        similar = max(SequenceMatcher(None, own, other).ratio(), SequenceMatcher(None, own, last).ratio())
        return max(similar, 0.5 * (len(own) > 2 and own in other))  # a part of a name, such as a data set

    close = [other for other in names if likeness(other) >= 0.5]
    return sorted(close, key=likeness, reverse=True)[:5]

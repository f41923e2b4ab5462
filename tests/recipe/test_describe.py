"""The keys of a recipe in words, the page of them, and what near misses lead to."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from gffnet.errors import UserError
from gffnet.recipe import (
    BackboneRecipe,
    EvaluationRecipe,
    LossRecipe,
    ModelRecipe,
    Recipe,
    StrictLoader,
    TrainingRecipe,
    load_recipe,
    recipe_json_schema,
)
from gffnet.recipe.describe import Key, Section, recipe_keys, value_of, yaml_text
from gffnet.recipe.hints import _ALIASES, _KEY_OF, _SENTENCES
from gffnet.recipe.schema import dotted_keys

PAGE = Path(__file__).parents[2] / "docs/recipes.md"
NAME = "camvid/gffnet_r18"


def key(name: str) -> Key:
    found = recipe_keys().find(name)
    assert isinstance(found, Key)
    return found


def flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in mapping.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


# Keys in words


def test_every_key_is_described_with_its_default_in_the_order_of_the_schema() -> None:
    described = [(each.name, each.default) for each in recipe_keys().flat()]
    open_mappings = [name for name, default in described if isinstance(default, dict)]
    expected = [
        (name, value) for name, value in flat(Recipe().to_mapping()) if name.rpartition(".")[0] not in open_mappings
    ]
    assert [each for each in described if each[0] not in open_mappings] == expected
    assert len(described) > 45
    assert all(each.meaning for each in recipe_keys().flat())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("training.iterations", "integer or auto; 1 or more"),
        ("training.crop", "list of 2 integers or auto; each 16 or more"),
        ("evaluation.crop", "list of 2 integers, null or auto; each 16 or more"),
        ("training.scales", "list of 2 numbers; each above 0, the smaller first"),
        ("evaluation.scales", "list of numbers; at least one, each above 0"),
        ("training.flip", "true or false"),
        ("training.ema", "number or null; above 0, at most 1"),
        ("training.class_balance", "number; 0 to 1"),
        ("training.momentum", "number; 0 or more, below 1"),
        ("training.init_from", "text or null"),
        ("training.init", "backbone_and_context or all"),
        ("model.backbone.output_stride", "8, 16, 32 or null"),
        ("model.pyramid_kernel", "1 or 3"),
    ],
)
def test_type_and_range_in_words(name: str, values: str) -> None:
    assert key(name).values == values


def test_registered_names_are_the_choices() -> None:
    assert key("model.fusion").values.startswith("none, concat, addition, fpn, gated_fpn")


def test_sections_are_found_by_name() -> None:
    root = recipe_keys()
    loss = root.find("training.loss")
    assert isinstance(loss, Section)
    assert {each.name for each in loss.flat()} >= {"training.loss.ohem", "training.loss.label_smoothing"}
    assert root.find("") is root
    assert root.find("training.los") is None


def test_values_of_a_recipe() -> None:
    recipe = load_recipe(NAME, ["training.loss.ohem=0.7"])
    assert value_of(recipe, "training.loss.ohem") == 0.7
    assert value_of(recipe, "training.crop") == [352, 352]
    assert value_of(recipe, "training.crop", ["training.crop"]) == "auto"


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -3, 1e-5, 1e-4, 0.1, 1 / 3, 5.0, 1e20, [512, 512], [0.75, 2.0], {"cross_entropy": 1.0}, {}),
        *(
            "sgd",
            "runs/camvid/gffnet_r18",
            "train+val",
            "no",
            "Null",
            "1e-3",
            "12",
            "a: b",
            "~",
            "",
            "#x",
            "é",
            "-",
            "a'\"",
        ),
    ],
)
def test_a_value_is_read_back_from_its_yaml(value: object) -> None:
    read = yaml.load(f"key: {yaml_text(value)}", StrictLoader)["key"]
    assert (read, type(read)) == (value, type(value))


# The page


def test_the_page_is_that_of_the_schema() -> None:
    command = [sys.executable, "-m", "gffnet.recipe.describe"]  # a process without plug-ins, in the usual order
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONUTF8": "1"})
    assert done.stdout == PAGE.read_text(encoding="utf-8"), (
        "the schema has changed: python -m gffnet.recipe.describe > docs/recipes.md"
    )


# Near misses


def refusal(override: str) -> str:
    with pytest.raises(UserError) as raised:
        load_recipe(NAME, [override])
    return str(raised.value)


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        # other names
        ("training.lr=1", "training.learning_rate"),
        ("lr=1", "training.learning_rate"),
        ("training.batch_size=2", "training.batch"),
        ("bs=2", "training.batch"),
        ("training.num_workers=2", "training.workers"),
        ("training.crop_size=64", "training.crop"),
        ("evaluation.crop_size=64", "evaluation.crop"),
        ("max_iters=2", "training.iterations"),
        ("training.steps=2", "training.iterations"),
        ("training.wd=0", "training.weight_decay"),
        ("optim=sgd", "training.optimizer"),
        ("encoder=resnet18", "model.backbone.name"),
        ("backbone=resnet18", "model.backbone.name"),
        ("model.backbone=resnet18", "model.backbone.name"),
        ("model.pretrained=true", "model.backbone.weights"),
        ("model.encoder_weights=imagenet", "model.backbone.weights"),
        ("train.lr=1", "training"),
        ("data=camvid", "data.name"),
        ("training.loss=dice", "training.loss.terms={dice: 1}"),
        # in the wrong section
        ("iterations=2", "training.iterations"),
        ("model.name=resnet18", "model.backbone.name"),
        ("model.output_stride=8", "model.backbone.output_stride"),
        ("training.ohem=0.7", "training.loss.ohem"),
        ("training.seed=1", "seed"),
        ("crop=[64, 64]", "training.crop or evaluation.crop"),
        # mistyped, or of another case
        ("training.Batch=2", "training.batch"),
        ("training.learning-rate=1", "training.learning_rate"),
        ("training.learnin_rate=1", "training.learning_rate"),
        ("learnin_rate=1", "training.learning_rate"),
        ("trainning.batch=2", "training"),
    ],
)
def test_an_unknown_key_leads_to_the_one_that_was_meant(override: str, hint: str) -> None:
    assert f" Did you mean {hint}?" in refusal(override)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.num_classes=5", "The data set, data.name, decides the classes."),
        ("training.epochs=5", "training.iterations; an epoch has images / training.batch"),
        ("data.root=x", "--root DIR"),
        ("training.gpus=2", "--devices N"),
    ],
)
def test_a_key_that_is_none_is_explained(override: str, said: str) -> None:
    message = refusal(override)
    assert said in message
    assert "Did you mean" not in message


def test_every_other_name_leads_to_a_key() -> None:
    assert set(_KEY_OF.values()) <= set(dotted_keys())
    assert len(_KEY_OF) == sum(len(names.split()) for names in _ALIASES.values())  # none leads to two
    assert not _KEY_OF.keys() & _SENTENCES.keys()


def test_an_unknown_key_without_a_near_one_has_no_hint() -> None:
    assert "Did you mean" not in refusal("zzz=1")
    assert "Did you mean" not in refusal("training.qqqq=1")


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("training.crop=512", "[512, 512]"),
        ("training.crop=512x256", "[512, 256]"),
        ("training.crop=512,256", "[512, 256]"),
        ("evaluation.crop=512", "[512, 512]"),
        ("evaluation.scales=1.5", "[1.5]"),
        ("training.scales=1", "[1, 1]"),
        ("training.iterations=2e3", "2000"),
        ("training.iterations='2000'", "2000"),
        ("training.learning_rate='1e-3'", "0.001"),
        ("training.flip=1", "true"),
        ("training.ema=none", "null"),
        ("precision=bf16", "'bfloat16'"),
        ("precision=FP16", "'float16'"),
        ("model.fusion=gated-fpn", "'gated_fpn'"),
        ("model.context=PPM", "'pyramid_pooling'"),
    ],
)
def test_a_value_leads_to_the_one_that_was_meant(override: str, hint: str) -> None:
    assert f" Did you mean {hint}?" in refusal(override)
    name, meant = override.partition("=")[0], yaml.safe_load(hint)
    assert value_of(load_recipe(NAME, [f"{name}={hint}"]), name) == meant


def test_a_single_term_of_the_loss() -> None:
    assert "got 'dice'. Did you mean {dice: 1}?" in refusal("training.loss.terms=dice")
    assert "Did you mean" not in refusal("training=5")
    assert "Did you mean" not in refusal("model=gffnet")


@pytest.mark.parametrize("override", ["training.batch=many", "training.crop=[64]", "training.flip=maybe", "seed=0.5"])
def test_other_values_have_no_hint(override: str) -> None:
    assert "Did you mean" not in refusal(override)


def test_python_leads_to_the_same_keys() -> None:
    for make, said in [
        (lambda: TrainingRecipe(lr=0.1), "TrainingRecipe: lr is unknown. Did you mean learning_rate?"),
        (lambda: TrainingRecipe(ohem=0.1), "TrainingRecipe: ohem is unknown. Did you mean loss.ohem?"),
        (lambda: BackboneRecipe(pretrained=True), "BackboneRecipe: pretrained is unknown. Did you mean weights?"),
        (lambda: ModelRecipe(encoder="x"), "ModelRecipe: encoder is unknown. Did you mean backbone.name?"),
        (
            lambda: TrainingRecipe(crop=512),
            "TrainingRecipe: crop: must be a valid list, got 512. Did you mean [512, 512]?",
        ),
        (lambda: Recipe(precision="bf16"), "Did you mean 'bfloat16'?"),
    ]:
        with pytest.raises(UserError) as raised:
            make()  # type: ignore[no-untyped-call]
        assert said in str(raised.value)


def test_names_are_read_whatever_their_case() -> None:
    schema = recipe_json_schema()
    tried = 0
    for name, section in [
        ("model", "ModelRecipe"),
        ("data", "DataRecipe"),
        ("training", "TrainingRecipe"),
        ("training.loss", "LossRecipe"),
    ]:
        for last, of in schema["$defs"][section]["properties"].items():
            for choice in [each for each in of.get("enum", []) if isinstance(each, str)]:
                fusion = "gff" if last == "dense_pyramid" else "none"
                recipe = load_recipe(
                    "camvid/pspnet_r18",
                    [f"model.fusion={fusion}", "training.loss.class_weights=null", f"{name}.{last}={choice.upper()}"],
                )
                assert value_of(recipe, f"{name}.{last}") == choice
                tried += 1
    assert tried > 25
    assert Recipe(precision="BFloat16").precision == "bfloat16"  # type: ignore[arg-type]
    assert TrainingRecipe(optimizer="AdamW").optimizer == "adamw"  # type: ignore[arg-type]
    assert LossRecipe(class_weighting="ENet").class_weighting == "enet"  # type: ignore[arg-type]
    assert BackboneRecipe(weights="ImageNet").weights == "imagenet"
    assert BackboneRecipe(weights="Mine.pth").weights == "Mine.pth"
    assert "'adamx'" in refusal("training.optimizer=adamx")
    assert "'AdamX'" in refusal("training.optimizer=AdamX")  # as it was written


def test_keys_of_a_section_are_its_own() -> None:
    assert list(dotted_keys(EvaluationRecipe)) == ["crop", "overlap", "scales", "flip"]
    assert "training.loss.ohem" in dotted_keys()


def test_a_mistyped_recipe_names_the_nearest() -> None:
    with pytest.raises(UserError) as raised:
        load_recipe("gffnet_r18")
    message = str(raised.value)
    nearest = message.partition("Nearest: ")[2].partition(". ")[0].split(", ")
    assert len(nearest) == 5
    assert {name.rpartition("/")[2] for name in nearest} == {"gffnet_r18"}
    with pytest.raises(
        UserError, match=r"Did you mean 'camvid/.*'\? Nearest: camvid/[^,]*, (camvid/[^,]*, ){3}camvid/"
    ):
        load_recipe("camvid")
    with pytest.raises(UserError, match=r"recipe '\?' is unknown. `gffnet recipes` lists all."):
        load_recipe("?")

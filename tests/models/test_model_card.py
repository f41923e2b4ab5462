"""The model card: what the hub reads of it, and what a person does."""

import ast
import dataclasses
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard

from gffnet.cli.main import make_parser
from gffnet.models.model_card import SECTIONS, TASK, Facts, describe_network, make_card
from tests import tiny

RESULT = EvalResult(
    task_type=TASK,
    dataset_type="camvid",
    dataset_name="camvid",
    dataset_split="test",
    metric_type="mean_iou",
    metric_name="mIoU",
    metric_value=0.5213,
    metric_args={"scales": [1.0], "flip": False},
)


def facts(model: dict[str, Any] = tiny.GFFNET, **known: Any) -> Facts:
    return Facts(tiny.config(tiny.recipe(model)), **known)


def test_the_head_comes_back(tmp_path: Path) -> None:
    """Written, read again by the hub's own client, nothing is lost."""
    card = make_card(facts(name="me/gffnet-r18", license="cc-by-nc-4.0", results=[RESULT]))
    card.save(tmp_path / "README.md")
    data = ModelCard.load(tmp_path / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.license) == ("gffnet", "image-segmentation", "cc-by-nc-4.0")
    assert data.datasets == ["camvid"]
    assert data.metrics == ["mean_iou", "accuracy"]
    assert {"semantic-segmentation", "gated-fully-fusion", "test_resnet"} <= set(data.tags)
    assert (data.model_name, data.eval_results) == ("gffnet-r18", [RESULT])


def test_what_is_unknown_is_left_out() -> None:
    card = make_card(facts(tiny.PSPNET))
    head = card.data.to_dict()
    assert not {"license", "metrics", "model-index", "eval_results"} & head.keys()
    assert "gated-fully-fusion" not in head["tags"]
    assert "None" not in str(card)
    assert re.findall(r"^## (.*)$", card.text, re.MULTILINE) == ["Use", "Limits", "Citation"]
    own = dataclasses.replace(tiny.config(tiny.recipe()), dataset="folder")
    assert "datasets" not in make_card(Facts(own)).data.to_dict()


def test_sections_in_order() -> None:
    sections = {"Cost": "little", "Data": "much", "Scores": "", "Training": "long"}
    text = make_card(facts(sections=sections, weak=["pole", "sign"])).text
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["Use", *(name for name in SECTIONS if name != "Scores"), "Limits", "Citation"]
    assert "## Cost\n\nlittle\n" in text
    assert "- IoU is below 0.3 for: pole, sign." in text


@pytest.mark.parametrize("name", ["me/mine", None])
def test_what_it_says_of_use_is_so(name: str | None) -> None:
    text = make_card(facts(name=name)).text
    (command,) = re.findall(r"```bash\n(.*?)\n```", text, re.DOTALL)
    arguments = make_parser().parse_args(shlex.split(command)[1:])
    assert arguments.model == (name or "MODEL")
    assert ("`MODEL` is the folder" in text) == (name is None)
    (block,) = re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)
    ast.parse(block)
    assert block.count(f'"{name or "MODEL"}"') == 2


def test_classes_with_their_labels() -> None:
    text = make_card(facts()).text
    assert "one of 11 classes" in text
    assert "Labels: 0 sky, 1 building, 2 pole, " in text
    assert "10 bicyclist." in text


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (tiny.GFFNET, "`test_resnet` with pyramid pooling, Gated Fully Fusion and a Dense Feature Pyramid"),
        (tiny.PSPNET, "`test_resnet` with pyramid pooling"),
        ({**tiny.PSPNET, "context": "none"}, "`test_resnet` with no context module"),
        (
            {**tiny.PSPNET, "context": "dense_aspp", "fusion": "gated_fpn"},
            "`test_resnet` with DenseASPP and a gated FPN",
        ),
    ],
)
def test_the_network_in_words(model: dict[str, Any], words: str) -> None:
    assert describe_network(tiny.config(tiny.recipe(model))) == words


def test_procedural_scenes_are_no_photographs() -> None:
    streets = dataclasses.replace(tiny.config(tiny.recipe()), dataset="streets")
    assert "procedural scenes only" in make_card(Facts(streets)).text
    assert "procedural" not in make_card(facts()).text


def test_rounded_weights_are_mentioned() -> None:
    assert (
        "Kernels are stored as bfloat16 and converted to float32 when the model is opened."
        in make_card(facts(weights="bfloat16")).text
    )
    assert "stored as" not in make_card(facts()).text

"""The page docs/predict.md: what its blocks of Python name is what their comments say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.docs.pages import blocks, read_page
from tests.test_readme import working_folder  # noqa: F401


def run(number: int) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "page"}
    exec(blocks(read_page("predict.md"), "python")[number], names)
    return names


@pytest.mark.usefixtures("working_folder")
def test_what_a_predictor_says_of_an_image() -> None:
    names = run(0)
    labels, probabilities = names["labels"], names["probabilities"]
    assert (labels.dtype, labels.shape) == (np.uint8, (48, 64))
    assert (probabilities.dtype, probabilities.shape) == (torch.float32, (2, 48, 64))
    torch.testing.assert_close(probabilities.sum(0), torch.ones(48, 64))
    torch.testing.assert_close(names["logits"].softmax(0), probabilities)
    assert [tuple(gate.shape) for gate in names["gates"]] == [(1, 12, 16), *[(1, 6, 8)] * 3]
    assert names["areas"] == {"road": (labels == 0).mean(), "sky": (labels == 1).mean()}
    assert Image.open(Path("overlay.png")).size == (64, 48)


@pytest.mark.usefixtures("working_folder")
def test_images_of_any_kind_and_number() -> None:
    names = run(1)
    assert [labels.shape for labels in names["several"]] == [(48, 64), (48, 64), (30, 64)]
    assert names["batch"].shape == (2, 48, 64)


@pytest.mark.usefixtures("working_folder")
def test_protocols_and_networks() -> None:
    names = run(2)
    assert all(parameter.requires_grad for parameter in names["network"].parameters())
    assert names["predictor"].network.folded
    assert names["labels"].shape == (48, 64)


@pytest.mark.usefixtures("working_folder")
def test_ids_are_read_with_opencv_and_pil() -> None:
    names: dict[str, Any] = {}
    found: dict[str, list[Any]] = {"labels": [], "colors": []}
    for line in blocks(read_page("predict.md"), "python")[3].splitlines():
        exec(line, names)
        if (name := line.split(" = ")[0]) in found:
            found[name].append(names[name])
    assert {name: len(read) for name, read in found.items()} == {"labels": 3, "colors": 2}
    predictor = names["predictor"]
    expected = predictor.predict("photo.jpg")
    for ids in found["labels"]:
        np.testing.assert_array_equal(ids, expected)
    for colors in found["colors"]:
        np.testing.assert_array_equal(colors, np.array(predictor.config.palette)[expected])

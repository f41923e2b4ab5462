"""`examples/gradio_explorer.py`: what its page shows, and the page where Gradio is installed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from gffnet.data.colors import overlay
from gffnet.errors import UserError
from gffnet.gates.edit import GatedImage
from tests import tiny
from tests.app import gated

FILE = Path(__file__).parents[2] / "examples" / "gradio_explorer.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("gradio_explorer", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_gates_are_scaled(example):
    predictor, image = gated.predictor(), gated.image()
    opened = example.Opened(predictor, image)
    (before, after), (shown, masks), changed, share = opened.fuse(0.5, 0, 1, 1, 1)
    reference = GatedImage(predictor, image)
    closed = reference.close([1])
    assert closed.share > 0
    palette = predictor.config.palette
    assert np.array_equal(before, overlay(image, reference.learned.prediction, palette, 0.5))
    assert np.array_equal(after, overlay(image, closed.prediction, palette, 0.5))
    assert np.array_equal(shown, image)
    assert (sum(mask.astype(int) for mask, _ in masks) == 1).all(), "every pixel has one class"
    assert all((closed.prediction[mask] == predictor.config.classes.index(name)).all() for mask, name in masks)
    assert np.array_equal((changed == (255, 45, 149)).all(-1), closed.changed)
    assert share == f"**{100 * closed.share:.1f} %** of the pixels changed."
    maps = opened.maps(0, 1, 1, 1)
    assert [picture.shape for picture, _ in maps] == [(136, 200, 3)] * 4
    assert maps[0][1] == "G1 × 0.00: 0.00 to 0.00"
    assert [len(np.unique(picture.reshape(-1, 3), axis=0)) > 10 for picture, _ in maps] == [False, True, True, True]


def test_images_are_reduced_or_refused(example):
    assert example.Opened(gated.predictor(), gated.image(512, 1024)).image.shape == (384, 768, 3)
    with pytest.raises(UserError, match="too narrow"):
        example.Opened(gated.predictor(), gated.image(40, 2000))


def test_the_page(example):
    pytest.importorskip("gradio", reason="gradio is not installed: pip install gradio")
    labels = [getattr(block, "label", None) for block in example.build(gated.predictor()).blocks.values()]
    assert {"gate 1", "gate 2", "gate 3", "gate 4"} <= set(labels)
    with pytest.raises(UserError, match="has no gates"):
        example.build(gated.predictor(tiny.PSPNET))

"""The model that is meant where none is named."""

from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from gffnet.data.camvid import CamVid
from gffnet.data.catalog import CAMVID, IGNORE
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import evaluate
from gffnet.inference import model_io as shipped
from gffnet.inference.model_io import load_model, save_model
from gffnet.inference.predictor import load
from gffnet.inference.pretrained import SECTIONS
from gffnet.recipe import load_recipe
from tests import tiny
from tests.data.trees import real


def test_its_files_are_small_and_it_has_a_card_and_a_licence_of_its_own() -> None:
    folder = shipped.shipped_model()
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
    assert max(sizes) <= 16_000_000
    assert sum(sizes) <= 40_000_000
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "cc-by-nc-4.0"
    assert "CC BY-NC 4.0" in (folder / "LICENSE").read_text(encoding="utf-8")
    for heading in (*SECTIONS, "Limits"):
        assert f"\n## {heading}\n" in card.text


def test_it_is_the_network_of_its_recipe() -> None:
    network, config = load_model(shipped.shipped_model())
    assert config.recipe == "camvid/long/gffnet_r18"
    assert config.model == load_recipe(config.recipe).model
    assert config.classes == CAMVID.names
    assert config.learned_from == (360, 480)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(19.7e6, rel=1e-3)


def test_it_labels_photographs() -> None:
    predictor, val = load(), CamVid(real("CamVid"), "val")
    for index in range(0, len(val), 25):
        sample = val[index]
        labels = sample.labels.numpy()
        found = predictor.predict(sample.image.permute(1, 2, 0).numpy())
        assert (found == labels)[labels != IGNORE].mean() > 0.8


def test_it_labels_photographs_as_large_as_a_telephone_takes_them() -> None:
    predictor, sample = load(), CamVid(real("CamVid"), "val")[39]
    photograph = Image.fromarray(sample.image.permute(1, 2, 0).numpy()).resize((2400, 1800))
    labels = np.asarray(Image.fromarray(sample.labels.numpy()).resize((2400, 1800), Image.Resampling.NEAREST))
    found = predictor.predict(photograph)
    assert (found == labels)[labels != IGNORE].mean() > 0.9


@pytest.mark.slow
def test_its_card_has_the_score_that_it_gets() -> None:
    predictor = load()
    scores = evaluate(
        predictor, CamVid(real("CamVid"), "val"), "camvid", "val", predictor.config.evaluation, details=False
    )
    told = ModelCard.load(shipped.shipped_model() / "README.md").data.eval_results[0]
    assert (told.metric_name, told.dataset_split) == ("mIoU", "val")
    assert scores["miou"] == pytest.approx(told.metric_value, abs=5e-4)  # another processor rounds otherwise


def test_it_is_opened_where_no_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.recipe()
    save_model(tmp_path / "model", tiny.network(recipe), tiny.config(recipe))
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "model")
    image = tiny.picture(0)
    found, expected = (load(model, "cpu", "float32").predict(image) for model in (None, tmp_path / "model"))
    np.testing.assert_array_equal(found, expected)


def test_an_installation_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "nothing")
    with pytest.raises(UserError, match=r"no model ships with this version\. Train one, such as `gffnet train "):
        load()

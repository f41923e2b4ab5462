"""The model that is meant where none is named."""

from pathlib import Path

import numpy as np
import pytest

from gffnet.errors import UserError
from gffnet.inference import shipped
from gffnet.inference.model_folder import save_model
from gffnet.inference.predictor import load
from tests import tiny


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

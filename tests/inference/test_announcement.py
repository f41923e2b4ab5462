"""What is said before images are predicted, and how often."""

import logging
from dataclasses import replace

import pytest

from gffnet.inference.batch import Announcement
from gffnet.inference.model_io import save_model
from gffnet.inference.predictor import Predictor, load
from tests import tiny


@pytest.fixture
def predictor(tmp_path) -> Predictor:
    recipe = tiny.recipe()
    config = replace(tiny.config(recipe), learned_from=(360, 480), evaluation=replace(recipe.evaluation, crop=None))
    save_model(tmp_path, tiny.network(recipe), config)
    return load(tmp_path, "cpu", "float32")


@pytest.mark.parametrize(("remedy", "said"), [("", ""), ("--scales 1 has them whole", ": --scales 1 has them whole")])
def test_everything_is_said_once(
    predictor: Predictor, caplog: pytest.LogCaptureFixture, remedy: str, said: str
) -> None:
    announcement = Announcement(predictor, remedy)
    with caplog.at_level(logging.INFO, "gffnet"):
        announcement.before((360, 480))
        announcement.before((360, 480))
        assert caplog.messages == ["float32 on cpu: as asked"]
        announcement.before((3024, 4032), scale=1.0)
        assert len(caplog.messages) == 1, "whoever names a scale knows"
        announcement.before((3024, 4032))
        announcement.before((3000, 4000))
    assert caplog.messages[1:] == [
        f"large images are seen smaller (4032x3024 at 0.179), for the model learned from 480x360{said}"
    ]

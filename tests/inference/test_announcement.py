"""What is said before images are predicted, and how often."""

import logging
from dataclasses import replace

import pytest

from gffnet.inference.announcement import Announcement
from gffnet.inference.model_folder import save_model
from gffnet.inference.predictor import load
from tests import tiny


@pytest.fixture
def announcement(tmp_path) -> Announcement:
    recipe = tiny.recipe()
    config = replace(tiny.config(recipe), learned_from=(360, 480), evaluation=replace(recipe.evaluation, crop=None))
    save_model(tmp_path, tiny.network(recipe), config)
    return Announcement(load(tmp_path, "cpu", "float32"))


def test_everything_is_said_once(announcement: Announcement, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gffnet"):
        announcement.before((360, 480))
        announcement.before((360, 480))
        assert caplog.messages == ["float32 on cpu: as asked"]
        announcement.before((3024, 4032))
        announcement.before((3000, 4000))
    assert caplog.messages[1:] == [
        "large images are seen smaller (4032x3024 at 0.179), for the model learned from 480x360: --scales 1 has them "
        "seen as they are, --crop in windows"
    ]

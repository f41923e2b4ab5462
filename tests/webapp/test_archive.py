"""The archive: every file is what it says, and the settings tell how to make them again."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from gffnet.data.catalog import CAMVID
from gffnet.data.colors import MARK
from gffnet.errors import UserError
from gffnet.gates.edit import GateEdit
from gffnet.webapp.archive import archive
from gffnet.webapp.session import open_session
from tests import tiny
from tests.webapp import gated

EDITS = {1: GateEdit(scale=0.5), 2: GateEdit(value=0.0), 4: GateEdit()}


def opened(content):
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert file.testzip() is None
        return {name: file.read(name) for name in file.namelist()}


def pixels(content):
    return np.array(Image.open(io.BytesIO(content)))


def test_every_file_of_edited_gates():
    session = open_session(gated.predictor(), gated.image())
    files = opened(archive(session, EDITS, 0.25))
    labels = session.see(EDITS).labels
    colours = np.array(CAMVID.palette, np.uint8)[labels]
    assert np.array_equal(pixels(files["labels.png"]), labels)
    assert np.array_equal(pixels(files["colour.png"]), colours)
    mixed = np.rint(np.float32(0.75) * session.image + np.float32(0.25) * colours)
    assert np.array_equal(pixels(files["overlay.png"]), mixed)
    assert np.array_equal(pixels(files["image.png"]), session.image)
    changed = labels != session.learned.labels
    assert np.array_equal((pixels(files["changed.png"]) == MARK).all(-1), changed)
    arrays = np.load(io.BytesIO(files["gates.npz"]))
    assert sorted(arrays) == sorted([*(f"g{i}" for i in range(1, 5)), *(f"used{i}" for i in range(1, 5))])
    assert np.allclose(arrays["used1"], arrays["g1"] / 2, atol=1e-3)
    assert not arrays["used2"].any()
    assert np.array_equal(arrays["used3"], arrays["g3"])
    assert arrays["g3"].std() > 0.01
    assert {f"g{i}.png" for i in range(1, 5)} <= set(files)
    assert (pixels(files["g2.png"]) == (68, 1, 84)).all(), "closed is viridis at 0"


def test_the_settings_make_the_same_again():
    session = open_session(gated.predictor(), gated.image())
    settings = json.loads(opened(archive(session, EDITS, 0.25))["settings.json"])
    assert settings["gates"] == {"g1": {"scale": 0.5, "value": None}, "g2": {"scale": 1.0, "value": 0.0}}
    again = {int(name[1:]): GateEdit(**edit) for name, edit in settings["gates"].items()}
    assert np.array_equal(session.see(again).labels, session.see(EDITS).labels)
    assert settings["changed"]["share"] == session.changes(session.see(EDITS)).share > 0
    assert settings["classes"] == list(CAMVID.names)
    assert settings["weights_sha256"] == session.predictor.weights
    assert settings["size"] == [136, 200]


def test_a_model_without_gates():
    session = open_session(gated.predictor(tiny.PSPNET), gated.image())
    files = opened(archive(session, {}, 1.0))
    assert set(files) == {"image.png", "labels.png", "colour.png", "overlay.png", "settings.json"}
    assert np.array_equal(pixels(files["overlay.png"]), pixels(files["colour.png"]))


def test_edits_that_are_none():
    session = open_session(gated.predictor(), gated.image(40, 56))
    with pytest.raises(UserError, match="level 9"):
        archive(session, {9: GateEdit(value=0.0)}, 0.5)

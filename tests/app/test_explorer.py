"""What the explorer answers, without a page; and the archive of results."""

import dataclasses
import io
import json
import zipfile
import zlib
from base64 import b64decode, b64encode

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from gffnet.app.explorer import Explorer, FuseRequest, OpenRequest, SaveRequest, archive, pack
from gffnet.app.session import SessionExpired, open_session, reduce_image
from gffnet.data.camvid import CAMVID
from gffnet.data.colors import MARK
from gffnet.errors import UserError
from gffnet.gates.edit import GateEdit
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from tests import tiny
from tests.app import gated, hostile

CPU = torch.device("cpu")
GOOD = hostile.encoded("PNG", (136, 200))
EDITS = {1: GateEdit(value=0.0), 3: GateEdit(1.5)}


@pytest.fixture(scope="module")
def explorer():
    return Explorer([gated.predictor(), gated.predictor(tiny.PSPNET), gated.predictor(gated.ADDITION)], "abc", 160)


def opened(explorer, file=GOOD, **request):
    """The answer as the page gets it."""
    return json.loads(json.dumps(explorer.open(OpenRequest(model=request.pop("model", 0), file=file, **request))))


def fused(explorer, key, edits=EDITS, preview=False):
    return json.loads(json.dumps(explorer.fuse(FuseRequest(key=key, edits=edits, preview=preview))))


def planes(text, size, count=1):
    return np.frombuffer(zlib.decompress(b64decode(text)), np.uint8).reshape(count, *size)


def test_packed_arrays_follow_one_another():
    first = np.arange(12, dtype=np.uint8).reshape(3, 4)
    second = np.full((3, 4), 200, np.uint8)[:, ::-1]
    assert zlib.decompress(b64decode(pack(first, second))) == bytes(range(12)) + bytes([200] * 12)
    assert zlib.decompress(b64decode(pack(first.T))) == bytes([0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])


def test_a_file_is_read_from_base64():
    request = json.dumps({"model": 0, "file": b64encode(GOOD).decode(), "name": "../../etc/passwd"})
    assert OpenRequest.model_validate_json(request) == OpenRequest(model=0, file=GOOD)


def of_channels(count):
    model = {**tiny.GFFNET, "backbone": {**tiny.GFFNET["backbone"], "in_channels": count}}
    recipe = tiny.recipe({**model, "mean": [100.0] * count, "std": [50.0] * count})
    torch.manual_seed(0)
    return Predictor(tiny.build_network(recipe.model, 11), tiny.config(recipe), CPU, Precision(torch.float32, "tests"))


def test_the_scenes_with_a_model_of_other_channels():
    """One of a single channel sees them in grey; others say what is the matter."""
    gray, bands = Explorer([of_channels(1)], "a", 160), Explorer([of_channels(4)], "a", 160)
    for explorer in gray, bands:
        explorer.warm_up()  # which raises nothing
    answer = gray.open(OpenRequest(model=0, scene=0))
    height, width = answer["size"]
    shown = planes(answer["image"], (height, width, 3))
    assert (shown[..., :1] == shown).all()
    assert zipfile.is_zipfile(io.BytesIO(gray.save(SaveRequest(key=answer["key"], edits=EDITS, opacity=0.5))))
    with pytest.raises(
        UserError, match=r"^the example scenes are not for this model, open a file .* the model takes 4"
    ):
        bands.open(OpenRequest(model=0, scene=0))


def test_an_image_is_opened(explorer):
    answer = opened(explorer)
    original = tiny.picture(5, 136, 200)
    image = reduce_image(original, 160)
    assert image.shape == (109, 160, 3)
    assert (answer["size"], answer["original_size"], answer["input_size"]) == ([109, 160], [136, 200], [109, 160])
    session = open_session(gated.predictor(), image)
    labels, percent = planes(answer["prediction"], (109, 160), 2)
    assert np.array_equal(labels, session.learned.labels)
    assert np.array_equal(percent, session.learned.percent)
    assert np.array_equal(planes(answer["image"], (109, 160, 3))[0], image)
    assert [gate["level"] for gate in answer["gates"]] == [1, 2, 3, 4]
    assert answer["without"] is None
    for gate, exact in zip(answer["gates"], session.gates, strict=True):
        assert gate["mean"] == pytest.approx(float(exact.mean()), abs=1e-6)
        steps = planes(gate["map"], gate["size"])
        assert (steps.min(), steps.max()) == (0, 255)
        values = gate["low"] + steps / 255 * (gate["high"] - gate["low"])
        assert values.mean() == pytest.approx(float(exact.mean()), abs=0.02)
        assert gate["shown"] == pytest.approx(np.percentile(values, (1, 99)), abs=0.01)
    assert [gate["stride"] for gate in answer["gates"]] == [4, 8, 8, 8]


def test_a_large_image_is_downscaled_for_the_network():
    predictor = gated.predictor()
    predictor.config = dataclasses.replace(predictor.config, learned_from=(40, 60))
    answer = opened(Explorer([predictor], ["small"], 200))
    assert (answer["size"], answer["input_size"]) == ([136, 200], [61, 89])
    assert [gate["stride"] for gate in answer["gates"]] == [4, 8, 8, 8], "the network's, whatever the image's size"


def test_gates_are_edited(explorer):
    key = opened(explorer)["key"]
    answer = fused(explorer, key)
    session = open_session(gated.predictor(), reduce_image(tiny.picture(5, 136, 200), 160))
    expected = session.predict(EDITS)
    assert np.array_equal(planes(answer["prediction"], (109, 160), 2)[0], expected.labels)
    assert answer["changes"]["share"] == (expected.labels != session.learned.labels).mean() > 0
    assert {int(label) for label in answer["changes"]["by_class"]} == set(np.unique(session.learned.labels).tolist())
    assert answer["preview"] is False
    assert fused(explorer, key, {})["changes"]["share"] == 0


def test_a_preview_says_that_it_is_one_and_is_compared_with_one():
    explorer = Explorer([gated.predictor()], ["a"], 512)
    answer = opened(explorer)
    preview = fused(explorer, answer["key"], preview=True)
    assert preview["preview"] is True
    before, after = (planes(text, (136, 200), 2)[0] for text in (answer["preview"], preview["prediction"]))
    assert preview["changes"]["share"] == (before != after).mean()
    small = opened(explorer, hostile.encoded("PNG", (64, 96)))
    assert small["preview"] is None
    assert fused(explorer, small["key"], preview=True)["preview"] is False


def test_an_example_scene_is_opened(explorer):
    answer = opened(explorer, None, scene=1)
    assert answer["size"] == [80, 160]
    assert planes(answer["image"], (80, 160, 3)).std() > 20
    page = json.loads(json.dumps(explorer.page()))
    assert [planes(scene, page["thumbnail_size"] + [3]).std() > 20 for scene in page["scenes"]] == [True] * 3
    assert page["models"] == ["a", "b", "c"]


@pytest.mark.parametrize(("model", "said"), [(1, "has no fusion"), (2, "fuses by 'addition', which has no gates")])
def test_a_model_without_gates_says_why(explorer, model, said):
    answer = opened(explorer, model=model)
    assert answer["gates"] == []
    assert said in answer["without"]
    assert "prediction" in fused(explorer, answer["key"], {}, preview=True)
    with pytest.raises(UserError, match="level 1 does not exist"):
        fused(explorer, answer["key"], preview=True)


def test_tabs_are_independent(explorer):
    one, other = opened(explorer), opened(explorer, hostile.encoded("PNG", (96, 128)))
    fused(explorer, one["key"])
    answer = fused(explorer, other["key"], {})
    assert np.array_equal(planes(answer["prediction"], (96, 128), 2), planes(other["prediction"], (96, 128), 2))


def test_an_image_that_was_replaced_has_expired(explorer):
    first = opened(explorer)["key"]
    second = opened(explorer, replaces=first)["key"]
    with pytest.raises(SessionExpired):
        fused(explorer, first)
    with pytest.raises(SessionExpired):
        explorer.save(SaveRequest(key=first, edits={}, opacity=1))
    assert "prediction" in fused(explorer, second)


@pytest.mark.parametrize("name", hostile.REFUSED)
def test_after_a_hostile_file_the_next_image_is_opened(explorer, name):
    with pytest.raises(UserError):
        opened(explorer, hostile.REFUSED[name]())
    assert opened(explorer, hostile.encoded("PNG", (40, 56)))["size"] == [40, 56]


@pytest.mark.parametrize(
    "fields",
    [{"model": 9, "scene": 0}, {"model": -1, "scene": 0}, {"model": 0, "scene": 3}, {"model": "0", "scene": 0},
     {"model": 0}, {"model": 0, "scene": -1}, {"model": 0, "scene": True}],
)  # fmt: skip
def test_there_is_no_such_thing_to_open(explorer, fields):
    with pytest.raises((UserError, ValidationError)):
        explorer.open(OpenRequest(**fields))


@pytest.mark.parametrize("edits", [{7: GateEdit(value=0)}, {1: GateEdit(99)}, {1: GateEdit(float("nan"))}])
def test_edits_out_of_range(explorer, edits):
    key = opened(explorer)["key"]
    with pytest.raises(UserError):
        fused(explorer, key, edits)
    with pytest.raises(UserError):
        explorer.save(SaveRequest(key=key, edits=edits, opacity=0.5))


def unzipped(content):
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert file.testzip() is None
        return {name: file.read(name) for name in file.namelist()}


def pixels(content):
    return np.array(Image.open(io.BytesIO(content)))


ARCHIVED = {1: GateEdit(scale=0.5), 2: GateEdit(value=0.0), 4: GateEdit()}


def test_every_file_of_an_archive(session):
    files = unzipped(archive(session, ARCHIVED, 0.25))
    labels = session.predict(ARCHIVED).labels
    colors = np.array(CAMVID.palette, np.uint8)[labels]
    assert np.array_equal(pixels(files["labels.png"]), labels)
    assert np.array_equal(pixels(files["colour.png"]), colors)
    mixed = np.rint(np.float32(0.75) * session.image + np.float32(0.25) * colors)
    assert np.array_equal(pixels(files["overlay.png"]), mixed)
    assert np.array_equal(pixels(files["image.png"]), session.image)
    changed = labels != session.learned.labels
    assert np.array_equal((pixels(files["changed.png"]) == MARK).all(-1), changed)
    arrays = np.load(io.BytesIO(files["gates.npz"]))
    assert sorted(arrays) == sorted([*(f"g{i}" for i in range(1, 5)), *(f"used{i}" for i in range(1, 5))])
    assert {array.shape for array in arrays.values()} == {(136, 200)}
    assert np.allclose(arrays["used1"], arrays["g1"] / 2, atol=1e-3)
    assert not arrays["used2"].any()
    assert np.array_equal(arrays["used3"], arrays["g3"])
    assert arrays["g3"].std() > 0.01
    assert {f"g{i}.png" for i in range(1, 5)} <= set(files)
    assert (pixels(files["g2.png"]) == (68, 1, 84)).all(), "closed is viridis at 0"


def test_the_settings_of_an_archive_reproduce_it(session):
    settings = json.loads(unzipped(archive(session, ARCHIVED, 0.25))["settings.json"])
    assert settings["gates"] == {"g1": {"scale": 0.5, "value": None}, "g2": {"scale": 1.0, "value": 0.0}}
    again = {int(name[1:]): GateEdit(**edit) for name, edit in settings["gates"].items()}
    prediction = session.predict(ARCHIVED)
    assert np.array_equal(session.predict(again).labels, prediction.labels)
    assert settings["changed"]["share"] == session.changes(prediction).share > 0
    assert settings["opacity"] == 0.25
    assert settings["classes"] == list(CAMVID.names)
    assert settings["weights_sha256"] == session.predictor.weights
    assert settings["size"] == [136, 200]


def test_the_archive_of_a_model_without_gates():
    session = open_session(gated.predictor(tiny.PSPNET), gated.image())
    files = unzipped(archive(session, {}, 1.0))
    assert set(files) == {"image.png", "labels.png", "colour.png", "overlay.png", "settings.json"}
    assert np.array_equal(pixels(files["overlay.png"]), pixels(files["colour.png"]))

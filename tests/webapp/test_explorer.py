"""Questions and answers, without a page: every question is answered, and the good ones rightly."""

import base64
import contextlib
import dataclasses
import io
import json
import threading
import zipfile
import zlib

import numpy as np
import pytest

from gffnet.gates.edit import GateEdit
from gffnet.webapp import explorer as module
from gffnet.webapp.explorer import Explorer
from gffnet.webapp.session import open_session, reduced
from tests import tiny
from tests.webapp import gated, hostile


@pytest.fixture(scope="module")
def explorer():
    made = Explorer([gated.predictor(), gated.predictor(tiny.PSPNET), gated.predictor(gated.ADDITION)], "abc", 160)
    yield made
    made.close()


def sent(content: bytes) -> str:
    return base64.b64encode(content).decode()


def planes(text, size, count):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(count, *size)


GOOD = {"model": 0, "file": sent(hostile.encoded("PNG", (136, 200)))}
EDITS = {"1": {"scale": 1, "value": 0}, "3": {"scale": 1.5, "value": None}}


def test_an_image_is_opened(explorer):
    answer = json.loads(json.dumps(explorer.open(GOOD)))
    whole = tiny.picture(5, 136, 200)
    image = reduced(whole, 160)
    assert image.shape == (109, 160, 3)
    assert (answer["size"], answer["whole"], answer["seen_at"]) == ([109, 160], [136, 200], [109, 160])
    session = open_session(gated.predictor(), image)
    labels, percent = planes(answer["seen"], (109, 160), 2)
    assert np.array_equal(labels, session.learned.labels)
    assert np.array_equal(percent, session.learned.percent)
    assert np.array_equal(planes(answer["image"], (109, 160, 3), 1)[0], image)
    assert [gate["level"] for gate in answer["gates"]] == [1, 2, 3, 4]
    assert answer["without"] is None
    for gate, exact in zip(answer["gates"], session.gates, strict=True):
        assert gate["mean"] == pytest.approx(float(exact.mean()), abs=1e-6)
        assert planes(gate["map"], gate["size"], 1).mean() / 255 == pytest.approx(float(exact.mean()), abs=0.02)
    assert [gate["stride"] for gate in answer["gates"]] == [4, 8, 8, 8]


def test_a_large_image_is_told_to_be_seen_smaller():
    predictor = gated.predictor()
    predictor.config = dataclasses.replace(predictor.config, learned_from=(40, 60))
    with contextlib.closing(Explorer([predictor], ["small"], 200)) as explorer:
        answer = explorer.open(GOOD)
    assert (answer["size"], answer["seen_at"]) == ((136, 200), (61, 89))
    assert [gate["stride"] for gate in answer["gates"]] == [4, 8, 8, 8], "the network's, whatever the image's size"


def test_gates_are_edited(explorer):
    key = explorer.open(GOOD)["key"]
    answer = json.loads(json.dumps(explorer.fuse({"key": key, "edits": EDITS, "quick": False})))
    session = open_session(gated.predictor(), reduced(tiny.picture(5, 136, 200), 160))
    edits = {1: GateEdit(value=0.0), 3: GateEdit(1.5)}
    expected = session.see(edits)
    assert np.array_equal(planes(answer["seen"], (109, 160), 2)[0], expected.labels)
    assert answer["changes"]["share"] == (expected.labels != session.learned.labels).mean() > 0
    assert {int(label) for label in answer["changes"]["by_class"]} == set(np.unique(session.learned.labels).tolist())
    assert answer["quick"] is False
    back = explorer.fuse({"key": key, "edits": {}, "quick": False})
    assert back["changes"]["share"] == 0


def test_a_rough_answer_says_that_it_is_one():
    explorer = Explorer([gated.predictor()], ["a"], 512)
    key = explorer.open(GOOD)["key"]
    assert explorer.fuse({"key": key, "edits": EDITS, "quick": True})["quick"] is True
    small = explorer.open({"model": 0, "file": sent(hostile.encoded("PNG", (64, 96)))})
    assert small["halves"] is False
    assert explorer.fuse({"key": small["key"], "edits": EDITS, "quick": True})["quick"] is False
    explorer.close()


def test_a_scene_is_opened(explorer):
    answer = explorer.open({"model": 0, "scene": 1})
    assert answer["size"] == (80, 160)
    assert planes(answer["image"], (80, 160, 3), 1).std() > 20
    page = json.loads(json.dumps(explorer.page()))
    assert [planes(scene, page["thumbnail"] + [3], 1).std() > 20 for scene in page["scenes"]] == [True] * 3
    assert page["models"] == ["a", "b", "c"]


def test_results_are_saved(explorer):
    key = explorer.open(GOOD)["key"]
    answer = explorer.save({"key": key, "edits": EDITS, "opacity": 0.3})
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(answer["zip"]))) as file:
        settings = json.loads(file.read("settings.json"))
    assert settings["opacity"] == 0.3
    assert settings["gates"] == {"g1": {"scale": 1.0, "value": 0.0}, "g3": {"scale": 1.5, "value": None}}


@pytest.mark.parametrize(("model", "said"), [(1, "has no fusion"), (2, "fuses by 'addition', which has no gates")])
def test_a_model_without_gates_says_why(explorer, model, said):
    answer = explorer.open({**GOOD, "model": model})
    assert answer["gates"] == []
    assert said in answer["without"]
    assert "seen" in explorer.fuse({"key": answer["key"], "edits": {}, "quick": True})
    assert "level 1 does not exist" in explorer.fuse({"key": answer["key"], "edits": EDITS, "quick": True})["error"]


def test_tabs_do_not_see_each_other(explorer):
    one, other = explorer.open(GOOD), explorer.open({"model": 0, "file": sent(hostile.encoded("PNG", (96, 128)))})
    explorer.fuse({"key": one["key"], "edits": EDITS, "quick": False})
    answer = explorer.fuse({"key": other["key"], "edits": {}, "quick": False})
    assert np.array_equal(planes(answer["seen"], (96, 128), 2), planes(other["seen"], (96, 128), 2))


def test_an_image_that_was_replaced_or_has_expired(explorer):
    first = explorer.open(GOOD)["key"]
    second = explorer.open({**GOOD, "replaces": first})["key"]
    assert explorer.fuse({"key": first, "edits": {}}) == {"expired": True}
    assert explorer.save({"key": first, "edits": {}, "opacity": 1}) == {"expired": True}
    assert "seen" in explorer.fuse({"key": second, "edits": {}})


@pytest.mark.parametrize("name", hostile.REFUSED)
def test_after_a_hostile_file_the_next_image_is_opened(explorer, name):
    answer = explorer.open({"model": 0, "file": sent(hostile.REFUSED[name]()), "name": "../../etc/passwd"})
    assert list(answer) == ["error"]
    small = explorer.open({"model": 0, "file": sent(hostile.encoded("PNG", (40, 56)))})
    assert small["size"] == (40, 56)


@pytest.mark.parametrize(
    "asked",
    [None, 3, "key", [], {}, {"model": 9, "scene": 0}, {"model": -1, "scene": 0}, {"model": 0, "scene": 3},
     {"model": "0", "scene": 0}, {"model": 0, "file": "%%%"}, {"model": 0, "file": None}, {"model": 0, "scene": None},
     {"model": 0, "file": {"path": "/etc/passwd"}}],
)  # fmt: skip
def test_questions_that_are_none(explorer, asked):
    assert list(explorer.open(asked)) == ["error"]


@pytest.mark.parametrize("edits", [None, [], {"7": {"scale": 1, "value": 0}}, {"1": {"scale": 99, "value": None}}])
def test_edits_that_are_none(explorer, edits):
    key = explorer.open(GOOD)["key"]
    assert list(explorer.fuse({"key": key, "edits": edits, "quick": False})) == ["error"]
    assert list(explorer.save({"key": key, "edits": edits, "opacity": 0.5})) == ["error"]


def test_an_image_that_the_network_cannot_take(explorer, monkeypatch):
    def full(*_):
        raise RuntimeError("not enough memory: you tried to allocate 9 bytes\nmore")

    monkeypatch.setattr(module, "open_session", full)
    assert explorer.open(GOOD) == {
        "error": "the network cannot take this image: not enough memory: you tried to allocate 9 bytes"
    }


def test_one_question_is_worked_on_at_a_time(explorer, monkeypatch):
    working, most = [], []

    def slow(predictor, image):
        working.append(1)
        most.append(len(working))
        session = open_session(predictor, image)
        working.pop()
        return session

    monkeypatch.setattr(module, "open_session", slow)
    threads = [threading.Thread(target=explorer.open, args=(GOOD,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 4

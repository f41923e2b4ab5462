"""Sessions: predictions are the network's with edited gates, changes are counted by hand; and their cache."""

import dataclasses

import numpy as np
import pytest
import torch

from gffnet.app.session import Prediction, SessionCache, SessionExpired, open_session, reduce_image
from gffnet.errors import UserError
from gffnet.gates.edit import GateEdit
from gffnet.metrics.boundary import RING_NAMES
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.app import gated

EDITS = {1: GateEdit(value=0.0), 3: GateEdit(scale=1.7)}


def naive(predictor, image, edits):
    """Labels and probabilities, with gates edited as Eq. (5)'s symbols say, in float64 after the logits."""
    encoded = predictor.encode(image)
    gates = [gate.clone() for gate in encoded.gates]
    for level, edit in edits.items():
        if edit.value is not None:
            gates[level - 1][:] = edit.value
        else:
            gates[level - 1] = torch.minimum(gates[level - 1] * edit.scale, torch.tensor(1.0))
    logits = predictor.decode(encoded, gates)[0].double().numpy()
    exponentials = np.exp(logits - logits.max(0))
    return logits.argmax(0), (exponentials / exponentials.sum(0)).max(0)


@pytest.mark.parametrize("edits", [{}, EDITS, {2: GateEdit(value=1.0)}])
def test_the_prediction_is_the_networks_with_edited_gates(session, edits):
    labels, probability = naive(session.predictor, session.image, edits)
    prediction = session.predict(edits)
    assert np.array_equal(prediction.labels, labels)
    assert np.abs(prediction.percent - 100 * probability).max() <= 0.51
    assert len(np.unique(labels)) > 2
    assert prediction.percent.min() < 60, "probabilities that are all near one would test nothing"


def test_edits_change_the_prediction_and_nothing_else(session):
    before = session.learned.labels.copy()
    gates = [gate.clone() for gate in session.gates]
    assert (session.predict(EDITS).labels != before).any()
    assert np.array_equal(session.predict({}).labels, before)
    assert all(torch.equal(a, b) for a, b in zip(gates, session.gates, strict=True))


def test_the_preview_is_the_network_at_half_the_resolution(session):
    half = session.image.reshape(68, 2, 100, 2, 3).mean((1, 3), dtype=np.float32)  # bilinear at a half: means of 2x2
    encoded = session.predictor.encode_windows(torch.from_numpy(half).permute(2, 0, 1)[None])._replace(size=(136, 200))
    gates = [torch.full_like(encoded.gates[0], 0.25), *encoded.gates[1:]]
    expected = session.predictor.decode(encoded, gates)[0].argmax(0).numpy()
    preview = session.predict({1: GateEdit(value=0.25)}, preview=True)
    assert np.array_equal(preview.labels, expected)
    assert (preview.labels != session.predict({1: GateEdit(value=0.25)}).labels).any(), (
        "preview and exact prediction must differ"
    )


@pytest.mark.parametrize("model", [tiny.GFFNET, tiny.PSPNET], ids=["gates", "no fusion"])
def test_an_image_much_larger_than_those_of_training_is_downscaled_as_by_predict(model):
    predictor, image = gated.predictor(model), gated.image(200, 240)
    predictor.config = dataclasses.replace(predictor.config, learned_from=(50, 60))
    session = open_session(predictor, image)
    assert session.input_size == (75, 90)  # 1.5 times
    assert session.learned.labels.shape == (200, 240)
    assert (session.learned.labels == predictor.predict(image)).mean() > 0.98
    assert (session.learned.labels == predictor.predict(image, EvaluationRecipe())).mean() < 0.98
    assert session.preview is None, "75 x 90 is fast enough"


def test_a_preview_is_compared_with_the_preview_as_learned(session):
    learned = session.predict({}, preview=True)
    half = session.predictor.encode(session.image, 0.5)
    assert np.array_equal(learned.labels, session.predictor.decode(half)[0].argmax(0).numpy())
    assert session.changes(learned, preview=True).share == 0
    assert session.changes(learned).share > 0, "half the resolution alone changes labels"
    edited = session.predict(EDITS, preview=True)
    changes = session.changes(edited, preview=True)
    assert changes.share == (edited.labels != learned.labels).mean() > 0
    assert set(changes.by_class) == set(np.unique(learned.labels).tolist())


def test_a_small_image_has_no_preview():
    session = open_session(gated.predictor(), gated.image(64, 200))
    assert session.preview is None
    exact = session.predict(EDITS)
    assert np.array_equal(session.predict(EDITS, preview=True).labels, exact.labels)
    assert session.changes(exact, preview=True) == session.changes(exact)


def test_changes_are_shares_of_classes_and_rings(session):
    labels = session.learned.labels.copy()
    labels[:10] = (labels[:10] + 1) % 11
    changes = session.changes(Prediction(labels, session.learned.percent))
    assert changes.share == 10 / 136
    for label in np.unique(session.learned.labels):
        inside = session.learned.labels == label
        assert changes.by_class[int(label)] == pytest.approx(inside[:10].sum() / inside.sum())
    for ring, name in enumerate(RING_NAMES):
        inside = session.rings == ring
        assert (name in changes.by_distance) == inside.any()
        if inside.any():
            assert changes.by_distance[name] == pytest.approx(inside[:10].sum() / inside.sum())


def test_nothing_changed(session):
    changes = session.changes(session.predict({2: GateEdit(scale=1.0)}))
    assert changes.share == 0
    assert set(changes.by_class.values()) == {0.0}


def test_five_gates():
    session = open_session(gated.predictor(gated.GATED_FPN), gated.image())
    assert len(session.gates) == 5
    assert (session.predict({5: GateEdit(value=0.0)}).labels != session.learned.labels).any()


@pytest.mark.parametrize("model", [tiny.PSPNET, gated.ADDITION], ids=["no fusion", "no gates"])
def test_models_without_gates(model):
    predictor = gated.predictor(model)
    session = open_session(predictor, gated.image())
    assert session.gates == ()
    assert session.preview is None
    probabilities = predictor.probabilities(gated.image())
    assert (session.learned.labels == probabilities.argmax(0).numpy()).mean() > 0.999
    assert np.abs(session.learned.percent - 100 * probabilities.amax(0).numpy()).max() <= 0.6
    assert session.predict({}) is session.learned
    with pytest.raises(UserError, match="gate level 1 does not exist"):
        session.predict({1: GateEdit(value=0.0)})


@pytest.mark.parametrize(
    ("edit", "said"), [({5: GateEdit()}, "level 5"), ({1: GateEdit(9.0)}, "scale 9"), ({1: GateEdit(1, 2)}, "value 2")]
)
def test_edits_out_of_range(session, edit, said):
    with pytest.raises(UserError, match=said):
        session.predict(edit)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((100, 50), (100, 50)), ((400, 200), (100, 50)), ((30, 301), (10, 100)), ((1, 400), (1, 100))],
)
def test_large_images_are_reduced(size, expected):
    assert reduce_image(np.full((*size, 3), 77, np.uint8), 100).shape == (*expected, 3)
    assert (reduce_image(np.full((*size, 3), 77, np.uint8), 100) == 77).all()


def cached(cache, key):
    try:
        return cache.get(key)
    except SessionExpired:
        return None


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_keys_are_secret_and_each_its_own(session):
    cache = SessionCache()
    keys = {cache.put(session) for _ in range(5)}
    assert len(keys) == 5
    assert all(len(key) > 20 and cache.get(key) is session for key in keys)


def test_the_least_recently_used_is_evicted(session):
    cache = SessionCache(max_sessions=2)
    first, second = cache.put(session), cache.put(session)
    assert cache.get(first)
    third = cache.put(session)
    assert not cached(cache, second)
    assert cache.get(first)
    assert cache.get(third)


def test_an_unused_one_expires(session):
    clock = Clock()
    cache = SessionCache(seconds=60, clock=clock)
    idle, busy = cache.put(session), cache.put(session)
    clock.now = 50
    assert cache.get(busy)
    clock.now = 70
    assert not cached(cache, idle)
    assert cache.get(busy)
    clock.now = 131
    assert not cached(cache, busy)


@pytest.mark.parametrize("key", ["", "x" * 22])
def test_unknown_keys(session, key):
    cache = SessionCache()
    known = cache.put(session)
    assert not cached(cache, key)
    cache.drop(key)
    assert cache.get(known) is session


def test_a_dropped_one(session):
    cache = SessionCache()
    key = cache.put(session)
    cache.drop(key)
    assert not cached(cache, key)

"""The shelf: the last few sessions, for a while."""

import pytest

from gffnet.webapp.session import Session, open_session
from gffnet.webapp.shelf import Shelf
from tests.webapp import gated


@pytest.fixture(scope="module")
def session() -> Session:
    return open_session(gated.predictor(), gated.image(40, 56))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_keys_are_secret_and_each_its_own(session):
    shelf = Shelf()
    keys = {shelf.put(session) for _ in range(5)}
    assert len(keys) == 5
    assert all(len(key) > 20 and shelf.get(key) is session for key in keys)


def test_the_one_that_was_asked_for_longest_ago_gives_way(session):
    shelf = Shelf(most=2)
    first, second = shelf.put(session), shelf.put(session)
    assert shelf.get(first)
    third = shelf.put(session)
    assert shelf.get(second) is None
    assert shelf.get(first)
    assert shelf.get(third)


def test_one_that_nobody_asks_for_expires(session):
    clock = Clock()
    shelf = Shelf(seconds=60, clock=clock)
    idle, busy = shelf.put(session), shelf.put(session)
    clock.now = 50
    assert shelf.get(busy)
    clock.now = 70
    assert shelf.get(idle) is None
    assert shelf.get(busy)
    clock.now = 131
    assert shelf.get(busy) is None


@pytest.mark.parametrize("key", [None, "", "x" * 22, 7, ["a"], {"a": 1}])
def test_what_is_no_key(session, key):
    shelf = Shelf()
    kept = shelf.put(session)
    assert shelf.get(key) is None
    shelf.drop(key)
    assert shelf.get(kept) is session


def test_dropped(session):
    shelf = Shelf()
    key = shelf.put(session)
    shelf.drop(key)
    assert shelf.get(key) is None

"""Threads beside the one that computes: bounded, in order, and gone at the end."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from gffnet.parallel import ahead, behind, in_advance


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


# Ahead


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("number", [0, 1, 2, 20])
def test_results_come_in_order(threads: int, number: int) -> None:
    def work(item: int) -> int:
        time.sleep(0.003 * (item % 3))
        return item * item

    assert list(ahead(work, range(number), threads)) == [item * item for item in range(number)]


def test_no_more_is_begun_than_agreed() -> None:
    begun: list[int] = []
    with closing(ahead(begun.append, range(100), threads=2)) as results:
        for done in range(1, 10):
            next(results)
            time.sleep(0.01)
            assert done <= len(begun) <= done + 3


def test_an_error_comes_in_its_place() -> None:
    results = ahead(lambda item: 6 // item, [2, 1, 0, 3], threads=2)
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_items_are_made_in_a_thread_in_advance() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for i in range(50):
            made.append(threading.get_ident())
            yield i

    with closing(in_advance(source())) as items:
        assert [next(items) for _ in range(5)] == list(range(5))
    assert threading.get_ident() not in made
    assert len(made) <= 8
    assert list(in_advance(source())) == list(range(50))


def test_an_error_of_a_source() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    items = in_advance(source())
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


# Behind


@pytest.mark.parametrize("threads", [1, 4])
def test_all_is_done_at_the_end(threads: int) -> None:
    done: list[int] = []
    with behind(threads) as later:
        for i in range(50):
            later(done.append, i)
    assert sorted(done) == list(range(50))
    assert threads > 1 or done == sorted(done)


def test_it_waits_where_too_much_is_under_way() -> None:
    going, waiting = threading.Event(), threading.Event()
    submitted: list[int] = []

    def submit() -> None:
        with behind(2) as later:
            for i in range(4):
                later(lambda: going.wait(5) and None)
                submitted.append(i)
                if i == 2:
                    waiting.set()

    thread = threading.Thread(target=submit)
    thread.start()
    assert waiting.wait(5)
    time.sleep(0.03)
    assert len(submitted) == 3
    going.set()
    thread.join()
    assert len(submitted) == 4


@pytest.mark.parametrize("when", ["soon", "last"])
def test_an_error_in_the_thread_is_raised(when: str) -> None:
    calls = 0
    with pytest.raises(ZeroDivisionError), behind(1) as later:  # noqa: PT012
        for i in range(100):
            calls += 1
            if i == (3 if when == "soon" else 99):
                later(lambda: 1 // 0)
            else:
                later(lambda: None)
    assert calls == 100 if when == "last" else calls < 20


def test_what_was_given_is_done_even_after_an_error() -> None:
    done: list[int] = []

    def slow(i: int) -> None:
        time.sleep(0.02)
        done.append(i)

    with pytest.raises(KeyboardInterrupt), behind(1) as later:  # noqa: PT012
        later(slow, 0)
        later(slow, 1)
        raise KeyboardInterrupt
    assert done == [0, 1]

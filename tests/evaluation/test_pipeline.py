"""Work beside the network: in order, bounded, and what fails is told."""

import threading
import time

import pytest

from gffnet.evaluation.pipeline import Behind, ahead


def test_results_come_in_order_and_no_more_are_read_than_wanted() -> None:
    read: list[int] = []

    def reading(item: int) -> int:
        read.append(item)
        return 10 * item

    results = ahead(reading, range(9), depth=2)
    assert next(results) == 0
    time.sleep(0.1)
    assert len(read) <= 3
    assert list(results) == [10 * i for i in range(1, 9)]
    assert read == list(range(9))


def test_an_error_in_reading_comes_where_its_result_would() -> None:
    results = ahead(lambda item: 1 // item, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_nothing_to_read() -> None:
    assert list(ahead(str, [])) == []


def test_work_is_done_behind_in_order_and_not_too_far_behind() -> None:
    done: list[int] = []
    gate = threading.Event()
    with Behind(depth=1) as behind:
        behind.do(gate.wait)
        opener = threading.Timer(0.1, gate.set)
        opener.start()
        for i in range(5):
            behind.do(done.append, i)
            assert gate.is_set()
            assert len(done) >= i
    assert done == [0, 1, 2, 3, 4]


def test_an_error_behind_is_raised_at_the_next_piece_or_in_the_end() -> None:
    def fails() -> None:
        raise ValueError("behind")

    with pytest.raises(ValueError, match="behind"), Behind() as behind:
        behind.do(fails)
    with Behind(depth=0) as behind, pytest.raises(ValueError, match="behind"):
        behind.do(fails)


def test_what_was_given_is_done_before_an_error_goes_on() -> None:
    done: list[int] = []

    def interrupted() -> None:
        with Behind() as behind:
            behind.do(time.sleep, 0.05)
            behind.do(done.append, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == [1]

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from gffnet.errors import RunFailed, UserError
from gffnet.parallel import in_processes


def square(x: int) -> int:
    return x * x


def process(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def refuse(x: int) -> int:
    if x == 3:
        raise UserError("three is refused")
    return x


def die(x: int) -> int:
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def note(folder: Path, x: int) -> int:
    (folder / str(x)).touch()
    return x


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_result_comes_once(workers: int) -> None:
    assert sorted(in_processes(square, range(40), workers)) == [x * x for x in range(40)]
    assert list(in_processes(square, [], workers)) == []


def test_where_the_work_is_done() -> None:
    assert set(in_processes(process, range(3), 1)) == {os.getpid()}
    there = set(in_processes(process, range(12), 2))
    assert len(there) == 2
    assert os.getpid() not in there


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_work_is_raised_here(workers: int) -> None:
    with pytest.raises(UserError, match="three is refused"):
        list(in_processes(refuse, range(10), workers))


def test_a_process_that_dies_is_reported() -> None:
    start = time.monotonic()
    with pytest.raises(RunFailed, match="a worker process died: it was killed, or ran out of memory"):
        list(in_processes(die, range(10), 2))
    assert time.monotonic() - start < 30


def test_items_are_not_taken_far_ahead(tmp_path: Path) -> None:
    results = in_processes(partial(note, tmp_path), range(1000), 2)
    next(results)
    results.close()
    assert len(list(tmp_path.iterdir())) < 10

"""Threads of one call: the first failure ends the call, and is what its caller learns."""

import threading

import pytest

from edge.errors import LinkLostError
from edge.tasks import Tasks


def fail() -> None:
    raise RuntimeError("first")


def run(stop: threading.Event, consequence: Exception | None = None) -> None:
    with Tasks(stop.set) as tasks:
        tasks.start("waits", stop.wait)
        tasks.start("fails", fail)
        assert stop.wait(5)
        if consequence is not None:
            raise consequence


def test_first_failure_stops_all_tasks_and_is_raised() -> None:
    with pytest.raises(RuntimeError, match="first"):
        run(threading.Event())


def test_failure_is_not_hidden_by_what_its_stop_breaks() -> None:
    with pytest.raises(RuntimeError, match="first") as caught:
        run(threading.Event(), LinkLostError("the call was cancelled"))
    assert isinstance(caught.value.__cause__, LinkLostError)

"""Background threads: a failure is seen, told once, and does not end them."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from common.background import BackgroundThread, ThreadMonitor
from common.backoff import Backoff

SECONDS = 10.0


class Steps:
    """Steps that fail or not as told, one at a time."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._next = threading.Semaphore(0)
        self._done = threading.Semaphore(0)

    def step(self) -> None:
        self._next.acquire()
        try:
            if self.error is not None:
                raise self.error
        finally:
            self._done.release()

    def let_one_run(self) -> None:
        self._next.release()
        assert self._done.acquire(timeout=SECONDS)

    def wake(self) -> None:
        self._next.release()


class Changes:
    """Waits for what a monitor reports."""

    def __init__(self) -> None:
        self._reported = threading.Semaphore(0)

    def changed(self) -> None:
        self._reported.release()

    def wait(self) -> None:
        assert self._reported.acquire(timeout=SECONDS)


Start = Callable[[Steps, ThreadMonitor], BackgroundThread]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[BackgroundThread] = []

    def begin(steps: Steps, monitor: ThreadMonitor) -> BackgroundThread:
        backoff = Backoff(uniform=lambda low, high: low)
        thread = BackgroundThread("worker", steps.step, monitor, wake=steps.wake, backoff=backoff)
        thread.start()
        started.append(thread)
        return thread

    yield begin
    for thread in started:
        assert thread.stop(SECONDS)


def test_a_step_that_fails_is_reported_and_the_thread_lives_on(start: Start) -> None:
    steps, changes = Steps(), Changes()
    monitor = ThreadMonitor(changes.changed)
    thread = start(steps, monitor)
    steps.error = KeyError("access")

    steps.let_one_run()
    changes.wait()

    [down] = monitor.down()
    assert down.thread == "worker"
    assert down.reason == "KeyError: 'access'"
    assert thread.alive


def test_the_first_step_that_returns_makes_the_thread_up_again(start: Start) -> None:
    steps, changes = Steps(), Changes()
    monitor = ThreadMonitor(changes.changed)
    start(steps, monitor)
    steps.error = ValueError("bad JSON")
    steps.let_one_run()
    changes.wait()

    steps.error = None
    steps.let_one_run()
    changes.wait()

    assert monitor.down() == []
    assert monitor.failures() == {"worker": 1}


def test_the_same_failure_is_logged_with_one_traceback(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "common.background")
    steps, changes = Steps(), Changes()
    monitor = ThreadMonitor(changes.changed)
    thread = start(steps, monitor)
    steps.error = ValueError("bad JSON")

    for _ in range(3):
        steps.let_one_run()
    assert thread.stop(SECONDS)

    assert monitor.failures()["worker"] >= 3
    assert len([record for record in caplog.records if record.exc_info]) == 1


def test_a_stopped_thread_is_not_down(start: Start) -> None:
    steps, changes = Steps(), Changes()
    monitor = ThreadMonitor(changes.changed)
    thread = start(steps, monitor)
    steps.error = ValueError("bad JSON")
    steps.let_one_run()
    changes.wait()

    assert thread.stop(SECONDS)

    assert monitor.down() == []
    assert not thread.alive


def test_a_thread_that_was_never_started_can_be_stopped() -> None:
    assert BackgroundThread("idle", lambda: None, ThreadMonitor()).stop()

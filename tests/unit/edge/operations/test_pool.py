"""The executor's threads: a job that fails is seen, and stops none that comes after it."""

import threading

import pytest

from common.background import ThreadMonitor
from edge.operations.pool import WorkerPool

PATIENCE = 10.0


def fail() -> None:
    raise ZeroDivisionError("a bug")


def test_a_job_that_raises_turns_health_red_until_the_thread_has_run_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    news = threading.Semaphore(0)
    monitor = ThreadMonitor(news.release)
    workers = WorkerPool("operation", 1, monitor)
    workers.submit("vm", fail)
    assert news.acquire(timeout=PATIENCE)
    assert [each.reason for each in monitor.down()] == ["ZeroDivisionError: a bug"]
    assert monitor.failures() == {"operation-1": 1}
    done = threading.Event()
    workers.submit("vm", done.set)
    assert done.wait(PATIENCE)
    assert news.acquire(timeout=PATIENCE)
    assert monitor.down() == []
    assert workers.stop(PATIENCE)
    assert len([each for each in caplog.records if each.exc_info]) == 1


def test_stop_runs_what_waits_and_ends_the_threads() -> None:
    workers = WorkerPool("pool-test", 2, ThreadMonitor())
    hold, ran = threading.Event(), []
    workers.submit("vm", lambda: ran.append(hold.wait(PATIENCE)))
    workers.submit("vm", lambda: ran.append(True))
    assert not workers.stop(0.01)
    hold.set()
    assert workers.stop(PATIENCE)
    assert ran == [True, True]
    assert not [each for each in threading.enumerate() if each.name.startswith("pool-test-")]

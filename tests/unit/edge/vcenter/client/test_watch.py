"""A read never takes back what was reported since it was asked for, and nobody waits in vain."""

from collections.abc import Callable
from typing import Any

import pytest

from edge.errors import SecretUnreadableError
from edge.vcenter.client import faults
from edge.vcenter.client import watch as watch_module
from edge.vcenter.client.watch import Watch

Read = Callable[[], dict[str, Any]]


def watch(read: Read = dict) -> Watch:
    return Watch(object(), ("info.state", "info.progress"), read, lambda _: None)


def test_first_read_fills_what_nobody_has_reported() -> None:
    watched = watch(lambda: {"info.state": "running"})
    watched.refresh()
    assert watched.values() == {"info.state": "running"}


def test_end_of_a_task_reported_while_it_is_read_as_running_stays() -> None:
    def slow_read() -> dict[str, Any]:
        answer = {"info.state": "running", "info.progress": 10}
        watched.report({"info.state": "success"})
        return answer

    watched = watch(slow_read)
    watched.refresh()
    assert watched.values() == {"info.state": "success", "info.progress": 10}
    assert watched.wait(0) is False, "values() has seen it"


def test_later_read_replaces_what_was_reported_before_it() -> None:
    watched = watch(lambda: {"info.state": "success"})
    watched.report({"info.state": "running"})
    watched.refresh()
    assert watched.values() == {"info.state": "success"}
    assert watched.changed.is_set() is False


def test_refresh_wakes_who_waits() -> None:
    watched = watch(lambda: {"info.state": "success"})
    watched.values()
    watched.refresh()
    assert watched.wait(0)


def failing(error: Exception) -> Read:
    def read() -> dict[str, Any]:
        raise error

    return read


def test_failed_read_leaves_the_values() -> None:
    watched = watch(failing(faults.VCenterUnreachableError("away")))
    watched.report({"info.state": "running"})
    with pytest.raises(faults.VCenterUnreachableError):
        watched.refresh()
    assert watched.values() == {"info.state": "running"}


def test_what_nobody_reports_is_read_again_by_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "READ_AGAIN_SECONDS", 0.01)
    watched = watch(lambda: {"info.state": "success"})
    watched.values()
    assert watched.wait(5)
    assert watched.values() == {"info.state": "success"}


def test_vcenter_that_does_not_answer_for_a_while_ends_no_watch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch_module, "READ_AGAIN_SECONDS", 0.01)
    watched = watch(failing(faults.TruncatedAnswerError("away")))
    watched.report({"info.state": "running"})
    assert watched.values() == {"info.state": "running"}
    assert watched.wait(0.1) is False
    assert watched.values() == {"info.state": "running"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (faults.ManagedObjectNotFoundError("gone", "Task:1"), faults.ManagedObjectNotFoundError),
        (faults.LoginRefusedError("wrong"), faults.LoginRefusedError),
        (SecretUnreadableError("no file"), faults.SessionExpiredError),
    ],
)
def test_watch_ends_with_an_error_that_no_waiting_mends(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
) -> None:
    monkeypatch.setattr(watch_module, "READ_AGAIN_SECONDS", 0.01)
    watched = watch(failing(error))
    watched.values()
    assert watched.wait(5)
    with pytest.raises(kind):
        watched.values()

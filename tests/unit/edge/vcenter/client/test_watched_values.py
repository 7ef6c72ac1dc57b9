"""A read never takes back what the watch has told since it was asked for."""

from typing import Any

import pytest

from edge.vcenter.client import faults
from edge.vcenter.client.task_watcher import Watch


def watch() -> Watch:
    return Watch(object(), ("info.state", "info.progress"), lambda _: None)


def test_first_read_fills_what_nobody_has_told() -> None:
    watched = watch()
    watched.refresh(lambda: {"info.state": "running"})
    assert watched.values() == {"info.state": "running"}


def test_end_of_a_task_told_while_it_is_read_as_running_stays() -> None:
    watched = watch()

    def slow_read() -> dict[str, Any]:
        answer = {"info.state": "running", "info.progress": 10}
        watched.update({"info.state": "success"})
        return answer

    watched.refresh(slow_read)
    assert watched.values() == {"info.state": "success", "info.progress": 10}
    assert watched.wait(0) is False, "values() has seen it"


def test_later_read_replaces_what_was_told_before_it() -> None:
    watched = watch()
    watched.update({"info.state": "running"})
    watched.refresh(lambda: {"info.state": "success"})
    assert watched.values() == {"info.state": "success"}
    assert watched.changed.is_set() is False


def test_refresh_wakes_who_waits() -> None:
    watched = watch()
    watched.values()
    watched.refresh(lambda: {"info.state": "success"})
    assert watched.wait(0)


def test_failed_read_leaves_the_values() -> None:
    watched = watch()
    watched.update({"info.state": "running"})

    def failing() -> dict[str, Any]:
        raise faults.VCenterUnreachableError("away")

    with pytest.raises(faults.VCenterUnreachableError):
        watched.refresh(failing)
    assert watched.values() == {"info.state": "running"}

"""Whatever ends a thread that waits for vCenter reaches the one who follows the changes."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from edge.vcenter.client import faults
from edge.vcenter.collector.attributes import Attributes
from edge.vcenter.collector.update_source import UpdateSource

PATIENCE = 10.0


class ScriptedVCenter:
    """A watch, attributes and reader: each call does what a test says, or waits for the end."""

    def __init__(self, **does: Callable[[], Any]) -> None:
        self._does = does
        self._closed = threading.Event()

    def wait(self, version: str, seconds: int) -> bytes:
        return self._do("wait") or b""

    def read_all(self, paths: Mapping[str, Sequence[str]], per_page: int) -> Iterator[bytes]:
        self._do("read_all")
        return iter(())

    def read(self) -> Attributes:
        self._do("read_attributes")
        return Attributes()

    def fetch(self, keys: Sequence[str], paths: Sequence[str], type_name: str) -> list[bytes]:
        self._do("fetch")
        return [b"page"]

    def close(self) -> None:
        self._closed.set()

    def _do(self, name: str) -> Any:
        if name in self._does:
            return self._does[name]()
        self._closed.wait(PATIENCE)
        return None


def source(**does: Callable[[], Any]) -> UpdateSource:
    vcenter: Any = ScriptedVCenter(**does)
    return UpdateSource(vcenter, vcenter, vcenter, 0.01)


def failing(error: Exception) -> Callable[[], Any]:
    def fail() -> None:
        raise error

    return fail


def drain(updates: UpdateSource) -> None:
    while updates.next(PATIENCE):
        pass


@pytest.mark.parametrize("call", ["wait", "read_all", "fetch"])
@pytest.mark.parametrize("error", [faults.SessionExpiredError("expired"), KeyError("a defect")])
def test_error_of_a_thread_is_raised_to_the_follower(call: str, error: Exception) -> None:
    with source(**{call: failing(error)}) as updates:
        updates.request_machines(["VirtualMachine:vm-1"])
        with pytest.raises(type(error)):
            updates.next(PATIENCE)


def test_error_of_a_thread_overtakes_what_was_read_before_it() -> None:
    read = threading.Event()

    def fail_after_the_pass() -> None:
        assert read.wait(PATIENCE)
        raise KeyError("a defect")

    with source(
        wait=fail_after_the_pass, read_all=lambda: None, read_attributes=read.set
    ) as updates:
        assert read.wait(PATIENCE)
        with pytest.raises(KeyError):
            drain(updates)

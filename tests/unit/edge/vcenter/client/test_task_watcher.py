"""The requests to the PropertyCollector, and the threads that fetch ahead."""

import functools
import re
import threading
from typing import Any

import pytest

from edge.vcenter.client import faults
from edge.vcenter.client.property_collector import PropertyReader, PropertyWatch
from edge.vcenter.collector.fetching import fetch_ahead
from tests.support.vsphere_answers import soap


class ScriptedSession:
    """Answers like a vCenter that lacks some properties: vcsim takes any property for known."""

    def __init__(self, lacks: tuple[str, ...] = (), refuse: str = "") -> None:
        self.generation = 1
        self.root_folder = "Folder:group-d1"
        self.requests: list[str] = []
        self._lacks = lacks
        self._refuse = refuse

    def soap(self, envelope: bytes, deadline_seconds: float = 0) -> bytes:
        request = envelope.decode()
        self.requests.append(request)
        method = self.methods()[-1]
        if method == self._refuse:
            raise faults.PermissionDeniedError("no", "Sessions.X", "")
        if method == "CreateFilter":
            for path in self._lacks:
                if f"<pathSet>{path}</pathSet>" in request:
                    raise faults.InvalidPropertyError(f"no {path}", path)
        made = f'<returnval type="Thing">{method.lower()}-1</returnval>'
        return soap(f'<{method}Response xmlns="urn:vim25">{made}</{method}Response>')

    def methods(self) -> list[str]:
        found = (re.search(r"Body><(\w+)", request) for request in self.requests)
        return [match[1] for match in found if match]


def watch(session: ScriptedSession) -> PropertyWatch:
    return PropertyWatch(session)  # type: ignore[arg-type]


def test_property_that_a_vcenter_does_not_know_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    session = ScriptedSession(lacks=("config.uplink", "guest.net"))
    watch(session)
    final = session.requests[-1]
    assert session.methods().count("CreateFilter") == 3
    assert "config.uplink" not in final
    assert "guest.net" not in final
    assert "<pathSet>runtime.powerState</pathSet>" in final
    assert caplog.text.count("does not know a property") == 2


def test_filter_that_cannot_be_made_leaves_nothing_behind() -> None:
    session = ScriptedSession(refuse="CreateFilter")
    with pytest.raises(faults.PermissionDeniedError):
        watch(session)
    assert session.methods()[-2:] == ["DestroyPropertyCollector", "DestroyView"]


def test_closing_frees_the_filter_and_the_view_once() -> None:
    session = ScriptedSession()
    made = watch(session)
    made.close()
    made.close()
    assert session.methods().count("DestroyView") == 1
    assert session.methods()[-2:] == ["DestroyPropertyCollector", "DestroyView"]


def test_nothing_is_freed_that_ended_with_its_login() -> None:
    session = ScriptedSession()
    made = watch(session)
    session.generation += 1
    made.close()
    assert "DestroyView" not in session.methods()


def test_partial_updates_are_off_and_references_are_escaped() -> None:
    session = ScriptedSession()
    watch(session)
    assert "<partialUpdates>false</partialUpdates>" in session.requests[-1]
    reader = PropertyReader(session)  # type: ignore[arg-type]
    list(reader.read(["VirtualMachine:vm-1<&>"], ["name"], "VirtualMachine"))
    assert '<obj type="VirtualMachine">vm-1&lt;&amp;&gt;</obj>' in session.requests[-1]


def test_pages_come_in_order_and_few_are_fetched_ahead() -> None:
    fetched: list[int] = []
    reached = threading.Semaphore(0)

    def fetch(number: int) -> list[bytes]:
        fetched.append(number)
        reached.release()
        return [b"%d" % number, b"%d+" % number]

    ahead = fetch_ahead([functools.partial(fetch, number) for number in range(9)])
    assert next(ahead) == b"0"
    # The one that is used, and three that wait.
    for _ in range(4):
        assert reached.acquire(timeout=5)
    assert not reached.acquire(timeout=0.2)
    assert sorted(fetched) == [0, 1, 2, 3]
    rest = [page for number in range(1, 9) for page in (b"%d" % number, b"%d+" % number)]
    assert list(ahead) == [b"0+", *rest]


def test_two_requests_are_under_way_at_a_time() -> None:
    both = threading.Barrier(2, timeout=5)

    def fetch() -> list[bytes]:
        both.wait()
        return [b"page"]

    assert list(fetch_ahead([fetch] * 4)) == [b"page"] * 4


@pytest.mark.parametrize("count", [1, 2, 5])
def test_what_fetching_raises_is_raised_where_the_pages_are_used(count: int) -> None:
    def fail() -> list[bytes]:
        raise faults.SessionExpiredError("gone")

    ahead = fetch_ahead([lambda: [b"page"]] * (count - 1) + [fail])
    for _ in range(count - 1):
        assert next(ahead) == b"page"
    with pytest.raises(faults.SessionExpiredError):
        next(ahead)


def test_nothing_to_fetch_is_no_page() -> None:
    assert list(fetch_ahead([])) == []


@pytest.mark.parametrize("taken", [1, 100])
def test_threads_end_when_nobody_takes_pages_any_more(taken: int) -> None:
    ahead: Any = fetch_ahead([lambda: [b"page"]] * 100)
    for _ in range(taken):
        next(ahead)
    ahead.close()
    readers = [each for each in threading.enumerate() if each.name == "vcenter-read"]
    for each in readers:
        each.join(5)
        assert not each.is_alive()

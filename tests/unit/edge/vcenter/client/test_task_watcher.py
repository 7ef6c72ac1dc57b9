"""The watcher of tasks on a scripted session: what it does when its collector is lost."""

import queue
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pyVmomi import SoapAdapter, vim

from common.background import ThreadMonitor
from common.backoff import Backoff
from edge.vcenter.client import faults
from edge.vcenter.client.task_watcher import PropertyWatcher
from tests.support.vsphere_answers import change, changed, content, soap
from tests.support.waiting import eventually_true

PATIENCE = 5.0
STATE = "info.state"


class ScriptedSession:
    """A session whose waits end as a test says: with a task's state, or with an error."""

    def __init__(self) -> None:
        self.generation = 1
        self.is_logged_in = True
        self.told: dict[str, queue.SimpleQueue[bytes | Exception]] = {}
        """What the waits on a collector end with."""
        self.collectors = 0
        self.filters = 0
        self.renewals = 0
        self.destroyed: list[str] = []
        self.waiting = threading.Semaphore(0)
        """Released when a wait begins."""

    def soap(self, envelope: bytes, deadline_seconds: float = 0) -> bytes:
        found = re.search(r'Body><(\w+)[^>]*><_this type="\w+">([^<]*)', envelope.decode())
        assert found is not None
        method, target = found.groups()
        if method == "RetrievePropertiesEx":
            return content(vim.Task("task-1"), {STATE: vim.TaskInfo.State.running})
        if method == "WaitForUpdatesEx":
            self.waiting.release()
            told = self.told[target].get()
            if isinstance(told, Exception):
                raise told
            return told
        if method.startswith("Destroy"):
            self.destroyed.append(target)
            return made(method)
        if method == "CreateFilter":
            self.filters += 1
            return made(method, "PropertyFilter", f"filter-{self.filters}")
        self.collectors += 1
        key = f"collector-{self.collectors}"
        self.told[key] = queue.SimpleQueue()
        return made(method, "PropertyCollector", key)

    def tell(self, told: bytes | Exception) -> None:
        """Answer the wait that is under way on the latest collector."""
        assert self.waiting.acquire(timeout=PATIENCE)
        self.told[f"collector-{self.collectors}"].put(told)

    def let_go(self) -> None:
        """End every wait, as vCenter does when the collector is destroyed."""
        for each in self.told.values():
            each.put(faults.SessionExpiredError("destroyed"))

    def renew(self, expired_generation: int) -> None:
        self.renewals += 1
        self.generation = expired_generation + 1

    def vsphere_object(self, body: bytes, kind: Any) -> Any:
        return SoapAdapter.SoapResponseDeserializer(None).Deserialize(body, kind)


def made(method: str, kind: str = "", moref: str = "") -> bytes:
    returned = f'<returnval type="{kind}">{moref}</returnval>' if moref else ""
    return soap(f'<{method}Response xmlns="urn:vim25">{returned}</{method}Response>')


def ended(*filters: str) -> bytes:
    """Build what WaitForUpdatesEx returns when the task has ended."""
    told = changed(change(STATE, "success"), key="Task:task-1")
    sets = "".join(
        f'<filterSet><filter type="PropertyFilter">{each}</filter>{told}</filterSet>'
        for each in filters
    )
    return soap(
        '<WaitForUpdatesExResponse xmlns="urn:vim25"><returnval><version>7</version>'
        f"{sets}</returnval></WaitForUpdatesExResponse>"
    )


@pytest.fixture
def session() -> ScriptedSession:
    return ScriptedSession()


@pytest.fixture
def monitor() -> ThreadMonitor:
    return ThreadMonitor()


@pytest.fixture
def watcher(session: ScriptedSession, monitor: ThreadMonitor) -> Iterator[PropertyWatcher]:
    running = PropertyWatcher(
        session,  # type: ignore[arg-type]
        monitor,
        lambda: Backoff(0.01, 1.0, 0.01),
    )
    yield running
    session.let_go()
    running.close()


def wait_for_end(watch: Any) -> None:
    while watch.values().get(STATE) != "success":
        assert watch.wait(PATIENCE), "the end of the task was not reported"


def test_end_of_a_task_is_reported_to_who_watches_it(
    session: ScriptedSession, watcher: PropertyWatcher
) -> None:
    with watcher.watch(vim.Task("task-1"), [STATE]) as watch:
        assert watch.values() == {STATE: "running"}
        session.tell(ended("filter-1"))
        wait_for_end(watch)


@pytest.mark.parametrize(
    ("error", "renewals"),
    [
        (faults.SessionExpiredError("gone"), 1),
        (faults.TruncatedAnswerError("cut"), 0),
        (faults.VCenterUnreachableError("away"), 0),
        (faults.ManagedObjectNotFoundError("no collector", "PropertyCollector:collector-1"), 1),
    ],
)
def test_watch_goes_on_with_a_new_collector_when_the_wait_breaks(
    session: ScriptedSession, watcher: PropertyWatcher, error: Exception, renewals: int
) -> None:
    with watcher.watch(vim.Task("task-1"), [STATE]) as watch:
        session.tell(error)
        session.tell(ended("filter-2"))
        wait_for_end(watch)
    assert session.collectors == 2
    assert session.renewals == renewals


def test_a_collector_whose_wait_broke_is_not_left_behind_in_a_login_that_goes_on(
    session: ScriptedSession, watcher: PropertyWatcher
) -> None:
    with watcher.watch(vim.Task("task-1"), [STATE]) as watch:
        session.tell(faults.VCenterUnreachableError("away"))
        session.tell(ended("filter-2"))
        wait_for_end(watch)
    eventually_true(lambda: "collector-1" in session.destroyed)


def test_watch_ends_with_the_refusal_when_no_login_is_possible(
    session: ScriptedSession, watcher: PropertyWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(expired_generation: int) -> None:
        raise faults.LoginRefusedError("wrong password")

    monkeypatch.setattr(session, "renew", refuse)
    with watcher.watch(vim.Task("task-1"), [STATE]) as watch:
        watch.values()
        session.tell(faults.SessionExpiredError("gone"))
        assert watch.wait(PATIENCE)
        with pytest.raises(faults.LoginRefusedError):
            watch.values()


def test_unexpected_error_turns_health_red_and_the_watch_goes_on(
    session: ScriptedSession, watcher: PropertyWatcher, monitor: ThreadMonitor
) -> None:
    with watcher.watch(vim.Task("task-1"), [STATE]) as watch:
        session.tell(RuntimeError("a defect"))
        session.tell(ended("filter-1"))
        wait_for_end(watch)
    assert monitor.failures() == {"vcenter-watcher": 1}


def test_another_login_takes_the_watches_over(
    session: ScriptedSession, watcher: PropertyWatcher
) -> None:
    with watcher.watch(vim.Task("task-1"), [STATE]) as first:
        assert session.waiting.acquire(timeout=PATIENCE)
        session.generation += 1
        # The first login's wait hangs; nothing waits for it.
        with watcher.watch(vim.Task("task-1"), [STATE]):
            session.tell(ended("filter-2", "filter-3"))
            wait_for_end(first)
    assert session.collectors == 2

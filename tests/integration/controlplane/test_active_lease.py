"""One control plane of a database acts. Time is real, and short; the databases are real."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.background import ThreadMonitor
from controlplane import active_lease
from controlplane.active_lease import RESOURCE, ActiveLease
from controlplane.store.database import Database
from controlplane.store.errors import DatabaseUnavailableError, StatementRejectedError
from controlplane.store.own import leases, migration
from controlplane.store.own.leases import LeaseRow
from tests.support.servers import Databases
from tests.support.waiting import eventually_true

LEASE = 1.0


@pytest.fixture(params=["sqlite", "mariadb"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database]:
    """The own tables, and leases that expire after a second."""
    monkeypatch.setattr(active_lease, "LEASE_SECONDS", LEASE)
    monkeypatch.setattr(active_lease, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(active_lease, "STANDBY_SECONDS", 0.05)
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/own.sqlite"
    else:
        mariadb: Databases = request.getfixturevalue("mariadb")
        url = mariadb.create_database("active_lease")
    database = Database(url)
    migration.upgrade(database)
    yield database
    database.close()


class Process:
    """A control plane as far as the lease goes."""

    def __init__(self, database: Database, name: str) -> None:
        self.lost = threading.Event()
        self.active = threading.Event()
        self.stopping = threading.Event()
        self.stood_by: list[str] = []
        self.monitor = ThreadMonitor()
        self.lease = ActiveLease(database, name, self.monitor, lambda other: self.lost.set())

    def begin(self) -> None:
        """Wait for the lease in a thread."""

        def wait() -> None:
            if self.lease.wait(self.stopping, self.stood_by.append):
                self.active.set()

        threading.Thread(target=wait, daemon=True).start()

    def vanish(self) -> None:
        """End without a word, as a process that is killed."""
        self.lease._thread.stop()

    def end(self) -> None:
        self.stopping.set()
        self.lease.release()


Start = Callable[[str], Process]


@pytest.fixture
def start(database: Database) -> Iterator[Start]:
    """Starts control planes on the same database."""
    begun: list[Process] = []

    def begin(name: str) -> Process:
        process = Process(database, name)
        begun.append(process)
        process.begin()
        return process

    yield begin
    for process in begun:
        process.end()


def test_a_second_control_plane_stands_by_as_long_as_the_first_is_there(start: Start) -> None:
    first = start("a")
    assert first.active.wait(10)
    second = start("b")
    eventually_true(lambda: second.stood_by)
    assert not second.active.wait(2 * LEASE)
    assert second.stood_by == ["a"], "told once"
    first.end()
    assert second.active.wait(LEASE / 2), "it was given back: no expiry is waited for"
    assert not first.lost.is_set()


def test_a_control_plane_that_vanished_is_followed_when_its_lease_has_expired(start: Start) -> None:
    first = start("a")
    assert first.active.wait(10)
    first.vanish()
    begun = time.monotonic()
    second = start("b")
    assert second.active.wait(10)
    assert time.monotonic() - begun > LEASE / 2


def test_a_process_that_is_started_again_in_the_place_of_its_own_waits_for_nothing(
    start: Start,
) -> None:
    first = start("a")
    assert first.active.wait(10)
    first.vanish()
    again = start("a")
    assert again.active.wait(LEASE / 2)
    assert again.stood_by == []


def test_a_holder_that_was_paused_for_too_long_is_told_that_it_is_over(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start("a")
    assert first.active.wait(10)
    with monkeypatch.context() as paused:
        paused.setattr(first.lease, "_renew", lambda: None)
        second = start("b")
        assert second.active.wait(10)
        second.end()  # that the lease is free again does not help: another has acted
    assert first.lost.wait(5)


def test_a_holder_goes_on_when_the_database_is_back_and_nobody_took_over(
    start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise DatabaseUnavailableError("gone")

    def stored() -> LeaseRow | None:
        with database.read() as connection:
            return leases.get(connection, RESOURCE)

    first = start("a")
    assert first.active.wait(10)
    with monkeypatch.context() as patch:
        patch.setattr(database, "run", away)
        before = stored()
        time.sleep(1.5 * LEASE)
    eventually_true(lambda: stored() != before)
    second = start("b")
    assert not second.active.wait(1.5 * LEASE)
    assert not first.lost.is_set()
    assert first.monitor.down() == []


def test_a_holder_that_fails_unexpectedly_renews_before_its_lease_expires(
    start: Start, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rejected(*_: object) -> None:
        raise StatementRejectedError("denied")

    first = start("a")
    assert first.active.wait(10)
    with monkeypatch.context() as patch:
        patch.setattr(database, "run", rejected)
        eventually_true(lambda: first.monitor.failures().get("control-plane-lease", 0) >= 6)
    begun = time.monotonic()
    eventually_true(lambda: first.monitor.down() == [])
    assert time.monotonic() - begun < LEASE

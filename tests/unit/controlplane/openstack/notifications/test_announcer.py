"""Notifications survive what nobody expected: one is lost, all others are sent."""

import queue
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

import pytest

from common.background import ThreadMonitor
from controlplane.domain.records import Announced, NotificationData, ServerAnnouncement
from controlplane.openstack.notifications import announcer as announcer_module
from controlplane.openstack.notifications.announcer import BusAnnouncer
from controlplane.store.errors import DatabaseUnavailableError, StatementRejectedError
from tests.support.waiting import eventually_true

PATIENCE = 10.0


class Rows:
    """Every server there is; the next readings raise what is in ``errors``."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def read(self, uuids: Collection[str]) -> dict[str, NotificationData]:
        if self.errors:
            raise self.errors.pop(0)
        return {
            uuid: NotificationData({"host": "h", "uuid": uuid}, {}, (), {}, {}, ())
            for uuid in uuids
        }


class Receiver:
    """A bus that keeps what it gets, and raises an error for one server."""

    enabled = sends_versioned = True
    sends_unversioned = False
    cursed = "cursed"

    def __init__(self) -> None:
        self.received: queue.Queue[str] = queue.Queue()

    def audit_period(self, now: datetime) -> tuple[datetime, datetime]:
        return now, now

    def instance_name(self, columns: Mapping[str, Any]) -> str:
        if columns["uuid"] == self.cursed:
            raise RuntimeError("nobody expected this")
        return str(columns["uuid"])

    def send_versioned(self, publisher: str, event_type: str, payload: str) -> None:
        self.received.put(payload)


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def monitor() -> ThreadMonitor:
    return ThreadMonitor()


@pytest.fixture
def bus() -> Receiver:
    return Receiver()


@pytest.fixture
def announcer(
    rows: Rows, bus: Receiver, monitor: ThreadMonitor, monkeypatch: pytest.MonkeyPatch
) -> Iterator[BusAnnouncer]:
    monkeypatch.setattr(announcer_module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(announcer_module.versioned, "payload", lambda *parts: parts[-1])
    made = BusAnnouncer(rows, bus, monitor)  # type: ignore[arg-type]
    made.start()
    yield made
    made.stop()


def announce(announcer: BusAnnouncer, *uuids: str) -> None:
    announcer.announce([ServerAnnouncement(Announced.CREATE, uuid) for uuid in uuids])


def received(bus: Receiver, count: int) -> list[str]:
    return [bus.received.get(timeout=PATIENCE) for _ in range(count)]


def test_one_notification_that_cannot_be_made_ends_no_other(
    announcer: BusAnnouncer, bus: Receiver, monitor: ThreadMonitor
) -> None:
    announce(announcer, "1", bus.cursed, "2", "3")
    assert received(bus, 3) == ["1", "2", "3"]
    assert monitor.failures() == {"notifications": 1}
    eventually_true(lambda: not monitor.down(), seconds=PATIENCE)


@pytest.mark.parametrize("error", [StatementRejectedError("Unknown column"), RuntimeError("?")])
def test_rows_that_cannot_be_read_turn_health_red_until_they_can_and_nothing_is_lost(
    announcer: BusAnnouncer, rows: Rows, bus: Receiver, monitor: ThreadMonitor, error: Exception
) -> None:
    rows.errors = [error, error]
    announce(announcer, "1", "2")
    assert received(bus, 2) == ["1", "2"]
    assert monitor.failures() == {"notifications": 2}
    eventually_true(lambda: not monitor.down(), seconds=PATIENCE)


def test_database_that_is_away_delays_and_fails_nothing(
    announcer: BusAnnouncer, rows: Rows, bus: Receiver, monitor: ThreadMonitor
) -> None:
    rows.errors = [DatabaseUnavailableError("away")]
    announce(announcer, "1", "2")
    assert received(bus, 2) == ["1", "2"]
    assert monitor.failures() == {}

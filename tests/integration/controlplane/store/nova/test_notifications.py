"""What is announced equals, field by field, what Nova's own code announces."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from nova import notifications, objects, rpc
from nova.compute import utils as compute_utils
from nova.objects import fields
from oslo_messaging.notify import _impl_test
from sqlalchemy import Table

from common.background import ThreadMonitor
from controlplane.config.nova_config import NovaConfig
from controlplane.domain.records import (
    Announced,
    Power,
    RemovalChange,
    ServerAnnouncement,
    ServerChange,
)
from controlplane.openstack.notifications.announcer import CALM_SECONDS, CROWD, BusAnnouncer
from controlplane.openstack.notifications.bus import Bus
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.nova.notification_data import NotificationDataReader
from controlplane.store.nova.servers import NovaServers
from controlplane.store.nova.tables import INFO_CACHES, INSTANCE_EXTRA
from tests.support.server_samples import HOST, record
from tests.support.waiting import eventually_true

EVERYTHING = [
    "metadata",
    "system_metadata",
    "flavor",
    "info_cache",
    "keypairs",
    "tags",
    "trusted_certs",
]
# Who asked, when, and Glance's endpoint: what a server's rows do not say.
OF_THE_REQUEST = {"request_id", "action_initiator_user", "action_initiator_project"}
OF_THE_MOMENT = {"audit_period", "audit_period_ending", "audit_period_beginning", "image_ref_url"}


class Clock:
    """The monotonic clock, which a test may stop."""

    def __init__(self) -> None:
        self.stopped_at: float | None = None

    def monotonic(self) -> float:
        return time.monotonic() if self.stopped_at is None else self.stopped_at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def announcer(databases: NovaDatabases, clock: Clock, tmp_path: Path) -> Iterator[BusAnnouncer]:
    file = tmp_path / "nova.conf"
    file.write_text(
        "[DEFAULT]\ntransport_url = fake://\n[notifications]\nnotification_format = both\n"
        "[oslo_messaging_notifications]\ndriver = test\n"
    )
    made = BusAnnouncer(
        NotificationDataReader(databases.cell),
        Bus(NovaConfig(file), "fake://"),
        ThreadMonitor(),
        monotonic=clock.monotonic,
    )
    _impl_test.reset()
    made.start()
    yield made
    made.stop()


def sent(count: int) -> dict[str, Any]:
    """What was sent, by event type, once there are so many."""
    eventually_true(lambda: len(_impl_test.NOTIFICATIONS) >= count, seconds=30)
    return {message["event_type"]: message for _, message, _, _ in _impl_test.NOTIFICATIONS}


def by_nova() -> dict[str, Any]:
    messages = {message["event_type"]: message for _, message, _, _ in _impl_test.NOTIFICATIONS}
    _impl_test.reset()
    return messages


def plain(primitive: Any) -> Any:
    """A notification without the envelope of its objects, for readable differences."""
    if isinstance(primitive, list):
        return [plain(one) for one in primitive]
    if isinstance(primitive, dict) and "nova_object.data" in primitive:
        name = (primitive["nova_object.name"], primitive["nova_object.version"])
        return {"": name, **{k: plain(v) for k, v in primitive["nova_object.data"].items()}}
    return primitive


def without(payload: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in payload.items() if name not in names}


def test_an_adopted_server_is_announced_as_novas_create(
    servers: NovaServers, announcer: BusAnnouncer, nova: Any
) -> None:
    wanted = record()
    (outcome,) = servers.apply([wanted])
    assert outcome.announcement is not None
    instance = objects.Instance.get_by_uuid(nova, wanted.uuid, expected_attrs=EVERYTHING)
    devices = objects.BlockDeviceMappingList.get_by_instance_uuid(nova, wanted.uuid)
    # nova/compute/manager.py:_build_and_run_instance
    compute_utils.notify_about_instance_usage(
        rpc.get_notifier("compute", HOST), nova, instance, "create.end",
        network_info=instance.get_network_info(), extra_usage_info={"message": "Success"},
    )  # fmt: skip
    compute_utils.notify_about_instance_create(
        nova, instance, HOST, phase=fields.NotificationPhase.END, bdms=devices
    )
    expected = by_nova()
    announcer.announce([outcome.announcement])
    assert_equal(sent(2), expected)


def test_a_change_is_announced_as_novas_update(
    servers: NovaServers, announcer: BusAnnouncer, nova: Any
) -> None:
    first = record()
    servers.apply([first])
    before = objects.Instance.get_by_uuid(nova, first.uuid, expected_attrs=EVERYTHING)
    (outcome,) = servers.apply([dataclasses.replace(first, power=Power.SHUTDOWN)])
    assert outcome.announcement is not None
    after = objects.Instance.get_by_uuid(nova, first.uuid, expected_attrs=EVERYTHING)
    notifications.send_update(nova, before, after, service="compute", host=HOST)
    expected = by_nova()
    announcer.announce([outcome.announcement])
    seen = sent(2)
    assert_equal(seen, expected)
    assert seen["compute.instance.update"]["payload"]["old_state"] == "active"


def test_a_rename_tells_the_old_name(
    servers: NovaServers, announcer: BusAnnouncer, nova: Any
) -> None:
    first = record()
    servers.apply([first])
    before = objects.Instance.get_by_uuid(nova, first.uuid, expected_attrs=EVERYTHING)
    (outcome,) = servers.apply([dataclasses.replace(first, display_name="renamed")])
    assert outcome.announcement is not None
    after = objects.Instance.get_by_uuid(nova, first.uuid, expected_attrs=EVERYTHING)
    notifications.send_update(nova, before, after, service="compute", host=HOST)
    expected = by_nova()
    announcer.announce([outcome.announcement])
    assert_equal(sent(2), expected)


def test_a_machine_that_is_gone_is_announced_as_novas_delete(
    servers: NovaServers, announcer: BusAnnouncer, nova: Any
) -> None:
    wanted = record()
    servers.apply([wanted])
    (outcome,) = servers.delete([wanted.uuid])
    assert outcome.announcement is not None
    admin = nova.elevated(read_deleted="yes")
    instance = objects.Instance.get_by_uuid(admin, wanted.uuid, expected_attrs=EVERYTHING)
    compute_utils.notify_about_instance_usage(
        rpc.get_notifier("compute", HOST), nova, instance, "delete.end"
    )
    compute_utils.notify_about_instance_action(
        nova, instance, HOST, action=fields.NotificationAction.DELETE,
        phase=fields.NotificationPhase.END, bdms=objects.BlockDeviceMappingList(),
    )  # fmt: skip
    expected = by_nova()
    announcer.announce([outcome.announcement])
    # Read back from deleted rows Nova shows no metadata; at its own delete it has them in hand.
    assert_equal(sent(2), expected, {"metadata"})


def test_unmanagement_is_no_delete(servers: NovaServers, announcer: BusAnnouncer) -> None:
    wanted = record()
    servers.apply([wanted])
    _impl_test.reset()
    announcer.announce([ServerAnnouncement(Announced.UNMANAGE, wanted.uuid)])
    assert set(sent(2)) == {"instance.unmanage.end", "compute.instance.unmanage.end"}


def test_a_thousand_announcements_are_told_in_seconds(
    servers: NovaServers, announcer: BusAnnouncer
) -> None:
    outcomes = servers.apply([record() for _ in range(1000)])
    started = time.monotonic()
    announcer.announce([one.announcement for one in outcomes if one.announcement])
    queued = time.monotonic() - started
    eventually_true(lambda: announcer.sent >= 1000, seconds=60 - queued)
    assert queued < 0.1
    assert announcer.backlog == 0
    assert announcer.dropped == 0


def test_a_first_sync_is_announced_when_it_is_over_and_one_change_at_once(
    servers: NovaServers, announcer: BusAnnouncer, clock: Clock
) -> None:
    clock.stopped_at = time.monotonic()
    outcomes = servers.apply([record() for _ in range(CROWD + 2)])
    announcements = [one.announcement for one in outcomes if one.announcement]
    announcer.announce(announcements[:1])
    sent(2)
    announcer.announce(announcements[1:])
    time.sleep(0.2)  # time enough to begin, had it not to wait
    assert announcer.backlog == CROWD + 1
    clock.stopped_at += CALM_SECONDS
    eventually_true(lambda: not announcer.backlog, seconds=30)


def test_damaged_interfaces_or_flavor_of_one_server_end_no_other_s_notifications(
    servers: NovaServers, announcer: BusAnnouncer, databases: NovaDatabases
) -> None:
    outcomes = servers.apply([record() for _ in range(4)])
    no_interfaces, no_flavor = outcomes[0].uuid, outcomes[1].uuid
    damage(databases, INFO_CACHES, no_interfaces, network_info='{"not": "interfaces"')
    damage(databases, INSTANCE_EXTRA, no_flavor, flavor='{"cur": null}')

    announcer.announce([one.announcement for one in outcomes if one.announcement])

    eventually_true(lambda: announcer.sent >= 3, seconds=30)
    told = {
        message["payload"]["instance_id"]: message["payload"]
        for _, message, _, _ in _impl_test.NOTIFICATIONS
        if message["event_type"].startswith("compute.")
    }
    assert set(told) == {one.uuid for one in outcomes} - {no_flavor}
    assert told.pop(no_interfaces)["fixed_ips"] == []
    assert all(payload["fixed_ips"] for payload in told.values())


def test_damaged_columns_are_written_anew_and_hold_up_no_other_server(
    servers: NovaServers, databases: NovaDatabases, nova: Any
) -> None:
    batch = [record() for _ in range(3)]
    servers.apply(batch)
    damage(databases, INFO_CACHES, batch[0].uuid, network_info="[{}]")
    damage(databases, INSTANCE_EXTRA, batch[1].uuid, flavor="no JSON")

    outcomes = servers.apply(batch)

    assert [one.change for one in outcomes] == [
        ServerChange.UPDATED, ServerChange.UPDATED, ServerChange.NONE,
    ]  # fmt: skip
    healed = objects.Instance.get_by_uuid(nova, batch[0].uuid, expected_attrs=["info_cache"])
    assert [vif["address"] for vif in healed.get_network_info()] == [
        nic.mac_address for nic in batch[0].nics
    ]
    mended = objects.Instance.get_by_uuid(nova, batch[1].uuid, expected_attrs=["flavor"])
    assert mended.flavor.name == batch[1].flavor.name


def test_server_whose_interfaces_nobody_can_read_is_left_to_nova_to_delete(
    databases: NovaDatabases,
) -> None:
    class Nova:
        asked: ClassVar[list[str]] = []

        def delete(self, uuid: str) -> str:
            self.asked.append(uuid)
            return ""

    servers, one = NovaServers(databases, Nova()), record()
    servers.apply([one])
    damage(databases, INFO_CACHES, one.uuid, network_info="no JSON")

    (outcome,) = servers.delete([one.uuid])

    assert outcome.change is RemovalChange.REQUESTED
    assert Nova.asked == [one.uuid]


def damage(databases: NovaDatabases, table: Table, uuid: str, **values: str) -> None:
    statement = table.update().where(table.c.instance_uuid == uuid).values(values)
    databases.cell.run(lambda connection: connection.execute(statement))


def assert_equal(
    seen: dict[str, Any], expected: dict[str, Any], known: frozenset[str] | set[str] = frozenset()
) -> None:
    """Compare what we sent with what Nova sent, name, publisher and payload."""
    assert set(seen) == set(expected)
    for event_type, message in seen.items():
        assert message["publisher_id"] == expected[event_type]["publisher_id"]
        assert message["priority"] == expected[event_type]["priority"]
        ours, theirs = plain(message["payload"]), plain(expected[event_type]["payload"])
        assert set(ours) == set(theirs)
        ignored = OF_THE_REQUEST | OF_THE_MOMENT | set(known)
        assert without(ours, ignored) == without(theirs, ignored)

"""Empty, hidden and unconfirmed are not deleted; identity is settled by who was first."""

import time
import uuid

import pytest

from common.timestamps import naive_utc
from controlplane.domain.records import Announced
from controlplane.inventory.rules.identity import derived_uuid
from controlplane.store.own import quarantine
from controlplane.store.own.clusters import ClusterState
from tests.support.generated_vcenter import GeneratedVCenter
from tests.support.inventory_edge import FeedEdge
from tests.support.inventory_stage import InventoryStage
from vsphere_gateway.v1 import inventory_pb2, link_pb2

HIDDEN = link_pb2.REMOVAL_REASON_HIDDEN
DELETED = link_pb2.REMOVAL_REASON_DELETED
UNCONFIRMED = link_pb2.REMOVAL_REASON_UNCONFIRMED


@pytest.fixture
def site() -> GeneratedVCenter:
    return GeneratedVCenter(machines=30)


@pytest.fixture
def edge(stage: InventoryStage, site: GeneratedVCenter) -> FeedEdge:
    edge = stage.edge(site)
    edge.synchronise()
    return edge


@pytest.mark.parametrize("reason", [HIDDEN, UNCONFIRMED])
def test_machine_that_is_not_shown_keeps_its_server_and_parity_is_reached(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge, reason: int
) -> None:
    before = stage.row(site.instance_uuid("vm-1"))

    edge.changes(site.remove("VirtualMachine:vm-1", reason))

    assert stage.row(before["uuid"]) == before
    assert edge.synchronise() == 0
    assert stage.alarms(site) == []


def test_hidden_machine_is_asked_for_and_goes_when_vcenter_says_so(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    edge.changes(site.remove("VirtualMachine:vm-1", HIDDEN))
    edge.synchronise()

    edge.wait_asked()
    assert edge.answer() == ["VirtualMachine:vm-1"]

    assert site.instance_uuid("vm-1") not in stage.servers_of(site)


def test_hidden_machine_that_is_shown_again_is_the_same_server(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    one = site.state("VirtualMachine:vm-1")
    identifier = stage.row(site.instance_uuid("vm-1"))["id"]
    edge.changes(site.remove("VirtualMachine:vm-1", HIDDEN))

    edge.changes(site.give_back(one))

    assert stage.servers_of(site)[site.instance_uuid("vm-1")]["id"] == identifier
    assert edge.synchronise() == 0


def test_many_that_vanish_unconfirmed_raise_an_alarm_and_stay(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    edge.changes(*(site.remove(f"VirtualMachine:vm-{n}", UNCONFIRMED) for n in range(1, 22)))

    (alarm,) = stage.alarms(site)
    assert alarm.kind == "MASS_REMOVAL"
    assert len(alarm.held) == 21
    assert len(stage.servers_of(site)) == 30
    assert "21 of 30" in stage.diagnostics.quarantine()[0].message


def test_alarm_is_over_when_everything_is_shown_again(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    kept = [site.state(f"VirtualMachine:vm-{n}") for n in range(1, 22)]
    edge.changes(*(site.remove(f"VirtualMachine:vm-{n}", HIDDEN) for n in range(1, 22)))
    assert stage.alarms(site)

    edge.changes(*(site.give_back(one) for one in kept))

    stage.eventually(lambda: stage.alarms(site) == [], "end of the alarm")
    assert len(stage.servers_of(site)) == 30


def test_released_alarm_lets_what_it_held_leave_without_touching_it(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    edge.changes(*(site.remove(f"VirtualMachine:vm-{n}", HIDDEN) for n in range(1, 31)))
    (alarm,) = stage.alarms(site)
    assert len(stage.servers_of(site)) == 30

    stage.own.run(
        lambda c: quarantine.release_alarm(c, alarm.id, "operator", naive_utc(time.time()))
    )

    stage.eventually(lambda: stage.servers_of(site) == {}, "unmanagement")
    stage.eventually(lambda: stage.alarms(site) == [], "end of the alarm")
    assert {kind.value for kind, _ in stage.told.said[-30:]} == {"instance.unmanage.end"}


def test_confirmed_deletes_are_never_held_back(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    edge.changes(*(site.remove(f"VirtualMachine:vm-{n}") for n in range(1, 31)))

    assert stage.servers_of(site) == {}
    assert stage.alarms(site) == []


def test_newcomer_with_a_taken_uuid_waits_then_gets_its_own(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    first = site.instance_uuid("vm-1")
    edge.changes(site.add_machine("vm-copy", instance_uuid=first))
    assert stage.quarantined(site) == {"VirtualMachine:vm-copy": "DUPLICATE_INSTANCE_UUID"}
    assert len(stage.servers_of(site)) == 30
    assert edge.nacks == {}

    edge.wait_asked()
    assert set(edge.answer()) == {"VirtualMachine:vm-1", "VirtualMachine:vm-copy"}

    own = derived_uuid((site.vcenter_uuid, "vm-copy"))
    stage.eventually(lambda: own in stage.servers_of(site), "server of its own")
    assert first in stage.servers_of(site)
    assert stage.quarantined(site) == {}
    assert edge.synchronise() == 0


def test_newcomer_inherits_the_server_when_the_first_is_gone(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    first = site.instance_uuid("vm-1")
    identifier = stage.row(first)["id"]
    edge.changes(site.add_machine("vm-copy", instance_uuid=first))

    edge.changes(site.remove("VirtualMachine:vm-1"))

    stage.eventually(lambda: stage.quarantined(site) == {}, "end of the quarantine")
    assert stage.servers_of(site)[first]["id"] == identifier
    machine = stage.queries.virtual_machine(first)
    assert machine is not None
    assert machine.reference.value == "vm-copy"
    assert ("instance.delete.end", first) not in [(k.value, u) for k, u in stage.told.said]


def test_reference_that_names_another_machine_now_does_not_confirm_the_first(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    """As after a vCenter's restore: who has the UUID elsewhere is the first, not a second one."""
    first = site.instance_uuid("vm-1")
    identifier = stage.row(first)["id"]
    edge.changes(site.add_machine("vm-9", instance_uuid=first))

    def rename(machine: inventory_pb2.VirtualMachine) -> None:
        machine.instance_uuid, machine.folder.value = str(uuid.uuid4()), "group-later"

    edge.changes(site.change_machine("vm-1", rename))  # waits for its folder
    edge.wait_asked()
    edge.answer()
    edge.changes(site.add_folder("group-later", "later", "group-v1"))

    def moref() -> str:
        machine = stage.queries.virtual_machine(first)
        return "" if machine is None else machine.reference.value

    stage.eventually(lambda: moref() == "vm-9", "inheritance")
    assert stage.row(first)["id"] == identifier
    assert stage.row(first)["deleted"] == 0
    assert derived_uuid((site.vcenter_uuid, "vm-9")) not in stage.servers_of(site)


def test_newcomer_that_waits_for_its_folder_inherits_all_the_same(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    first = site.instance_uuid("vm-1")
    edge.changes(site.add_machine("vm-9", instance_uuid=first, folder="group-later"))
    edge.changes(site.remove("VirtualMachine:vm-1"))
    assert first in stage.servers_of(site)

    edge.changes(site.add_folder("group-later", "later", "group-v1"))

    stage.eventually(lambda: stage.queries.virtual_machine(first) is not None, "inheritance")
    assert (Announced.DELETE, first) not in stage.told.said
    assert stage.look(site).differences == []


@pytest.mark.parametrize("end", [DELETED, link_pb2.REMOVAL_REASON_UNMANAGED])
@pytest.mark.parametrize("first_goes_first", [True, False])
def test_server_ends_when_the_successor_goes_together_with_the_first(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge, first_goes_first: bool, end: int
) -> None:
    first = site.instance_uuid("vm-1")
    edge.changes(site.add_machine("vm-copy", instance_uuid=first))
    gone = [site.remove("VirtualMachine:vm-1"), site.remove("VirtualMachine:vm-copy", end)]

    edge.changes(*(gone if first_goes_first else reversed(gone)))

    assert first not in stage.servers_of(site)
    assert edge.synchronise() == 0


def test_server_ends_when_the_successor_goes_before_it_could_take_it(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    first = site.instance_uuid("vm-1")
    edge.changes(site.add_machine("vm-copy", instance_uuid=first))
    edge.send_batch(link_pb2.LANE_CHANGES, [], [site.remove("VirtualMachine:vm-1")])

    edge.changes(site.remove("VirtualMachine:vm-copy"))

    stage.eventually(lambda: first not in stage.servers_of(site), "end of the server")
    assert edge.synchronise() == 0


def test_machine_moved_to_another_vcenter_keeps_its_server(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    first = site.instance_uuid("vm-1")
    before = stage.row(first)
    other = GeneratedVCenter(machines=1)
    other.add_machine("vm-5", instance_uuid=first)
    there = stage.edge(other)

    there.synchronise()
    assert stage.quarantined(other) == {"VirtualMachine:vm-5": "DUPLICATE_INSTANCE_UUID"}
    site.objects.pop("VirtualMachine:vm-1")
    edge.wait_asked()
    edge.answer()

    stage.eventually(lambda: stage.quarantined(other) == {}, "end of the quarantine")
    after = stage.row(first)
    assert (after["id"], after["deleted"]) == (before["id"], 0)
    assert after["node"] == f"domain-c1.{other.vcenter_uuid}"


def test_contest_goes_on_after_a_restart(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    first = site.instance_uuid("vm-1")
    edge.changes(site.add_machine("vm-copy", instance_uuid=first))
    edge.close()
    stage.restart()
    again = stage.edge(site, epoch=2)
    again.synchronise()

    again.wait_asked()
    again.answer()

    own = derived_uuid((site.vcenter_uuid, "vm-copy"))
    stage.eventually(lambda: own in stage.servers_of(site), "server of its own")


def test_machine_without_configuration_waits_and_is_adopted_when_it_is_readable(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    edge.changes(site.add_machine("vm-dark", instance_uuid=""))
    assert stage.quarantined(site) == {"VirtualMachine:vm-dark": "NO_INSTANCE_UUID"}

    known = str(uuid.uuid4())
    edge.changes(site.change_machine("vm-dark", lambda m: setattr(m, "instance_uuid", known)))

    assert known in stage.servers_of(site)
    assert stage.quarantined(site) == {}


def test_server_stays_when_vcenter_cannot_read_its_machine(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    def darken(one: inventory_pb2.InventoryObject) -> None:
        name = one.virtual_machine.name
        one.virtual_machine.Clear()
        one.virtual_machine.name = name
        one.virtual_machine.cluster.CopyFrom(site.machine("vm-2").cluster)
        one.virtual_machine.connection_state = inventory_pb2.CONNECTION_STATE_INACCESSIBLE

    before = stage.row(site.instance_uuid("vm-1"))

    edge.changes(site.change("VirtualMachine:vm-1", darken))

    assert stage.row(before["uuid"]) == before
    assert stage.quarantined(site) == {}


def test_reference_that_names_another_machine_now_ends_the_old_server(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    other = str(uuid.uuid4())

    edge.changes(site.change_machine("vm-1", lambda m: setattr(m, "instance_uuid", other)))

    servers = stage.servers_of(site)
    assert other in servers
    assert site.instance_uuid("vm-1") not in servers


def test_restored_vcenter_stops_the_cluster_until_a_person_decides(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    restore(site, edge, "domain-c1", 1)
    (row,) = stage.clusters(site)
    assert row.state is ClusterState.ALARM
    assert "restore" in row.state_reason
    assert stage.told.clusters[-1] == ("found", row.uuid)

    edge.changes(site.add_machine("vm-x"), site.remove("VirtualMachine:vm-1"))
    assert site.instance_uuid("vm-x") not in stage.servers_of(site)
    assert site.instance_uuid("vm-1") in stage.servers_of(site)

    (alarm,) = stage.alarms(site)
    stage.own.run(
        lambda c: quarantine.release_alarm(c, alarm.id, "operator", naive_utc(time.time()))
    )
    stage.eventually(lambda: site.instance_uuid("vm-x") in stage.servers_of(site), "adoption")
    stage.eventually(
        lambda: stage.clusters(site)[0].state is ClusterState.PROVISIONED, "compute host"
    )
    assert stage.clusters(site)[0].compute_host == row.compute_host


def test_cluster_that_comes_back_as_another_is_synchronised_after_a_person_has_decided(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    key = "ClusterComputeResource:domain-c1"
    cluster = site.state(key)
    machines = [one for one in site.objects if one.startswith("VirtualMachine:")]
    leaving = (site.remove(one, link_pb2.REMOVAL_REASON_UNMANAGED) for one in [key, *machines])
    edge.changes(*leaving)
    change_hosts(site, edge, 1)
    cluster.cluster.name = "something else"
    edge.changes(site.give_back(cluster))
    (alarm,) = stage.alarms(site)
    edge.synchronise()
    assert stage.clusters(site)[0].synchronised_at is None
    before = edge.passes_wanted

    stage.own.run(
        lambda c: quarantine.release_alarm(c, alarm.id, "operator", naive_utc(time.time()))
    )

    edge.wait(lambda: edge.passes_wanted > before, "question for a pass")
    edge.synchronise()
    stage.eventually(lambda: stage.clusters(site)[0].synchronised_at is not None, "note of parity")


def test_reference_of_a_stopped_cluster_that_names_another_clusters_machine_waits(
    stage: InventoryStage,
) -> None:
    site = GeneratedVCenter(clusters=2, machines=2)
    edge = stage.edge(site)
    edge.synchronise()
    kept, moved = site.instance_uuid("vm-1"), site.instance_uuid("vm-3")
    restore(site, edge, "domain-c1", 1)
    site.add_machine("vm-1", cluster="domain-c2", instance_uuid=moved)

    edge.changes(site.state("VirtualMachine:vm-1"), site.remove("VirtualMachine:vm-3"))

    assert {kept, moved} <= stage.servers_of(site).keys()
    assert stage.look(site).differences == []
    (alarm,) = stage.alarms(site)
    stage.own.run(
        lambda c: quarantine.release_alarm(c, alarm.id, "operator", naive_utc(time.time()))
    )
    stage.eventually(lambda: kept not in stage.servers_of(site), "end of the server")
    assert moved in stage.servers_of(site)
    assert (Announced.DELETE, moved) not in stage.told.said
    stage.eventually(lambda: stage.look(site).differences == [], "agreement")


def restore(site: GeneratedVCenter, edge: FeedEdge, cluster: str, number: int) -> None:
    """Have a cluster's reference name another cluster, as after a restore."""
    key = f"ClusterComputeResource:{cluster}"
    edge.changes(site.change(key, lambda one: setattr(one.cluster, "name", "something else")))
    change_hosts(site, edge, number)


def change_hosts(site: GeneratedVCenter, edge: FeedEdge, number: int) -> None:
    """Have the references of a cluster's hosts name others."""
    hosts = [f"HostSystem:host-{number}-{index}" for index in (1, 2)]
    edge.changes(
        *(
            site.change(host, lambda one: setattr(one.host, "hardware_uuid", str(uuid.uuid4())))
            for host in hosts
        )
    )

"""What Nova owns is not fought, and what Nova altered heals."""

import uuid

import pytest

from common.timestamps import naive_utc
from controlplane.store.nova.tables import BLOCK_DEVICES, INSTANCES
from controlplane.store.own import operations, quarantine
from controlplane.store.own.operations import OperationRow, OperationState
from tests.support.generated_vcenter import GeneratedVCenter
from tests.support.inventory_edge import FeedEdge
from tests.support.inventory_stage import InventoryStage
from vsphere_gateway.v1 import inventory_pb2

OFF = inventory_pb2.POWER_STATE_OFF
ON = inventory_pb2.POWER_STATE_ON


@pytest.fixture
def site() -> GeneratedVCenter:
    return GeneratedVCenter(machines=3)


@pytest.fixture
def edge(stage: InventoryStage, site: GeneratedVCenter) -> FeedEdge:
    edge = stage.edge(site)
    edge.synchronise()
    return edge


def test_power_change_during_a_task_is_applied_when_the_task_ends(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    server = site.instance_uuid("vm-1")
    stage.change_row(server, task_state="powering-off")

    edge.changes(site.change_machine("vm-1", lambda m: setattr(m, "power_state", OFF)))
    assert stage.row(server)["vm_state"] == "active"

    stage.change_row(server, task_state=None)
    stage.eventually(lambda: stage.row(server)["vm_state"] == "stopped", "end of the task")


def test_reassert_does_not_wait_for_the_next_comparison(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    server = site.instance_uuid("vm-1")
    stage.change_row(server, vm_state="stopped", power_state=4)

    stage.inventory.reassert([server, str(uuid.uuid4())])

    stage.eventually(lambda: stage.row(server)["vm_state"] == "active", "healing", patience=5)


def test_server_that_nova_deleted_locally_is_restored_when_its_machine_lives(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    server = site.instance_uuid("vm-1")
    stage.change_row(server, deleted=stage.row(server)["id"], vm_state="deleted")

    edge.changes(site.change_machine("vm-1", lambda m: setattr(m, "cpus", 3)))

    assert server in stage.servers_of(site)
    assert stage.row(server)["vcpus"] == 3
    (alarm,) = stage.alarms(site)
    assert alarm.kind == "UNRECORDED_DELETE"
    assert server in alarm.message

    stage.own.run(lambda c: quarantine.release_alarm(c, alarm.id, "operator", naive_utc(2e9)))
    stage.eventually(lambda: stage.alarms(site) == [], "end of the alarm")


def test_server_whose_disks_nova_deleted_before_its_api_ended_has_them_back(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    server = site.instance_uuid("vm-1")
    gone = BLOCK_DEVICES.update().where(BLOCK_DEVICES.c.instance_uuid == server)
    values = {"deleted": BLOCK_DEVICES.c.id, "deleted_at": naive_utc(2e9)}
    stage.nova.cell.run(lambda connection: connection.execute(gone.values(values)))
    (difference,) = stage.look(site).differences
    assert difference.field == "block_device_mapping /dev/sda"

    edge.changes(site.change_machine("vm-1", lambda m: setattr(m, "name", "renamed")))

    assert edge.nacks == {}
    assert stage.quarantined(site) == {}
    assert stage.look(site).differences == []


def test_late_change_does_not_bring_back_what_the_ledger_says_is_destroyed(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    server = site.instance_uuid("vm-1")
    _record_delete(stage, site, server)
    stage.change_row(server, deleted=stage.row(server)["id"], vm_state="deleted")

    edge.changes(site.change_machine("vm-1", lambda m: setattr(m, "power_state", OFF)))
    assert server not in stage.servers_of(site)

    edge.changes(site.remove("VirtualMachine:vm-1"))
    assert server not in stage.servers_of(site)
    assert edge.synchronise() == 0


def test_server_that_openstack_created_is_recognised_and_never_adopted(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    created, project = str(uuid.uuid4()), "99999999999999999999999999999999"
    _being_built(stage, site, created, project)

    edge.changes(site.add_machine("vm-made", instance_uuid=created))

    row = stage.row(created)
    assert (row["project_id"], row["display_name"]) == (project, "made by hand")
    assert (row["vm_state"], row["task_state"]) == ("building", "spawning")
    (server,) = [one for one in stage.diagnostics.servers("") if one.uuid == created]
    assert (server.origin, server.project_id) == ("created", project)


def test_machine_that_is_gone_leaves_when_nova_lets_go(
    stage: InventoryStage, site: GeneratedVCenter, edge: FeedEdge
) -> None:
    server = site.instance_uuid("vm-1")
    stage.change_row(server, task_state="deleting")

    edge.changes(site.remove("VirtualMachine:vm-1"))
    assert server in stage.servers_of(site)
    edge.close()
    stage.restart()

    stage.change_row(server, task_state=None)
    stage.eventually(lambda: server not in stage.servers_of(site), "end of the server")


def _record_delete(stage: InventoryStage, site: GeneratedVCenter, server: str) -> None:
    row = OperationRow(
        operation_id=str(uuid.uuid4()),
        idempotency_key=str(uuid.uuid4()),
        action="destroy",
        instance_uuid=server,
        vcenter_uuid=site.vcenter_uuid,
        cluster="domain-c1",
        compute_host="host",
        request_id="req-1",
        project_id="p",
        user_id="u",
        recorded_delete=True,
        state=OperationState.SENT,
        deadline=naive_utc(4_000_000_000),
        created_at=naive_utc(1_000_000_000),
        request=b"",
    )
    stage.own.run(lambda connection: operations.insert(connection, row))


def _being_built(stage: InventoryStage, site: GeneratedVCenter, server: str, project: str) -> None:
    """Put a row there as Nova's own boot does, seen in the middle of it."""
    values = dict(stage.row(site.instance_uuid("vm-1")))
    del values["id"]
    values |= {
        "uuid": server,
        "project_id": project,
        "display_name": "made by hand",
        "vm_state": "building",
        "task_state": "spawning",
        "launched_at": None,
        "reservation_id": "r-0a1b2c3d",
    }
    stage.nova.cell.run(lambda connection: connection.execute(INSTANCES.insert().values(values)))

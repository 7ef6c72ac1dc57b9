"""Servers go as Nova's own delete leaves them, and come back only when that is right."""

from datetime import datetime
from typing import Any

import pytest
from nova import exception, objects
from sqlalchemy import func, select

from controlplane.domain.records import Announced, RemovalChange, ServerChange
from controlplane.store.nova import primitives
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.nova.servers import NovaServers
from controlplane.store.nova.tables import BLOCK_DEVICES, INSTANCES, METADATA, SYSTEM_METADATA
from tests.integration.controlplane.store.nova.test_changes import created_server
from tests.support.server_samples import NODE_UUID, machine, record

TABLES_OF_A_SERVER = (METADATA, SYSTEM_METADATA, BLOCK_DEVICES)


class AskedNova:
    """Takes requests for Nova's own delete; stands in for Nova's REST API."""

    def __init__(self, problem: str = "") -> None:
        self.asked: list[str] = []
        self._problem = problem

    def delete(self, uuid: str) -> str:
        """Note it."""
        self.asked.append(uuid)
        return self._problem


def living_children(databases: NovaDatabases, uuid: str) -> int:
    """Rows of a server that are not marked deleted."""
    with databases.cell.read() as connection:
        return sum(
            connection.execute(
                select(func.count())
                .select_from(table)
                .where(table.c.instance_uuid == uuid, table.c.deleted == 0)
            ).scalar_one()
            for table in TABLES_OF_A_SERVER
        )


def with_port(nova: Any, uuid: str) -> None:
    """Give a server an interface of Neutron's."""
    instance = objects.Instance.get_by_uuid(nova, uuid, expected_attrs=["info_cache"])
    port = primitives.vif(record().nics[0]) | {"id": "0b0e9d4f-4b1c-4f5e-8a57-0d5c8f1e2a3b"}
    instance.info_cache.network_info = objects.instance.network_model.NetworkInfo.hydrate([port])
    instance.info_cache.save()


def deleted_columns(databases: NovaDatabases, uuid: str) -> Any:
    with databases.cell.read() as connection:
        return (
            connection.execute(select(INSTANCES).where(INSTANCES.c.uuid == uuid)).mappings().one()
        )


def test_a_deleted_machine_leaves_the_rows_that_novas_delete_leaves(
    servers: NovaServers, databases: NovaDatabases, nova: Any
) -> None:
    ours, theirs = record(), record()
    servers.apply([ours, theirs])
    (outcome,) = servers.delete([ours.uuid])
    assert outcome.change is RemovalChange.DELETED
    assert outcome.compute_node_uuid == NODE_UUID
    assert outcome.announcement is not None
    assert outcome.announcement.kind is Announced.DELETE
    instance = objects.Instance.get_by_uuid(nova, theirs.uuid)
    # nova/compute/manager.py:_delete_instance
    instance.vm_state, instance.task_state, instance.power_state = "deleted", None, 0
    instance.terminated_at = objects.instance.timeutils.utcnow()
    instance.save()
    instance.destroy()
    mine, nova_s = deleted_columns(databases, ours.uuid), deleted_columns(databases, theirs.uuid)
    same = ("vm_state", "power_state", "task_state", "host", "node", "cleaned")
    assert [mine[name] for name in same] == [nova_s[name] for name in same]
    for row in (mine, nova_s):
        assert row["deleted"] == row["id"]
        assert row["deleted_at"] is not None
        assert row["terminated_at"] is not None
    assert living_children(databases, ours.uuid) == living_children(databases, theirs.uuid) == 0
    with pytest.raises(exception.InstanceNotFound):
        objects.Instance.get_by_uuid(nova, ours.uuid)
    assert objects.InstanceMapping.get_by_instance_uuid(nova, ours.uuid).queued_for_delete


def test_a_machine_deleted_twice_is_absent_the_second_time(servers: NovaServers) -> None:
    gone = record()
    servers.apply([gone])
    servers.delete([gone.uuid])
    (outcome,) = servers.delete([gone.uuid])
    assert outcome.change is RemovalChange.ABSENT
    assert outcome.announcement is None


def test_a_server_with_ports_is_deleted_by_nova(databases: NovaDatabases, nova: Any) -> None:
    asked = AskedNova()
    servers = NovaServers(databases, asked)
    held = record()
    servers.apply([held])
    with_port(nova, held.uuid)
    instance = objects.Instance.get_by_uuid(nova, held.uuid)
    instance.disable_terminate = True
    instance.save()
    (outcome,) = servers.delete([held.uuid])
    assert outcome.change is RemovalChange.REQUESTED
    assert "1 port(s)" in outcome.reason
    assert asked.asked == [held.uuid]
    assert objects.Instance.get_by_uuid(nova, held.uuid).disable_terminate is False


def test_a_delete_that_nova_cannot_take_is_tried_again(databases: NovaDatabases, nova: Any) -> None:
    servers = NovaServers(databases, AskedNova("Keystone is away"))
    held = record()
    servers.apply([held])
    with_port(nova, held.uuid)
    (outcome,) = servers.delete([held.uuid])
    assert (outcome.change, outcome.reason) == (RemovalChange.DEFERRED, "Keystone is away")


def test_a_delete_waits_for_the_task_of_nova(servers: NovaServers, nova: Any) -> None:
    busy = record()
    servers.apply([busy])
    instance = objects.Instance.get_by_uuid(nova, busy.uuid)
    instance.task_state = "deleting"
    instance.save()
    assert servers.delete([busy.uuid])[0].change is RemovalChange.DEFERRED
    assert servers.unmanage([busy.uuid])[0].change is RemovalChange.DEFERRED


def test_unmanagement_never_asks_nova_to_delete(databases: NovaDatabases, nova: Any) -> None:
    asked = AskedNova()
    servers = NovaServers(databases, asked)
    free = record()
    servers.apply([free])
    with_port(nova, free.uuid)
    (outcome,) = servers.unmanage([free.uuid])
    assert outcome.change is RemovalChange.UNMANAGED
    assert "1 port(s) and 0 volume(s) are left" in outcome.reason
    assert outcome.announcement is not None
    assert outcome.announcement.kind is Announced.UNMANAGE
    assert asked.asked == []


def test_a_late_change_does_not_bring_a_deleted_server_back(servers: NovaServers) -> None:
    gone = record()
    servers.apply([gone])
    servers.delete([gone.uuid])
    (outcome,) = servers.apply([gone])
    assert outcome.change is ServerChange.GONE


def test_a_server_adopted_again_has_what_it_had_and_nothing_older(
    servers: NovaServers, databases: NovaDatabases, nova: Any
) -> None:
    made = machine()
    first = record(made)
    servers.apply([first])
    before = living_children(databases, first.uuid)
    instance = objects.Instance.get_by_uuid(nova, first.uuid, expected_attrs=["metadata"])
    instance.metadata["removed by a user"] = "x"
    instance.metadata["kept by a user"] = "y"
    instance.save()
    del instance.metadata["removed by a user"]
    instance.save()
    _age(databases, first.uuid)
    servers.delete([first.uuid])
    made.name = "back"
    (outcome,) = servers.apply([record(made)], restore=[first.uuid])
    assert outcome.change is ServerChange.RESTORED
    assert outcome.allocation is not None
    assert outcome.allocation.vcpus == 2
    after = objects.Instance.get_by_uuid(
        nova, first.uuid, expected_attrs=["metadata", "system_metadata", "flavor", "info_cache"]
    )
    assert (after.display_name, after.vm_state, after.task_state) == ("back", "active", None)
    assert after.terminated_at is None
    assert after.metadata["kept by a user"] == "y"
    assert "removed by a user" not in after.metadata
    assert after.system_metadata["image_vmware_ostype"] == "ubuntu64Guest"
    assert after.get_network_info()
    assert living_children(databases, first.uuid) == before + 1
    assert not objects.InstanceMapping.get_by_instance_uuid(nova, first.uuid).queued_for_delete
    assert servers.apply([record(made)])[0].change is ServerChange.NONE


def test_a_server_adopted_again_with_other_hardware_is_scheduled_by_that(
    servers: NovaServers, nova: Any
) -> None:
    made = machine()
    servers.apply([record(made)])
    servers.unmanage([made.instance_uuid])
    made.cpus, made.memory_mb = 8, 16384
    (outcome,) = servers.apply([record(made)], restore=[made.instance_uuid])
    assert outcome.change is ServerChange.RESTORED
    spec = objects.RequestSpec.get_by_instance_uuid(nova, made.instance_uuid)
    assert (spec.flavor.vcpus, spec.flavor.memory_mb) == (8, 16384)


def _age(databases: NovaDatabases, uuid: str) -> None:
    """Make what a user removed older than the server's own deletion."""
    with databases.cell.engine.begin() as connection:
        connection.execute(
            METADATA.update()
            .where(METADATA.c.instance_uuid == uuid, METADATA.c.deleted != 0)
            .values(deleted_at=datetime(2020, 1, 1))  # noqa: DTZ001 - as the columns hold it
        )


def test_an_adopted_server_comes_back_with_its_disks_after_a_local_delete(
    servers: NovaServers, databases: NovaDatabases, nova: Any
) -> None:
    """Nova's API marks block devices seconds before the instance (nova/compute/api.py)."""
    made = record()
    servers.apply([made])
    before = living_children(databases, made.uuid)
    for device in objects.BlockDeviceMappingList.get_by_instance_uuid(nova, made.uuid):
        device.destroy()
    with databases.cell.engine.begin() as connection:
        connection.execute(
            BLOCK_DEVICES.update()
            .where(BLOCK_DEVICES.c.instance_uuid == made.uuid)
            .values(deleted_at=datetime(2020, 1, 1))  # noqa: DTZ001 - as the columns hold it
        )
    objects.Instance.get_by_uuid(nova, made.uuid).destroy()
    (outcome,) = servers.apply([made], restore=[made.uuid])
    assert outcome.change is ServerChange.RESTORED
    assert living_children(databases, made.uuid) == before
    assert servers.apply([made])[0].change is ServerChange.NONE


def test_a_server_of_novas_own_comes_back_after_a_local_delete(
    servers: NovaServers, nova: Any
) -> None:
    made = machine(name="mine")
    instance = created_server(nova, made.instance_uuid)
    servers.apply([record(made)])
    instance.refresh()
    instance.destroy()
    (outcome,) = servers.apply([record(made)], restore=[made.instance_uuid])
    assert outcome.change is ServerChange.RESTORED
    after = objects.Instance.get_by_uuid(
        nova, made.instance_uuid, expected_attrs=["flavor", "metadata"]
    )
    assert (after.flavor.name, after.metadata["owner"]) == ("m1.small", "me")

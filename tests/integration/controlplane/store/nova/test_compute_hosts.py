"""Managed clusters as compute hosts that Nova accepts."""

import dataclasses
from collections.abc import Collection
from typing import Any, ClassVar

import pytest
from nova import exception, objects
from nova.objects import service as nova_service

from controlplane.openstack.compute_hosts import ComputeHosts
from controlplane.openstack.placement.client import PlacementRefusedError
from controlplane.openstack.placement.providers import ResourceProviders
from controlplane.store.errors import ComputeHostError, ServersLeftError
from controlplane.store.nova.cells import NovaDatabases
from controlplane.store.nova.compute_hosts import FIRST_SYNC, SERVICE_VERSION, ComputeHostRows
from controlplane.store.nova.servers import NovaServers
from tests.support.server_samples import compute_host, record


@pytest.fixture
def rows(databases: NovaDatabases) -> ComputeHostRows:
    return ComputeHostRows(databases)


def new_host(number: int) -> Any:
    return compute_host(
        f"cluster-{number}", f"domain-c{number}.x", f"c0000000-0000-4000-8000-0000000001{number:02}"
    )


def test_nova_finds_service_node_and_cell_of_a_new_host(rows: ComputeHostRows, nova: Any) -> None:
    host = new_host(10)
    status = rows.provision(host)
    assert (status.disabled, status.disabled_reason, status.by_operator) == (
        True,
        FIRST_SYNC,
        False,
    )
    service = objects.Service.get_by_compute_host(nova, host.host)
    assert (service.disabled, service.version) == (True, nova_service.SERVICE_VERSION)
    assert SERVICE_VERSION == nova_service.SERVICE_VERSION
    node = objects.ComputeNode.get_by_host_and_nodename(nova, host.host, host.node)
    assert (node.uuid, node.service_id, node.mapped) == (host.node_uuid, service.id, 1)
    assert (node.vcpus, node.memory_mb, node.local_gb) == (64, 262144, 10240)
    assert node.supported_hv_specs[0].hv_type == "vmware"
    assert objects.HostMapping.get_by_host(nova, host.host).cell_mapping.name == "cell1"


def test_provisioning_again_updates_totals_and_leaves_the_service(
    rows: ComputeHostRows, nova: Any
) -> None:
    host = new_host(11)
    rows.provision(host)
    rows.enable(host.host)
    service = objects.Service.get_by_compute_host(nova, host.host)
    status = rows.provision(dataclasses.replace(host, cpus=128))
    assert not status.disabled
    assert objects.Service.get_by_compute_host(nova, host.host).id == service.id
    node = objects.ComputeNode.get_by_host_and_nodename(nova, host.host, host.node)
    assert node.vcpus == 128


def test_what_we_disabled_we_enable(rows: ComputeHostRows) -> None:
    host = new_host(12).host
    rows.provision(new_host(12))
    assert not rows.enable(host).disabled
    status = rows.disable(host, "AUTO: edge site-a offline since 08:00")
    assert (status.disabled, status.by_operator) == (True, False)
    assert rows.disable(host, "AUTO: another").disabled_reason == "AUTO: another"
    assert not rows.enable(host).disabled


def test_what_an_operator_disabled_stays_disabled(rows: ComputeHostRows, nova: Any) -> None:
    host = new_host(13).host
    rows.provision(new_host(13))
    service = objects.Service.get_by_compute_host(nova, host)
    service.disabled, service.disabled_reason = True, "maintenance"
    service.save()
    for status in (rows.enable(host), rows.disable(host, "AUTO: edge offline")):
        assert (status.disabled, status.disabled_reason) == (True, "maintenance")
        assert status.by_operator


def test_an_operators_disable_without_a_reason_stays_too(rows: ComputeHostRows, nova: Any) -> None:
    host = new_host(14).host
    rows.provision(new_host(14))
    service = objects.Service.get_by_compute_host(nova, host)
    service.disabled, service.disabled_reason = True, None
    service.save()
    assert rows.enable(host).by_operator
    assert rows.disable(host, "AUTO: edge offline").disabled_reason == ""


def test_our_reasons_say_that_they_are_ours(rows: ComputeHostRows) -> None:
    with pytest.raises(ValueError, match="AUTO:"):
        rows.disable("any", "edge offline")
    with pytest.raises(ComputeHostError, match="made again"):
        rows.disable("no-such-host", "AUTO: x")
    assert rows.status("no-such-host") is None


def test_host_of_another_cell_is_left_there_and_the_error_says_what_to_do(
    databases: NovaDatabases,
) -> None:
    elsewhere = ComputeHostRows(dataclasses.replace(databases, cell_id=databases.cell_id + 1))
    ComputeHostRows(databases).provision(new_host(19))
    with pytest.raises(ComputeHostError, match="nova-manage cell_v2 delete_host"):
        elsewhere.provision(new_host(19))


def test_a_cluster_that_left_and_came_back_keeps_its_node(rows: ComputeHostRows, nova: Any) -> None:
    host = new_host(15)
    rows.provision(host)
    before = objects.ComputeNode.get_by_host_and_nodename(nova, host.host, host.node)
    rows.remove(host.host)
    with pytest.raises(exception.ComputeHostNotFound):
        objects.ComputeNode.get_by_host_and_nodename(nova, host.host, host.node)
    with pytest.raises(exception.HostMappingNotFound):
        objects.HostMapping.get_by_host(nova, host.host)
    status = rows.provision(host)
    assert (status.disabled, status.disabled_reason) == (True, FIRST_SYNC)
    after = objects.ComputeNode.get_by_host_and_nodename(nova, host.host, host.node)
    assert (after.uuid, after.id) == (before.uuid, before.id)


def test_a_host_with_servers_is_not_removed(rows: ComputeHostRows, servers: NovaServers) -> None:
    host = new_host(16)
    rows.provision(host)
    held = record(compute_host=host.host, node=host.node, compute_node_uuid=host.node_uuid)
    servers.apply([held])
    with pytest.raises(ServersLeftError, match="1 servers"):
        rows.remove(host.host)
    (allocation,) = servers.allocations(host.host)
    assert (allocation.consumer_uuid, allocation.provider_uuid) == (held.uuid, host.node_uuid)
    assert (allocation.vcpus, allocation.memory_mb, allocation.disk_gb) == (2, 4096, 140)
    servers.delete([held.uuid])
    rows.remove(host.host)
    assert rows.node_uuid(host.host) is None


def test_a_host_is_found_again_until_placement_has_let_its_provider_go(
    rows: ComputeHostRows, servers: NovaServers
) -> None:
    class Refusing(ResourceProviders):
        """Placement that refuses at first."""

        removed: ClassVar[list[tuple[str, Collection[str]]]] = []

        def __init__(self) -> None:
            """There is no client."""

        def remove(self, provider: str, ended: Collection[str] = ()) -> None:
            self.removed.append((provider, ended))
            if len(self.removed) == 1:
                raise PlacementRefusedError("it has allocations")

    host = new_host(18)
    rows.provision(host)
    held = record(compute_host=host.host, node=host.node, compute_node_uuid=host.node_uuid)
    servers.apply([held])
    hosts = ComputeHosts(rows, Refusing())
    with pytest.raises(ServersLeftError, match="1 servers"):
        hosts.remove(host.host)
    assert Refusing.removed == [], "what has servers keeps its provider"
    servers.delete([held.uuid])
    with pytest.raises(PlacementRefusedError):
        hosts.remove(host.host)
    assert rows.status(host.host) is not None
    hosts.remove(host.host)
    assert Refusing.removed == [(host.node_uuid, {held.uuid})] * 2
    assert rows.status(host.host) is None


def test_zone_of_an_adopted_server_is_that_of_its_aggregate(
    rows: ComputeHostRows, servers: NovaServers, nova: Any
) -> None:
    host = new_host(17)
    rows.provision(host)
    aggregate = objects.Aggregate(nova, name="zone-a", metadata={"availability_zone": "zone-a"})
    aggregate.create()
    aggregate.add_host(host.host)
    held = record(compute_host=host.host, node=host.node, compute_node_uuid=host.node_uuid)
    servers.apply([held])
    assert objects.Instance.get_by_uuid(nova, held.uuid).availability_zone == "zone-a"

"""What a cluster has in all is what can be used of it now."""

from typing import Any

import pytest

from controlplane.inventory.model.topology import Topology
from controlplane.verification.hosts import GIB, MIB, parts, totals
from tests.support.generated_vcenter import GeneratedVCenter
from vsphere_gateway.v1 import inventory_pb2

CLUSTER = "ClusterComputeResource:domain-c1"
ALL = {"vcpus": 192, "memory_mb": 2 << 20, "local_gb": 10_000}


def seen(site: GeneratedVCenter) -> Topology:
    topology = Topology(site.vcenter_uuid)
    for one in site.objects.values():
        if not one.HasField("virtual_machine"):
            topology.learn(one)
    return topology


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("powered_on", False),
        ("in_maintenance_mode", True),
        ("connection_state", inventory_pb2.CONNECTION_STATE_DISCONNECTED),
    ],
)
def test_host_that_can_run_nothing_does_not_count(field: str, value: Any) -> None:
    site = GeneratedVCenter()
    assert totals(seen(site), CLUSTER) == ALL
    site.change("HostSystem:host-1-2", lambda one: setattr(one.host, field, value))
    assert totals(seen(site), CLUSTER) == {**ALL, "vcpus": 96, "memory_mb": 1 << 20}


@pytest.mark.parametrize(("field", "value"), [("accessible", False), ("in_maintenance_mode", True)])
def test_datastore_that_can_hold_nothing_does_not_count(field: str, value: Any) -> None:
    site = GeneratedVCenter()
    site.change("Datastore:datastore-1", lambda one: setattr(one.datastore, field, value))
    assert totals(seen(site), CLUSTER) == {**ALL, "local_gb": 0}


def test_sizes_are_rounded_down_one_by_one() -> None:
    site = GeneratedVCenter(hosts=1)
    size = 4 * MIB - 1
    site.change("HostSystem:host-1-1", lambda one: setattr(one.host, "memory_bytes", size))
    capacity = 7 * GIB + GIB // 2
    site.change(
        "Datastore:datastore-1", lambda one: setattr(one.datastore, "capacity_bytes", capacity)
    )
    assert totals(seen(site), CLUSTER) == {"vcpus": 96, "memory_mb": 3, "local_gb": 7}


def test_parts_of_a_cluster_are_itself_its_hosts_and_its_datastores() -> None:
    wanted = {CLUSTER, "HostSystem:host-1-1", "HostSystem:host-1-2", "Datastore:datastore-1"}
    assert parts(seen(GeneratedVCenter()), CLUSTER) == wanted
    assert parts(seen(GeneratedVCenter(clusters=0)), CLUSTER) == {CLUSTER}

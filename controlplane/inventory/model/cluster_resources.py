"""What a cluster has and what its servers use, as Nova asks for it. Reads memory alone."""

import json
from collections.abc import Iterable

from common.references import key_of
from controlplane.domain.mapping.servers import vcenter_trait
from controlplane.inventory.model.state import VCenterState, cluster_key
from controlplane.inventory.model.topology import Topology
from controlplane.store.own.clusters import ClusterRow
from controlplane.store.own.servers import Usage
from vsphere_gateway.v1 import compute_pb2, inventory_pb2

MIB = 1024**2
GIB = 1024**3
LOWEST_VERSION = 8000000


def resources(
    state: VCenterState, row: ClusterRow, usage: Usage
) -> compute_pb2.GetClusterResourcesResponse:
    """Totals of what is usable now, and what the adopted servers use of it.

    Use may exceed the totals: clusters are overcommitted, and that is to be seen.
    """
    key = cluster_key(row.moref)
    with state.topology.lock:
        hosts = usable_hosts(state.topology, key)
        datastores = usable_datastores(state.topology, key)
    threads = [host.cpu_threads for host in hosts]
    memory = [host.memory_bytes // MIB for host in hosts]
    capacity = [datastore.capacity_bytes // GIB for datastore in datastores]
    return compute_pb2.GetClusterResourcesResponse(
        compute_node_uuid=row.compute_node_uuid,
        hypervisor_hostname=row.hypervisor_hostname,
        cpus=sum(threads),
        memory_mb=sum(memory),
        disk_gb=sum(capacity),
        cpus_used=usage.cpus,
        memory_mb_used=usage.memory_mb,
        disk_gb_used=usage.disk_gb,
        largest_cpus=max([usage.largest_cpus, *threads]),
        largest_memory_mb=max([usage.largest_memory_mb, *memory]),
        largest_disk_gb=max([usage.largest_disk_gb, *capacity]),
        traits=[vcenter_trait(state.uuid)],
        hypervisor_version=version_number(state.topology.vcenter.version),
        cpu_info=json.dumps(_cpu_info(hosts)),
        synchronised=row.synchronised_at is not None,
    )


def version_number(version: str) -> int:
    """A version as Nova writes it: `8.0.3` becomes 8000003."""
    parts = [int(part) for part in version.split(".")[:3] if part.isdigit()]
    if not parts:
        return LOWEST_VERSION
    major, minor, micro = [*parts, 0, 0][:3]
    return (major * 1000 + minor) * 1000 + micro


def usable_hosts(topology: Topology, cluster: str) -> list[inventory_pb2.Host]:
    """The hosts of a cluster that can run something. The caller holds the lock."""
    body = topology.get(cluster)
    members = [] if body is None else [topology.get(key_of(one)) for one in body.hosts]
    return [
        host
        for host in members
        if host is not None
        and host.connection_state == inventory_pb2.CONNECTION_STATE_CONNECTED
        and host.powered_on
        and not host.in_maintenance_mode
    ]


def usable_datastores(topology: Topology, cluster: str) -> list[inventory_pb2.Datastore]:
    """The datastores of a cluster that can hold something. The caller holds the lock."""
    body = topology.get(cluster)
    mounted = [] if body is None else [topology.get(key_of(one)) for one in body.datastores]
    return [one for one in mounted if one is not None and is_usable(one)]


def is_usable(datastore: inventory_pb2.Datastore) -> bool:
    """Whether a datastore counts in the totals of the clusters that mount it."""
    return datastore.accessible and not datastore.in_maintenance_mode


def _cpu_info(hosts: Iterable[inventory_pb2.Host]) -> dict[str, object]:
    """The JSON of `compute_nodes.cpu_info`, as nova/virt/vmwareapi/host.py has it."""
    models = sorted({host.cpu_model for host in hosts if host.cpu_model})
    cores = sum(host.cpu_cores for host in hosts)
    threads = sum(host.cpu_threads for host in hosts)
    return {
        "model": models,
        "vendor": sorted({model.split()[0] for model in models}),
        "topology": {"cores": cores, "threads": threads},
    }

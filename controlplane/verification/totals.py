"""What a cluster has in all, from what vCenter shows now. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any

from controlplane.inventory.references import key_of
from controlplane.inventory.topology import Topology
from vsphere_gateway.v1 import inventory_pb2

MIB = 1 << 20
GIB = 1 << 30


def parts(topology: Topology, key: str) -> set[str]:
    """Return the keys of a cluster, its hosts and its datastores."""
    body = topology.get(key)
    if body is None:
        return {key}
    return {key, *map(key_of, body.hosts), *map(key_of, body.datastores)}


def totals(topology: Topology, key: str) -> dict[str, int]:
    """Return the columns of `compute_nodes` that say what can be used of a cluster now."""
    body = topology.get(key) or inventory_pb2.Cluster()
    hosts = [one for one in _known(topology, body.hosts) if _runs(one)]
    datastores = [one for one in _known(topology, body.datastores) if _is_usable(one)]
    return {
        "vcpus": sum(one.cpu_threads for one in hosts),
        "memory_mb": sum(one.memory_bytes // MIB for one in hosts),
        "local_gb": sum(one.capacity_bytes // GIB for one in datastores),
    }


def _runs(host: inventory_pb2.Host) -> bool:
    connected = host.connection_state == inventory_pb2.CONNECTION_STATE_CONNECTED
    return connected and host.powered_on and not host.in_maintenance_mode


def _is_usable(datastore: inventory_pb2.Datastore) -> bool:
    return datastore.accessible and not datastore.in_maintenance_mode


def _known(
    topology: Topology, references: Iterable[inventory_pb2.ObjectReference]
) -> Iterator[Any]:
    """Yield what is shown of some objects."""
    for one in references:
        body = topology.get(key_of(one))
        if body is not None:
            yield body

"""What a cluster has in all, from what vCenter shows now. Pure."""

from common.references import key_of
from controlplane.inventory.model.cluster_resources import GIB, MIB, usable_datastores, usable_hosts
from controlplane.inventory.model.topology import Topology


def parts(topology: Topology, key: str) -> set[str]:
    """Return the keys of a cluster, its hosts and its datastores."""
    body = topology.get(key)
    if body is None:
        return {key}
    return {key, *map(key_of, body.hosts), *map(key_of, body.datastores)}


def totals(topology: Topology, key: str) -> dict[str, int]:
    """Return the columns of `compute_nodes` that say what can be used of a cluster now."""
    hosts, datastores = usable_hosts(topology, key), usable_datastores(topology, key)
    return {
        "vcpus": sum(one.cpu_threads for one in hosts),
        "memory_mb": sum(one.memory_bytes // MIB for one in hosts),
        "local_gb": sum(one.capacity_bytes // GIB for one in datastores),
    }

"""A cluster's rows in Nova and its provider in placement. Pure."""

from collections.abc import Mapping

from common.references import key_of
from controlplane.domain.mapping.servers import vcenter_trait
from controlplane.inventory.model.cluster_resources import GIB, MIB, usable_datastores, usable_hosts
from controlplane.inventory.model.topology import Topology
from controlplane.openstack.placement.client import Provider
from controlplane.store.nova.readers import HostRows, Row
from controlplane.store.own.clusters import ClusterRow
from controlplane.verification.findings import Findings, Place, Subject
from controlplane.verification.servers import FIRST_OWN_FLAVOR, OUR_RESERVATION, SETTLED

_CLASSES = ("VCPU", "MEMORY_MB", "DISK_GB")


def compare_host(
    findings: Findings, subject: Subject, cluster: ClusterRow, rows: HostRows, cell_id: int
) -> None:
    """Compare the service, the compute node and the host's mapping of a managed cluster."""
    for name, found in (("services", rows.services), ("compute_nodes", rows.nodes)):
        findings.compare(subject, Place.NOVA_CELL, f"{name} rows", 1, len(found))
    for node in rows.nodes[:1]:
        uuid, name = cluster.compute_node_uuid, cluster.hypervisor_hostname
        findings.compare(subject, Place.NOVA_CELL, "compute_nodes.uuid", uuid, node["uuid"])
        found = node["hypervisor_hostname"]
        findings.compare(subject, Place.NOVA_CELL, "compute_nodes.hypervisor_hostname", name, found)
    cells = [row["cell_id"] for row in rows.mappings]
    findings.compare(subject, Place.NOVA_API, "host_mappings.cell_id", [cell_id], cells)


def compare_totals(
    findings: Findings, subject: Subject, totals: Mapping[str, int], rows: HostRows
) -> None:
    """Compare what Nova says that a cluster has with what it has; what is used Nova counts."""
    for node in rows.nodes[:1]:
        for name, value in totals.items():
            findings.compare(subject, Place.NOVA_CELL, f"compute_nodes.{name}", value, node[name])


def compare_former_host(
    findings: Findings, subject: Subject, rows: HostRows, provider: Provider | None
) -> None:
    """Compare that Nova and placement know nothing of a cluster that left management."""
    kinds = {
        "services": (Place.NOVA_CELL, rows.services),
        "compute_nodes": (Place.NOVA_CELL, rows.nodes),
        "host_mappings": (Place.NOVA_API, rows.mappings),
    }
    for name, (place, found) in kinds.items():
        findings.compare(subject, place, f"{name} rows", 0, len(found))
    if provider is not None:
        findings.differ(subject, Place.PLACEMENT, "resource_provider", "", provider.name)


def compare_provider(
    findings: Findings, subject: Subject, cluster: ClusterRow, provider: Provider | None
) -> None:
    """Compare a provider's name and traits, and whether what is used fits what is there."""
    place = Place.PLACEMENT
    if provider is None:
        uuid = cluster.compute_node_uuid
        findings.differ(subject, place, "resource_provider", uuid, "")
        return
    name = cluster.hypervisor_hostname
    findings.compare(subject, place, "resource_provider.name", name, provider.name)
    trait = vcenter_trait(cluster.vcenter_uuid)
    if trait not in provider.traits:
        findings.differ(subject, place, "traits", trait, "")
    for kind in _CLASSES:
        _compare_inventory(findings, subject, kind, provider)


def compare_allocation(
    findings: Findings, subject: Subject, server: Row, found: Mapping[str, int] | None
) -> None:
    """Compare what a server uses with its flavor.

    A flavor of Nova's own may ask for other amounts than its sizes, so that is only looked for.
    """
    place = Place.PLACEMENT
    disk_gb = server["root_gb"] + server["ephemeral_gb"]
    sizes = dict(zip(_CLASSES, (server["vcpus"], server["memory_mb"], disk_gb), strict=True))
    wanted = {name: amount for name, amount in sizes.items() if amount}
    if found is None:
        if wanted:
            findings.differ(subject, place, "allocations", _amounts(wanted), "")
        return
    if is_adopted(server) and (server["instance_type_id"] or 0) >= FIRST_OWN_FLAVOR:
        for name in sorted(wanted.keys() | found.keys()):
            findings.compare(
                subject, place, f"allocations.{name}", wanted.get(name, 0), found.get(name, 0)
            )


def is_adopted(server: Row) -> bool:
    """Whether a server's row has our mark."""
    return str(server["reservation_id"] or "").startswith(OUR_RESERVATION)


def is_settled(server: Row) -> bool:
    """Whether a server's allocations follow from its row alone."""
    return server["task_state"] is None and server["vm_state"] in SETTLED


def _compare_inventory(findings: Findings, subject: Subject, kind: str, provider: Provider) -> None:
    inventory = provider.inventories.get(kind)
    if inventory is None:
        findings.differ(subject, Place.PLACEMENT, f"inventories.{kind}", "an inventory", "")
        return
    room = (inventory["total"] - inventory["reserved"]) * inventory["allocation_ratio"]
    used = provider.usages.get(kind, 0)
    if used > room:
        label = f"inventories.{kind}"
        findings.differ(subject, Place.PLACEMENT, label, f"room for {used}", f"{room:g}")


def _amounts(resources: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={amount}" for name, amount in sorted(resources.items()))


def parts(topology: Topology, key: str) -> set[str]:
    """The keys of a cluster, its hosts and its datastores."""
    body = topology.get(key)
    if body is None:
        return {key}
    return {key, *map(key_of, body.hosts), *map(key_of, body.datastores)}


def totals(topology: Topology, key: str) -> dict[str, int]:
    """The columns of `compute_nodes` that say what can be used of a cluster now."""
    hosts, datastores = usable_hosts(topology, key), usable_datastores(topology, key)
    return {
        "vcpus": sum(one.cpu_threads for one in hosts),
        "memory_mb": sum(one.memory_bytes // MIB for one in hosts),
        "local_gb": sum(one.capacity_bytes // GIB for one in datastores),
    }

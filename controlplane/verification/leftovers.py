"""What is held, bound or written although vCenter shows nothing that it stands for."""

import time
from collections.abc import Callable
from typing import Final

from common.references import machine_key, reference_of
from common.timestamps import naive_utc
from controlplane.inventory.rules.identity import canonical
from controlplane.store.nova.readers import HostRows, Row
from controlplane.store.own.clusters import ClusterRow, ClusterState
from controlplane.store.own.objects import ObjectStatus
from controlplane.store.own.readers import HeldObject
from controlplane.store.own.servers import ServerRow, ServerState
from controlplane.verification.context import KEPT, Readers, VerificationContext
from controlplane.verification.findings import Place, Subject
from controlplane.verification.hosts import (
    compare_allocation,
    compare_former_host,
    compare_host,
    compare_provider,
    compare_totals,
    is_adopted,
    is_settled,
    parts,
    totals,
)

LEAVING_SECONDS = 300.0
"""How long the worker and the compute host of a cluster may remain after it left."""
_KEPT_SERVERS: Final = (ServerState.ACTIVE, ServerState.TRANSFERRED)


class LeftoverComparison:
    """Compares what is held or written with what vCenter shows, once that was compared itself."""

    def __init__(
        self,
        readers: Readers,
        context: VerificationContext,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``context`` has seen the whole vCenter; ``wall`` is Unix time in seconds."""
        self._readers = readers
        self._context = context
        self._wall = wall
        self._findings = context.findings
        self._kept: set[str] = set()
        self._bound: dict[str, ServerRow] = {}
        self._emptying: set[str] = set()
        """UUIDs of clusters with servers that have to go when Nova has ended with them."""

    def run(self) -> None:
        """Compare everything. Raises ``StoreError`` or ``PlacementError``."""
        for held in self._readers.own.list_objects(self._context.vcenter_uuid):
            if held.reference not in self._context.seen:
                self._compare_held(held)
        self._compare_bindings()
        self._compare_images()
        self._compare_clusters()

    def _compare_held(self, held: HeldObject) -> None:
        subject = self._context.subject(held.reference, held.name)
        if held.status in KEPT:
            self._kept.add(held.reference)
            self._findings.excuse(subject, self._context.why_kept(held.reference))
        elif held.status is ObjectStatus.REFUSED:
            self._findings.excuse(subject, "in quarantine; vCenter no longer shows it")
        else:
            found = held.status.name.lower()
            self._findings.differ(subject, Place.OWN, "objects", "", found)

    def _compare_bindings(self) -> None:
        context = self._context
        rightly = context.machines | context.unreadable | self._kept
        ending = []
        for row in self._readers.own.list_servers(context.vcenter_uuid):
            key = machine_key(row.moref)
            subject = context.subject(key, row.name)
            self._bound[row.uuid] = row
            if row.state is not ServerState.ACTIVE:
                ending.append(row)
            elif key not in rightly and context.is_doubtful(row.cluster_uuid):
                self._findings.excuse(subject, "its cluster is stopped by an alarm: it is kept")
            elif key not in rightly:
                self._findings.differ(subject, Place.OWN, "servers", "", row.uuid)
        self._compare_ending(ending)

    def _compare_ending(self, ending: list[ServerRow]) -> None:
        rows = self._readers.nova.servers([row.uuid for row in ending])
        wanted = self._claimed() if ending else set()
        for row in ending:
            subject = self._context.subject(machine_key(row.moref), row.name)
            found = rows.get(row.uuid)
            task = found.instance["task_state"] if found else None
            if task is not None:
                self._emptying.add(row.cluster_uuid)
                self._findings.excuse(subject, f"its server has to go when Nova has ended: {task}")
            elif row.state is ServerState.TRANSFERRED and row.instance_uuid in wanted:
                reason = "it is gone; its server is kept for another that has its UUID and waits"
                self._findings.excuse(subject, reason)
            else:
                state = row.state.value
                self._findings.differ(subject, Place.OWN, "servers.state", "ended", state)

    def _claimed(self) -> set[str]:
        """The instance UUIDs of virtual machines that wait for a server."""
        return {canonical(one.instance_uuid) for one in self._readers.own.unsettled_machines()}

    def _compare_images(self) -> None:
        context = self._context
        rightly = context.templates | context.unreadable | self._kept
        ours = self._readers.own.images(context.vcenter_uuid)
        for row in ours:
            if machine_key(row.moref) not in rightly:
                subject = context.subject(machine_key(row.moref), row.name)
                self._findings.differ(subject, Place.OWN, "images", "", row.id)
        for image_id in self._readers.glance.of_vcenter(context.vcenter_uuid):
            if image_id not in {row.id for row in ours}:
                subject = context.subject(f"image:{image_id}")
                self._findings.differ(subject, Place.GLANCE, "images", "", image_id)

    def _compare_clusters(self) -> None:
        context = self._context
        for key in sorted(context.seen):
            if key.startswith("ClusterComputeResource:") and key not in context.unreadable:
                self._compare_cluster(key)
        for key, row in context.clusters.items():
            if key not in context.seen and row.state is ClusterState.UNMANAGED:
                self._compare_former(key, row)
            elif key not in context.seen and key not in self._kept:
                subject = context.subject(key, row.name)
                self._findings.differ(subject, Place.OWN, "clusters", "", row.state.value)
            self._compare_servers_on(key)

    def _compare_cluster(self, key: str) -> None:
        context = self._context
        name, row = context.topology.name(reference_of(key)), context.clusters.get(key)
        subject = context.subject(key, name)
        if row is None or row.state is ClusterState.UNMANAGED:
            found = row.state.value if row else ""
            self._findings.differ(subject, Place.OWN, "clusters", "a managed cluster", found)
            return
        self._findings.compare(subject, Place.OWN, "clusters.name", name[:255], row.name)
        if row.state is ClusterState.ALARM:
            self._findings.excuse(subject, f"stopped: {row.state_reason}")
            return
        self._findings.count(Place.NOVA_CELL, "compute_host")
        hosts, cell_id = context.hosts[row.compute_host], self._readers.nova.cell_id
        compare_host(self._findings, subject, row, hosts, cell_id)
        unsure = parts(context.topology, key) - context.agreed
        if unsure:
            reason = f"its totals are not compared: {', '.join(sorted(unsure))} may be others here"
            self._findings.excuse(subject, reason)
        else:
            compare_totals(self._findings, subject, totals(context.topology, key), hosts)

    def _compare_former(self, key: str, row: ClusterRow) -> None:
        """Compare that a cluster that left is no longer a compute host, or will soon not be."""
        subject, hosts = self._context.subject(key, row.name), self._context.hosts[row.compute_host]
        placement = self._readers.placement
        provider = placement.snapshot(row.compute_node_uuid) if placement else None
        if self._has_servers(row):  # a compute host goes after its last server
            self._compare_disabled(subject, hosts)
            return
        self._findings.count(Place.NOVA_CELL, "former_compute_host")
        if not self._leaves(row):
            compare_former_host(self._findings, subject, hosts, provider)
            return
        self._compare_disabled(subject, hosts)
        if hosts.services:
            self._findings.excuse(subject, "it left management: its compute host goes soon")

    def _compare_disabled(self, subject: Subject, hosts: HostRows) -> None:
        """Compare that Nova places nothing on a cluster that left."""
        for service in hosts.services:
            disabled = bool(service["disabled"])
            self._findings.compare(subject, Place.NOVA_CELL, "services.disabled", True, disabled)

    def _has_servers(self, cluster: ClusterRow) -> bool:
        """Whether servers of a cluster are kept: hidden, or until a successor is ready."""
        servers = (row for row in self._bound.values() if row.cluster_uuid == cluster.uuid)
        return any(row.state in _KEPT_SERVERS for row in servers)

    def _leaves(self, row: ClusterRow) -> bool:
        """Whether a cluster's worker, or Nova with its servers, may not have ended yet."""
        since = naive_utc(self._wall()) - row.updated_at
        return row.uuid in self._emptying or since.total_seconds() < LEAVING_SECONDS

    def _compare_servers_on(self, key: str) -> None:
        """Compare the servers of a compute host with the bindings, and with placement."""
        cluster = self._context.clusters[key]
        living = {row["uuid"]: row for row in self._readers.nova.living([cluster.compute_host])}
        for uuid, row in living.items():
            bound = self._bound.get(uuid)
            if bound is None:
                self._unbound(uuid, row)
        if cluster.state not in (ClusterState.UNMANAGED, ClusterState.ALARM):
            self._compare_placement(key, living)

    def _unbound(self, uuid: str, row: Row) -> None:
        subject = self._context.subject(f"server:{uuid}", row["display_name"] or "")
        if row["task_state"] is not None or row["vm_state"] == "building":
            self._findings.excuse(subject, "Nova is making or changing it")
        elif not is_adopted(row) and row["vm_state"] == "error":
            self._findings.excuse(subject, "OpenStack could not create it: it is in error")
        else:
            found = row["vm_state"] or "a row"
            self._findings.differ(subject, Place.NOVA_CELL, "instances", "", found)

    def _compare_placement(self, key: str, living: dict[str, Row]) -> None:
        if self._readers.placement is None:
            return
        cluster = self._context.clusters[key]
        subject = self._context.subject(key, cluster.name)
        provider = self._readers.placement.snapshot(cluster.compute_node_uuid)
        compare_provider(self._findings, subject, cluster, provider)
        if provider is None:
            return
        for uuid, row in living.items():
            bound = self._bound.get(uuid)
            if bound is not None and is_settled(row):
                server = self._context.subject(machine_key(bound.moref), bound.name)
                self._findings.count(Place.PLACEMENT, "allocation")
                compare_allocation(self._findings, server, row, provider.allocations.get(uuid))
        self._compare_strangers(provider.allocations.keys() - living.keys())

    def _compare_strangers(self, consumers: set[str]) -> None:
        """Nobody but a host's servers, and migrations under way, may use what it has."""
        known = self._readers.nova.servers(consumers)
        migrations = self._readers.nova.migrations(consumers)
        for uuid in sorted(consumers - migrations):
            rows = known.get(uuid)
            subject = self._context.subject(f"server:{uuid}")
            if rows is not None and not is_settled(rows.instance):
                self._findings.excuse(subject, "Nova is making, moving or deleting it")
            else:
                self._findings.differ(subject, Place.PLACEMENT, "allocations", "", uuid)

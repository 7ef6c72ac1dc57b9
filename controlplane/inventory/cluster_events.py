"""Reports clusters to those who make compute hosts of them: found, synchronised, gone."""

import functools
import logging

from common.clock import Clock
from common.log_fields import fields
from common.timestamps import naive_utc
from controlplane.domain.ports import ClusterEvents
from controlplane.domain.records import HostAllocations
from controlplane.domain.writers import AllocationWriter, ServerWriter
from controlplane.inventory.model.state import ManagedCluster, VCenterState
from controlplane.inventory.rules.identity import Bindings
from controlplane.store.database import Database
from controlplane.store.errors import StoreError
from controlplane.store.own import clusters
from controlplane.store.own.clusters import ClusterRow, ClusterState

log = logging.getLogger(__name__)

_PROVISIONED = (ClusterState.PROVISIONED, ClusterState.ACTIVE, ClusterState.OFFLINE)


class ClusterReporter:
    """Reports clusters to the supervisor of workers, and their servers to placement."""

    def __init__(
        self,
        database: Database,
        bindings: Bindings,
        servers: ServerWriter,
        allocations: AllocationWriter,
        events: ClusterEvents,
        clock: Clock,
    ) -> None:
        """``database`` holds the gateway database."""
        self._database = database
        self._bindings = bindings
        self._servers = servers
        self._allocations = allocations
        self._events = events
        self._clock = clock

    def report(self, state: VCenterState) -> None:
        """Report clusters that came, changed or left; called once all about them is committed.

        One that left is reported at once, so that Nova builds nothing there, and again with its
        last server, since its rows can go only then.
        """
        for managed in state.clusters.values():
            if managed.leaving:
                self._report_leaving(state, managed, managed.touched)
            elif managed.touched and managed.row.state is not ClusterState.UNMANAGED:
                self._events.cluster_found(managed.row.uuid)
            managed.touched = False

    def _report_leaving(self, state: VCenterState, managed: ManagedCluster, touched: bool) -> None:
        managed.leaving = bool(self._bindings.count(managed.row.uuid))
        if not managed.leaving:
            state.allocated.discard(managed.row.compute_node_uuid)
        if touched or not managed.leaving:
            self._events.cluster_gone(managed.row.uuid, managed.row.state_reason)

    def synchronised(self, state: VCenterState) -> None:
        """Record and report that all servers of the open clusters are written.

        Raises ``StoreError``.
        """
        uuids = [row.uuid for row in state.open_clusters()]
        now = naive_utc(self._clock.wall())
        self._database.run(lambda connection: clusters.synchronised(connection, uuids, now))
        state.unallocated.update(uuids)
        for uuid in uuids:
            self._events.cluster_synchronised(uuid)

    def allocate(self, state: VCenterState) -> None:
        """Have placement compared for synchronised clusters whose compute host is there.

        Raises ``StoreError``.
        """
        with self._database.read() as connection:
            rows = clusters.list_all(connection, state.uuid)
        for row in rows:
            if row.uuid in state.unallocated and row.state in _PROVISIONED:
                self._reconcile(row)
                state.unallocated.discard(row.uuid)
                state.allocated.add(row.compute_node_uuid)
        state.unallocated &= {row.uuid for row in state.open_clusters()}

    def _reconcile(self, row: ClusterRow) -> None:
        read = functools.partial(self._expected, row.compute_host)
        done = functools.partial(self._allocated, row)
        self._allocations.reconcile(row.compute_node_uuid, read, done)

    def _expected(self, host: str) -> HostAllocations:
        return HostAllocations(self._servers.allocations(host), self._servers.ended(host))

    def _allocated(self, row: ClusterRow) -> None:
        """Called by the writer of allocations, in its own thread."""
        now = naive_utc(self._clock.wall())
        try:
            self._database.run(lambda connection: clusters.allocated(connection, row.uuid, now))
        except StoreError as error:  # only a date for people: the next parity writes it again
            facts = fields(cluster=row.name, error=error)
            log.warning("date of allocations not stored", extra=facts)
        self._events.allocations_written(row.uuid)


class ClusterRelay:
    """A ``ClusterEvents`` for several listeners, which are added before anything happens.

    The inventory is made before those who listen to it, since they ask it questions themselves.
    """

    def __init__(self) -> None:
        self._listeners: list[ClusterEvents] = []

    def add(self, listener: ClusterEvents) -> None:
        """Tell ``listener`` too, after those before it."""
        self._listeners.append(listener)

    def cluster_found(self, cluster_uuid: str) -> None:
        """A cluster came under management, or its hosts changed."""
        for listener in self._listeners:
            listener.cluster_found(cluster_uuid)

    def cluster_synchronised(self, cluster_uuid: str) -> None:
        """Every server of the cluster is in the cell database."""
        for listener in self._listeners:
            listener.cluster_synchronised(cluster_uuid)

    def allocations_written(self, cluster_uuid: str) -> None:
        """Placement holds the allocations of every server of the cluster."""
        for listener in self._listeners:
            listener.allocations_written(cluster_uuid)

    def cluster_gone(self, cluster_uuid: str, reason: str) -> None:
        """A cluster left management, or the last server of one that did has ended."""
        for listener in self._listeners:
            listener.cluster_gone(cluster_uuid, reason)

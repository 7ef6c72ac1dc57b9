"""The inventory of all vCenters: what the gateway and the ledger talk to."""

import logging
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence

from common.clock import Clock
from common.timestamps import naive_utc
from controlplane.config.log import keyed
from controlplane.domain.ports import ClusterEvents, InventorySink, RecordedDeletes
from controlplane.inventory.apply.pipeline import Pipeline, Writers
from controlplane.inventory.cluster_events import ClusterReporter
from controlplane.inventory.jobs import Shared
from controlplane.inventory.model.lag import Lags
from controlplane.inventory.model.state import VCenterState
from controlplane.inventory.rules.adoption import Adoption
from controlplane.inventory.rules.conflict_recovery import reopen
from controlplane.inventory.rules.identity import Place
from controlplane.inventory.rules.mass_removal_guard import Limits
from controlplane.inventory.stream import Feed
from controlplane.inventory.worker import Worker
from controlplane.store.database import Connection, Database
from controlplane.store.own import edges, servers
from controlplane.store.own.clusters import ClusterRow
from controlplane.store.own.edges import VCenterRow
from controlplane.store.own.servers import ServerState
from vsphere_gateway.v1 import inventory_pb2, link_pb2

log = logging.getLogger(__name__)

NAME_LENGTH = 255
VERSION_LENGTH = 64
UNIT_SECONDS = 60.0
"""For a unit under way."""


class Inventory:
    """Implements ``InventoryPipeline``: one worker per vCenter."""

    def __init__(
        self,
        database: Database,
        writers: Writers,
        events: ClusterEvents,
        deletes: RecordedDeletes,
        adoption: Adoption,
        limits: Limits,
        clock: Clock,
    ) -> None:
        """``start`` loads what is stored and starts the workers."""
        self.lags = Lags()
        self._database = database
        self._limits = limits
        self._clock = clock
        self._pipeline = Pipeline(database, writers, deletes, adoption, clock)
        hosts = ClusterReporter(
            database, self._pipeline.bindings, writers.servers, writers.allocations, events, clock
        )
        self._shared = Shared(
            database, self._pipeline, hosts, self.lags, clock, self._revisit, self._confirm
        )
        self._process = str(uuid.uuid4())
        self._workers: dict[str, Worker] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Load what the own tables hold. Raises ``StoreError``."""
        with self._database.read() as connection:
            rows = servers.list_all(connection, states=None)
            vcenters = edges.list_vcenters(connection)
            self._pipeline.bindings.load(rows)
            reopen(connection, self._pipeline.bindings, self._pipeline.contests)
        for vcenter in vcenters:
            self._worker(vcenter.uuid)
        active = sum(row.state is ServerState.ACTIVE for row in rows)
        log.info("inventory loaded %s", keyed(vcenters=len(vcenters), servers=active))

    def stop(self, timeout: float) -> None:
        """End every worker after the unit that it is in; ``timeout`` is in seconds, for each."""
        with self._lock:
            workers = list(self._workers.values())
        for worker in workers:
            worker.stop(timeout)

    def open(self, edge_name: str, opened: link_pb2.InventoryOpen, sink: InventorySink) -> Feed:
        """Begin the stream of one edge for one vCenter. Raises ``StoreError``."""
        vcenter_uuid = opened.vcenter.instance_uuid
        if self._note_vcenter(opened.vcenter):
            self._begin_again(vcenter_uuid)
        worker = self._worker(vcenter_uuid)
        return worker.attach(edge_name, opened, sink)

    def observed(self, vcenter_uuid: str, state: inventory_pb2.InventoryObject) -> None:
        """Take a state that came back with an operation's result, as if it were a change."""
        worker = self._workers.get(vcenter_uuid)
        if worker is not None:
            worker.observe(state)

    def reassert(self, instance_uuids: Sequence[str]) -> None:
        """Compare the fields that vCenter owns again, once Nova's task on them has ended."""
        rows = map(self._pipeline.bindings.get, instance_uuids)
        self._revisit((row.vcenter_uuid, row.moref) for row in rows if row is not None)

    def state(self, vcenter_uuid: str) -> VCenterState | None:
        """Return what is known of a vCenter, for those who ask and change nothing."""
        worker = self._workers.get(vcenter_uuid)
        return None if worker is None else worker.state

    def cluster(self, compute_host: str) -> ClusterRow | None:
        """Return the cluster behind a Nova compute host, in any state."""
        for worker in list(self._workers.values()):
            managed = worker.state.by_compute_host(compute_host)
            if managed is not None:
                return managed.row
        return None

    def server(self, server_uuid: str) -> servers.ServerRow | None:
        """Return the binding of a server, in any state."""
        return self._pipeline.bindings.get(server_uuid)

    def _worker(self, vcenter_uuid: str) -> Worker:
        with self._lock:
            worker = self._workers.get(vcenter_uuid)
            if worker is None:
                worker = self._workers[vcenter_uuid] = self._started(vcenter_uuid)
            return worker

    def _started(self, vcenter_uuid: str) -> Worker:
        state = VCenterState(vcenter_uuid, self._limits)
        state.load(self._database)
        worker = Worker(state, self._shared)
        worker.start()
        return worker

    def _note_vcenter(self, about: inventory_pb2.VCenter) -> bool:
        """Write what is known of a vCenter; return whether another process served it before."""
        row = VCenterRow(
            uuid=about.instance_uuid,
            full_name=about.full_name[:NAME_LENGTH],
            version=about.version[:VERSION_LENGTH],
            build=about.build[:VERSION_LENGTH],
            api_version=about.api_version[:VERSION_LENGTH],
            first_seen_at=naive_utc(self._clock.wall()),
        )

        def write(connection: Connection) -> bool:
            edges.write_vcenter(connection, row)
            return edges.serve(connection, row.uuid, self._process)

        return self._database.run(write)

    def _begin_again(self, vcenter_uuid: str) -> None:
        """Load a vCenter afresh: another process has applied its inventory since we did."""
        with self._lock:
            before = self._workers.get(vcenter_uuid)
            if before is not None:
                before.stop(UNIT_SECONDS)
            with self._database.read() as connection:
                rows = servers.list_all(connection, vcenter_uuid=vcenter_uuid, states=None)
                self._pipeline.bindings.load(rows)
                self._pipeline.contests.forget(vcenter_uuid)
                reopen(connection, self._pipeline.bindings, self._pipeline.contests, vcenter_uuid)
            self._workers[vcenter_uuid] = self._started(vcenter_uuid)

    def _revisit(self, places: Iterable[Place]) -> None:
        by_vcenter: dict[str, list[str]] = defaultdict(list)
        for vcenter_uuid, moref in places:
            by_vcenter[vcenter_uuid].append(moref)
        for vcenter_uuid, morefs in by_vcenter.items():
            worker = self._workers.get(vcenter_uuid)
            if worker is not None:
                worker.revisit(morefs)

    def _confirm(self, vcenters: Iterable[str]) -> None:
        for vcenter_uuid in vcenters:
            places = self._pipeline.contests.unconfirmed(vcenter_uuid)
            worker = self._workers.get(vcenter_uuid)
            if worker is not None:
                worker.confirm(moref for _, moref in places)

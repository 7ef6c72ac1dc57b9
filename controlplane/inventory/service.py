"""The inventory of all vCenters: what the gateway and the ledger talk to."""

import logging
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence

from common.background import ThreadMonitor
from common.clock import Clock
from common.log_fields import fields
from common.timestamps import naive_utc
from controlplane.domain.ports import ClusterEvents, InventorySink, RecordedDeletes
from controlplane.domain.writers import Writers
from controlplane.inventory.apply.pipeline import Pipeline
from controlplane.inventory.cluster_events import ClusterReporter
from controlplane.inventory.jobs import Shared
from controlplane.inventory.model.state import VCenterState
from controlplane.inventory.rules.adoption import Adoption
from controlplane.inventory.rules.identity import Place, reopen
from controlplane.inventory.rules.mass_removal_guard import MassRemovalLimits
from controlplane.inventory.stream import Lags, VCenterStream
from controlplane.inventory.worker import VCenterWorker
from controlplane.store.database import Connection, Database
from controlplane.store.errors import StoreError
from controlplane.store.own import edges, servers
from controlplane.store.own.clusters import ClusterRow
from controlplane.store.own.edges import VCenterRow
from controlplane.store.own.servers import ServerState
from vsphere_gateway.v1 import inventory_pb2, link_pb2

log = logging.getLogger(__name__)

NAME_LENGTH = 255
VERSION_LENGTH = 64
LOAD_SECONDS = 60.0
"""How long a new stream waits for what is stored of its vCenter."""


class Inventory:
    """Implements ``InventoryPipeline``: one worker per vCenter.

    The lock guards the table of workers alone: what is stored is read by each worker's own thread.
    """

    def __init__(
        self,
        database: Database,
        writers: Writers,
        events: ClusterEvents,
        deletes: RecordedDeletes,
        adoption: Adoption,
        limits: MassRemovalLimits,
        clock: Clock,
        monitor: ThreadMonitor,
    ) -> None:
        """``start`` loads what is stored and starts the workers."""
        self.lags = Lags()
        self._database = database
        self._limits = limits
        self._clock = clock
        self._monitor = monitor
        self._pipeline = Pipeline(database, writers, deletes, adoption, clock)
        hosts = ClusterReporter(
            database, self._pipeline.bindings, writers.servers, writers.allocations, events, clock
        )
        self._shared = Shared(
            database=database,
            pipeline=self._pipeline,
            hosts=hosts,
            lags=self.lags,
            clock=clock,
            load=self._load,
            revisit=self._revisit,
            confirm=self._confirm,
        )
        self._process = str(uuid.uuid4())
        self._workers: dict[str, VCenterWorker] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Load what the gateway database holds, and start the workers. Raises ``StoreError``.

        What no other process serves is this one's from now on, and need not be read again when its
        edge comes.
        """
        self._database.run(lambda connection: edges.serve_unserved(connection, self._process))
        states = []
        with self._database.read() as connection:
            rows = servers.list_all(connection, states=None)
            self._pipeline.bindings.load(rows)
            reopen(connection, self._pipeline.bindings, self._pipeline.conflicts)
            for vcenter in edges.list_vcenters(connection):
                states.append(VCenterState(vcenter.uuid, self._limits))
                states[-1].load(connection)
        for state in states:
            self._start_worker(state, loaded=True)
        active = sum(row.state is ServerState.ACTIVE for row in rows)
        log.info("inventory loaded", extra=fields(vcenters=len(states), servers=active))

    def stop(self, timeout: float) -> None:
        """End every worker after the unit that it is in; ``timeout`` is in seconds, for all."""
        with self._lock:
            workers = list(self._workers.values())
        for worker in workers:
            worker.begin_to_stop()
        deadline = self._clock.monotonic() + timeout
        for worker in workers:
            worker.stop(max(0.0, deadline - self._clock.monotonic()))
        if all(worker.has_ended for worker in workers):
            self._hand_over()

    def open(
        self, edge_name: str, opened: link_pb2.InventoryOpen, sink: InventorySink
    ) -> VCenterStream:
        """Begin the stream of one edge for one vCenter. Raises ``StoreError``."""
        superseded = self._note_vcenter(opened.vcenter)
        worker = self._worker(opened.vcenter.instance_uuid)
        if superseded:
            worker.reload()
        worker.wait_loaded(LOAD_SECONDS)
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
        """What is known of a vCenter, for those who ask and change nothing."""
        worker = self._workers.get(vcenter_uuid)
        return None if worker is None else worker.state

    def cluster(self, compute_host: str) -> ClusterRow | None:
        """The cluster behind a Nova compute host, in any state."""
        for worker in list(self._workers.values()):
            managed = worker.state.by_compute_host(compute_host)
            if managed is not None:
                return managed.row
        return None

    def server(self, server_uuid: str) -> servers.ServerRow | None:
        """The binding of a server, in any state."""
        return self._pipeline.bindings.get(server_uuid)

    def _worker(self, vcenter_uuid: str) -> VCenterWorker:
        with self._lock:
            worker = self._workers.get(vcenter_uuid)
        return worker or self._start_worker(VCenterState(vcenter_uuid, self._limits), loaded=False)

    def _start_worker(self, state: VCenterState, *, loaded: bool) -> VCenterWorker:
        """Start the only worker of a vCenter; returns the one that is there already."""
        with self._lock:
            worker = self._workers.get(state.uuid)
            if worker is None:
                worker = VCenterWorker(state, self._shared, self._monitor, loaded=loaded)
                self._workers[state.uuid] = worker
                worker.start()
            return worker

    def _load(self, vcenter_uuid: str) -> VCenterState:
        """Read a vCenter that another process served, or that memory has gone wrong about."""
        state, bindings = VCenterState(vcenter_uuid, self._limits), self._pipeline.bindings
        with self._database.read() as connection:
            bindings.load(servers.list_all(connection, vcenter_uuid=vcenter_uuid, states=None))
            self._pipeline.conflicts.forget(vcenter_uuid)
            reopen(connection, bindings, self._pipeline.conflicts, vcenter_uuid)
            state.load(connection)
        return state

    def _hand_over(self) -> None:
        """Record for the next process that this one has stopped writing."""
        try:
            self._database.run(lambda connection: edges.stop_serving(connection, self._process))
        except StoreError as error:  # the next process then reads each vCenter twice
            log.info("end of service not noted", extra=fields(error=error))

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
            places = self._pipeline.conflicts.unconfirmed(vcenter_uuid)
            worker = self._workers.get(vcenter_uuid)
            if worker is not None:
                worker.confirm(moref for _, moref in places)

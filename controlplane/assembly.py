"""The object graph of a control plane, its start and its ordered end. Everything is wired here."""

import contextlib
import dataclasses
import logging
import random
import socket
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from certs.credentials import TlsMaterial, load_tls_material
from certs.errors import CertificateError
from certs.identity import Role
from common.background import ThreadMonitor
from common.clock import Clock
from common.log_fields import fields
from controlplane import backend as backends
from controlplane.active_lease import ActiveLease
from controlplane.backend import Backend
from controlplane.compute.workers.process import terminate_left
from controlplane.compute.workers.supervisor import (
    WORKERS,
    WorkerSupervisor,
    WorkerSupervisorSettings,
)
from controlplane.config.settings import Settings, standalone_settings
from controlplane.config.state_directory import StateDirectory
from controlplane.domain.errors import ConfigurationError
from controlplane.gateway.admin import health
from controlplane.gateway.admin.admin import ManagementServicer, build_admin_server
from controlplane.gateway.admin.diagnostics import DiagnosticsServicer
from controlplane.gateway.admin.health import Health
from controlplane.gateway.edges.edge_registry import EdgeRegistry, Timing
from controlplane.gateway.gateway import Gateway
from controlplane.gateway.plugins.compute_bridge import ComputeBridgeServicer
from controlplane.gateway.refusals import Refusals
from controlplane.gateway.servers import bridge_server, is_loopback, listen, listen_on_socket
from controlplane.gateway.streams.on_demand_reads import OnDemandReader
from controlplane.inventory.cluster_events import ClusterRelay
from controlplane.inventory.diagnostics import InventoryDiagnostics
from controlplane.inventory.queries import InventoryQueries
from controlplane.inventory.rules.adoption import Adoption
from controlplane.inventory.rules.mass_removal_guard import MassRemovalLimits
from controlplane.inventory.service import Inventory
from controlplane.operations.deferred_deletes import DeferredDeletes
from controlplane.operations.ledger import Ledger
from controlplane.operations.records import OperationHistory
from controlplane.store.database import Database
from controlplane.store.errors import StoreError
from controlplane.store.own import migration
from controlplane.store.own.readers import GatewayDatabaseReader
from controlplane.verification.context import Readers
from controlplane.verification.messages import Verification
from controlplane.verification.verifier import Verifier
from vsphere_gateway.v1 import compute_pb2_grpc

LOG = logging.getLogger(__name__)

BRIDGE_THREADS = 256
"""Operations of all workers that may run at once; threads are made as they are needed."""
STOP_SECONDS = 10.0
"""For a call or a unit of inventory at hand when everything ends."""
SOCKET_FILE = "bridge.sock"


@dataclasses.dataclass(frozen=True, slots=True)
class _Parts:
    """What a control plane is made of, in the order in which it starts."""

    backend: Backend
    inventory: Inventory
    registry: EdgeRegistry
    diagnostics: DiagnosticsServicer
    ledger: Ledger
    deferred: DeferredDeletes
    bridge: ComputeBridgeServicer
    socket: Path
    supervisor: WorkerSupervisor
    gateway: Gateway


class ControlPlane:
    """One control plane: made whole, then started, then stopped in order."""

    def __init__(
        self, settings: Settings, *, standalone: bool, lost: Callable[[], None] = lambda: None
    ) -> None:
        """Check everything that can be checked without a server. Raises ``ConfigurationError``.

        ``lost`` ends the process at once: another control plane acts in its place.
        """
        self._standalone = standalone
        self._settings = standalone_settings(settings) if standalone else settings
        self._tls = _tls(self._settings)
        self._adoption = _adoption(self._settings)
        _check_admin(self._settings)
        self._connection = self._settings.required("database", "connection")
        self._clock = Clock()
        self._refusals = Refusals()
        self._health = Health()
        self._monitor = ThreadMonitor(lambda: self._health.threads_changed(self._monitor))
        self._lost = lost
        self._inactive = "the control plane is starting"
        self._ending = contextlib.ExitStack()

    def start(self, stopping: threading.Event, standing_by: Callable[[str], None]) -> bool:
        """Start every part, edges last, once no other control plane is active on the database.

        Until then it only answers operators' health checks, and ``standing_by`` is told why.
        Returns False when ``stopping`` was set before. Raises ``ConfigurationError``,
        ``StartError`` or ``StoreError``; call ``stop`` in any case.
        """
        state = StateDirectory(Path(self._settings.compute.state_directory))
        self._ending.callback(state.close)
        database = self._open_database()
        parts = self._make(state, database, self._open_backend(state, database))
        self._start_admin(parts.diagnostics, ManagementServicer(database))
        # A standalone control plane has its database to itself: its directory is locked.
        if not self._standalone:
            lease = self._lease(state, database, parts.supervisor)

            def stand_by(active: str) -> None:
                self._inactive = f"this control plane stands by while {active} is active"
                terminate_left(state.path / WORKERS)
                standing_by(self._inactive)

            if not lease.wait(stopping, stand_by):
                return False
            self._ending.callback(lease.release)
        self._start(parts)
        return True

    def _make(self, state: StateDirectory, database: Database, backend: Backend) -> _Parts:
        relay = ClusterRelay()
        history = OperationHistory(database)
        brake = MassRemovalLimits(self._settings.brake.fraction, self._settings.brake.count)
        inventory = Inventory(
            database,
            backend.writers,
            relay,
            history,
            self._adoption,
            brake,
            self._clock,
            self._monitor,
        )
        queries = InventoryQueries(database, inventory)
        socket_path = Path(self._settings.compute.socket or state.path / SOCKET_FILE)
        supervisor = WorkerSupervisor(
            self._supervisor_settings(state.path, socket_path, backend),
            database,
            backend.compute_hosts,
            queries,
            self._monitor,
        )
        relay.add(supervisor)
        registry = self._registry(database, supervisor)
        age_limit = self._settings.compute.remember_deletes
        deferred = DeferredDeletes(
            database, backend.nova_api, registry, queries, age_limit, self._monitor
        )
        relay.add(deferred)
        defer = deferred.noticed if backend.nova_api and age_limit else None
        ledger = Ledger(database, registry, inventory, self._monitor, deferred=defer)
        on_demand_reads = OnDemandReader(registry, lambda: str(uuid.uuid4()))
        gateway = Gateway(
            self._settings.gateway,
            self._tls,
            registry,
            on_demand_reads,
            inventory,
            ledger,
            supervisor,
            self._refusals,
            self._clock,
            self._monitor,
        )
        source = InventoryDiagnostics(
            database, backend.servers, inventory.lags, None if self._standalone else supervisor
        )
        verification = self._verification(database, backend, history, on_demand_reads)
        return _Parts(
            backend=backend,
            inventory=inventory,
            registry=registry,
            diagnostics=DiagnosticsServicer(registry, source, history, verification, self._clock),
            ledger=ledger,
            deferred=deferred,
            bridge=ComputeBridgeServicer(ledger, queries, registry, supervisor.worker_started),
            socket=socket_path,
            supervisor=supervisor,
            gateway=gateway,
        )

    def _start(self, parts: _Parts) -> None:
        """Start what acts. What begins first ends last; what answers Nova ends before the edges."""
        parts.backend.start()
        self._ending.callback(parts.backend.stop)
        parts.inventory.start()
        self._ending.callback(parts.inventory.stop, STOP_SECONDS)
        parts.registry.load()  # before workers ask: their operations wait for expected edges
        self._ending.callback(parts.gateway.stop)
        parts.ledger.start()
        self._ending.callback(parts.ledger.stop)
        parts.deferred.start()
        self._ending.callback(parts.deferred.stop)
        self._start_bridge(parts.bridge, parts.socket)
        self._ending.callback(parts.gateway.drain, "the control plane stops")
        parts.supervisor.start()
        self._ending.callback(parts.supervisor.stop)
        parts.gateway.start()
        self._inactive = ""
        self._health.set(health.EDGE_LINK, True)
        self._health.set(health.ACTIVE, True)
        self._ending.callback(self._health.stop)

    def _lease(
        self, state: StateDirectory, database: Database, supervisor: WorkerSupervisor
    ) -> ActiveLease:
        def lost(holder: str) -> None:
            LOG.critical("another control plane has taken over", extra=fields(holder=holder))
            try:
                supervisor.abandon()
            finally:  # whatever becomes of the workers: two must not act
                self._lost()

        holder = f"{socket.gethostname()}/{state.instance_id()}"
        return ActiveLease(database, holder, self._monitor, lost)

    def stop(self) -> None:
        """End in order: workers, edges, operations, inventory, connections."""
        self._ending.close()

    def _open_database(self) -> Database:
        try:
            database = Database(self._connection, pool_size=self._settings.database.pool_size)
        except StoreError as error:
            raise self._settings.problem("database", "connection", str(error)) from error
        self._ending.callback(database.close)
        if self._standalone:
            migration.upgrade(database)
        migration.check(database)
        self._health.set(health.DATABASE, True)
        return database

    def _open_backend(self, state: StateDirectory, database: Database) -> Backend:
        backend = (
            backends.alone(state.path)
            if self._standalone
            else backends.beside_openstack(self._settings, database, self._monitor)
        )
        self._ending.callback(backend.close)
        return backend

    def _supervisor_settings(
        self, directory: Path, socket: Path, backend: Backend
    ) -> WorkerSupervisorSettings:
        compute = self._settings.compute
        files = compute.worker_config_files or (self._settings.nova.config_file,)
        beside = Path(sys.argv[0]).absolute().with_name("vsg-compute")
        return WorkerSupervisorSettings(
            state_directory=directory,
            socket=socket,
            command=compute.worker_command or (str(beside),),
            config_files=tuple(Path(file) for file in files),
            transport_url=backend.transport_url,
            run_workers=not self._standalone,
        )

    def _registry(self, database: Database, supervisor: WorkerSupervisor) -> EdgeRegistry:
        gateway = self._settings.gateway
        return EdgeRegistry(
            database,
            supervisor,
            self._clock,
            Timing(gateway.heartbeat_interval, gateway.offline_misses),
            random.random,
            lambda usable: self._health.set(health.DATABASE, usable),
        )

    def _verification(
        self,
        database: Database,
        backend: Backend,
        history: OperationHistory,
        on_demand_reads: OnDemandReader,
    ) -> Verification:
        own = GatewayDatabaseReader(database)
        readers = Readers(
            own, backend.nova, backend.glance, backend.placement, history, self._adoption
        )
        return Verification(Verifier(readers, on_demand_reads.read, self._clock), self._clock)

    def _start_admin(
        self, diagnostics: DiagnosticsServicer, management: ManagementServicer
    ) -> None:
        admin = self._settings.admin
        server = build_admin_server(
            self._tls,
            self._health,
            diagnostics,
            management,
            self._refusals,
            lambda: self._inactive,
        )
        listen(server, admin.bind_address, admin.bind_port, self._tls.server_credentials())
        server.start()
        self._ending.callback(lambda: server.stop(STOP_SECONDS).wait())
        self._health.set(health.DIAGNOSTICS, True)
        self._health.threads_changed(self._monitor)
        LOG.info(
            "listening for operators",
            extra=fields(address=admin.bind_address, port=admin.bind_port),
        )

    def _start_bridge(self, servicer: ComputeBridgeServicer, socket: Path) -> None:
        server = bridge_server(BRIDGE_THREADS)
        compute_pb2_grpc.add_ComputeBridgeServicer_to_server(servicer, server)
        listen_on_socket(server, socket)
        server.start()
        self._ending.callback(lambda: server.stop(STOP_SECONDS).wait())
        self._health.set(health.COMPUTE_BRIDGE, True)


def _tls(settings: Settings) -> TlsMaterial:
    ca, certificate, key = (
        Path(settings.required("gateway", name)) for name in ("ca", "certificate", "key")
    )
    try:
        return load_tls_material(ca, certificate, key, Role.CONTROL_PLANE)
    except CertificateError as error:
        raise settings.problem("gateway", "certificate", str(error)) from error


def _adoption(settings: Settings) -> Adoption:
    settings.required("adoption", "default_project_id")
    settings.required("adoption", "default_user_id")
    try:
        return Adoption.from_settings(settings.adoption)
    except ConfigurationError as error:
        raise settings.problem(error.section, error.key, error.problem) from error


def _check_admin(settings: Settings) -> None:
    """Keep operators' services on this machine."""
    if not is_loopback(settings.admin.bind_address):
        problem = "expected a loopback address, for example 127.0.0.1"
        raise settings.problem("admin", "bind_address", problem)

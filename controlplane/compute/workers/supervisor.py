"""Keeps compute hosts as they should be: provisioned, enabled or disabled, their workers running.

Events only note facts; one thread then does what they call for. What fails because a database,
placement or a process is in the way is tried again.
"""

import functools
import logging
import os
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from common.background import BackgroundThread, ThreadMonitor
from common.log_fields import fields
from controlplane.compute.workers.compute_services import (
    CLOSED,
    ComputeHost,
    ComputeServices,
    Fact,
    TotalsUnknownError,
    compute_host,
)
from controlplane.compute.workers.process import WorkerProcess
from controlplane.compute.workers.worker import ComputeWorker
from controlplane.compute.workers.worker_config import WorkerSettings
from controlplane.domain.ports import ComputeInventory, WorkerStatus
from controlplane.domain.writers import ComputeHostWriter
from controlplane.openstack.placement.client import PlacementError
from controlplane.store.database import Database
from controlplane.store.errors import DatabaseUnavailableError, ServersLeftError, StoreError
from controlplane.store.own.clusters import ClusterRow

log = logging.getLogger(__name__)

WORKERS = "workers"
"""In the state directory: a directory for each worker."""
RETRY_SECONDS = 5.0
LONGEST_RETRY = 120.0
"""Also between two attempts to remove a host that still has servers."""
LONGEST_WAIT = 3600.0
CLUSTERS = "supervisor/clusters"
"""Stands for the reading of clusters in the monitor."""
EXPECTED = (StoreError, PlacementError, TotalsUnknownError)
"""What may keep a host from being brought up to date for a while."""

Event = Callable[[], None]


@dataclass(frozen=True, slots=True)
class WorkerSupervisorSettings:
    """How workers are run."""

    state_directory: Path
    socket: Path
    command: tuple[str, ...]
    config_files: tuple[Path, ...]
    transport_url: str = ""
    """The cell's message bus."""
    run_workers: bool = True
    """False for a standalone control plane."""
    starts_at_once: int = max(1, (os.cpu_count() or 1) // 2)


class WorkerSupervisor:
    """Implements ``EdgeEvents``, ``ClusterEvents`` and ``Workers``.

    The process that holds the lease of the control plane (``controlplane.active_lease``) runs all
    workers.
    """

    def __init__(
        self,
        settings: WorkerSupervisorSettings,
        database: Database,
        hosts: ComputeHostWriter,
        inventory: ComputeInventory,
        monitor: ThreadMonitor,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``database`` is the gateway database."""
        self._settings = settings
        self._services = ComputeServices(database, hosts, inventory, wall)
        self._monotonic = monotonic
        self._monitor = monitor
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._hosts: dict[str, ComputeHost] = {}
        self._unread: dict[str, set[Fact]] = defaultdict(set)
        self._unread_retry = 0.0
        self._edges: dict[str, str] = {}
        self._stopping = False
        self._over = threading.Event()
        self._thread = BackgroundThread("supervisor", self._step, monitor)

    def start(self) -> None:
        """Load the clusters, take over running workers and begin. Raises ``StoreError``."""
        for row in self._services.list_all():
            self._hosts[row.uuid] = self._host(row)
        self._thread.start()

    def stop(self) -> None:
        """End every worker, giving Nova time to finish what runs, and then the thread."""
        if self._thread.alive:
            self._post(self._begin_to_stop)
            self._over.wait()
        self._thread.stop()

    def abandon(self) -> None:
        """Ask every worker to end and wait for none: this process is about to end at once."""
        for host in list(self._hosts.values()):
            host.worker.abandon()

    # EdgeEvents

    def edge_online(self, vcenter_uuid: str, edge_name: str) -> None:
        """Enable the vCenter's hosts: the control stream of its leaseholder is open."""
        self._post(self._edge, vcenter_uuid, "")

    def edge_offline(self, vcenter_uuid: str, edge_name: str, since: float) -> None:
        """Disable the vCenter's hosts: its leaseholder has been silent for too long."""
        at = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._post(self._edge, vcenter_uuid, f"AUTO: edge {edge_name} offline since {at}")

    # ClusterEvents

    def cluster_found(self, cluster_uuid: str) -> None:
        """A cluster came under management, or its hosts changed."""
        self._post(self._note, cluster_uuid, Fact.FOUND)

    def cluster_synchronised(self, cluster_uuid: str) -> None:
        """Every server of the cluster is in the cell database."""
        self._post(self._note, cluster_uuid, Fact.SYNCHRONISED)

    def allocations_written(self, cluster_uuid: str) -> None:
        """Placement holds the allocations of every server of the cluster."""
        self._post(self._note, cluster_uuid, Fact.ALLOCATED)

    def cluster_gone(self, cluster_uuid: str, reason: str) -> None:
        """A cluster left management, or the last server of one that did has ended."""
        self._post(self._gone, cluster_uuid, reason)

    # Workers

    def worker_status(self, cluster_uuid: str) -> WorkerStatus:
        """Report the state of a cluster's worker."""
        host = self._hosts.get(cluster_uuid)
        return host.worker.status() if host else WorkerStatus("stopped", 0)

    def worker_started(self, compute_host: str) -> None:
        """Let the next worker start: this one has loaded its servers."""
        for host in list(self._hosts.values()):
            if host.row.compute_host == compute_host and host.worker.starting:
                self._post(host.worker.has_started)

    # Events, in the supervisor's thread

    def _note(self, cluster_uuid: str, fact: Fact) -> None:
        host = self._hosts.get(cluster_uuid)
        if fact is Fact.FOUND or host is None:
            self._unread[cluster_uuid].add(fact)
        else:
            host.learn(fact)

    def _gone(self, cluster_uuid: str, reason: str) -> None:
        self._unread.pop(cluster_uuid, None)
        host = self._hosts.get(cluster_uuid)
        if host is not None:
            host.gone = reason or "it left management"
            host.retry = host.delay = 0.0
            host.synchronised = host.allocated = host.provision = False

    def _edge(self, vcenter_uuid: str, offline: str) -> None:
        self._edges[vcenter_uuid] = offline
        for host in self._hosts.values():
            if host.row.vcenter_uuid == vcenter_uuid:
                host.edge_online, host.offline = not offline, offline
                host.retry = host.delay = 0.0

    def _worker_ended(
        self, worker: ComputeWorker, ended: WorkerProcess, status: int | None
    ) -> None:
        worker.ended(ended, status, self._monotonic())

    def _begin_to_stop(self) -> None:
        self._stopping = True

    # What the facts call for

    def may_start(self) -> bool:
        """Whether one more worker may start now."""
        starting = sum(host.worker.starting for host in self._hosts.values())
        return starting < self._settings.starts_at_once

    def _act(self) -> None:
        now = self._monotonic()
        if not self._stopping:
            self._read_clusters(now)
            for host in [one for one in self._hosts.values() if now >= one.retry]:
                self._apply(host)
        for host in [one for one in self._hosts.values() if now >= one.worker_retry]:
            self._drive(host, now)

    def _drive(self, host: ComputeHost, now: float) -> None:
        """Start or end the host's worker, as wanted."""
        try:
            host.worker.wanted = self._wanted(host)
            host.worker.drive(now, self)
        except Exception as error:
            host.worker_retry = now + RETRY_SECONDS
            log.error(
                "worker not looked after, trying again",
                extra=fields(host=host.row.compute_host, error=error),
                exc_info=error,
            )
            self._monitor.failed(_worker_of(host), error)
        else:
            if host.worker_retry:
                host.worker_retry = 0.0
                self._monitor.recovered(_worker_of(host))

    def _read_clusters(self, now: float) -> None:
        """Read the rows of clusters that were found or have changed."""
        if not self._unread or now < self._unread_retry:
            return
        try:
            rows = {uuid: self._services.read(uuid) for uuid in self._unread}
        except DatabaseUnavailableError as error:
            self._unread_retry = now + RETRY_SECONDS
            log.warning("clusters not read, trying again", extra=fields(error=error))
            return
        except StoreError as error:
            # It comes again: somebody has to look. What is known of other clusters goes on.
            self._unread_retry = now + LONGEST_RETRY
            log.error("clusters cannot be read", extra=fields(error=error), exc_info=error)
            self._monitor.failed(CLUSTERS, error)
            return
        self._monitor.recovered(CLUSTERS)
        for uuid, row in rows.items():
            if row is not None:
                self._learn(row, self._unread[uuid])
            del self._unread[uuid]  # kept if an unexpected error was raised

    def _learn(self, row: ClusterRow, facts: set[Fact]) -> None:
        host = self._hosts.get(row.uuid)
        if host is None:
            host = self._hosts[row.uuid] = self._host(row)
        host.row = row
        host.gone, host.occupied = "", False
        host.retry = host.delay = 0.0
        for fact in facts:
            host.learn(fact)

    def _apply(self, host: ComputeHost) -> None:
        try:
            self._services.apply(host)
            host.retry = host.delay = 0.0
        except ServersLeftError as error:
            if not host.occupied:
                log.info(
                    "compute host kept", extra=fields(host=host.row.compute_host, reason=error)
                )
            host.occupied = True
            host.retry = self._monotonic() + LONGEST_RETRY
            self._monitor.recovered(_thread_of(host))
        except EXPECTED as error:
            self._failed(host, logging.WARNING, error)
            self._monitor.recovered(_thread_of(host))
        except Exception as error:  # noqa: BLE001 - the boundary of one host: the others go on
            self._failed(host, logging.ERROR, error)
            self._monitor.failed(_thread_of(host), error)
        else:
            self._monitor.recovered(_thread_of(host))
        if host.removed:
            del self._hosts[host.row.uuid]
            self._monitor.recovered(_worker_of(host))

    def _failed(self, host: ComputeHost, level: int, error: Exception) -> None:
        """Try a host again later, each time after a longer delay."""
        host.delay = min(max(host.delay * 2, RETRY_SECONDS), LONGEST_RETRY)
        host.retry = self._monotonic() + host.delay
        log.log(
            level,
            "compute host not brought up to date, trying again",
            extra=fields(host=host.row.compute_host, error=error, wait_seconds=host.delay),
            exc_info=error if level >= logging.ERROR else None,
        )

    def _wanted(self, host: ComputeHost) -> bool:
        """Whether the host's worker should run."""
        allowed = self._settings.run_workers and not self._stopping
        open_ = not host.gone and host.row.state not in CLOSED
        return allowed and open_ and host.provisioned and host.synchronised

    # The thread

    def _step(self) -> None:
        self._act()
        if not (self._stopping and all(host.worker.over for host in self._hosts.values())):
            self._take_events()
            return
        for host in [one for one in self._hosts.values() if one.gone]:
            self._apply(host)  # its worker has just ended; the next process repeats what fails
        self._thread.stop()
        self._over.set()

    def _take_events(self) -> None:
        """Wait for an event or until something is due, then handle all that have arrived."""
        now = self._monotonic()
        due = [host.worker_retry or host.worker.next_due(now) for host in self._hosts.values()]
        if not self._stopping:
            due += [host.retry for host in self._hosts.values() if host.retry]
            due += [self._unread_retry] if self._unread else []
        timeout = max(0.0, min(due, default=now + LONGEST_WAIT) - now)
        try:
            self._events.get(timeout=min(timeout, LONGEST_WAIT))()
            while True:
                self._events.get_nowait()()
        except queue.Empty:
            return

    def _post(self, handler: Callable[..., None], *arguments: object) -> None:
        self._events.put(functools.partial(handler, *arguments))

    def _host(self, row: ClusterRow) -> ComputeHost:
        directory = self._settings.state_directory / WORKERS / row.compute_host
        settings = WorkerSettings(
            compute_host=row.compute_host,
            compute_node_uuid=row.compute_node_uuid,
            directory=directory.absolute(),
            socket=self._settings.socket.absolute(),
            config_files=self._settings.config_files,
            transport_url=self._settings.transport_url,
        )

        def ended(process: WorkerProcess, status: int | None) -> None:
            self._post(self._worker_ended, worker, process, status)

        worker = ComputeWorker(settings, self._settings.command, ended)
        if self._settings.run_workers:
            worker.take_over()
        host = compute_host(row, worker)
        offline = self._edges.get(row.vcenter_uuid)
        if offline is not None:
            host.edge_online, host.offline = not offline, offline
        return host


def _thread_of(host: ComputeHost) -> str:
    """Name a host's part of the supervisor's work for the monitor."""
    return f"supervisor/{host.row.compute_host}"


def _worker_of(host: ComputeHost) -> str:
    """Name the looking after a host's worker for the monitor."""
    return f"{_thread_of(host)}/worker"

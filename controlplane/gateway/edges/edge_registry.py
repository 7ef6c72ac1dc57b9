"""Which edges are connected, which of them holds its vCenter's lease, and which are offline.

An edge is offline when it has missed several heartbeats in a row, not when its stream breaks: it
dials again within seconds. The clock is passed in and `check` does what is due, so that tests need
not wait.
"""

import dataclasses
import functools
import logging
import threading
from collections.abc import Callable, Collection

import grpc

from common.clock import Clock
from common.log_fields import fields
from common.timestamps import naive_utc, unix_seconds
from controlplane.domain.errors import EdgeOfflineError
from controlplane.domain.ports import EdgeEvents
from controlplane.gateway.edges.lease_keeper import LeaseKeeper
from controlplane.gateway.edges.sessions import EdgeSession, Sessions
from controlplane.gateway.status import StreamEnd
from controlplane.store.database import Connection, Database
from controlplane.store.errors import StoreError
from controlplane.store.own import edges
from controlplane.store.own.edges import EdgeRow
from controlplane.store.own.leases import LeaseRow
from vsphere_gateway.v1 import link_pb2, operations_pb2

LOG = logging.getLogger(__name__)

RETURN_SECONDS = 15.0
"""How long an edge whose stream has ended is expected to dial again: a restart takes less."""
RESTART_SECONDS = 60.0
"""The same after a start of this process: the longest delay between an edge's attempts to dial."""


@dataclasses.dataclass(frozen=True, slots=True)
class Timing:
    """How long an edge may be silent."""

    heartbeat_interval: float = 25.0
    """Seconds between heartbeats."""
    misses: int = 3
    """Heartbeats in a row that an offline edge has missed."""

    @property
    def silence(self) -> float:
        """Seconds without a heartbeat after which an edge is offline, before jitter."""
        return self.heartbeat_interval * self.misses


@dataclasses.dataclass(slots=True, eq=False)
class _Absence:
    """A leaseholder without a stream, which may still come back in time."""

    vcenter_uuid: str
    edge_name: str
    since: float
    """Unix time in seconds."""
    deadline: float
    """Monotonic time at which it is declared offline, or another edge takes over."""
    expected_until: float
    """Monotonic time until which it is likely to dial again."""


class EdgeRegistry:
    """The edges of this customer. Safe from any thread, but `check` is for one.

    Implements ``controlplane.domain.ports.EdgeDispatcher``.
    """

    def __init__(
        self,
        database: Database,
        events: EdgeEvents,
        clock: Clock,
        timing: Timing,
        jitter: Callable[[], float],
        database_health: Callable[[bool], None] = lambda usable: None,
    ) -> None:
        """``jitter`` returns a number from 0 to 1: how much of an interval is added to silence."""
        self.sessions = Sessions(clock)
        self.leases = LeaseKeeper(database, self.sessions, clock, timing.silence)
        self._database = database
        self._events = events
        self._clock = clock
        self._timing = timing
        self._jitter = jitter
        self._database_health = database_health
        self._lock = threading.Lock()
        self._absent: dict[str, _Absence] = {}
        self._known: dict[str, EdgeRow] = {}
        self._renew_at = clock.monotonic() + timing.heartbeat_interval

    def load(self) -> None:
        """Expect the edges that an earlier process had. Raises ``StoreError``."""
        with self._database.read() as connection:
            rows = edges.list_all(connection)
        for row in rows:
            self._known[row.name] = row
            lease = self.leases.stored(row.vcenter_uuid) if row.vcenter_uuid else None
            if row.vcenter_uuid and lease is not None and lease.holder == row.name:
                since = unix_seconds(row.last_seen_at if row.online else row.since)
                self._absent[row.vcenter_uuid] = self._absence(
                    row.vcenter_uuid, row.name, since, self.next_deadline(), RESTART_SECONDS
                )

    def connect(self, session: EdgeSession) -> None:
        """Register a new control stream; it replaces an older one of the same edge.

        Raises ``RefusedError``.
        """
        old = self.sessions.add(session)
        if old is not None:
            end = StreamEnd(grpc.StatusCode.ABORTED, f"replaced by a stream from {session.peer}")
            old.end(end)
        LOG.info(
            "edge connected",
            extra=fields(
                edge=session.name,
                peer=session.peer,
                session=session.session_id,
                epoch=session.epoch,
                version=session.hello.edge_version,
                vcenter=session.vcenter_uuid or None,
                replaces=old.session_id if old else None,
            ),
        )

    def settle(self, session: EdgeSession) -> None:
        """Record a new stream in the database, and let its edge take the lease if it is free.

        While the database is not available this is left to `check`.
        """
        self._try(functools.partial(self._settle, session))

    def disconnect(self, session: EdgeSession, reason: str) -> None:
        """Unregister a control stream that has ended, unless another has replaced it already."""
        session.over.set()
        session.end_inventory(StreamEnd(grpc.StatusCode.UNAVAILABLE, "the control stream ended"))
        held = self.leases.held_by(session)
        if not self.sessions.remove(session):
            return
        now = self._clock.wall()
        row = session.row(online=False, since=now)
        with self._lock:
            self._known[session.name] = row
            if held:
                self._absent[session.vcenter_uuid] = self._absence(
                    session.vcenter_uuid, session.name, now, session.deadline, RETURN_SECONDS
                )
        LOG.info(
            "edge disconnected",
            extra=fields(edge=session.name, session=session.session_id, reason=reason),
        )
        self._try(functools.partial(self._write, [row]))

    def heard(self, session: EdgeSession, heartbeat: link_pb2.Heartbeat) -> None:
        """Record a heartbeat."""
        session.heartbeat = heartbeat
        session.heard_at = self._clock.wall()
        session.deadline = self.next_deadline()

    def next_deadline(self) -> float:
        """Compute the monotonic time by which an edge that was heard now must be heard again."""
        allowed = self._timing.silence + self._jitter() * self._timing.heartbeat_interval
        return self._clock.monotonic() + allowed

    def holder(self, vcenter_uuid: str) -> tuple[EdgeSession, LeaseRow]:
        """The open stream that holds a vCenter's lease. Raises ``EdgeOfflineError``."""
        holder = self.leases.holder(vcenter_uuid)
        if holder is None:
            raise self._offline(vcenter_uuid)
        return holder

    # EdgeDispatcher

    def send(self, vcenter_uuid: str, operation: operations_pb2.Operation) -> str:
        """Queue an operation, its fencing epoch filled in; return the edge's name.

        Raises ``EdgeOfflineError`` when no edge with an open stream holds the lease.
        """
        session, lease = self.holder(vcenter_uuid)
        operation.fencing_epoch = lease.fencing_epoch
        if not session.outgoing.put(link_pb2.ControlResponse(operation=operation)):
            raise EdgeOfflineError(vcenter_uuid, session.name)
        LOG.info(
            "operation sent",
            extra=fields(
                operation=operation.operation_id,
                action=operation.WhichOneof("action"),
                request=operation.request_id or None,
                edge=session.name,
                cluster=operation.cluster.value or None,
            ),
        )
        return session.name

    def cancel(self, vcenter_uuid: str, operation_id: str, reason: str) -> None:
        """Ask the edge to stop an operation; does nothing while it is offline."""
        try:
            session, _ = self.holder(vcenter_uuid)
        except EdgeOfflineError:
            return
        cancel = operations_pb2.CancelOperation(operation_id=operation_id, reason=reason)
        session.outgoing.put(link_pb2.ControlResponse(cancel_operation=cancel))

    def online(self, vcenter_uuid: str) -> bool:
        """Whether an edge with an open control stream holds the lease."""
        return self.leases.holder(vcenter_uuid) is not None

    def expected(self, vcenter_uuid: str) -> float:
        """Compute for how many more seconds a vCenter's absent edge is expected to dial again.

        For a connected one: for how long it would be expected if it disconnected now.
        """
        if self.leases.holder(vcenter_uuid) is not None:
            return RETURN_SECONDS
        with self._lock:
            absence = self._absent.get(vcenter_uuid)
        if absence is None:
            return 0.0
        return max(0.0, absence.expected_until - self._clock.monotonic())

    # The state of all edges

    def known(self) -> list[tuple[EdgeRow, EdgeSession | None]]:
        """List every edge that ever dialled, by name, with its open stream."""
        live = {session.name: session for session in self.sessions.list_all()}
        with self._lock:
            rows = dict(self._known)
        rows |= {s.name: s.row(online=True, since=s.opened_at) for s in live.values()}
        return [(rows[name], live.get(name)) for name in sorted(rows)]

    def drain(self, reason: str, seconds: float) -> None:
        """Refuse new streams, and ask connected edges to finish and dial again later."""
        self.sessions.close(reason)
        message = link_pb2.Drain(reason=reason, deadline_ms=int(seconds * 1000))
        for session in self.sessions.list_all():
            session.outgoing.put(link_pb2.ControlResponse(drain=message))

    def check(self) -> float:
        """End silent streams, declare absent edges offline and renew leases, whatever is due.

        Returns the seconds until something is due again.
        """
        now = self._clock.monotonic()
        for session in self.sessions.list_all():
            if session.deadline <= now:
                reason = f"no heartbeat for {self._clock.wall() - session.heard_at:.0f} s"
                session.end(StreamEnd(grpc.StatusCode.UNAVAILABLE, reason))
                self.disconnect(session, reason)
        for absence in self._due(now):
            absence.deadline = now + self._timing.heartbeat_interval
            if self._try(functools.partial(self._judge, absence)):
                self._forget(absence)
        if now >= self._renew_at:
            self._renew_at = now + self._timing.heartbeat_interval
            self._try(self._renew)
        return max(0.0, self._next_due() - self._clock.monotonic())

    def _absence(
        self, vcenter_uuid: str, edge: str, since: float, deadline: float, likely: float
    ) -> _Absence:
        """Begin an absence, from which the edge is expected back within ``likely`` seconds."""
        expected_until = min(deadline, self._clock.monotonic() + likely)
        return _Absence(vcenter_uuid, edge, since, deadline, expected_until)

    def _settle(self, session: EdgeSession) -> None:
        row = session.row(online=True, since=session.opened_at)
        self._write([row])
        if session.vcenter_uuid:
            vcenter = session.vcenter_row()
            self._database.run(lambda connection: edges.write_vcenter(connection, vcenter))
            if self.leases.claim(session):
                self._returned(session.vcenter_uuid)

    def _renew(self) -> None:
        """Renew leases, give free ones to edges that stand by, record when edges were last seen."""
        sessions = self.sessions.list_all()
        if sessions:
            rows = [session.row(online=True, since=session.opened_at) for session in sessions]
            self._write(rows)
        for vcenter_uuid in sorted({s.vcenter_uuid for s in sessions if s.vcenter_uuid}):
            if self.leases.claim_for_any(vcenter_uuid):
                self._returned(vcenter_uuid)

    def _judge(self, absence: _Absence) -> None:
        """Give the lease to an edge that stands by, or declare the absent one offline."""
        if self.leases.claim_for_any(absence.vcenter_uuid):
            return
        if self.leases.kept_elsewhere(absence.vcenter_uuid):
            return
        since = naive_utc(absence.since).isoformat(timespec="seconds")
        LOG.warning(
            "edge offline",
            extra=fields(edge=absence.edge_name, vcenter=absence.vcenter_uuid, since=since),
        )
        self._events.edge_offline(absence.vcenter_uuid, absence.edge_name, absence.since)

    def _due(self, now: float) -> list[_Absence]:
        with self._lock:
            return [absence for absence in self._absent.values() if absence.deadline <= now]

    def _forget(self, absence: _Absence) -> None:
        with self._lock:
            if self._absent.get(absence.vcenter_uuid) is absence:
                del self._absent[absence.vcenter_uuid]

    def _returned(self, vcenter_uuid: str) -> None:
        """End the absence of a vCenter's edge, unless it has disconnected again meanwhile."""
        with self._lock:
            if self.leases.holder(vcenter_uuid) is not None:
                self._absent.pop(vcenter_uuid, None)

    def _next_due(self) -> float:
        with self._lock:
            absences = [absence.deadline for absence in self._absent.values()]
        return min([self._renew_at, *absences, *(s.deadline for s in self.sessions.list_all())])

    def _offline(self, vcenter_uuid: str) -> EdgeOfflineError:
        with self._lock:
            rows = [row for row in self._known.values() if row.vcenter_uuid == vcenter_uuid]
        last = self.leases.last_holder(vcenter_uuid)
        row = next((row for row in rows if row.name == last), rows[0] if rows else None)
        if row is None:
            return EdgeOfflineError(vcenter_uuid)
        since = "" if row.online else row.since.isoformat(timespec="seconds") + "Z"
        return EdgeOfflineError(vcenter_uuid, row.name, since)

    def _write(self, rows: Collection[EdgeRow]) -> None:
        def write(connection: Connection) -> None:
            for row in rows:
                edges.write(connection, row)

        self._database.run(write)

    def _try(self, work: Callable[[], None]) -> bool:
        """Do what needs the database; edges stay connected while it is not available."""
        try:
            work()
        except StoreError as error:
            LOG.error("gateway database not usable", extra=fields(error=error))
            self._database_health(False)
            return False
        self._database_health(True)
        return True

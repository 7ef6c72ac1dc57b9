"""Which edge of a vCenter holds its lease: a row in the database, which outlives this process.

The fencing epoch grows whenever the holder changes. A lease expires when its holder counts as
offline; then an edge that stands by takes over.
"""

import datetime
import logging
import threading

from common.clock import Clock
from common.log_fields import fields
from common.timestamps import naive_utc
from controlplane.gateway.edges.sessions import (
    EdgeSession,
    SessionEvent,
    Sessions,
)
from controlplane.store.database import Database
from controlplane.store.own import leases
from controlplane.store.own.leases import LeaseRow

LOG = logging.getLogger(__name__)


class LeaseKeeper:
    """Takes and renews the leases of vCenters, and tells edges. Safe from any thread."""

    def __init__(
        self, database: Database, sessions: Sessions, clock: Clock, silence: float
    ) -> None:
        """``silence`` is for how many seconds a holder may send no heartbeat."""
        self._database = database
        self._sessions = sessions
        self._clock = clock
        self._silence = silence
        self._lock = threading.Lock()
        self._held: dict[str, LeaseRow] = {}

    def claim(self, session: EdgeSession) -> bool:
        """Take or renew the lease of an edge's vCenter; tell whether the edge holds it.

        Raises ``StoreError``.
        """
        now = self._clock.wall()
        left = datetime.timedelta(seconds=max(0.0, session.heard_at + self._silence - now))
        resource, at = _resource(session.vcenter_uuid), naive_utc(now)
        row = self._database.run(lambda c: leases.acquire(c, resource, session.name, at, left))
        return self._apply(session.vcenter_uuid, row).holder == session.name

    def claim_for_any(self, vcenter_uuid: str) -> bool:
        """Renew the lease for its holder or, if it is not connected, try the edges that stand by.

        Tells whether a connected edge holds the lease. Raises ``StoreError``.
        """
        with self._lock:
            lease = self._held.get(vcenter_uuid)
        holder = lease.holder if lease else ""
        standing_by = self._sessions.of(vcenter_uuid)
        return any(self.claim(s) for s in sorted(standing_by, key=lambda s: s.name != holder))

    def stored(self, vcenter_uuid: str) -> LeaseRow | None:
        """Read a lease as the database has it. Raises ``StoreError``."""
        with self._database.read() as connection:
            return leases.get(connection, _resource(vcenter_uuid))

    def kept_elsewhere(self, vcenter_uuid: str) -> bool:
        """Whether another control plane keeps the lease alive. Raises ``StoreError``."""
        row = self.stored(vcenter_uuid)
        return row is not None and row.expires_at > naive_utc(self._clock.wall())

    def holder(self, vcenter_uuid: str) -> tuple[EdgeSession, LeaseRow] | None:
        """Find a lease, and the open stream of its holder once that was notified."""
        with self._lock:
            lease = self._held.get(vcenter_uuid)
        session = self._sessions.get(lease.holder) if lease else None
        if lease is None or session is None or session.vcenter_uuid != vcenter_uuid:
            return None
        return (session, lease) if session.notified == (lease.holder, lease.fencing_epoch) else None

    def held_by(self, session: EdgeSession) -> bool:
        """Whether this very stream's edge holds its vCenter's lease."""
        holder = self.holder(session.vcenter_uuid)
        return holder is not None and holder[0] is session

    def last_holder(self, vcenter_uuid: str) -> str:
        """Name the edge that holds a lease or held it last, connected or not; empty if unknown."""
        with self._lock:
            lease = self._held.get(vcenter_uuid)
        return lease.holder if lease else ""

    def _apply(self, vcenter_uuid: str, row: LeaseRow) -> LeaseRow:
        """Keep what the database says about a lease, and tell the connected edges."""
        with self._lock:
            before = self._held.get(vcenter_uuid)
            if before is not None and before.fencing_epoch > row.fencing_epoch:
                return before
            self._held[vcenter_uuid] = row
            notified = [s for s in self._sessions.of(vcenter_uuid) if s.tell(row)]
        for session in [s for s in notified if s.name == row.holder]:
            LOG.info(
                "lease held",
                extra=fields(
                    vcenter=vcenter_uuid, edge=row.holder, fencing_epoch=row.fencing_epoch
                ),
            )
            session.events.put(SessionEvent.LEASE_GAINED)
        return row


def _resource(vcenter_uuid: str) -> str:
    return f"vcenter:{vcenter_uuid}"

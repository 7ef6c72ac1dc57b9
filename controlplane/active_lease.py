"""Which control plane of a database acts: the one that holds the lease. The others stand by.

Two that acted at once would run every worker twice. The lease is a row with an expiry by the
database's clock, which they share. Its holder renews it; another takes it over once it has expired
or was given back. A holder that finds that another has had it meanwhile, because its own process
was paused for too long, must end at once. While the database is not available nobody can take the
lease over, and the holder goes on; what it does for edges and for Nova needs the database anyway.
"""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from common.background import BackgroundThread, ThreadMonitor
from common.backoff import Backoff
from common.log_fields import fields
from controlplane.store.database import Connection, Database
from controlplane.store.errors import DatabaseUnavailableError, StoreError
from controlplane.store.own import leases
from controlplane.store.own.leases import LeaseRow

LOG = logging.getLogger(__name__)

RESOURCE = "controlplane"
LEASE_SECONDS = 20.0
RENEW_SECONDS = 4.0
STANDBY_SECONDS = 2.0
"""Between two attempts to take the lease over."""


class ActiveLease:
    """The lease as one process sees it."""

    def __init__(
        self,
        database: Database,
        holder: str,
        monitor: ThreadMonitor,
        lost: Callable[[str], None],
    ) -> None:
        """``holder`` names this control plane, and is the same after a restart of its process.

        ``lost`` is told, in the thread that renews, that another control plane has taken over.
        """
        self._database = database
        self._holder = holder
        self._lost = lost
        self._held: LeaseRow | None = None
        # Also after an unexpected error the lease is tried again before it expires.
        backoff = Backoff(RENEW_SECONDS, 1.0, RENEW_SECONDS)
        self._thread = BackgroundThread("control-plane-lease", self._step, monitor, backoff=backoff)

    def wait(self, stopping: threading.Event, standing_by: Callable[[str], None]) -> bool:
        """Wait for the lease and begin to renew it; False when ``stopping`` was set before.

        ``standing_by`` is told which other control plane is active. Raises ``StoreError``; but once
        this one stands by, it waits for the database too.
        """
        active = ""
        while not stopping.is_set():
            try:
                row = self._acquire()
            except DatabaseUnavailableError as error:
                if not active:
                    raise
                LOG.warning("lease not read, trying again", extra=fields(error=error))
            else:
                if row.holder == self._holder:
                    self._begin(row)
                    return True
                if row.holder != active:
                    active = row.holder
                    LOG.warning("standing by, another is active", extra=fields(holder=active))
                    standing_by(active)
            stopping.wait(STANDBY_SECONDS)
        return False

    def release(self) -> None:
        """Stop renewing and give the lease back, so that another need not wait for its expiry."""
        self._thread.stop()
        if self._held is None:
            return
        try:
            self._database.run(self._give_back)
        except StoreError as error:
            LOG.warning("lease not given back, it expires by itself", extra=fields(error=error))

    def _begin(self, row: LeaseRow) -> None:
        self._held = row
        self._thread.start()
        LOG.info("control plane is active", extra=fields(fencing_epoch=row.fencing_epoch))

    def _step(self) -> None:
        if not self._thread.stopping.wait(RENEW_SECONDS):
            self._renew()

    def _renew(self) -> None:
        assert self._held is not None
        try:
            row = self._acquire()
        except DatabaseUnavailableError as error:
            LOG.warning("lease not renewed, trying again", extra=fields(error=error))
            return
        # Another epoch: somebody has acted in between, even if the lease is free again by now.
        if (row.holder, row.fencing_epoch) != (self._holder, self._held.fencing_epoch):
            self._lost(row.holder)

    def _acquire(self) -> LeaseRow:
        def acquire(connection: Connection) -> LeaseRow:
            now = leases.database_time(connection)
            duration = timedelta(seconds=LEASE_SECONDS)
            return leases.acquire(connection, RESOURCE, self._holder, now, duration)

        return self._database.run(acquire)

    def _give_back(self, connection: Connection) -> None:
        now = leases.database_time(connection)
        leases.release(connection, RESOURCE, self._holder, now)

"""Marks of progress that the ledger notes in the background, and the removal of old rows."""

import logging
import threading
from collections.abc import Callable

from common.background import BackgroundThread, ThreadMonitor
from common.log_fields import fields
from common.timestamps import naive_utc
from controlplane.operations.clock import Clock
from controlplane.store.database import Database
from controlplane.store.errors import DatabaseUnavailableError, StatementRejectedError
from controlplane.store.own import operations as store
from controlplane.store.own.operations import Mark

log = logging.getLogger(__name__)

RETENTION = 90 * 86400.0
"""Seconds for which an operation's row is kept."""
PRUNE_INTERVAL = 3600.0
PRUNE_ROWS = 1000
RETRY = 5.0
"""Seconds until the database is tried again."""


class Journal:
    """Notes `sent` and `accepted`, which nobody waits for, in a thread of its own.

    After a crash such a mark may be missing; the ledger therefore treats a pending operation as one
    that may have been sent.
    """

    def __init__(
        self,
        database: Database,
        monitor: ThreadMonitor,
        clock: Clock,
        retention: float = RETENTION,
    ) -> None:
        self._database = database
        self._clock = clock
        self._retention = retention
        self._changed = threading.Condition()
        self._marks: dict[str, Mark] = {}
        self._prune_at = clock.time()
        self._thread = BackgroundThread("ledger-journal", self._step, monitor, wake=self._wake)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and write what is left."""
        self._thread.stop()
        self._try(self._write)

    def note(self, mark: Mark) -> None:
        """Queue a mark; a later one for the same operation replaces it."""
        with self._changed:
            self._marks[mark.operation_id] = mark
            self._changed.notify_all()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _step(self) -> None:
        stopping = self._thread.stopping
        with self._changed:
            while not (self._marks or stopping.is_set() or self._clock.time() >= self._prune_at):
                self._clock.wait(self._changed, self._prune_at - self._clock.time())
        if not stopping.is_set() and not (self._try(self._write) and self._try(self._prune)):
            with self._changed:
                if not stopping.is_set():
                    self._clock.wait(self._changed, RETRY)

    def _try(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except DatabaseUnavailableError as error:
            log.warning("journal not written, trying again", extra=fields(error=error))
            return False
        return True

    def _write(self) -> None:
        with self._changed:
            marks, self._marks = self._marks, {}
        try:
            if marks:
                self._database.run(lambda connection: store.mark(connection, marks.values()))
        except StatementRejectedError as error:
            # They would be rejected again. The operations go on: a mark may be missing.
            log.error("marks of operations rejected", extra=fields(count=len(marks), error=error))
        except Exception:
            with self._changed:
                self._marks = marks | self._marks
            raise

    def _prune(self) -> None:
        if self._clock.time() < self._prune_at:
            return
        before = naive_utc(self._clock.time() - self._retention)
        while pruned := self._database.run(lambda c: store.prune(c, before, PRUNE_ROWS)):
            log.info("old operations removed", extra=fields(count=pruned, before=before))
        self._prune_at = self._clock.time() + PRUNE_INTERVAL

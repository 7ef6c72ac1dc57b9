"""What the ledger writes behind the caller's back: marks of progress, and forgetting old rows."""

import functools
import logging
import threading
from collections.abc import Callable

from common.timestamps import naive_utc
from controlplane.operations.clock import Clock
from controlplane.store.database import Database
from controlplane.store.errors import StoreError
from controlplane.store.own import operations as store
from controlplane.store.own.operations import Mark

log = logging.getLogger("controlplane.operations.journal")

RETENTION = 90 * 86400.0
"""Seconds that an operation is remembered."""
PRUNE_INTERVAL = 3600.0
PRUNE_ROWS = 1000
RETRY = 5.0
"""Seconds until the database is tried again."""


class Journal:
    """A thread that notes `sent` and `accepted`, which nobody waits for.

    After a crash such a mark may be missing; the ledger therefore treats a pending operation as one
    that may have been sent.
    """

    def __init__(self, database: Database, clock: Clock, retention: float = RETENTION) -> None:
        self._database = database
        self._clock = clock
        self._retention = retention
        self._changed = threading.Condition()
        self._marks: dict[str, Mark] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="ledger-journal", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is left and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def note(self, mark: Mark) -> None:
        """Queue a mark; a later one for the same operation replaces it."""
        with self._changed:
            self._marks[mark.operation_id] = mark
            self._changed.notify_all()

    def _run(self) -> None:
        prune_at = self._clock.time()
        while True:
            with self._changed:
                while not self._marks and not self._stopping and self._clock.time() < prune_at:
                    self._clock.wait(self._changed, prune_at - self._clock.time())
                marks, self._marks = self._marks, {}
                stopping = self._stopping
            if marks and not self._try(functools.partial(self._write, marks)) and not stopping:
                self._put_back(marks)
            if stopping:
                return
            if self._clock.time() >= prune_at and self._try(self._prune):
                prune_at = self._clock.time() + PRUNE_INTERVAL

    def _write(self, marks: dict[str, Mark]) -> None:
        self._database.run(lambda connection: store.mark(connection, marks.values()))

    def _prune(self) -> None:
        before = naive_utc(self._clock.time() - self._retention)
        while pruned := self._database.run(lambda c: store.prune(c, before, PRUNE_ROWS)):
            log.info("operations forgotten count=%d before=%s", pruned, before.isoformat())

    def _put_back(self, marks: dict[str, Mark]) -> None:
        with self._changed:
            self._marks = marks | self._marks

    def _try(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except StoreError as error:
            log.warning("journal not written, trying again error=%s", error)
            with self._changed:
                if not self._stopping:
                    self._clock.wait(self._changed, RETRY)
            return False
        return True

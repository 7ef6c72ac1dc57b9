"""When to try again: what a database that is away could not do, and rows that Nova withholds."""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

from common.backoff import Backoff
from common.log_fields import fields
from controlplane.store.errors import DatabaseUnavailableError

log = logging.getLogger(__name__)

FIRST_DELAY = 0.2
LONGEST_DELAY = 5.0
"""Between two attempts while a database is away, in seconds."""
FIRST_ROW_DELAY = 1.0
LONGEST_ROW_DELAY = 60.0
"""Between two looks at a row that Nova withholds (`task_state`), in seconds. Some states are Nova's
own for days (a resize that waits to be confirmed): hence the growing delay."""

Result = TypeVar("Result")


class AbandonedError(Exception):
    """The work at hand is no longer wanted: its stream ended, or the control plane stops."""


class RetryPolicy:
    """Repeats one piece of work while a database is away, until it is back or nobody waits."""

    def __init__(
        self,
        vcenter_uuid: str,
        stopping: threading.Event,
        unwanted: Callable[[], bool] = lambda: False,
        backoff: Callable[[], Backoff] = lambda: Backoff(FIRST_DELAY, 2.0, LONGEST_DELAY),
    ) -> None:
        """Give up when ``stopping`` is set or ``unwanted`` returns true."""
        self._vcenter_uuid = vcenter_uuid
        self._stopping = stopping
        self._unwanted = unwanted
        self._backoff = backoff

    def run(self, work: Callable[[], Result]) -> Result:
        """Return what ``work`` returns. Raises ``AbandonedError``.

        Only unavailability and deadlocks are worth a repetition. Every other error would come
        again: it is raised, for the caller to find the object that causes it.
        """
        backoff: Backoff | None = None
        while True:
            try:
                result = work()
            except DatabaseUnavailableError as error:
                if backoff is None:
                    backoff = self._backoff()
                    facts = fields(vcenter=self._vcenter_uuid, error=error)
                    log.warning("inventory waits for a database", extra=facts)
                if self._stopping.wait(backoff.next_delay()) or self._unwanted():
                    raise AbandonedError from error
            else:
                if backoff is not None:
                    log.warning("inventory goes on", extra=fields(vcenter=self._vcenter_uuid))
                return result


class RetryQueue:
    """Keys, and when each is due. Not thread-safe; ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}
        self._delays: dict[str, float] = {}

    def __len__(self) -> int:
        """Count the keys that wait."""
        return len(self._due)

    def retry_later(self, key: str) -> None:
        """Try later; each call in a row doubles the delay."""
        delay = self._delays.get(key, FIRST_ROW_DELAY)
        self._delays[key] = min(delay * 2, LONGEST_ROW_DELAY)
        self._due[key] = self._clock() + delay

    def schedule(self, keys: Iterable[str], delay: float = 0.0) -> None:
        """Try in ``delay`` seconds, and let delays start small again."""
        for key in keys:
            self._delays.pop(key, None)
            self._due[key] = self._clock() + delay

    def discard(self, key: str) -> None:
        """Nothing is left to do for a key."""
        self._due.pop(key, None)
        self._delays.pop(key, None)

    def next_due(self) -> float | None:
        """The earliest time at which a key is due."""
        return min(self._due.values(), default=None)

    def take(self, limit: int) -> list[str]:
        """Remove at most ``limit`` keys that are due, the longest overdue first."""
        now = self._clock()
        due = sorted((at, key) for key, at in self._due.items() if at <= now)
        keys = [key for _, key in due[:limit]]
        for key in keys:
            del self._due[key]
        return keys

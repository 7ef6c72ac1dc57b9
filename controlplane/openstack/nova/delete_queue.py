"""Nova's own deletes of servers whose virtual machines are gone, a few at a time.

A request takes Nova's API some 100 ms, or its whole timeout while it is away. So it is not made by
the thread that applies a vCenter's inventory: what it asks for waits here.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable

from common.background import BackgroundThread, ThreadMonitor
from common.log_fields import fields

LOG = logging.getLogger(__name__)

THREADS = 4
"""Requests at once: Nova's API has few workers, and people wait for it too."""
LONGEST_QUEUE = 1000
"""Servers; the inventory asks again for what does not find room."""


class NovaDeleteQueue:
    """A ``NovaDeletion`` that asks in threads of its own. Thread-safe."""

    def __init__(self, delete: Callable[[str], str], monitor: ThreadMonitor) -> None:
        """``delete`` asks Nova, and returns for a person why it could not; else an empty string."""
        self._delete = delete
        self._changed = threading.Condition()
        self._queue: deque[str] = deque()
        self._known: set[str] = set()
        """What waits or is being asked for: the inventory asks again until a server is gone."""
        self._threads = [
            BackgroundThread(f"nova-delete-{number}", self._step, monitor, wake=self._wake)
            for number in range(1, THREADS + 1)
        ]

    def start(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End without the requests at hand: the next process asks for what is not gone."""
        for thread in self._threads:
            thread.stop(0.0)

    def delete(self, uuid: str) -> str:
        """Have Nova asked to delete a server; never blocks.

        Returns an empty string, or for a person why it will not be asked now.
        """
        with self._changed:
            if uuid in self._known:
                return ""
            if len(self._known) >= LONGEST_QUEUE:
                return f"{LONGEST_QUEUE} deletes wait for Nova's API already"
            self._known.add(uuid)
            self._queue.append(uuid)
            self._changed.notify()
        return ""

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _step(self) -> None:
        """Ask for one delete, after waiting for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopping())
            if self._stopping():
                return
            uuid = self._queue.popleft()
        try:
            problem = self._delete(uuid)
        finally:
            with self._changed:
                self._known.discard(uuid)
        if problem:
            LOG.warning("delete refused by Nova", extra=fields(server=uuid, reason=problem))

    def _stopping(self) -> bool:
        return any(thread.stopping.is_set() for thread in self._threads)

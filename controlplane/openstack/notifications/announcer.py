"""Queues announcements as names and sends them from the rows, in the background and in bulk.

So ten thousand adopted servers wait in a megabyte, and the inventory does not wait for the bus.
What waits when the process ends is lost, as with Nova's own notifications.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from math import inf

from common.background import BackgroundThread, ThreadMonitor
from common.log_fields import fields
from common.timestamps import naive_utc_now
from controlplane.domain.records import NotificationData, ServerAnnouncement
from controlplane.openstack.notifications import unversioned, versioned
from controlplane.openstack.notifications.bus import Bus
from controlplane.store.errors import DatabaseUnavailableError
from controlplane.store.nova.notification_data import NotificationDataReader

LOG = logging.getLogger(__name__)

LIMIT = 100_000
"""Announcements that wait at most; about 20 MB."""
BATCH = 200
RETRY_SECONDS = 5.0
CROWD = 200
"""Above so many that wait, a first sync is under way. It needs the processor itself, of which
10,000 notifications take some 25 s, most of it for the bus's confirmations."""
CALM_SECONDS = 2.0
"""A crowd waits until it has not grown for so long,"""
LONGEST_HOLD_SECONDS = 60.0
"""but no longer than this."""
PAUSE = 3.0
"""In a crowd, each message is followed by a pause of so many times its processor time."""


class BusAnnouncer:
    """An ``Announcer``. Thread-safe."""

    def __init__(
        self,
        states: NotificationDataReader,
        bus: Bus,
        monitor: ThreadMonitor,
        clock: Callable[[], datetime] = naive_utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is sent before ``start``."""
        self._states = states
        self._bus = bus
        self._clock = clock
        self._monotonic = monotonic
        self._joined_at = 0.0
        self._crowded_at = 0.0
        self._changed = threading.Condition()
        self._waiting: deque[ServerAnnouncement] = deque()
        self._thread = BackgroundThread("notifications", self._step, monitor, wake=self._wake)
        self.dropped = 0
        """Announcements that found the queue full."""
        self.sent = 0
        """Servers that were announced."""

    @property
    def backlog(self) -> int:
        """Announcements that wait."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Stop after the message under way; what waits is dropped."""
        self._thread.stop(timeout)

    def announce(self, announcements: Iterable[ServerAnnouncement]) -> None:
        """Queue notifications (``Announcer.announce``)."""
        if not self._bus.enabled:
            return
        with self._changed:
            before = self.dropped
            self._joined_at = self._monotonic()
            if len(self._waiting) <= CROWD:
                self._crowded_at = self._joined_at
            for announcement in announcements:
                if len(self._waiting) < LIMIT:
                    self._waiting.append(announcement)
                else:
                    self.dropped += 1
            self._changed.notify_all()
        if self.dropped > before:
            counts = fields(count=self.dropped - before, waiting=LIMIT)
            LOG.warning("notifications dropped", extra=counts)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _step(self) -> None:
        """Send one batch; what is not sent waits again, except the one that an error came with."""
        batch = self._next()
        if self._thread.stopping.is_set():
            return
        try:
            states = self._states.read([announcement.uuid for announcement in batch])
            while batch and not self._thread.stopping.is_set():
                announcement = batch.popleft()
                if announcement.uuid in states:
                    self._send(announcement, states[announcement.uuid])
        except DatabaseUnavailableError as error:
            LOG.warning("notifications wait for a database", extra=fields(error=error))
            self._thread.stopping.wait(RETRY_SECONDS)
        finally:
            with self._changed:
                self._waiting.extendleft(reversed(batch))

    def _next(self) -> deque[ServerAnnouncement]:
        with self._changed:
            while not self._thread.stopping.is_set() and (held := self._held()) > 0:
                self._changed.wait(None if held == inf else held)
            size = min(BATCH, len(self._waiting))
            return deque(self._waiting.popleft() for _ in range(size))

    def _held(self) -> float:
        """The seconds until something may be sent; infinity when nothing waits."""
        if not self._waiting:
            return inf
        if len(self._waiting) <= CROWD:
            return 0.0
        calm = self._joined_at + CALM_SECONDS
        return min(calm, self._crowded_at + LONGEST_HOLD_SECONDS) - self._monotonic()

    def _send(self, announcement: ServerAnnouncement, state: NotificationData) -> None:
        """Send one in each form that is wanted; pause after it while there is a crowd."""
        began = time.thread_time()
        kind = announcement.kind
        host = state.columns["host"] or ""
        period = self._bus.audit_period(self._clock())
        if self._bus.sends_versioned:
            name = self._bus.instance_name(state.columns)
            body = versioned.payload(announcement, state, period, name)
            self._bus.send_versioned(f"nova-compute:{host}", kind.value, body)
        if self._bus.sends_unversioned:
            body = unversioned.payload(announcement, state, period)
            self._bus.send_unversioned(f"compute.{host}", f"compute.{kind.value}", body)
        self.sent += 1
        if len(self._waiting) > CROWD:
            self._thread.stopping.wait(PAUSE * (time.thread_time() - began))


class NoAnnouncer:
    """Takes the announcer's place where there is no bus."""

    def announce(self, announcements: Iterable[ServerAnnouncement]) -> None:
        """Send nothing."""

"""Writes allocations in the background, in the order of their submission for each provider.

What a consumer should hold is kept once, as it was submitted last. Placement being away delays and
loses nothing while the process lives; after a restart ``reconcile`` compares all that a provider
should hold with what it holds.
"""

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from common.background import BackgroundThread, ThreadMonitor
from common.log_fields import fields
from controlplane.domain.records import AllocationRecord, HostAllocations
from controlplane.openstack.placement.bulk_requests import BATCH, BulkRequests
from controlplane.openstack.placement.client import PlacementClient, PlacementError
from controlplane.openstack.placement.providers import ResourceProviders
from controlplane.store.errors import DatabaseUnavailableError

LOG = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
_RELEASES = "releases"
"""The lane of consumers that should hold nothing, wherever they hold it."""

Done = Callable[[], None]
Wait = Callable[[threading.Event, float], bool]
"""Waits for the event that ends the writer, at most so many seconds; True when it is set."""


@dataclass(slots=True)
class _Latch:
    """Calls back once when all of a submission is written or refused."""

    left: int
    done: Done
    lock: threading.Lock = field(default_factory=threading.Lock)

    def settle(self) -> None:
        with self.lock:
            self.left -= 1
            last = self.left == 0
        if last:
            self.done()


@dataclass(slots=True)
class _DesiredAllocation:
    """What one consumer should hold; no record means nothing."""

    record: AllocationRecord | None
    latches: list[_Latch] = field(default_factory=list)


@dataclass(slots=True)
class _Reconciliation:
    """A comparison of one provider that waits or is under way."""

    read: Callable[[], HostAllocations]
    latch: _Latch
    superseded: set[str] = field(default_factory=set)
    """Consumers whose desired allocation may be newer than what is read."""


@dataclass(slots=True)
class _Lane:
    """What waits for one thread."""

    consumers: dict[str, None] = field(default_factory=dict)
    """In the order of their submission."""
    reconciliations: list[_Reconciliation] = field(default_factory=list)
    thread: BackgroundThread | None = None
    failures: int = 0
    """Failures since the last success, which say how long to wait."""


class AllocationQueue:
    """The writer of allocations (an ``AllocationWriter``). Thread-safe."""

    def __init__(
        self,
        client: PlacementClient,
        providers: ResourceProviders,
        monitor: ThreadMonitor,
        wait: Wait = threading.Event.wait,
    ) -> None:
        """``wait`` is for tests that must not sleep."""
        self._requests = BulkRequests(client, providers)
        self._monitor = monitor
        self._wait = wait
        self._changed = threading.Condition()
        self._desired: dict[str, _DesiredAllocation] = {}
        self._reconciling: list[_Reconciliation] = []
        self._lanes: dict[str, _Lane] = {}
        self._stopping = threading.Event()

    @property
    def backlog(self) -> int:
        """Consumers that are not written yet."""
        return len(self._desired)

    @property
    def refused(self) -> dict[str, str]:
        """Why placement does not hold what it should, by consumer."""
        return dict(self._requests.refused)

    def submit(self, records: Iterable[AllocationRecord], done: Done | None = None) -> None:
        """Queue allocations (``AllocationWriter.submit``)."""
        wanted = {record.consumer_uuid: record for record in records}
        if not wanted and done:
            done()
        latch = _Latch(len(wanted), done) if done else None
        with self._changed:
            for consumer, record in wanted.items():
                self._desire(consumer, record, record.provider_uuid, latch)
            self._changed.notify_all()

    def reconcile(
        self,
        provider_uuid: str,
        read: Callable[[], HostAllocations],
        done: Done | None = None,
    ) -> None:
        """Queue a comparison of a whole provider (``AllocationWriter.reconcile``)."""
        reconciliation = _Reconciliation(read, _Latch(1, done or _nothing))
        with self._changed:
            self._reconciling.append(reconciliation)
            self._lane(provider_uuid).reconciliations.append(reconciliation)
            self._changed.notify_all()

    def release(self, consumer_uuids: Iterable[str]) -> None:
        """Queue the removal of allocations (``AllocationWriter.release``)."""
        with self._changed:
            for consumer in consumer_uuids:
                self._desire(consumer, None, _RELEASES, None)
            self._changed.notify_all()

    def stop(self, timeout: float = 10.0) -> None:
        """Stop the threads after their current request; what waits is dropped.

        ``timeout`` is in seconds, for all of them together.
        """
        end = time.monotonic() + timeout
        with self._changed:
            self._stopping.set()
            threads = [lane.thread for lane in self._lanes.values() if lane.thread]
        for thread in threads:
            thread.stopping.set()
        for thread in threads:
            thread.stop(max(0.0, end - time.monotonic()))

    def _desire(
        self, consumer: str, record: AllocationRecord | None, lane: str, latch: _Latch | None
    ) -> None:
        desired = _DesiredAllocation(record, [latch] if latch else [])
        before = self._desired.get(consumer)
        if before:
            # Whoever waits for the older one waits for this: it may be under way just now.
            desired.latches += before.latches
            before.latches = []
        self._desired[consumer] = desired
        for reconciliation in self._reconciling:
            reconciliation.superseded.add(consumer)
        self._lane(lane).consumers[consumer] = None

    def _lane(self, key: str) -> _Lane:
        lane = self._lanes.setdefault(key, _Lane())
        if lane.thread is None and not self._stopping.is_set():
            step = functools.partial(self._step, key, lane)
            lane.thread = BackgroundThread(
                f"allocations-{key}", step, self._monitor, wake=self._wake
            )
            lane.thread.start()
        return lane

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _step(self, key: str, lane: _Lane) -> None:
        """Do one piece of a lane's work; what fails for any reason waits in the lane again."""
        reconciliation, batch = self._next(lane)
        if self._stopping.is_set():
            return
        latches: list[_Latch] | None = None
        try:
            if reconciliation:
                latches = self._reconcile(key, reconciliation)
            else:
                latches = self._write(key, batch)
            lane.failures = 0
        except (PlacementError, DatabaseUnavailableError) as error:
            self._pause(key, lane, error)
        finally:
            if latches is None:
                self._put_back(lane, reconciliation, batch)
        for latch in latches or ():
            latch.settle()

    def _pause(self, key: str, lane: _Lane, error: Exception) -> None:
        delay = RETRY_SECONDS[min(lane.failures, len(RETRY_SECONDS) - 1)]
        lane.failures += 1
        LOG.warning(
            "allocations not written", extra=fields(lane=key, retry_seconds=delay, error=error)
        )
        self._wait(self._stopping, delay)

    def _next(self, lane: _Lane) -> tuple[_Reconciliation | None, dict[str, _DesiredAllocation]]:
        """Wait for work; a reconciliation comes before what was submitted after it."""
        with self._changed:
            while not (lane.consumers or lane.reconciliations or self._stopping.is_set()):
                self._changed.wait()
            if lane.reconciliations:
                return lane.reconciliations.pop(0), {}
            taken = list(lane.consumers)[:BATCH]
            for consumer in taken:
                del lane.consumers[consumer]
            return None, {
                consumer: self._desired[consumer] for consumer in taken if consumer in self._desired
            }

    def _put_back(
        self,
        lane: _Lane,
        reconciliation: _Reconciliation | None,
        batch: dict[str, _DesiredAllocation],
    ) -> None:
        with self._changed:
            if reconciliation:
                lane.reconciliations.insert(0, reconciliation)
            lane.consumers = {**dict.fromkeys(batch), **lane.consumers}

    def _reconcile(self, provider: str, reconciliation: _Reconciliation) -> list[_Latch]:
        expected, superseded = reconciliation.read(), reconciliation.superseded
        written, released = self._requests.reconcile(
            provider, expected, lambda consumer: consumer not in superseded
        )
        counts = fields(
            provider=provider, servers=len(expected.records), written=written, released=released
        )
        LOG.info("allocations reconciled", extra=counts)
        with self._changed:
            self._reconciling.remove(reconciliation)
        return [reconciliation.latch]

    def _write(self, key: str, batch: dict[str, _DesiredAllocation]) -> list[_Latch]:
        """Write what of a batch still belongs to this lane; returns what to call back."""
        if key == _RELEASES:
            gone = {
                consumer: desired for consumer, desired in batch.items() if desired.record is None
            }
            self._requests.release(gone, lambda consumer: self._is_latest(consumer, gone))
            return self._settled(gone)
        # A consumer that has moved to another provider is that provider's lane's.
        mine = {
            consumer: desired
            for consumer, desired in batch.items()
            if desired.record is not None and desired.record.provider_uuid == key
        }
        records = [desired.record for desired in mine.values() if desired.record is not None]
        if records:
            self._requests.write(key, records, lambda one: self._is_latest(one.consumer_uuid, mine))
        return self._settled(mine)

    def _is_latest(self, consumer: str, batch: dict[str, _DesiredAllocation]) -> bool:
        with self._changed:
            return self._desired.get(consumer) is batch[consumer]

    def _settled(self, batch: dict[str, _DesiredAllocation]) -> list[_Latch]:
        latches: list[_Latch] = []
        with self._changed:
            for consumer, desired in batch.items():
                if self._desired.get(consumer) is desired:
                    del self._desired[consumer]
                latches += desired.latches
                desired.latches = []
        return latches


class NoPlacement:
    """Takes the writer's place where no placement runs: everything is done at once."""

    def submit(self, records: Iterable[AllocationRecord], done: Done | None = None) -> None:
        """Report it done at once."""
        if done:
            done()

    def reconcile(
        self,
        provider_uuid: str,
        read: Callable[[], HostAllocations],
        done: Done | None = None,
    ) -> None:
        """Report it done at once."""
        if done:
            done()

    def release(self, consumer_uuids: Iterable[str]) -> None:
        """Nothing to release."""


def _nothing() -> None:
    """Nothing waits for a reconciliation."""

"""Allocations are written in the background, in the order of their submission for each provider.

What a consumer should hold is kept once, the latest wish. Placement being away delays and loses
nothing while the process lives; after a restart ``reconcile`` compares all that a provider should
hold with what it holds.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from controlplane.domain.records import AllocationRecord, HostAllocations
from controlplane.openstack.placement.bulk_requests import BATCH, BulkRequests
from controlplane.openstack.placement.client import PlacementClient
from controlplane.openstack.placement.errors import PlacementError
from controlplane.openstack.placement.providers import ResourceProviders
from controlplane.store.errors import StoreError

log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
_RELEASES = "releases"
"""The lane of consumers that should hold nothing, wherever they hold it."""

Done = Callable[[], None]
Wait = Callable[[threading.Event, float], bool]
"""Waits for the event that ends the writer, at most so many seconds; True when it is set."""


@dataclass(slots=True)
class _Latch:
    """Calls back once when all of a submission is settled."""

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
class _Wish:
    """What one consumer should hold; no record means nothing."""

    record: AllocationRecord | None
    latches: list[_Latch] = field(default_factory=list)


@dataclass(slots=True)
class _Reconciliation:
    """A comparison of one provider that waits or is under way."""

    read: Callable[[], HostAllocations]
    latch: _Latch
    superseded: set[str] = field(default_factory=set)
    """Consumers with a wish that may be newer than what is read."""


@dataclass(slots=True)
class _Lane:
    """What waits for one thread."""

    consumers: dict[str, None] = field(default_factory=dict)
    """In the order of their submission."""
    reconciliations: list[_Reconciliation] = field(default_factory=list)
    thread: threading.Thread | None = None


class AllocationQueue:
    """The writer of allocations (an ``AllocationWriter``). Thread-safe."""

    def __init__(
        self,
        client: PlacementClient,
        providers: ResourceProviders,
        wait: Wait = threading.Event.wait,
    ) -> None:
        """``wait`` is for tests that must not sleep."""
        self._requests = BulkRequests(client, providers)
        self._wait = wait
        self._changed = threading.Condition()
        self._wishes: dict[str, _Wish] = {}
        self._reconciling: list[_Reconciliation] = []
        self._lanes: dict[str, _Lane] = {}
        self._stopping = threading.Event()

    @property
    def backlog(self) -> int:
        """Consumers that are not written yet."""
        return len(self._wishes)

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
                self._wish(consumer, record, record.provider_uuid, latch)
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
                self._wish(consumer, None, _RELEASES, None)
            self._changed.notify_all()

    def stop(self, timeout: float = 10.0) -> None:
        """Stop the threads after their current request; what waits is dropped."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
            threads = [lane.thread for lane in self._lanes.values() if lane.thread]
        for thread in threads:
            thread.join(timeout)

    def _wish(
        self, consumer: str, record: AllocationRecord | None, lane: str, latch: _Latch | None
    ) -> None:
        wish = _Wish(record, [latch] if latch else [])
        before = self._wishes.get(consumer)
        if before:
            # Whoever waits for the older wish waits for this one: it may be under way just now.
            wish.latches += before.latches
            before.latches = []
        self._wishes[consumer] = wish
        for reconciliation in self._reconciling:
            reconciliation.superseded.add(consumer)
        self._lane(lane).consumers[consumer] = None

    def _lane(self, key: str) -> _Lane:
        lane = self._lanes.setdefault(key, _Lane())
        if lane.thread is None:
            name = f"allocations-{key[:8]}"
            lane.thread = threading.Thread(
                target=self._run, args=(key, lane), name=name, daemon=True
            )
            lane.thread.start()
        return lane

    def _run(self, key: str, lane: _Lane) -> None:
        failures = 0
        while True:
            reconciliation, batch = self._next(lane)
            if self._stopping.is_set():
                return
            try:
                if reconciliation:
                    self._reconcile(key, reconciliation)
                else:
                    self._write(key, batch)
                failures = 0
            except (PlacementError, StoreError) as error:
                self._put_back(lane, reconciliation, batch)
                delay = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                failures += 1
                log.warning("allocations failed lane=%s retry_in=%.0f error=%s", key, delay, error)
                self._wait(self._stopping, delay)

    def _next(self, lane: _Lane) -> tuple[_Reconciliation | None, dict[str, _Wish]]:
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
                consumer: self._wishes[consumer] for consumer in taken if consumer in self._wishes
            }

    def _put_back(
        self, lane: _Lane, reconciliation: _Reconciliation | None, batch: dict[str, _Wish]
    ) -> None:
        with self._changed:
            if reconciliation:
                lane.reconciliations.insert(0, reconciliation)
            lane.consumers = {**dict.fromkeys(batch), **lane.consumers}

    def _reconcile(self, provider: str, reconciliation: _Reconciliation) -> None:
        expected, superseded = reconciliation.read(), reconciliation.superseded
        written, released = self._requests.reconcile(
            provider, expected, lambda consumer: consumer not in superseded
        )
        log.info(
            "allocations reconciled provider=%s servers=%d written=%d released=%d",
            provider,
            len(expected.records),
            written,
            released,
        )
        with self._changed:
            self._reconciling.remove(reconciliation)
        reconciliation.latch.settle()

    def _write(self, key: str, batch: dict[str, _Wish]) -> None:
        if key == _RELEASES:
            gone = {consumer: wish for consumer, wish in batch.items() if wish.record is None}
            self._requests.release(gone, lambda consumer: self._is_latest(consumer, gone))
            for consumer, wish in gone.items():
                self._settle(consumer, wish)
            return
        # A consumer that has moved to another provider is that provider's lane's.
        mine = {
            consumer: wish
            for consumer, wish in batch.items()
            if wish.record is not None and wish.record.provider_uuid == key
        }
        records = [wish.record for wish in mine.values() if wish.record is not None]
        if records:
            self._requests.write(key, records, lambda one: self._is_latest(one.consumer_uuid, mine))
        for consumer, wish in mine.items():
            self._settle(consumer, wish)

    def _is_latest(self, consumer: str, batch: dict[str, _Wish]) -> bool:
        with self._changed:
            return self._wishes.get(consumer) is batch[consumer]

    def _settle(self, consumer: str, wish: _Wish) -> None:
        with self._changed:
            if self._wishes.get(consumer) is wish:
                del self._wishes[consumer]
            settled, wish.latches = wish.latches, []
        for latch in settled:
            latch.settle()


class NoPlacement:
    """Stands in where no placement runs: everything is settled at once."""

    def submit(self, records: Iterable[AllocationRecord], done: Done | None = None) -> None:
        """Settle at once."""
        if done:
            done()

    def reconcile(
        self,
        provider_uuid: str,
        read: Callable[[], HostAllocations],
        done: Done | None = None,
    ) -> None:
        """Settle at once."""
        if done:
            done()

    def release(self, consumer_uuids: Iterable[str]) -> None:
        """Nothing to release."""


def _nothing() -> None:
    """Nobody asked to be told."""

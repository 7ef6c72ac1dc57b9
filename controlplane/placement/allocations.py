"""Allocations are written in the background: many consumers a request, a thread per provider.

What a consumer should hold is kept once, the latest wish; a failed request is halved until the
culprit is alone. Placement being away delays, it loses nothing while the process lives; after a
restart `reconcile` compares all that a provider should hold.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from controlplane.inventory.records import AllocationRecord
from controlplane.placement.client import PlacementClient, resources
from controlplane.placement.errors import (
    PlacementConflictError,
    PlacementError,
    PlacementRefusedError,
    PlacementUnavailableError,
)
from controlplane.placement.providers import ResourceProviders

log = logging.getLogger(__name__)

BATCH = 100
"""Consumers in one request: placement handles them one by one within one transaction."""
FEW = 10
"""Up to as many consumers are looked up one by one, more by listing the whole provider."""
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
CONFLICT_ATTEMPTS = 5

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
class _Lane:
    """What waits for one provider's thread."""

    consumers: dict[str, None] = field(default_factory=dict)
    """In the order of their submission."""
    reconciliations: list[tuple[list[AllocationRecord], _Latch]] = field(default_factory=list)
    thread: threading.Thread | None = None


_RELEASES = "releases"
"""The lane of consumers that should hold nothing, wherever they hold it."""


class AllocationQueue:
    """The writer of allocations (an ``AllocationWriter``). Thread-safe."""

    def __init__(
        self,
        client: PlacementClient,
        providers: ResourceProviders,
        wait: Wait = threading.Event.wait,
    ) -> None:
        """``wait`` is for tests that must not sleep."""
        self._client = client
        self._providers = providers
        self._wait = wait
        self._changed = threading.Condition()
        self._wishes: dict[str, _Wish] = {}
        self._lanes: dict[str, _Lane] = {}
        self._stopping = threading.Event()
        self.refused: dict[str, str] = {}
        """Why placement holds nothing for a consumer, until it does."""

    @property
    def backlog(self) -> int:
        """Consumers that are not written yet."""
        return len(self._wishes)

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
        self, provider_uuid: str, records: Sequence[AllocationRecord], done: Done | None = None
    ) -> None:
        """Queue a comparison of a whole provider (``AllocationWriter.reconcile``)."""
        latch = _Latch(1, done or _nothing)
        with self._changed:
            self._lane(provider_uuid).reconciliations.append((list(records), latch))
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
        self._lane(lane).consumers[consumer] = None

    def _lane(self, key: str) -> _Lane:
        lane = self._lanes.setdefault(key, _Lane())
        if lane.thread is None:
            lane.thread = threading.Thread(
                target=self._run, args=(key, lane), name=f"allocations-{key[:8]}", daemon=True
            )
            lane.thread.start()
        return lane

    def _run(self, key: str, lane: _Lane) -> None:
        failures = 0
        while not self._stopping.is_set():
            batch, reconciliation = self._next(lane)
            try:
                if reconciliation:
                    self._reconcile(key, reconciliation)
                self._write(key, batch)
                failures = 0
            except PlacementUnavailableError as error:
                self._put_back(lane, batch, reconciliation)
                delay = RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]
                failures += 1
                log.warning("placement away lane=%s retry_seconds=%.0f error=%s", key, delay, error)
                self._wait(self._stopping, delay)

    def _next(
        self, lane: _Lane
    ) -> tuple[dict[str, _Wish], tuple[list[AllocationRecord], _Latch] | None]:
        with self._changed:
            while not (lane.consumers or lane.reconciliations or self._stopping.is_set()):
                self._changed.wait()
            reconciliation = lane.reconciliations.pop(0) if lane.reconciliations else None
            taken = list(lane.consumers)[:BATCH]
            for consumer in taken:
                del lane.consumers[consumer]
            # A consumer that moved to another lane in the meantime is that lane's.
            return {c: self._wishes[c] for c in taken if c in self._wishes}, reconciliation

    def _put_back(
        self,
        lane: _Lane,
        batch: dict[str, _Wish],
        reconciliation: tuple[list[AllocationRecord], _Latch] | None,
    ) -> None:
        with self._changed:
            if reconciliation:
                lane.reconciliations.insert(0, reconciliation)
            lane.consumers = {**dict.fromkeys(batch), **lane.consumers}

    def _write(self, key: str, batch: dict[str, _Wish]) -> None:
        if key == _RELEASES:
            self._release(batch)
            return
        mine = {
            consumer: wish
            for consumer, wish in batch.items()
            if wish.record is not None and wish.record.provider_uuid == key
        }
        records = [wish.record for wish in mine.values() if wish.record is not None]
        if records:
            self._set(key, records, self._generations(key, records))
        for consumer, wish in mine.items():
            self._settle(consumer, wish)

    def _release(self, batch: dict[str, _Wish]) -> None:
        for consumer, wish in batch.items():
            if wish.record is None:
                self._client.delete_allocations(consumer)
                self.refused.pop(consumer, None)
                self._settle(consumer, wish)

    def _settle(self, consumer: str, wish: _Wish) -> None:
        with self._changed:
            if self._wishes.get(consumer) is wish:
                del self._wishes[consumer]
            settled, wish.latches = wish.latches, []
        for latch in settled:
            latch.settle()

    def _reconcile(
        self, provider: str, reconciliation: tuple[list[AllocationRecord], _Latch]
    ) -> None:
        records, latch = reconciliation
        stored = self._client.provider_allocations(provider)
        differing = [
            record
            for record in records
            if stored.get(record.consumer_uuid, {}).get("resources") != resources(record)
        ]
        generations = {uuid: found["consumer_generation"] for uuid, found in stored.items()}
        for start in range(0, len(differing), BATCH):
            self._set(provider, differing[start : start + BATCH], generations)
        log.info(
            "allocations reconciled provider=%s count=%d written=%d",
            provider,
            len(records),
            len(differing),
        )
        latch.settle()

    def _generations(
        self, provider: str, records: Sequence[AllocationRecord]
    ) -> dict[str, int | None]:
        if len(records) <= FEW:
            return {r.consumer_uuid: self._generation(r.consumer_uuid) for r in records}
        stored = self._client.provider_allocations(provider)
        return {uuid: found["consumer_generation"] for uuid, found in stored.items()}

    def _generation(self, consumer: str) -> int | None:
        generation: int | None = self._client.consumer_allocations(consumer).get(
            "consumer_generation"
        )
        return generation

    def _set(
        self, provider: str, records: list[AllocationRecord], generations: dict[str, int | None]
    ) -> None:
        """Write; halve what is refused until the culprit is alone, then give it one more chance.

        The generations were read before it is checked that the records are still wanted, so a
        newer wish that another thread writes in the meantime makes this one a conflict.
        """
        records = [record for record in records if self._still_wanted(record)]
        if not records:
            return
        try:
            self._client.set_allocations(records, generations)
        except (PlacementConflictError, PlacementRefusedError) as error:
            if len(records) > 1 and not self._widened(provider, records, error):
                half = len(records) // 2
                self._set(provider, records[:half], generations)
                self._set(provider, records[half:], generations)
            elif len(records) > 1:
                self._set(provider, records, generations)
            else:
                self._set_one(provider, records[0])
            return
        for record in records:
            self.refused.pop(record.consumer_uuid, None)

    def _still_wanted(self, record: AllocationRecord) -> bool:
        with self._changed:
            wish = self._wishes.get(record.consumer_uuid)
        return wish is None or wish.record is record

    def _widened(
        self, provider: str, records: list[AllocationRecord], error: PlacementError
    ) -> bool:
        return isinstance(error, PlacementRefusedError) and self._providers.widen(provider, records)

    def _set_one(self, provider: str, record: AllocationRecord) -> None:
        consumer = record.consumer_uuid
        problem: PlacementError | None = None
        for _ in range(CONFLICT_ATTEMPTS):
            generation = self._generation(consumer)
            if not self._still_wanted(record):
                return
            try:
                self._client.set_allocations([record], {consumer: generation})
            except PlacementConflictError as error:
                problem = error
            except PlacementRefusedError as error:
                problem = error
                if not self._widened(provider, [record], error):
                    break
            else:
                self.refused.pop(consumer, None)
                return
        log.warning("allocation refused server=%s reason=%s", consumer, problem)
        self.refused[consumer] = str(problem)


class NoPlacement:
    """Stands in where no placement runs: everything is settled at once."""

    def submit(self, records: Iterable[AllocationRecord], done: Done | None = None) -> None:
        """Settle at once."""
        if done:
            done()

    def reconcile(
        self, provider_uuid: str, records: Sequence[AllocationRecord], done: Done | None = None
    ) -> None:
        """Settle at once."""
        if done:
            done()

    def release(self, consumer_uuids: Iterable[str]) -> None:
        """Nothing to release."""


def _nothing() -> None:
    """Nobody asked to be told."""

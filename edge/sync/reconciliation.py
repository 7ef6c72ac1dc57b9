"""The passes of one inventory call: compare, send what differs, prove that both sides are in sync.

A pure state machine over replica, outbox and verification queue; docs/concepts/sync-protocol.md
("Passes") has the sequence. ``edge.sync.inventory`` holds the lock and does the waiting.
"""

import enum
import logging
from collections.abc import Callable

from common.digests import BUCKETS, bucket_of
from common.log_fields import fields
from common.references import key_of
from edge.sync.outbox import CHANGES, SNAPSHOT, Outbox
from edge.sync.replica import Reason, Replica, VerificationQueue
from vsphere_gateway.v1 import link_pb2

HELD_AT_ONCE = 10_000
"""About as many held objects are asked for in one bucket query: under 1 MiB of answer."""
SEND_ALL_RATIO = 4
"""When so many times more was read than is held, all is sent at once: a comparison would have to
wait until all is read. If something held is foreign, the pass after it compares, and finds it."""
FREE_PASSES = 2
"""So many passes may follow each other at once; each further one waits longer."""
LONGEST_WAIT = 60.0
"""Seconds between passes when the two sides cannot agree."""

log = logging.getLogger(__name__)


class Phase(enum.Enum):
    """Where a pass is."""

    CLOSED = enum.auto()
    WAITING = enum.auto()
    """The holdings are known; vCenter has not been read to its end yet."""
    QUERYING = enum.auto()
    """The control plane is asked what is in the buckets that differ."""
    SENDING = enum.auto()
    ENDED = enum.auto()
    """``SnapshotEnd`` is sent."""
    IN_SYNC = enum.auto()
    """Both sides hold the same; the protocol's message for it is `Parity`."""


class Reconciliation:
    """Decides what the next message of the call is."""

    def __init__(
        self,
        replica: Replica,
        outbox: Outbox,
        verification: VerificationQueue,
        monotonic: Callable[[], float],
    ) -> None:
        self._replica = replica
        self._outbox = outbox
        self._verification = verification
        self._monotonic = monotonic
        self.phase = Phase.CLOSED
        self.generation = 0
        self._holdings = link_pb2.Holdings()
        self._unqueried: list[int] = []
        self._queried: set[int] = set()
        self._live = False
        """Both sides were in sync before in this call: its changes are followed."""
        self._reads_new_clusters = False
        self._mismatches = 0
        self._not_before = 0.0

    def open(self, holdings: link_pb2.Holdings) -> None:
        """A call begins with what the control plane holds."""
        self._live = False
        self._mismatches = 0
        self._not_before = 0.0
        self._begin(holdings)

    def close(self) -> None:
        """The call has ended."""
        self.phase = Phase.CLOSED
        self._verification.drop(Reason.FOREIGN, Reason.WANTED)

    def begin_again(self, holdings: link_pb2.Holdings) -> None:
        """The control plane wants another pass, or did not agree with the last one."""
        if self.phase is Phase.ENDED:
            self._mismatches += 1
        excess = self._mismatches - FREE_PASSES
        wait = min(2.0**excess, LONGEST_WAIT) if excess >= 0 else 0.0
        self._not_before = self._monotonic() + wait
        if wait:
            log.warning(
                "control plane and edge do not agree, comparing again",
                extra=fields(mismatches=self._mismatches, wait_seconds=wait),
            )
        self._begin(holdings)

    def confirm_in_sync(self, generation: int) -> None:
        """Both sides hold the same."""
        if self.phase is Phase.ENDED and generation == self.generation:
            self.phase = Phase.IN_SYNC
            self._live = True
            self._mismatches = 0
            log.info("in sync", extra=self._facts())

    def begin_new_clusters(self) -> None:
        """More follows of clusters that came under management: until it is there, no pass ends.

        An end would say of these clusters that all of their virtual machines are known.
        """
        self._reads_new_clusters = True

    def prove_again(self) -> None:
        """vCenter has been read to its end, once more: prove again that both sides are in sync."""
        self._reads_new_clusters = False
        if self.phase in (Phase.ENDED, Phase.IN_SYNC):
            self.generation += 1
            self.phase = Phase.SENDING

    def compare_contents(self, contents: link_pb2.BucketContents) -> None:
        """Compare with what the control plane holds in the buckets of the last query."""
        if self.phase is not Phase.QUERYING or contents.generation != self.generation:
            return
        held = {key_of(each.reference): each.content_hash for each in contents.objects}
        for key, entry in self._replica.items():
            if bucket_of(key) not in self._queried:
                continue
            if held.pop(key, None) == entry.hash:
                self._replica.clear_refusal(key)
                self._outbox.withdraw(key)
            elif not entry.refused:
                self._outbox.enqueue_without_content(key, entry.revision, entry.hash, SNAPSHOT)
        for key in held:
            if not self._outbox.is_removing(key):
                self._verification.request(key, Reason.FOREIGN)
        self._queried.clear()
        if not self._unqueried:
            self.phase = Phase.SENDING

    def start_if_due(self) -> bool:
        """Begin to send or compare if it is time; whether it was."""
        if self.phase is not Phase.WAITING or self._monotonic() < self._not_before:
            return False
        held = self._holdings.object_count
        if not held or (not self._mismatches and len(self._replica) >= SEND_ALL_RATIO * held):
            self._send_everything()
        elif self._replica.complete:
            self._compare()
        return self.phase is not Phase.WAITING

    def next_request(self) -> link_pb2.InventoryRequest | None:
        """Build the next message; None when there is nothing to send now."""
        return self._query() or self._batch() or self._end()

    def wait_time(self, timeout: float) -> float:
        """The seconds until something may be due without a wake-up."""
        if self.phase is not Phase.WAITING or not self._replica.complete:
            return timeout
        return min(timeout, max(self._not_before - self._monotonic(), 0.0))

    def _begin(self, holdings: link_pb2.Holdings) -> None:
        self.generation += 1
        self._holdings = holdings
        self._unqueried, self._queried = [], set()
        self._verification.drop(Reason.FOREIGN)
        self.phase = Phase.WAITING

    def _send_everything(self) -> None:
        self.phase = Phase.SENDING
        for key, entry in self._replica.items():
            self._replica.clear_refusal(key)
            self._outbox.enqueue_without_content(key, entry.revision, entry.hash, SNAPSHOT)
        facts = self._facts(count=self._holdings.object_count)
        log.info("control plane holds little, sending all", extra=facts)

    def _compare(self) -> None:
        differing = self._replica.digests.differing(self._holdings.bucket_digests)
        buckets = set(differing)
        for key in self._replica:
            if key in self._outbox and bucket_of(key) not in buckets:
                self._outbox.withdraw(key)
        self._unqueried = differing
        self.phase = Phase.QUERYING if differing else Phase.SENDING
        log.info("compared", extra=self._facts(buckets_differ=len(differing)))

    def _query(self) -> link_pb2.InventoryRequest | None:
        if self.phase is not Phase.QUERYING or self._queried:
            return None
        count = max(1, BUCKETS * HELD_AT_ONCE // max(self._holdings.object_count, 1))
        buckets, self._unqueried = self._unqueried[:count], self._unqueried[count:]
        self._queried = set(buckets)
        query = link_pb2.BucketQuery(generation=self.generation, buckets=buckets)
        return link_pb2.InventoryRequest(bucket_query=query)

    def _batch(self) -> link_pb2.InventoryRequest | None:
        batch = self._outbox.next_batch(CHANGES, self.generation)
        if batch is None and self.phase in (Phase.SENDING, Phase.ENDED, Phase.IN_SYNC):
            batch = self._outbox.next_batch(SNAPSHOT, self.generation, live=self._live)
        return link_pb2.InventoryRequest(batch=batch) if batch else None

    def _end(self) -> link_pb2.InventoryRequest | None:
        if not self._end_is_due():
            return None
        self.phase = Phase.ENDED
        end = link_pb2.SnapshotEnd(
            generation=self.generation,
            object_count=self._replica.digests.count,
            bucket_digests=self._replica.digests.to_bytes(),
        )
        return link_pb2.InventoryRequest(snapshot_end=end)

    def _end_is_due(self) -> bool:
        return (
            self.phase is Phase.SENDING
            and self._replica.complete
            and not self._reads_new_clusters
            and not self._outbox.has_pending
            and not self._outbox.in_flight(SNAPSHOT)
            and not self._verification.has_foreign
        )

    def _facts(self, **more: object) -> dict[str, object]:
        return fields(generation=self.generation, objects=len(self._replica), **more)

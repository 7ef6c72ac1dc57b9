"""The edge's inventory: what the collector reads goes in, what the link sends comes out.

Every method may be called from any thread. One lock guards the parts, which are not safe for
threads themselves; waiting is by condition, so a change is sent at once.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from google.protobuf import timestamp_pb2

from common.content_hash import content_hash, content_of, stamp
from common.log_fields import fields
from common.references import key_of, reference_of
from edge.errors import VCenterReplacedError
from edge.interfaces import CONFIRM_AT_ONCE, CollectorUpdate
from edge.sync.outbox import CHANGES, SNAPSHOT, Lane, Outbox, OutboxLimits, PendingState
from edge.sync.reconciliation import Reconciliation
from edge.sync.replica import Reason, Replica, VerificationQueue
from vsphere_gateway.v1 import inventory_pb2, link_pb2

LARGEST_OBJECT = 3 << 20
"""Bytes. An object beyond this would not fit into a message of 4 MiB with its wrapping."""
UNREADABLE_REPORTED = 100
"""Most unreadable objects that a heartbeat names."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class _HashedObject:
    """An object as vCenter returned it, hashed outside of the lock."""

    key: str
    content: bytes
    hash: bytes
    observed_at: timestamp_pb2.Timestamp | None


@dataclasses.dataclass(frozen=True, slots=True)
class InventoryCounts:
    """How much there is, for heartbeats and the status line."""

    objects: int
    outbox_objects: int
    outbox_bytes: int
    complete: bool


class Inventory:
    """What changed, for one vCenter and one control plane. Implements ``InventorySource``."""

    def __init__(
        self,
        limits: OutboxLimits,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._monotonic = monotonic
        self._now = now
        self._changed = threading.Condition()
        self._replica = Replica()
        self._outbox = Outbox(limits)
        self._verification = VerificationQueue()
        self._reconciliation = Reconciliation(
            self._replica, self._outbox, self._verification, monotonic
        )
        self._vcenter: inventory_pb2.VCenter | None = None
        self._attached = False
        self._closed = False
        self._readers = 0

    # What the collector's side calls.

    def begin_read(self, vcenter: inventory_pb2.VCenter) -> None:
        """A new vCenter session begins: a full read follows.

        Raises ``VCenterReplacedError`` when another vCenter answers than before.
        """
        with self._changed:
            known = self._vcenter
            if known is not None and known.instance_uuid != vcenter.instance_uuid:
                raise VCenterReplacedError(
                    f"vCenter {known.instance_uuid} was replaced by {vcenter.instance_uuid}; "
                    "the edge restarts"
                )
            self._vcenter = vcenter
            self._replica.begin_read()
            self._verification.drop(Reason.UNCONFIRMED)
            self._changed.notify_all()

    def apply(self, update: CollectorUpdate) -> None:
        """Apply an answer of vCenter."""
        reads = list(self._hash(update.objects, observed=not update.full_read))
        lane = SNAPSHOT if update.full_read or update.newly_managed else CHANGES
        with self._changed:
            self._note_unreadable(update.unreadable)
            for read in reads:
                self._verification.mark_seen(read.key)
                self._record(read, lane)
            for key, reason in _removals(update):
                if key in self._replica:
                    self._send_removal(key, reason)
                else:
                    self._replica.unreadable.pop(key, None)
            if update.full_read and update.complete:
                self._end_read()
            elif update.newly_managed and update.complete:
                self._reconciliation.prove_again()
            elif update.newly_managed:
                self._reconciliation.begin_new_clusters()
            self._changed.notify_all()

    def observed(self, state: inventory_pb2.InventoryObject) -> inventory_pb2.InventoryObject:
        """Apply what an operation read beside the collector; return it stamped.

        The collector may have a newer state already, so vCenter is asked once more when it changes
        something.
        """
        stamped = inventory_pb2.InventoryObject()
        stamped.CopyFrom(state)
        with self._changed:
            for read in self._hash([state], observed=True):
                if self._record(read, CHANGES):
                    self._verification.request(read.key, Reason.UNCONFIRMED)
                entry = self._replica.get(read.key)
                if entry is not None:
                    stamp(stamped, entry.hash, entry.revision)
            self._changed.notify_all()
        return stamped

    def next_verification(
        self, timeout: float, most: int = CONFIRM_AT_ONCE
    ) -> list[inventory_pb2.ObjectReference]:
        """Choose what vCenter is to be asked about next, at most ``most`` objects.

        Empty after ``timeout`` seconds, or at once after ``close``.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_verification(), timeout)
            unread = self._outbox.unread(2 * CONFIRM_AT_ONCE)
            keys = self._verification.next_keys(unread, most, self._replica.revision_of)
            return [reference_of(key) for key in keys]

    def apply_verification(
        self, asked: Sequence[inventory_pb2.ObjectReference], answer: CollectorUpdate
    ) -> None:
        """Apply vCenter's answer about the objects ``asked``."""
        reads = {read.key: read for read in self._hash(answer.objects, observed=True)}
        removals = dict(_removals(answer))
        with self._changed:
            self._note_unreadable(answer.unreadable)
            for key in map(key_of, asked):
                self._apply_answer(key, reads.get(key), removals.get(key))
            self._changed.notify_all()

    def retry_verification(self, asked: Sequence[inventory_pb2.ObjectReference]) -> None:
        """vCenter did not answer about the objects ``asked``: ask again later."""
        with self._changed:
            self._verification.unanswered(map(key_of, asked))

    def close(self) -> None:
        """End every ``next_verification``, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # What the link calls (edge.interfaces.InventorySource).

    def vcenter(self) -> inventory_pb2.VCenter | None:
        """The vCenter, None before the first contact."""
        with self._changed:
            return self._vcenter

    def attach(self, holdings: link_pb2.Holdings) -> None:
        """Begin a call with what the control plane holds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._readers)
            self._outbox.rewind()
            self._attached = True
            self._reconciliation.open(holdings)

    def detach(self) -> None:
        """End the call; what was sent and not acknowledged will be sent again."""
        with self._changed:
            self._attached = False
            self._outbox.rewind()
            self._reconciliation.close()
            self._changed.notify_all()

    def next_request(self, timeout: float) -> link_pb2.InventoryRequest | None:
        """Wait for the next message to send; None after ``timeout`` seconds or a detach."""
        deadline = self._monotonic() + timeout
        with self._changed:
            self._readers += 1
            try:
                while self._attached:
                    if self._reconciliation.start_if_due():
                        self._changed.notify_all()  # there may be something to verify now
                    request = self._reconciliation.next_request()
                    left = deadline - self._monotonic()
                    if request is not None or left <= 0:
                        return request
                    self._changed.wait(self._reconciliation.wait_time(left))
                return None
            finally:
                self._readers -= 1
                self._changed.notify_all()

    def received(self, response: link_pb2.InventoryResponse) -> None:
        """Apply a message of the control plane."""
        with self._changed:
            match response.WhichOneof("message"):
                case "ack":
                    self._outbox.acknowledge(response.ack.lane, response.ack.sequence)
                case "nack":
                    self._refused(response.nack)
                case "parity":
                    self._reconciliation.confirm_in_sync(response.parity.generation)
                case "bucket_contents":
                    self._reconciliation.compare_contents(response.bucket_contents)
                case "holdings":
                    self._reconciliation.begin_again(response.holdings)
                case "confirm_objects":
                    for reference in response.confirm_objects.references:
                        self._verification.request(key_of(reference), Reason.WANTED)
                case unknown:
                    log.warning("unknown message ignored", extra=fields(reason=unknown))
            self._changed.notify_all()

    # What heartbeats and the status line show.

    def counts(self) -> InventoryCounts:
        """Count what there is."""
        with self._changed:
            return InventoryCounts(
                len(self._replica),
                len(self._outbox),
                self._outbox.content_bytes,
                self._replica.complete,
            )

    def unreadable(self) -> list[link_pb2.UnreadableObject]:
        """List objects that could not be read, with reasons; bounded."""
        with self._changed:
            first = list(self._replica.unreadable.items())[:UNREADABLE_REPORTED]
        return [
            link_pb2.UnreadableObject(reference=reference_of(key), reason=reason)
            for key, reason in first
        ]

    # Below: under the lock, except _hash.

    def _hash(
        self, states: Iterable[inventory_pb2.InventoryObject], observed: bool
    ) -> Iterator[_HashedObject]:
        for state in states:
            observed_at = self._observation(state) if observed else None
            content = content_of(state)
            yield _HashedObject(
                key_of(state.reference), content, content_hash(content), observed_at
            )

    def _observation(self, state: inventory_pb2.InventoryObject) -> timestamp_pb2.Timestamp:
        moment = timestamp_pb2.Timestamp()
        if state.HasField("observed_at"):
            moment.CopyFrom(state.observed_at)
        else:
            moment.FromNanoseconds(int(self._now() * 1e9))
        return moment

    def _record(self, read: _HashedObject, lane: Lane, again: bool = False) -> bool:
        """Keep an object's state; whether it changed. ``again`` sends it even if not."""
        if len(read.content) > LARGEST_OBJECT:
            reason = f"{len(read.content)} bytes are too many for a message"
            self._replica.mark_unreadable(read.key, reason)
            return False
        changed = self._replica.record(read.key, read.hash)
        if changed or again or self._outbox.lacks_content(read.key):
            self._replica.clear_refusal(read.key)
            state = PendingState(
                self._replica.revision_of(read.key), read.hash, read.content, None, read.observed_at
            )
            self._outbox.enqueue(read.key, state, lane)
        return changed

    def _send_removal(self, key: str, reason: link_pb2.RemovalReason.ValueType) -> None:
        observed_at = timestamp_pb2.Timestamp()
        observed_at.FromNanoseconds(int(self._now() * 1e9))
        revision = self._replica.remove(key)
        self._verification.mark_seen(key)
        self._outbox.enqueue(
            key, PendingState(revision, removal=reason, observed_at=observed_at), CHANGES
        )
        facts = fields(object=key, reason=link_pb2.RemovalReason.Name(reason))
        log.info("object removed", extra=facts)

    def _apply_answer(
        self, key: str, read: _HashedObject | None, removal: link_pb2.RemovalReason.ValueType | None
    ) -> None:
        """Apply the answer about one object, unless its state is newer than the question."""
        question = self._verification.answered(key)
        if question is None:
            return
        wanted = question.reason is Reason.WANTED
        if self._replica.revision_of(key) != question.revision:
            if wanted:
                self._verification.request(key, Reason.WANTED)
        elif read is not None:
            lane = SNAPSHOT if question.reason is Reason.UNREAD else CHANGES
            self._record(read, lane, again=wanted)
        elif removal is not None:
            if key in self._replica or question.reason in (Reason.WANTED, Reason.FOREIGN):
                self._send_removal(key, removal)
        elif question.reason is not Reason.UNCONFIRMED:
            self._send_removal(key, link_pb2.REMOVAL_REASON_UNCONFIRMED)

    def _end_read(self) -> None:
        gone = self._replica.end_read()
        for key in gone:
            self._verification.request(key, Reason.UNCONFIRMED)
        self._reconciliation.prove_again()
        facts = fields(objects=len(self._replica), count=len(gone))
        log.info("vCenter read completely", extra=facts)

    def _refused(self, nack: link_pb2.Nack) -> None:
        key = key_of(nack.reference)
        if nack.content_hash:
            self._replica.mark_refused(key, nack.content_hash)
        facts = fields(object=key, reason=nack.status.message)
        log.warning("control plane refused an object", extra=facts)

    def _note_unreadable(self, unreadable: Iterable[link_pb2.UnreadableObject]) -> None:
        for each in unreadable:
            self._replica.mark_unreadable(key_of(each.reference), each.reason)

    def _has_verification(self) -> bool:
        return self._verification.has_waiting(self._outbox.unread(2 * CONFIRM_AT_ONCE))


def _removals(
    update: CollectorUpdate,
) -> Iterator[tuple[str, link_pb2.RemovalReason.ValueType]]:
    for removal in update.removals:
        yield key_of(removal.reference), removal.reason

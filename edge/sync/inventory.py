"""The edge's inventory: takes what the collector reads, gives the link what to send.

Every method may be called from any thread. One lock guards the parts, which are not safe for
threads themselves; waiting is by condition, so a change is on its way at once.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from google.protobuf import timestamp_pb2

from common.content_hash import content_hash, content_of, stamp
from common.references import key_of, reference_of
from edge.errors import VCenterReplacedError
from edge.interfaces import CONFIRM_AT_ONCE, CollectorUpdate
from edge.log import COUNT, OBJECT, OBJECTS, REASON, fields
from edge.sync.outbox import CHANGES, SNAPSHOT, Lane, Outbox, OutboxLimits, State
from edge.sync.reconciliation import Reconciliation
from edge.sync.replica import Replica
from edge.sync.verification_queue import Reason, VerificationQueue
from vsphere_gateway.v1 import inventory_pb2, link_pb2

LARGEST_OBJECT = 3 << 20
"""Bytes. An object beyond this would not fit into a message of 4 MiB with its wrapping."""
UNREADABLE_REPORTED = 100
"""Most unreadable objects that a heartbeat names."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class _Read:
    """An object as vCenter gave it, hashed outside of the lock."""

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
        self._snapshot = Replica()
        self._outbox = Outbox(limits)
        self._questions = VerificationQueue()
        self._passes = Reconciliation(self._snapshot, self._outbox, self._questions, monotonic)
        self._vcenter: inventory_pb2.VCenter | None = None
        self._attached = False
        self._closed = False
        self._readers = 0
        self._unreadable: dict[str, str] = {}

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
                    "the edge starts anew"
                )
            self._vcenter = vcenter
            self._snapshot.begin_read()
            self._questions.forget(Reason.DOUBTED)
            self._unreadable.clear()
            self._changed.notify_all()

    def apply(self, update: CollectorUpdate) -> None:
        """Take an answer of vCenter."""
        reads = list(self._hash(update.objects, observed=not update.full_read))
        lane = SNAPSHOT if update.full_read or update.newly_managed else CHANGES
        with self._changed:
            self._note_unreadable(update.unreadable)
            for read in reads:
                self._questions.seen(read.key)
                self._put(read, lane)
            for key, reason in _removals(update):
                self._remove(key, reason)
            if update.full_read and update.complete:
                self._end_read()
            elif update.newly_managed and update.complete:
                self._passes.read_completed()
            elif update.newly_managed:
                self._passes.reads_new_clusters()
            self._changed.notify_all()

    def observed(self, state: inventory_pb2.InventoryObject) -> inventory_pb2.InventoryObject:
        """Take what an operation read beside the collector; return it stamped.

        The collector may know better already, so vCenter is asked once more when it changes
        something.
        """
        stamped = inventory_pb2.InventoryObject()
        stamped.CopyFrom(state)
        with self._changed:
            for read in self._hash([state], observed=True):
                if self._put(read, CHANGES):
                    self._questions.add(read.key, Reason.DOUBTED)
                entry = self._snapshot.get(read.key)
                if entry is not None:
                    stamp(stamped, entry.hash, entry.revision)
            self._changed.notify_all()
        return stamped

    def next_verification(self, timeout: float) -> list[inventory_pb2.ObjectReference]:
        """Return what vCenter is to be asked about next.

        Empty after ``timeout`` seconds, or at once after ``close``.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_question(), timeout)
            unread = self._outbox.unread(2 * CONFIRM_AT_ONCE)
            keys = self._questions.take(unread, CONFIRM_AT_ONCE, self._revision)
            return [reference_of(key) for key in keys]

    def apply_verification(
        self, asked: Sequence[inventory_pb2.ObjectReference], answer: CollectorUpdate
    ) -> None:
        """Take vCenter's answer to a question."""
        reads = {read.key: read for read in self._hash(answer.objects, observed=True)}
        removals = dict(_removals(answer))
        with self._changed:
            self._note_unreadable(answer.unreadable)
            for key in map(key_of, asked):
                self._settle(key, reads.get(key), removals.get(key))
            self._changed.notify_all()

    def retry_verification(self, asked: Sequence[inventory_pb2.ObjectReference]) -> None:
        """vCenter could not be asked: ask again later."""
        with self._changed:
            self._questions.unanswered(map(key_of, asked))

    def close(self) -> None:
        """Let nobody wait for questions any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # What the link calls (edge.interfaces.InventorySource).

    def vcenter(self) -> inventory_pb2.VCenter | None:
        """Return the vCenter, or None before the first contact."""
        with self._changed:
            return self._vcenter

    def attach(self, holdings: link_pb2.Holdings) -> None:
        """Begin a call with what the control plane holds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._readers)
            self._outbox.rewind()
            self._attached = True
            self._passes.open(holdings)

    def detach(self) -> None:
        """End the call; what was sent and not acknowledged will be sent again."""
        with self._changed:
            self._attached = False
            self._outbox.rewind()
            self._passes.close()
            self._changed.notify_all()

    def next_request(self, timeout: float) -> link_pb2.InventoryRequest | None:
        """Return the next message to send; None after ``timeout`` seconds or a detach."""
        deadline = self._monotonic() + timeout
        with self._changed:
            self._readers += 1
            try:
                while self._attached:
                    if self._passes.start_if_due():
                        self._changed.notify_all()  # there may be questions now
                    request = self._passes.next_request()
                    left = deadline - self._monotonic()
                    if request is not None or left <= 0:
                        return request
                    self._changed.wait(self._passes.wait_time(left))
                return None
            finally:
                self._readers -= 1
                self._changed.notify_all()

    def received(self, response: link_pb2.InventoryResponse) -> None:
        """Take a message of the control plane."""
        with self._changed:
            match response.WhichOneof("message"):
                case "ack":
                    self._outbox.acknowledge(response.ack.lane, response.ack.sequence)
                case "nack":
                    self._refused(response.nack)
                case "parity":
                    self._passes.parity(response.parity.generation)
                case "bucket_contents":
                    self._passes.contents(response.bucket_contents)
                case "holdings":
                    self._passes.holdings(response.holdings)
                case "confirm_objects":
                    for reference in response.confirm_objects.references:
                        self._questions.add(key_of(reference), Reason.WANTED)
                case unknown:
                    log.warning("unknown message ignored", extra=fields({REASON: unknown}))
            self._changed.notify_all()

    # What heartbeats and the status line show.

    def counts(self) -> InventoryCounts:
        """Return how much there is."""
        with self._changed:
            return InventoryCounts(
                len(self._snapshot),
                len(self._outbox),
                self._outbox.content_bytes,
                self._snapshot.complete,
            )

    def unreadable(self) -> list[link_pb2.UnreadableObject]:
        """Return objects that could not be read, with reasons; bounded."""
        with self._changed:
            first = list(self._unreadable.items())[:UNREADABLE_REPORTED]
        return [
            link_pb2.UnreadableObject(reference=reference_of(key), reason=reason)
            for key, reason in first
        ]

    # Below: under the lock, except _hash.

    def _hash(
        self, states: Iterable[inventory_pb2.InventoryObject], observed: bool
    ) -> Iterator[_Read]:
        for state in states:
            observed_at = self._observation(state) if observed else None
            content = content_of(state)
            yield _Read(key_of(state.reference), content, content_hash(content), observed_at)

    def _observation(self, state: inventory_pb2.InventoryObject) -> timestamp_pb2.Timestamp:
        moment = timestamp_pb2.Timestamp()
        if state.HasField("observed_at"):
            moment.CopyFrom(state.observed_at)
        else:
            moment.FromNanoseconds(int(self._now() * 1e9))
        return moment

    def _put(self, read: _Read, lane: Lane, again: bool = False) -> bool:
        """Take an object's state; tell whether it changed. ``again`` sends it even if not."""
        if len(read.content) > LARGEST_OBJECT:
            self._snapshot.mention(read.key)
            self._unreadable[read.key] = f"{len(read.content)} bytes are too many for a message"
            return False
        self._unreadable.pop(read.key, None)
        changed = self._snapshot.put(read.key, read.hash)
        if changed or again or self._outbox.lacks_content(read.key):
            self._snapshot.readmit(read.key)
            state = State(self._revision(read.key), read.hash, read.content, None, read.observed_at)
            self._outbox.put(read.key, state, lane)
        return changed

    def _remove(self, key: str, reason: link_pb2.RemovalReason.ValueType) -> None:
        """Take a removal; nothing if neither side knows the object."""
        self._unreadable.pop(key, None)
        if key in self._snapshot:
            self._tell_removal(key, reason)

    def _tell_removal(self, key: str, reason: link_pb2.RemovalReason.ValueType) -> None:
        observed_at = timestamp_pb2.Timestamp()
        observed_at.FromNanoseconds(int(self._now() * 1e9))
        revision = self._snapshot.remove(key)
        self._questions.seen(key)
        self._outbox.put(key, State(revision, removal=reason, observed_at=observed_at), CHANGES)
        log.info(
            "object gone",
            extra=fields({OBJECT: key, REASON: link_pb2.RemovalReason.Name(reason)}),
        )

    def _settle(
        self, key: str, read: _Read | None, removal: link_pb2.RemovalReason.ValueType | None
    ) -> None:
        """Apply the answer about one object, unless the collector has known better since."""
        asked = self._questions.answered(key)
        if asked is None:
            return
        wanted = asked.why is Reason.WANTED
        if self._revision(key) != asked.revision:
            if wanted:
                self._questions.add(key, Reason.WANTED)
        elif read is not None:
            self._put(read, CHANGES if wanted else self._lane(asked.why), again=wanted)
        elif removal is not None:
            if key in self._snapshot or asked.why in (Reason.WANTED, Reason.FOREIGN):
                self._tell_removal(key, removal)
        elif asked.why is not Reason.DOUBTED:
            self._tell_removal(key, link_pb2.REMOVAL_REASON_UNCONFIRMED)

    def _lane(self, why: Reason) -> Lane:
        return SNAPSHOT if why is Reason.UNREAD else CHANGES

    def _end_read(self) -> None:
        gone = self._snapshot.end_read()
        for key in gone:
            self._questions.add(key, Reason.DOUBTED)
        self._passes.read_completed()
        log.info(
            "vCenter read completely",
            extra=fields({OBJECTS: len(self._snapshot), COUNT: len(gone)}),
        )

    def _refused(self, nack: link_pb2.Nack) -> None:
        key = key_of(nack.reference)
        if nack.content_hash:
            self._snapshot.refuse(key, nack.content_hash)
        log.warning(
            "control plane refused an object",
            extra=fields({OBJECT: key, REASON: nack.status.message}),
        )

    def _note_unreadable(self, unreadable: Iterable[link_pb2.UnreadableObject]) -> None:
        for each in unreadable:
            key = key_of(each.reference)
            self._snapshot.mention(key)
            self._unreadable[key] = each.reason

    def _revision(self, key: str) -> int:
        entry = self._snapshot.get(key)
        return entry.revision if entry else 0

    def _has_question(self) -> bool:
        return self._questions.any_waiting(self._outbox.unread(2 * CONFIRM_AT_ONCE))


def _removals(
    update: CollectorUpdate,
) -> Iterator[tuple[str, link_pb2.RemovalReason.ValueType]]:
    for removal in update.removals:
        yield key_of(removal.reference), removal.reason

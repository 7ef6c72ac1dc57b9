"""What the control plane has not acknowledged: latest states, in two lanes, bounded."""

import collections
import dataclasses
from typing import Final, TypeAlias

from google.protobuf import timestamp_pb2

from common.content_hash import stamp
from common.references import reference_of
from vsphere_gateway.v1 import link_pb2

Lane: TypeAlias = link_pb2.Lane.ValueType

CHANGES: Final = link_pb2.LANE_CHANGES
SNAPSHOT: Final = link_pb2.LANE_SNAPSHOT


@dataclasses.dataclass(frozen=True, slots=True)
class OutboxLimits:
    """Bounds on what waits and on what is in flight."""

    content_bytes: int = 32 << 20
    """Most bytes of content held; an object beyond them is read from vCenter again later."""
    batch_objects: int = 200
    """Most objects of a batch."""
    live_batch_objects: int = 50
    """Most objects of a snapshot's batch when both sides were in sync before: changes of what is
    followed already wait for the batch that is being written."""
    batch_bytes: int = 512 << 10
    """Most bytes of content of a batch, far below the 4 MiB that a message may have."""
    snapshot_window: int = 4
    """Most unacknowledged batches of the snapshot lane."""
    changes_window: int = 8
    """Most unacknowledged batches of the changes lane."""


@dataclasses.dataclass(slots=True)
class PendingState:
    """The state of one object that is to be sent: its content, or its removal."""

    revision: int
    hash: bytes = b""
    content: bytes | None = None
    """Deterministic serialisation; None for a removal, or when there was no room to keep it."""
    removal: link_pb2.RemovalReason.ValueType | None = None
    observed_at: timestamp_pb2.Timestamp | None = None

    @property
    def unread(self) -> bool:
        """The content must be read from vCenter again before it can be sent."""
        return self.content is None and self.removal is None

    @property
    def size(self) -> int:
        """Bytes that count against the limit."""
        return len(self.content or b"")


@dataclasses.dataclass(slots=True)
class _Item:
    """An object's latest state, and how far it has come."""

    state: PendingState
    lane: Lane
    pending: bool = True
    """Not sent yet in this state."""
    in_flight: int = 0
    """Unacknowledged batches that carry some state of it."""


@dataclasses.dataclass(slots=True)
class _Batch:
    sequence: int
    keys: list[str]


class Outbox:
    """Latest state per object, until it is acknowledged.

    Not safe for threads; ``edge.sync.inventory`` holds the lock.
    """

    def __init__(self, limits: OutboxLimits) -> None:
        self._limits = limits
        self._window = {SNAPSHOT: limits.snapshot_window, CHANGES: limits.changes_window}
        self._bytes = 0
        self._items: dict[str, _Item] = {}
        self._ready: dict[Lane, dict[str, None]] = {CHANGES: {}, SNAPSHOT: {}}
        self._unread: dict[str, None] = {}
        self._in_flight: dict[Lane, collections.deque[_Batch]] = {
            CHANGES: collections.deque(),
            SNAPSHOT: collections.deque(),
        }
        self._sequence: dict[Lane, int] = {CHANGES: 0, SNAPSHOT: 0}

    def __len__(self) -> int:
        """Number of objects that are not acknowledged."""
        return len(self._items)

    def __contains__(self, key: str) -> bool:
        return key in self._items

    @property
    def content_bytes(self) -> int:
        """Bytes of content held."""
        return self._bytes

    @property
    def has_pending(self) -> bool:
        """Something has not been sent in its latest state."""
        return bool(self._ready[CHANGES] or self._ready[SNAPSHOT] or self._unread)

    def in_flight(self, lane: Lane) -> int:
        """Number of unacknowledged batches of a lane."""
        return len(self._in_flight[lane])

    def is_removing(self, key: str) -> bool:
        """Whether a removal of the object waits or is in flight."""
        item = self._items.get(key)
        return item is not None and item.state.removal is not None

    def lacks_content(self, key: str) -> bool:
        """Whether the object waits and its content must be read again."""
        return key in self._unread

    def enqueue(self, key: str, state: PendingState, lane: Lane) -> None:
        """Have ``state`` sent; it replaces what has not been sent of the object."""
        item = self._items.get(key)
        in_flight = item.in_flight if item else 0
        if item is not None:
            if item.pending and item.lane == CHANGES:
                lane = CHANGES
            self._drop(key, item)
        if state.content is not None and not self._make_room(state.size, lane):
            state.content = None
        self._items[key] = _Item(state, lane, in_flight=in_flight)
        self._bytes += state.size
        self._queue(key)

    def enqueue_without_content(self, key: str, revision: int, hash_: bytes, lane: Lane) -> None:
        """Have an object's state sent whose content is to be read, unless it waits already."""
        if key not in self._items:
            self.enqueue(key, PendingState(revision, hash_), lane)

    def withdraw(self, key: str) -> None:
        """The control plane holds this state already; nothing if it has been sent since."""
        item = self._items.get(key)
        if item is not None and item.pending and item.lane == SNAPSHOT and not item.in_flight:
            self._drop(key, item)

    def unread(self, most: int) -> list[str]:
        """List objects to read again, at most ``most``; none while there is no room."""
        if self._bytes > self._limits.content_bytes // 2:
            return []
        return [key for key, _ in zip(self._unread, range(most), strict=False)]

    def next_batch(
        self, lane: Lane, generation: int, *, live: bool = False
    ) -> link_pb2.ObjectBatch | None:
        """Build the next batch of a lane; None if nothing waits or the window is full.

        ``live`` keeps it small: others wait for it.
        """
        if not self._ready[lane] or len(self._in_flight[lane]) >= self._window[lane]:
            return None
        limits = self._limits
        most = (
            min(limits.batch_objects, limits.live_batch_objects) if live else limits.batch_objects
        )
        keys = self._dequeue(lane, most)
        self._sequence[lane] += 1
        self._in_flight[lane].append(_Batch(self._sequence[lane], keys))
        batch = link_pb2.ObjectBatch(
            lane=lane,
            sequence=self._sequence[lane],
            generation=generation if lane == SNAPSHOT else 0,
        )
        for key in keys:
            _add(batch, key, self._items[key].state)
        return batch

    def acknowledge(self, lane: Lane, sequence: int) -> None:
        """Forget what batches up to ``sequence`` carried, unless it has changed since."""
        batches = self._in_flight[lane]
        while batches and batches[0].sequence <= sequence:
            for key in batches.popleft().keys:
                item = self._items[key]
                item.in_flight -= 1
                if not item.pending and not item.in_flight:
                    self._drop(key, item)

    def rewind(self) -> None:
        """The call has ended: what was not acknowledged is to be sent again, first."""
        for lane, batches in self._in_flight.items():
            later, self._ready[lane] = self._ready[lane], {}
            for key in [key for batch in batches for key in batch.keys]:
                self._items[key].in_flight = 0
                if not self._items[key].pending:
                    self._items[key].pending = True
                    self._ready[self._items[key].lane][key] = None
            self._ready[lane].update(later)
            batches.clear()

    def _queue(self, key: str) -> None:
        item = self._items[key]
        (self._unread if item.state.unread else self._ready[item.lane])[key] = None

    def _drop(self, key: str, item: _Item) -> None:
        del self._items[key]
        self._ready[item.lane].pop(key, None)
        self._unread.pop(key, None)
        self._bytes -= item.state.size

    def _make_room(self, size: int, lane: Lane) -> bool:
        """Whether ``size`` bytes fit; a change may push out content of the snapshot lane."""
        while lane == CHANGES and self._bytes + size > self._limits.content_bytes and self._evict():
            pass
        return self._bytes + size <= self._limits.content_bytes

    def _evict(self) -> bool:
        """Drop the content of the last object that waits in the snapshot lane."""
        for key in reversed(self._ready[SNAPSHOT]):
            state = self._items[key].state
            if state.content is None:
                continue
            self._bytes -= state.size
            state.content = None
            del self._ready[SNAPSHOT][key]
            self._unread[key] = None
            return True
        return False

    def _dequeue(self, lane: Lane, most: int) -> list[str]:
        keys: list[str] = []
        size = 0
        for key in self._ready[lane]:
            size += self._items[key].state.size
            if keys and (len(keys) == most or size > self._limits.batch_bytes):
                break
            keys.append(key)
        for key in keys:
            del self._ready[lane][key]
            self._items[key].pending = False
            self._items[key].in_flight += 1
        return keys


def _add(batch: link_pb2.ObjectBatch, key: str, state: PendingState) -> None:
    if state.removal is not None:
        batch.removals.append(
            link_pb2.ObjectRemoval(
                reference=reference_of(key),
                reason=state.removal,
                revision=state.revision,
                observed_at=state.observed_at,
            )
        )
        return
    message = batch.objects.add()
    message.ParseFromString(state.content or b"")
    stamp(message, state.hash, state.revision)
    if state.observed_at is not None:
        message.observed_at.CopyFrom(state.observed_at)

"""The control plane's end of the sync protocol in memory.

Stands for controlplane/gateway and controlplane/inventory: it follows
docs/concepts/sync-protocol.md to the letter, asserts that the edge does, and keeps what it
"commits" in dictionaries. It has no Nova, no database and no delays of its own; a test can have it
refuse objects or lose everything.
"""

import dataclasses
from collections.abc import Callable

from google.rpc import code_pb2, status_pb2

from common.content_hash import content_hash, content_of
from common.digests import bucket_of, digests_of
from common.references import key_of
from vsphere_gateway.v1 import inventory_pb2, link_pb2

MESSAGE_LIMIT = 4 << 20


@dataclasses.dataclass
class _Call:
    opened: link_pb2.InventoryOpen
    received: dict[int, int] = dataclasses.field(default_factory=dict)
    acknowledged: dict[int, int] = dataclasses.field(default_factory=dict)


class InventoryReceiver:
    """Holds what an edge sent, across calls."""

    def __init__(
        self, refuse: Callable[[inventory_pb2.InventoryObject], str] = lambda state: ""
    ) -> None:
        self.refuse = refuse
        """Returns why an object is refused, or an empty text."""
        self.held: dict[str, inventory_pb2.InventoryObject] = {}
        self.removed: dict[str, int] = {}
        """Reason of the last removal by key."""
        self.removal_count: dict[str, int] = {}
        self.quarantine: dict[str, str] = {}
        self.parities: list[int] = []
        self.batches: list[link_pb2.ObjectBatch] = []
        self.bytes_received = 0
        self._epoch = 0
        self._revisions: dict[str, int] = {}
        self._call: _Call | None = None

    def lose_everything(self) -> None:
        """The database was replaced by an empty one; calls do not survive that."""
        self.held.clear()
        self.quarantine.clear()
        self._revisions.clear()

    def hashes(self) -> dict[str, bytes]:
        """What counts in digests."""
        return {key: state.content_hash for key, state in self.held.items()}

    def holdings(self) -> link_pb2.Holdings:
        """Describe what is held."""
        digests = digests_of(self.hashes().items())
        return link_pb2.Holdings(
            object_count=digests.count,
            bucket_digests=digests.to_bytes() if digests.count else b"",
        )

    def open(self, opened: link_pb2.InventoryOpen) -> list[link_pb2.InventoryResponse]:
        """A call begins."""
        if opened.epoch != self._epoch:
            self._epoch = opened.epoch
            self._revisions.clear()
        self._call = _Call(opened)
        return [link_pb2.InventoryResponse(holdings=self.holdings())]

    def receive(self, request: link_pb2.InventoryRequest) -> list[link_pb2.InventoryResponse]:
        """Apply one message; return the answers in order."""
        self.bytes_received += request.ByteSize()
        assert request.ByteSize() < MESSAGE_LIMIT
        match request.WhichOneof("message"):
            case "batch":
                return self._apply(request.batch)
            case "bucket_query":
                return [link_pb2.InventoryResponse(bucket_contents=self._contents(request))]
            case "snapshot_end":
                return [self._compare(request.snapshot_end)]
            case other:
                raise AssertionError(f"unexpected message {other}")

    def _contents(self, request: link_pb2.InventoryRequest) -> link_pb2.BucketContents:
        query = request.bucket_query
        contents = link_pb2.BucketContents(generation=query.generation)
        for state in self.held.values():
            if bucket_of(key_of(state.reference)) in query.buckets:
                contents.objects.add(reference=state.reference, content_hash=state.content_hash)
        return contents

    def _compare(self, end: link_pb2.SnapshotEnd) -> link_pb2.InventoryResponse:
        mine = digests_of(self.hashes().items())
        if (mine.count, mine.to_bytes()) != (end.object_count, end.bucket_digests):
            return link_pb2.InventoryResponse(holdings=self.holdings())
        self.parities.append(end.generation)
        return link_pb2.InventoryResponse(parity=link_pb2.Parity(generation=end.generation))

    def _apply(self, batch: link_pb2.ObjectBatch) -> list[link_pb2.InventoryResponse]:
        self._check_order(batch)
        self.batches.append(batch)
        answers = [nack for state in batch.objects if (nack := self._take(state))]
        for removal in batch.removals:
            self._take_removal(removal)
        assert self._call
        ack = link_pb2.Ack(epoch=self._call.opened.epoch, lane=batch.lane, sequence=batch.sequence)
        self._call.acknowledged[batch.lane] = batch.sequence
        return [*answers, link_pb2.InventoryResponse(ack=ack)]

    def _check_order(self, batch: link_pb2.ObjectBatch) -> None:
        assert self._call
        assert batch.objects or batch.removals, "an empty batch"
        assert bool(batch.generation) == (batch.lane == link_pb2.LANE_SNAPSHOT)
        last = self._call.received.get(batch.lane)
        assert last is None or batch.sequence == last + 1, "a gap in the sequence"
        self._call.received[batch.lane] = batch.sequence

    def _take(self, state: inventory_pb2.InventoryObject) -> link_pb2.InventoryResponse | None:
        key = key_of(state.reference)
        assert state.revision
        if state.revision < self._revisions.get(key, 0):
            return None
        self._revisions[key] = state.revision
        copy = inventory_pb2.InventoryObject()
        copy.CopyFrom(state)
        assert content_hash(content_of(copy)) == state.content_hash
        reason = self.refuse(state)
        if reason:
            self.held.pop(key, None)
            self.quarantine[key] = reason
            return _nack(state, reason)
        self.quarantine.pop(key, None)
        self.held[key] = state
        return None

    def _take_removal(self, removal: link_pb2.ObjectRemoval) -> None:
        key = key_of(removal.reference)
        assert removal.reason
        assert removal.revision
        if removal.revision < self._revisions.get(key, 0):
            return
        self._revisions[key] = removal.revision
        self.quarantine.pop(key, None)
        if self.held.pop(key, None) is not None:
            self.removed[key] = removal.reason
            self.removal_count[key] = self.removal_count.get(key, 0) + 1


def _nack(state: inventory_pb2.InventoryObject, reason: str) -> link_pb2.InventoryResponse:
    status = status_pb2.Status(code=code_pb2.FAILED_PRECONDITION, message=reason)
    return link_pb2.InventoryResponse(
        nack=link_pb2.Nack(
            reference=state.reference, content_hash=state.content_hash, status=status
        )
    )

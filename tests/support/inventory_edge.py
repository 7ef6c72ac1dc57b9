"""The edge's end of an inventory stream, in this process, for one generated site.

Follows docs/concepts/sync-protocol.md with nothing of the edge's own code, so that tests may also
break its rules. Every wait has a deadline.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from tests.support.generated_vcenter import GeneratedVCenter, digests_of, key_of
from vsphere_gateway.v1 import inventory_pb2, link_pb2

BATCH = 200
WINDOW = 8
PATIENCE = 60.0
MOST_PASSES = 10


class Feed(Protocol):
    """What the control plane gives."""

    def holdings(self) -> link_pb2.Holdings: ...

    def receive(self, request: link_pb2.InventoryRequest) -> None: ...

    def close(self) -> None: ...


class Inventory(Protocol):
    """Who gives it."""

    def open(self, edge_name: str, opened: link_pb2.InventoryOpen, sink: "FeedEdge") -> Feed: ...


class FeedEdge:
    """A fake edge with one open stream."""

    def __init__(self, inventory: Inventory, site: GeneratedVCenter, *, epoch: int = 1) -> None:
        """``open`` begins the stream."""
        self.site = site
        self.epoch = epoch
        self.nacks: dict[str, link_pb2.Nack] = {}
        self.confirmed: list[str] = []
        self.parities = 0
        self.passes_wanted = 0
        self.sent_objects = 0
        self.batch = BATCH
        self.hidden: set[str] = set()
        """What exists although the site's user does not see it."""
        self._inventory = inventory
        self._feed: Feed | None = None
        self._generation = 0
        self._sequences = dict.fromkeys((link_pb2.LANE_CHANGES, link_pb2.LANE_SNAPSHOT), 0)
        self._acked = dict.fromkeys((link_pb2.LANE_CHANGES, link_pb2.LANE_SNAPSHOT), 0)
        self._held: link_pb2.Holdings | None = None
        self._contents: link_pb2.BucketContents | None = None
        self._to_confirm: list[str] = []
        self._changed = threading.Condition()
        self.refused: dict[str, bytes] = {}

    def send(self, response: link_pb2.InventoryResponse) -> None:
        """Take a response of the control plane (``InventorySink``)."""
        with self._changed:
            match response.WhichOneof("message"):
                case "ack":
                    self._acked[response.ack.lane] = response.ack.sequence
                case "nack":
                    key = key_of(response.nack.reference)
                    self.nacks[key] = response.nack
                    self.refused[key] = response.nack.content_hash
                case "parity":
                    self.parities += 1
                case "holdings":
                    self._held = response.holdings
                    self.passes_wanted += 1
                case "bucket_contents":
                    self._contents = response.bucket_contents
                case "confirm_objects":
                    self._to_confirm += map(key_of, response.confirm_objects.references)
            self._changed.notify_all()

    def open(self) -> link_pb2.Holdings:
        """Begin a stream and return what the control plane holds."""
        opened = link_pb2.InventoryOpen(
            epoch=self.epoch, vcenter=self.site.about, window=WINDOW, changes_window=WINDOW
        )
        self._feed = self._inventory.open("edge-1", opened, self)
        return self._feed.holdings()

    def close(self) -> None:
        """End the stream."""
        if self._feed is not None:
            self._feed.close()
            self._feed = None

    def synchronise(self, keys: Sequence[str] | None = None) -> int:
        """Open if needed, and pass until parity; returns the number of objects sent.

        ``keys`` gives the order of a first pass.
        """
        held = self.open() if self._feed is None else self._feed.holdings()
        before, parities = self.sent_objects, self.parities
        if held.object_count == 0:
            self.snapshot([self.site.objects[key] for key in keys or self.site.objects])
        else:
            self._send_differences(held)
        passes = 0
        while not self._pass_ends(parities):
            passes += 1
            assert passes < MOST_PASSES, "both sides never hold the same"
            self._send_differences(self._held or link_pb2.Holdings())
        return self.sent_objects - before

    def snapshot(self, objects: Iterable[inventory_pb2.InventoryObject]) -> None:
        """Send objects in the snapshot lane, within the window, and wait for the last ack."""
        some = list(objects)
        for start in range(0, len(some), self.batch):
            self.send_batch(link_pb2.LANE_SNAPSHOT, some[start : start + self.batch], wait=False)
        self._wait_acked(link_pb2.LANE_SNAPSHOT)

    def changes(self, *entries: inventory_pb2.InventoryObject | link_pb2.ObjectRemoval) -> None:
        """Send changes in one batch, and wait for the ack."""
        objects = [one for one in entries if isinstance(one, inventory_pb2.InventoryObject)]
        removals = [one for one in entries if isinstance(one, link_pb2.ObjectRemoval)]
        self.send_batch(link_pb2.LANE_CHANGES, objects, removals)

    def send_batch(
        self,
        lane: "link_pb2.Lane.ValueType",
        objects: Sequence[inventory_pb2.InventoryObject],
        removals: Sequence[link_pb2.ObjectRemoval] = (),
        *,
        wait: bool = True,
    ) -> int:
        """Send one batch and return its sequence; waits for room in the window."""
        self.wait(lambda: self._sequences[lane] - self._acked[lane] < WINDOW, "room in the window")
        return self.force_batch(lane, objects, removals, wait=wait)

    def force_batch(
        self,
        lane: "link_pb2.Lane.ValueType",
        objects: Sequence[inventory_pb2.InventoryObject],
        removals: Sequence[link_pb2.ObjectRemoval] = (),
        *,
        wait: bool = False,
    ) -> int:
        """Send one batch whatever the window says."""
        self._sequences[lane] += 1
        batch = link_pb2.ObjectBatch(
            lane=lane, sequence=self._sequences[lane], objects=objects, removals=removals
        )
        self.sent_objects += len(objects)
        for one in objects:
            self.refused.pop(key_of(one.reference), None)
        self._receive(link_pb2.InventoryRequest(batch=batch))
        if wait:
            self._wait_acked(lane)
        return batch.sequence

    def answer(self) -> list[str]:
        """Answer what the control plane wants confirmed from what is there; return the keys."""
        with self._changed:
            keys, self._to_confirm = list(dict.fromkeys(self._to_confirm)), []
        self.confirmed += keys
        objects = [self.site.objects[key] for key in keys if key in self.site.objects]
        gone = [key for key in keys if key not in self.site.objects]
        removals = [self._gone(key) for key in gone]
        if keys:
            self.send_batch(link_pb2.LANE_CHANGES, objects, removals)
        return keys

    def wait(self, condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Wait until the control plane has brought something about."""
        deadline = time.monotonic() + patience
        with self._changed:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no {what} within {patience:g} s")
                self._changed.wait(min(left, 0.05))

    def wait_asked(self) -> None:
        """Wait until something is to be confirmed."""
        self.wait(lambda: bool(self._to_confirm), "question")

    def unacked(self) -> int:
        """Return how many batches are under way."""
        return sum(self._sequences[lane] - self._acked[lane] for lane in self._sequences)

    def _gone(self, key: str) -> link_pb2.ObjectRemoval:
        type_name, _, value = key.partition(":")
        self.site.revision += 1
        hidden = key in self.hidden
        return link_pb2.ObjectRemoval(
            reference=inventory_pb2.ObjectReference(type=type_name, value=value),
            reason=link_pb2.REMOVAL_REASON_HIDDEN if hidden else link_pb2.REMOVAL_REASON_DELETED,
            revision=self.site.revision,
        )

    def _pass_ends(self, parities: int) -> bool:
        self._generation += 1
        self._held = None
        hashes = {
            key: content_hash
            for key, content_hash in self.site.hashes().items()
            if key not in self.refused
        }
        end = link_pb2.SnapshotEnd(
            generation=self._generation,
            object_count=len(hashes),
            bucket_digests=digests_of(hashes),
        )
        self._receive(link_pb2.InventoryRequest(snapshot_end=end))
        self.wait(lambda: self.parities > parities or self._held is not None, "end of the pass")
        return self.parities > parities

    def _send_differences(self, held: link_pb2.Holdings) -> None:
        mine = digests_of(self.site.hashes())
        theirs = held.bucket_digests or bytes(2048)
        differing = [n for n in range(256) if mine[n * 8 : n * 8 + 8] != theirs[n * 8 : n * 8 + 8]]
        self._contents = None
        query = link_pb2.BucketQuery(generation=self._generation, buckets=differing)
        self._receive(link_pb2.InventoryRequest(bucket_query=query))
        self.wait(lambda: self._contents is not None, "contents of buckets")
        assert self._contents is not None
        contents = {key_of(one.reference): one.content_hash for one in self._contents.objects}
        different = [
            one
            for key, one in self.site.objects.items()
            if _bucket(key) in set(differing)
            and contents.get(key) != one.content_hash
            and key not in self.refused
        ]
        self.snapshot(different)
        gone = [self._gone(key) for key in contents if key not in self.site.objects]
        if gone:
            self.changes(*gone)

    def _receive(self, request: link_pb2.InventoryRequest) -> None:
        assert self._feed is not None
        self._feed.receive(request)

    def _wait_acked(self, lane: "link_pb2.Lane.ValueType") -> None:
        wanted = self._sequences[lane]
        self.wait(lambda: self._acked[lane] >= wanted, "ack")


def _bucket(key: str) -> int:
    return hashlib.sha256(key.encode()).digest()[0]

"""What is held of one vCenter: hashes and revisions in memory, never the objects themselves."""

import threading
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from common.digests import Digests, bucket_of
from common.references import reference_of
from controlplane.store.own.objects import REPORTED, ObjectStatus
from vsphere_gateway.v1 import link_pb2


class Freshness(Enum):
    """How a state that an edge reports compares with what is held."""

    NEW = "new"
    """It has to be applied."""
    SAME = "same"
    """It is held already: a repetition, or a confirmation that was asked for."""
    STALE = "stale"
    """A later state has been applied."""


@dataclass(slots=True)
class Held:
    """What is kept of one object."""

    kind: int
    content_hash: bytes
    epoch: int
    revision: int
    status: ObjectStatus


class ReplicaDigest:
    """Every object of one vCenter. Changed by one thread, read by any."""

    def __init__(self) -> None:
        """Start empty."""
        self._held: dict[str, Held] = {}
        self._gone: dict[str, tuple[int, int]] = {}
        self._digests = Digests()
        self._lock = threading.Lock()

    def get(self, key: str) -> Held | None:
        """What is held of an object."""
        return self._held.get(key)

    def freshness(self, key: str, content_hash: bytes, epoch: int, revision: int) -> Freshness:
        """Compare a reported state with the one held. Revision 0 is never stale."""
        if self.stale(key, epoch, revision):
            return Freshness.STALE
        held = self._held.get(key)
        if held is None or held.status not in REPORTED or held.content_hash != content_hash:
            return Freshness.NEW
        return Freshness.SAME

    def stale(self, key: str, epoch: int, revision: int) -> bool:
        """Whether a later state or removal of the same epoch has been taken."""
        held = self._held.get(key)
        if held is not None:
            taken = (held.epoch, held.revision)
        else:
            taken = self._gone.get(key, (0, 0))
        return revision > 0 and taken[0] == epoch and revision < taken[1]

    def put(self, key: str, held: Held) -> None:
        """Take a state that has been committed."""
        with self._lock:
            self._count_out(key)
            self._held[key] = held
            if held.status in REPORTED:
                self._digests.add(key, held.content_hash)
            self._gone.pop(key, None)

    def set_status(self, key: str, status: ObjectStatus) -> None:
        """Change how far the control plane got with an object that is held."""
        with self._lock:
            held = self._held[key]
            self._count_out(key)
            held.status = status
            if status in REPORTED:
                self._digests.add(key, held.content_hash)

    def repeat(self, key: str, epoch: int, revision: int) -> None:
        """Note that a state was reported again, or no longer shown, with a later revision."""
        held = self._held[key]
        held.revision = max(held.revision, revision) if held.epoch == epoch else revision
        held.epoch = epoch

    def drop(self, key: str, epoch: int, revision: int) -> None:
        """Forget an object, and remember until the end of the call which removal did it."""
        with self._lock:
            self._count_out(key)
            self._held.pop(key, None)
            self._gone[key] = (epoch, revision)

    def end_of_call(self) -> None:
        """The stream has ended: no older state of a removed object can come now."""
        self._gone.clear()

    def message(self) -> link_pb2.Holdings:
        """Count and digests for the edge."""
        with self._lock:
            return link_pb2.Holdings(
                object_count=self._digests.count, bucket_digests=self._digests.to_bytes()
            )

    def equal(self, end: link_pb2.SnapshotEnd) -> bool:
        """Whether the edge's snapshot is what is held."""
        return self._digests.equal(end.object_count, end.bucket_digests)

    def contents(self, query: link_pb2.BucketQuery) -> link_pb2.BucketContents:
        """The objects in some buckets."""
        wanted = frozenset(query.buckets)
        answer = link_pb2.BucketContents(generation=query.generation)
        for key, held in self._held.items():
            if held.status in REPORTED and bucket_of(key) in wanted:
                answer.objects.add(reference=reference_of(key), content_hash=held.content_hash)
        return answer

    def keys(self, statuses: Collection[ObjectStatus]) -> list[str]:
        """The keys of objects with one of some statuses, in a stable order."""
        return sorted(key for key, held in self._held.items() if held.status in statuses)

    def keys_of_kinds(self, kinds: Collection[int]) -> list[str]:
        """The keys of objects of some kinds, in a stable order."""
        return sorted(key for key, held in self._held.items() if held.kind in kinds)

    def _count_out(self, key: str) -> None:
        held = self._held.get(key)
        if held is not None and held.status in REPORTED:
            self._digests.remove(key, held.content_hash)

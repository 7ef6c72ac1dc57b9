"""Keys, content hashes and bucketed digests, as docs/sync-protocol.md defines them."""

import hashlib
from collections.abc import Iterable

from vsphere_gateway.v1 import inventory_pb2

HASH_BYTES = 16
DIGEST_BYTES = 8
BUCKETS = 256

_EMPTY_DIGESTS = bytes(DIGEST_BYTES * BUCKETS)


def key_of(reference: inventory_pb2.ObjectReference) -> str:
    """Return ``type:value``, the key of an object in its vCenter."""
    return f"{reference.type}:{reference.value}"


def reference_of(key: str) -> inventory_pb2.ObjectReference:
    """Return the reference that ``key_of`` made a key of."""
    type_name, _, value = key.partition(":")
    return inventory_pb2.ObjectReference(type=type_name, value=value)


def content_of(state: inventory_pb2.InventoryObject) -> bytes:
    """Return the deterministic serialisation without hash, revision and time of observation.

    Clears those three fields of ``state``.
    """
    state.ClearField("content_hash")
    state.ClearField("revision")
    state.ClearField("observed_at")
    return state.SerializeToString(deterministic=True)


def content_hash(content: bytes) -> bytes:
    """Return the hash of what ``content_of`` returned."""
    return hashlib.sha256(content).digest()[:HASH_BYTES]


def stamp(state: inventory_pb2.InventoryObject, hash_: bytes, revision: int) -> None:
    """Set what the inventory adds to an object that vCenter reported."""
    state.content_hash = hash_
    state.revision = revision


def bucket_of(key: str) -> int:
    """Return the bucket of a key, 0 to 255."""
    return hashlib.sha256(key.encode()).digest()[0]


class Digests:
    """Bucketed digests that are kept up to date object by object."""

    def __init__(self) -> None:
        self._values = [0] * BUCKETS
        self.count = 0

    def add(self, key: str, hash_: bytes) -> None:
        """Count an object in."""
        self._toggle(key, hash_)
        self.count += 1

    def remove(self, key: str, hash_: bytes) -> None:
        """Count out an object that was counted in with this hash."""
        self._toggle(key, hash_)
        self.count -= 1

    def _toggle(self, key: str, hash_: bytes) -> None:
        digest = hashlib.sha256(key.encode() + hash_).digest()
        self._values[bucket_of(key)] ^= int.from_bytes(digest[:DIGEST_BYTES], "big")

    def to_bytes(self) -> bytes:
        """Return the digests in bucket order, in the form of ``Holdings.bucket_digests``."""
        return b"".join(value.to_bytes(DIGEST_BYTES, "big") for value in self._values)

    def differing(self, others: bytes) -> list[int]:
        """Return the buckets in which ``others`` differ; empty ``others`` hold nothing."""
        mine, theirs = self.to_bytes(), others or _EMPTY_DIGESTS
        return [
            bucket for bucket in range(BUCKETS) if _slice(mine, bucket) != _slice(theirs, bucket)
        ]


def digests_of(hashes: Iterable[tuple[str, bytes]]) -> Digests:
    """Return the digests of keys and hashes."""
    digests = Digests()
    for key, hash_ in hashes:
        digests.add(key, hash_)
    return digests


def _slice(digests: bytes, bucket: int) -> bytes:
    return digests[bucket * DIGEST_BYTES : (bucket + 1) * DIGEST_BYTES]

"""Bucketed digests of keys and content hashes, as docs/concepts/sync-protocol.md defines them."""

import hashlib
from collections.abc import Iterable

BUCKETS = 256
DIGEST_BYTES = 8

_EMPTY = bytes(DIGEST_BYTES * BUCKETS)


def bucket_of(key: str) -> int:
    """Compute the bucket of a key, 0 to 255."""
    return hashlib.sha256(key.encode()).digest()[0]


class Digests:
    """The XOR of what is held, by bucket, kept up to date object by object."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._values = [0] * BUCKETS
        self.count = 0

    def add(self, key: str, content_hash: bytes) -> None:
        """Count an object in."""
        self._toggle(key, content_hash)
        self.count += 1

    def remove(self, key: str, content_hash: bytes) -> None:
        """Count out an object that was counted in with this hash."""
        self._toggle(key, content_hash)
        self.count -= 1

    def to_bytes(self) -> bytes:
        """Serialize in bucket order (``Holdings.bucket_digests``); empty when nothing is held."""
        if not self.count:
            return b""
        return b"".join(value.to_bytes(DIGEST_BYTES, "big") for value in self._values)

    def equal(self, count: int, digests: bytes) -> bool:
        """Whether the other side holds the same. All zeros and empty mean the same."""
        return count == self.count and (self.to_bytes() or _EMPTY) == (digests or _EMPTY)

    def differing(self, others: bytes) -> list[int]:
        """List the buckets in which ``others`` differ; empty ``others`` hold nothing."""
        mine, theirs = self.to_bytes() or _EMPTY, others or _EMPTY
        return [
            bucket for bucket in range(BUCKETS) if _slice(mine, bucket) != _slice(theirs, bucket)
        ]

    def _toggle(self, key: str, content_hash: bytes) -> None:
        encoded = key.encode()
        digest = hashlib.sha256(encoded + content_hash).digest()
        bucket = hashlib.sha256(encoded).digest()[0]
        self._values[bucket] ^= int.from_bytes(digest[:DIGEST_BYTES], "big")


def digests_of(hashes: Iterable[tuple[str, bytes]]) -> Digests:
    """Build the digests of keys and hashes."""
    digests = Digests()
    for key, content_hash in hashes:
        digests.add(key, content_hash)
    return digests


def _slice(digests: bytes, bucket: int) -> bytes:
    return digests[bucket * DIGEST_BYTES : (bucket + 1) * DIGEST_BYTES]

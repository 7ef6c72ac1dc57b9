"""Bucketed digests as docs/sync-protocol.md defines them, kept up to date object by object."""

import hashlib

BUCKETS = 256
DIGEST_BYTES = 8


def bucket_of(key: str) -> int:
    """Return the bucket of a key, 0 to 255."""
    return hashlib.sha256(key.encode()).digest()[0]


class Digests:
    """The XOR of what is held, by bucket."""

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
        """Return the digests in bucket order; empty when nothing is held."""
        if not self.count:
            return b""
        return b"".join(value.to_bytes(DIGEST_BYTES, "big") for value in self._values)

    def equal(self, count: int, digests: bytes) -> bool:
        """Tell whether the other side holds the same. All zeros and empty mean the same."""
        mine = self.to_bytes() or bytes(BUCKETS * DIGEST_BYTES)
        return count == self.count and mine == (digests or bytes(BUCKETS * DIGEST_BYTES))

    def _toggle(self, key: str, content_hash: bytes) -> None:
        encoded = key.encode()
        digest = hashlib.sha256(encoded + content_hash).digest()
        bucket = hashlib.sha256(encoded).digest()[0]
        self._values[bucket] ^= int.from_bytes(digest[:DIGEST_BYTES], "big")

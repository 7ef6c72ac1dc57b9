"""What changed: snapshot, content hashes, digests and the outbox of what is not acknowledged."""

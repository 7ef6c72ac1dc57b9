"""The content hash of an inventory object, as docs/concepts/sync-protocol.md defines it."""

import hashlib

from vsphere_gateway.v1 import inventory_pb2

HASH_BYTES = 16


def content_of(state: inventory_pb2.InventoryObject) -> bytes:
    """Serialize an object deterministically, without hash, revision and time of observation.

    Clears those three fields of ``state``.
    """
    state.ClearField("content_hash")
    state.ClearField("revision")
    state.ClearField("observed_at")
    return state.SerializeToString(deterministic=True)


def content_hash(content: bytes) -> bytes:
    """Hash what ``content_of`` returned."""
    return hashlib.sha256(content).digest()[:HASH_BYTES]


def stamp(state: inventory_pb2.InventoryObject, hash_: bytes, revision: int) -> None:
    """Set what the inventory adds to an object that vCenter reported."""
    state.content_hash = hash_
    state.revision = revision

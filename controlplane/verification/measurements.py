"""What vCenter measures: it fluctuates, is announced late or not at all, and is no state. Pure.

It is part of an object's content hash all the same, so that two hashes that differ do not tell.
"""

from controlplane.store.own.readers import HeldObject
from vsphere_gateway.v1 import inventory_pb2

MEASURED = inventory_pb2.OBJECT_KIND_DATASTORE
"""The one kind of object that carries a measurement: its free space."""


def differ_in_state(
    one: inventory_pb2.InventoryObject, held: HeldObject, body: bytes | None
) -> bool:
    """Whether a datastore and what is held of it differ in more than free space.

    ``body`` is what is stored of it, and counts only if the hash that is held belongs to it.
    """
    if body is None:
        return True
    stored = inventory_pb2.InventoryObject.FromString(body)
    if stored.content_hash != held.content_hash:
        return True
    return _state(stored) != _state(one)


def _state(one: inventory_pb2.InventoryObject) -> inventory_pb2.InventoryObject:
    """An object without what is measured and what is said about the report of it."""
    state = inventory_pb2.InventoryObject()
    state.CopyFrom(one)
    for name in ("content_hash", "revision", "observed_at"):
        state.ClearField(name)
    state.datastore.ClearField("free_bytes")
    return state

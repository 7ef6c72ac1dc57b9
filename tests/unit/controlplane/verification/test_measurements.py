"""Free space is measured, and no state: a datastore that differs in it alone does not differ."""

from collections.abc import Callable

import pytest

from controlplane.store.own.objects import ObjectStatus
from controlplane.store.own.readers import HeldObject
from controlplane.verification.measurements import MEASURED, differ_in_state
from vsphere_gateway.v1 import inventory_pb2

HASH = bytes(range(16))
Change = Callable[[inventory_pb2.Datastore], object]


def datastore(content_hash: bytes = HASH) -> inventory_pb2.InventoryObject:
    return inventory_pb2.InventoryObject(
        reference=inventory_pb2.ObjectReference(type="Datastore", value="datastore-1"),
        content_hash=content_hash,
        revision=7,
        datastore=inventory_pb2.Datastore(
            name="fast", type="VMFS", capacity_bytes=100, free_bytes=50,
            accessible=True, parent=inventory_pb2.ObjectReference(type="Folder", value="group-s1"),
        ),
    )  # fmt: skip


def held(content_hash: bytes = HASH) -> HeldObject:
    return HeldObject("Datastore:datastore-1", MEASURED, content_hash, ObjectStatus.APPLIED, "fast")


def now(change: Change) -> inventory_pb2.InventoryObject:
    one = datastore(bytes(16))
    one.ClearField("revision")
    change(one.datastore)
    return one


def stored(one: inventory_pb2.InventoryObject) -> bytes:
    return one.SerializeToString()


@pytest.mark.parametrize("free", [0, 49, 2**40])
def test_free_space_alone_is_no_difference(free: int) -> None:
    one = now(lambda body: setattr(body, "free_bytes", free))
    assert not differ_in_state(one, held(), stored(datastore()))


@pytest.mark.parametrize(
    "change",
    [
        lambda body: setattr(body, "name", "slow"),
        lambda body: setattr(body, "type", "NFS"),
        lambda body: setattr(body, "capacity_bytes", 101),
        lambda body: setattr(body, "accessible", False),
        lambda body: setattr(body, "in_maintenance_mode", True),
        lambda body: setattr(body, "shared", True),
        lambda body: body.ClearField("parent"),
    ],
)
def test_anything_else_of_a_datastore_is_a_difference(change: Change) -> None:
    assert differ_in_state(now(change), held(), stored(datastore()))


def test_what_is_stored_counts_only_with_the_hash_that_is_held() -> None:
    one = now(lambda body: setattr(body, "free_bytes", 1))
    assert differ_in_state(one, held(bytes(16)), stored(datastore()))
    assert differ_in_state(one, held(), None)

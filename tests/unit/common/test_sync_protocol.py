"""What both ends of an inventory stream compute alike (docs/concepts/sync-protocol.md)."""

import hashlib

from common.content_hash import content_hash, content_of
from common.digests import BUCKETS, DIGEST_BYTES, Digests, bucket_of, digests_of
from common.references import key_of, machine_key, moref_of, reference_of, type_name_of
from vsphere_gateway.v1 import inventory_pb2


def test_key_and_reference_are_each_other() -> None:
    reference = inventory_pb2.ObjectReference(type="VirtualMachine", value="vm-42")

    assert key_of(reference) == machine_key("vm-42") == "VirtualMachine:vm-42"
    assert reference_of(key_of(reference)) == reference
    assert (type_name_of("HostSystem:host-1"), moref_of("HostSystem:host-1")) == (
        "HostSystem",
        "host-1",
    )


def test_an_unset_reference_has_no_key() -> None:
    assert key_of(inventory_pb2.ObjectReference()) == ""


def test_hash_does_not_depend_on_when_an_object_was_seen() -> None:
    first = inventory_pb2.InventoryObject(revision=1, content_hash=b"old")
    second = inventory_pb2.InventoryObject(revision=2)
    second.observed_at.GetCurrentTime()

    assert content_hash(content_of(first)) == content_hash(content_of(second))


def test_hash_of_the_same_content_is_the_same_in_every_process() -> None:
    machine = inventory_pb2.VirtualMachine(name="web")
    state = inventory_pb2.InventoryObject(virtual_machine=machine)
    state.reference.CopyFrom(reference_of("VirtualMachine:vm-1"))

    assert content_hash(content_of(state)).hex() == "da31191abb0698c82bc7b0c72c160fdb"


def test_digest_is_as_the_protocol_defines_it() -> None:
    key, hash_ = "VirtualMachine:vm-1", b"0123456789abcdef"
    expected = bytearray(BUCKETS * DIGEST_BYTES)
    bucket = hashlib.sha256(key.encode()).digest()[0]
    start = bucket * DIGEST_BYTES
    expected[start : start + DIGEST_BYTES] = hashlib.sha256(key.encode() + hash_).digest()[:8]

    assert bucket_of(key) == bucket
    assert digests_of([(key, hash_)]).to_bytes() == bytes(expected)


def test_nothing_and_all_zeros_are_the_same_to_both_ends() -> None:
    digests = Digests()

    assert digests.to_bytes() == b""
    assert digests.equal(0, b"")
    assert digests.equal(0, bytes(BUCKETS * DIGEST_BYTES))
    assert digests.differing(bytes(BUCKETS * DIGEST_BYTES)) == []


def test_digests_do_not_depend_on_order_and_forget_what_is_removed() -> None:
    hashes = [(f"VirtualMachine:vm-{number}", bytes([number]) * 16) for number in range(50)]
    digests = digests_of(hashes)

    assert digests_of(reversed(hashes)).to_bytes() == digests.to_bytes()
    for key, hash_ in hashes:
        digests.remove(key, hash_)
    assert digests.to_bytes() == b""
    assert digests.differing(b"") == []


def test_digests_differ_in_the_bucket_of_what_differs() -> None:
    here = digests_of([("VirtualMachine:vm-1", b"a"), ("VirtualMachine:vm-2", b"b")])
    there = digests_of([("VirtualMachine:vm-1", b"a"), ("VirtualMachine:vm-2", b"c")])

    assert here.differing(there.to_bytes()) == [bucket_of("VirtualMachine:vm-2")]
    here.remove("VirtualMachine:vm-2", b"b")
    here.add("VirtualMachine:vm-2", b"c")
    assert here.equal(there.count, there.to_bytes())

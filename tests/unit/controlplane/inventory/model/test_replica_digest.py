"""What is held of a vCenter: stale states drop out, and both sides count the same."""

from controlplane.inventory.model.replica_digest import Freshness, Held, ReplicaDigest
from controlplane.store.own.objects import ObjectStatus
from vsphere_gateway.v1 import link_pb2


def _held(revision: int, status: ObjectStatus = ObjectStatus.APPLIED, epoch: int = 1) -> Held:
    return Held(10, b"h" * 16, epoch, revision, status)


def test_stale_states_drop_out_within_an_epoch_only() -> None:
    holdings = ReplicaDigest()
    holdings.put("k", _held(5))

    assert holdings.freshness("k", b"x" * 16, 1, 4) is Freshness.STALE
    assert holdings.freshness("k", b"h" * 16, 1, 5) is Freshness.SAME
    assert holdings.freshness("k", b"x" * 16, 1, 5) is Freshness.NEW
    assert holdings.freshness("k", b"x" * 16, 2, 1) is Freshness.NEW


def test_removal_is_remembered_until_the_call_ends() -> None:
    holdings = ReplicaDigest()
    holdings.put("k", _held(5))
    holdings.drop("k", 1, 9)

    assert holdings.freshness("k", b"h" * 16, 1, 5) is Freshness.STALE
    holdings.end_of_call()
    assert holdings.freshness("k", b"h" * 16, 1, 5) is Freshness.NEW


def test_what_is_not_shown_or_refused_counts_on_neither_side() -> None:
    holdings = ReplicaDigest()
    holdings.put("a", _held(1))
    holdings.put("b", _held(2))
    both = holdings.message()

    holdings.set_status("a", ObjectStatus.HIDDEN)
    assert holdings.message().object_count == 1
    assert holdings.freshness("a", b"h" * 16, 1, 3) is Freshness.NEW
    query = link_pb2.BucketQuery(generation=3, buckets=range(256))
    assert [one.reference.type for one in holdings.contents(query).objects] == ["b"]

    holdings.set_status("a", ObjectStatus.APPLIED)
    assert holdings.message() == both

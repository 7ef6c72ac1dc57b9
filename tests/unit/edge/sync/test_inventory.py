"""The promises of the inventory one by one; test_protocol has them all at once."""

import dataclasses
import itertools
import threading
import time

from common.content_hash import content_hash, content_of
from common.references import key_of
from edge.interfaces import CollectorUpdate
from edge.sync.inventory import Inventory
from edge.sync.outbox import CHANGES, SNAPSHOT, Outbox, OutboxLimits, PendingState
from tests.support.vcenter_truth import VCENTER, VCenterTruth, virtual_machine
from vsphere_gateway.v1 import inventory_pb2, link_pb2

EMPTY = link_pb2.Holdings()


def holdings(count: int) -> link_pb2.Holdings:
    """Say that so many objects are held, and none that the edge knows."""
    return link_pb2.Holdings(object_count=count, bucket_digests=b"\1" * 2048)


def reading(inventory: Inventory, truth: VCenterTruth, page: int = 500) -> None:
    inventory.begin_read(VCENTER)
    for update in truth.full_read(page):
        inventory.apply(update)


def drained(inventory: Inventory) -> list[link_pb2.InventoryRequest]:
    """Take all that can be sent now, acknowledging each batch."""
    requests = []
    while (request := inventory.next_request(0)) is not None:
        requests.append(request)
        if request.HasField("batch"):
            acknowledge(inventory, request.batch)
    return requests


def acknowledge(inventory: Inventory, batch: link_pb2.ObjectBatch) -> None:
    ack = link_pb2.Ack(lane=batch.lane, sequence=batch.sequence)
    inventory.received(link_pb2.InventoryResponse(ack=ack))


def settled(truth: VCenterTruth, limits: OutboxLimits | None = None) -> Inventory:
    """Return an inventory whose stream has reached parity."""
    inventory = Inventory(limits or OutboxLimits())
    inventory.attach(EMPTY)
    reading(inventory, truth)
    end = drained(inventory)[-1].snapshot_end
    parity = link_pb2.Parity(generation=end.generation)
    inventory.received(link_pb2.InventoryResponse(parity=parity))
    return inventory


# Outbox


def state(revision: int, content: bytes = b"x") -> PendingState:
    return PendingState(revision, b"h" * 16, content)


def test_latest_state_wins_and_a_removal_supersedes() -> None:
    outbox = Outbox(OutboxLimits())
    key = key_of(virtual_machine("vm-1", "").reference)
    outbox.enqueue(key, state(1, virtual_machine("vm-1", "old").SerializeToString()), CHANGES)
    outbox.enqueue(key, state(2, virtual_machine("vm-1", "new").SerializeToString()), CHANGES)
    assert len(outbox) == 1
    batch = outbox.next_batch(CHANGES, 0)
    assert batch is not None
    assert [each.virtual_machine.name for each in batch.objects] == ["new"]
    outbox.enqueue(key, PendingState(3, removal=link_pb2.REMOVAL_REASON_DELETED), CHANGES)
    removal = outbox.next_batch(CHANGES, 0)
    assert removal is not None
    assert not removal.objects
    assert removal.removals[0].revision == 3


def test_batches_are_bounded_by_objects_bytes_and_window() -> None:
    limits = OutboxLimits(batch_objects=10, batch_bytes=1000, snapshot_window=3)
    outbox = Outbox(limits)
    for number in range(100):
        machine = virtual_machine(f"vm-{number}", "n" * 150)
        content = machine.SerializeToString()
        outbox.enqueue(key_of(machine.reference), state(1, content), SNAPSHOT)
    batches = [outbox.next_batch(SNAPSHOT, 1) for _ in range(4)]
    assert batches[3] is None
    for batch in batches[:3]:
        assert batch is not None
        assert 1 <= len(batch.objects) <= 5
        assert batch.ByteSize() < 1500


def test_object_larger_than_a_batch_travels_alone() -> None:
    outbox = Outbox(OutboxLimits(batch_bytes=100))
    for number in range(3):
        machine = virtual_machine(f"vm-{number}", "n" * 500)
        outbox.enqueue(key_of(machine.reference), state(1, machine.SerializeToString()), CHANGES)
    batch = outbox.next_batch(CHANGES, 0)
    assert batch is not None
    assert len(batch.objects) == 1


def test_overflow_keeps_the_object_marked_and_its_content_is_read_again() -> None:
    truth = VCenterTruth({f"vm-{number}": "n" * 1000 for number in range(40)})
    inventory = Inventory(OutboxLimits(content_bytes=10_000))
    reading(inventory, truth)
    counts = inventory.counts()
    assert counts.outbox_objects == 40
    assert counts.outbox_bytes <= 10_000
    inventory.attach(EMPTY)
    sent: set[str] = set()
    for _ in range(100):
        for request in drained(inventory):
            sent.update(key_of(each.reference) for each in request.batch.objects)
        references = inventory.next_verification(0)
        if references:
            inventory.apply_verification(references, truth.confirm(references))
    assert sent == truth.keys().keys()
    assert inventory.counts().outbox_objects == 0


def test_change_pushes_out_what_a_snapshot_keeps_waiting() -> None:
    outbox = Outbox(OutboxLimits(content_bytes=1000))
    for number in range(10):
        machine = virtual_machine(f"vm-{number}", "n" * 60)
        outbox.enqueue(key_of(machine.reference), state(1, machine.SerializeToString()), SNAPSHOT)
    urgent = virtual_machine("vm-99", "u" * 500)
    outbox.enqueue(key_of(urgent.reference), state(2, urgent.SerializeToString()), CHANGES)
    assert outbox.content_bytes <= 1000
    batch = outbox.next_batch(CHANGES, 0)
    assert batch is not None
    assert batch.objects[0].virtual_machine.name == "u" * 500
    assert outbox.has_pending


# Inventory


def test_unchanged_full_read_asks_and_sends_nothing_but_its_end() -> None:
    truth = VCenterTruth({f"vm-{number}": "a" for number in range(30)})
    inventory = settled(truth)
    reading(inventory, truth)
    assert [request.WhichOneof("message") for request in drained(inventory)] == ["snapshot_end"]
    assert inventory.next_verification(0) == []


def test_little_that_is_held_does_not_hold_up_what_is_read() -> None:
    inventory = Inventory(OutboxLimits())
    inventory.attach(holdings(10))
    inventory.begin_read(VCENTER)
    pages = list(VCenterTruth({f"vm-{number}": "a" for number in range(60)}).full_read(20))
    inventory.apply(pages[0])
    assert inventory.next_request(0) is None, "20 to 10: worth a comparison at the end"
    inventory.apply(pages[1])
    request = inventory.next_request(0)
    assert request is not None
    assert len(request.batch.objects) == 40, "40 to 10: sent while the rest is read"


def test_what_is_held_of_nobody_is_found_although_most_is_refused() -> None:
    inventory = Inventory(OutboxLimits())
    inventory.attach(holdings(1))
    reading(inventory, VCenterTruth({f"vm-{number}": "a" for number in range(60)}))
    assert drained(inventory)[-1].HasField("snapshot_end")
    inventory.received(link_pb2.InventoryResponse(holdings=holdings(1)))
    request = inventory.next_request(0)
    assert request is not None
    assert request.HasField("bucket_query"), "60 to 1 again: sending all again would find nothing"


def test_new_cluster_comes_in_small_batches_when_others_are_followed() -> None:
    truth = VCenterTruth({"vm-1": "a"})
    inventory = settled(truth)
    more = VCenterTruth({f"vm-{number}": "a" for number in range(2, 150)})
    for update in more.full_read(500):
        inventory.apply(
            dataclasses.replace(update, full_read=False, newly_managed=True, complete=True)
        )
    batches = [len(one.batch.objects) for one in drained(inventory) if one.HasField("batch")]
    assert batches[:2] == [50, 50]


def test_stream_that_begins_while_a_new_cluster_is_read_does_not_call_it_complete() -> None:
    truth = VCenterTruth({"vm-1": "a"})
    inventory = settled(truth)
    more = VCenterTruth({"vm-2": "a", "vm-3": "a"})
    first, last = (
        dataclasses.replace(update, full_read=False, newly_managed=True)
        for update in more.full_read(1)
    )
    inventory.apply(first)
    inventory.detach()
    inventory.attach(holdings(2))
    query = inventory.next_request(0)
    assert query is not None
    contents = link_pb2.BucketContents(generation=query.bucket_query.generation)
    held = virtual_machine("vm-1", "a")
    contents.objects.add(reference=held.reference, content_hash=content_hash(content_of(held)))
    inventory.received(link_pb2.InventoryResponse(bucket_contents=contents))
    assert [one.WhichOneof("message") for one in drained(inventory)] == ["batch"]
    inventory.apply(last)
    assert [one.WhichOneof("message") for one in drained(inventory)] == ["batch", "snapshot_end"]


def test_what_is_held_of_nobody_is_found_after_all_was_sent_at_once() -> None:
    truth = VCenterTruth({f"vm-{number}": "a" for number in range(60)})
    inventory = Inventory(OutboxLimits())
    inventory.attach(holdings(1))
    reading(inventory, truth)
    requests = drained(inventory)
    assert [one.WhichOneof("message") for one in requests] == ["batch", "snapshot_end"]
    inventory.received(link_pb2.InventoryResponse(holdings=holdings(62)))
    query = inventory.next_request(0)
    assert query is not None
    foreign = inventory_pb2.ObjectReference(type="VirtualMachine", value="of-nobody")
    contents = link_pb2.BucketContents(generation=query.bucket_query.generation)
    contents.objects.add(reference=foreign, content_hash=b"0" * 16)
    inventory.received(link_pb2.InventoryResponse(bucket_contents=contents))
    assert foreign in inventory.next_verification(0)


def test_object_that_a_full_read_does_not_show_is_kept_until_it_is_confirmed_gone() -> None:
    truth = VCenterTruth({"vm-1": "a", "vm-2": "b"})
    inventory = settled(truth)
    del truth.names["vm-2"]
    reading(inventory, truth)
    assert inventory.counts().objects == 2
    asked = inventory.next_verification(0)
    assert [reference.value for reference in asked] == ["vm-2"]
    inventory.apply_verification(asked, truth.confirm(asked))
    (removal,) = (each for request in drained(inventory) for each in request.batch.removals)
    assert removal.reason == link_pb2.REMOVAL_REASON_DELETED


def test_failed_question_removes_nothing_and_is_asked_again() -> None:
    truth = VCenterTruth({"vm-1": "a", "vm-2": "b"})
    inventory = settled(truth)
    del truth.names["vm-2"]
    reading(inventory, truth)
    asked = inventory.next_verification(0)
    assert inventory.next_verification(0) == [], "asked twice at a time"
    inventory.retry_verification(asked)
    assert inventory.counts().objects == 2
    assert inventory.next_verification(0) == asked


def test_late_answer_does_not_undo_what_the_collector_told_since() -> None:
    truth = VCenterTruth({"vm-1": "a"})
    inventory = settled(truth)
    confirm = link_pb2.ConfirmObjects(references=[virtual_machine("vm-1", "").reference])
    inventory.received(link_pb2.InventoryResponse(confirm_objects=confirm))
    asked = inventory.next_verification(0)
    stale = truth.confirm(asked)
    truth.names["vm-1"] = "newer"
    inventory.apply(truth.change("vm-1"))
    inventory.apply_verification(asked, stale)
    names = [
        each.virtual_machine.name
        for request in drained(inventory)
        for each in request.batch.objects
    ]
    assert names == ["newer"]
    assert inventory.next_verification(0) == asked, "the control plane still waits for an answer"


def test_wanted_object_is_sent_although_nothing_changed() -> None:
    truth = VCenterTruth({"vm-1": "a"})
    inventory = settled(truth)
    references = [
        virtual_machine("vm-1", "").reference,
        virtual_machine("vm-404", "").reference,
    ]
    confirm = link_pb2.ConfirmObjects(references=references)
    inventory.received(link_pb2.InventoryResponse(confirm_objects=confirm))
    asked = inventory.next_verification(0)
    inventory.apply_verification(asked, truth.confirm(asked))
    (batch,) = (request.batch for request in drained(inventory))
    assert batch.lane == CHANGES
    assert [each.reference.value for each in batch.objects] == ["vm-1"]
    assert [each.reference.value for each in batch.removals] == ["vm-404"]


def test_operation_s_state_is_stamped_and_asked_about_once_more() -> None:
    truth = VCenterTruth({"vm-1": "a"})
    inventory = settled(truth)
    stamped = inventory.observed(virtual_machine("vm-1", "after"))
    (request,) = drained(inventory)
    assert request.batch.objects[0].revision == stamped.revision
    assert request.batch.objects[0].content_hash == stamped.content_hash
    assert [each.value for each in inventory.next_verification(0)] == ["vm-1"]


def test_unreadable_object_is_named_and_its_last_state_stands() -> None:
    truth = VCenterTruth({"vm-1": "a", "vm-2": "b"})
    inventory = settled(truth)
    inventory.begin_read(VCENTER)
    unreadable = link_pb2.UnreadableObject(
        reference=virtual_machine("vm-2", "").reference, reason="broken"
    )
    inventory.apply(
        CollectorUpdate([virtual_machine("vm-1", "a")], unreadable=[unreadable], full_read=True)
    )
    assert inventory.next_verification(0) == []
    assert [each.reason for each in inventory.unreadable()] == ["broken"]
    inventory.apply(truth.change("vm-2"))
    assert not inventory.unreadable()


def test_object_too_large_for_a_message_is_named_and_not_sent() -> None:
    inventory = settled(VCenterTruth({"vm-1": "a"}))
    inventory.apply(CollectorUpdate([virtual_machine("vm-1", "x" * (3 << 20))]))
    assert drained(inventory) == []
    assert "too many" in inventory.unreadable()[0].reason


def test_sequences_go_on_after_a_reconnect() -> None:
    truth = VCenterTruth({"vm-1": "a"})
    inventory = settled(truth)
    truth.names["vm-1"] = "b"
    inventory.apply(truth.change("vm-1"))
    lost = inventory.next_request(0)
    assert lost is not None
    inventory.detach()
    inventory.attach(EMPTY)
    batches = [request.batch for request in drained(inventory) if request.HasField("batch")]
    assert batches[0].lane == CHANGES
    assert batches[0].sequence == lost.batch.sequence + 1
    assert batches[0].objects[0].virtual_machine.name == "b"


def test_nothing_is_sent_after_a_detach() -> None:
    inventory = settled(VCenterTruth({"vm-1": "a"}))
    taken: list[link_pb2.InventoryRequest | None] = []
    waiting = threading.Thread(target=lambda: taken.append(inventory.next_request(30)))
    waiting.start()
    inventory.detach()
    inventory.apply(VCenterTruth({"vm-1": "b"}).change("vm-1"))
    inventory.attach(EMPTY)
    waiting.join(5)
    assert taken == [None]


def test_change_wakes_the_sender_at_once() -> None:
    truth = VCenterTruth({"vm-1": "a"})
    inventory = settled(truth)
    delays = []

    def send() -> None:
        request = inventory.next_request(5)
        assert request is not None
        delays.append(time.monotonic() - started)
        acknowledge(inventory, request.batch)

    for number in range(20):
        truth.names["vm-1"] = f"state {number}"
        update = truth.change("vm-1")
        sender = threading.Thread(target=send)
        sender.start()
        time.sleep(0.01)
        started = time.monotonic()
        inventory.apply(update)
        sender.join()
    assert len(delays) == 20
    assert sorted(delays)[10] < 0.02


def test_passes_that_never_agree_slow_down() -> None:
    now = 0.0
    inventory = Inventory(OutboxLimits(), lambda: now)
    reading(inventory, VCenterTruth({"vm-1": "a"}))
    wrong = link_pb2.Holdings(object_count=1, bucket_digests=b"\1" * 2048)
    inventory.attach(wrong)
    ends: list[float] = []
    while len(ends) < 8:
        request = inventory.next_request(0)
        if request is None:
            now += 0.5
        elif request.HasField("bucket_query"):
            held = link_pb2.BucketContents(generation=request.bucket_query.generation)
            inventory.received(link_pb2.InventoryResponse(bucket_contents=held))
        elif request.HasField("batch"):
            acknowledge(inventory, request.batch)
        if asked := inventory.next_verification(0):
            inventory.apply_verification(asked, VCenterTruth({"vm-1": "a"}).confirm(asked))
        if request is not None and request.HasField("snapshot_end"):
            ends.append(now)
            inventory.received(link_pb2.InventoryResponse(holdings=wrong))
    pauses = [round(later - earlier) for earlier, later in itertools.pairwise(ends)]
    assert pauses == [0, 1, 2, 4, 8, 16, 32]


def test_vcenter_is_a_kind_of_object_too() -> None:
    body = inventory_pb2.InventoryObject(
        reference=inventory_pb2.ObjectReference(type="ServiceInstance", value="ServiceInstance"),
        vcenter=VCENTER,
    )
    inventory = Inventory(OutboxLimits())
    inventory.attach(EMPTY)
    inventory.begin_read(VCENTER)
    inventory.apply(CollectorUpdate([body], full_read=True))
    assert drained(inventory)[0].batch.objects[0].vcenter.version == "8.0.3"

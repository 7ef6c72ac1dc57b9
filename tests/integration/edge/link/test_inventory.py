"""Inventory over the link, with whatever breaks on the way."""

from collections.abc import Callable

from edge.sync.outbox import OutboxLimits
from tests.support.cable import Cable
from tests.support.inventory_receiver import InventoryReceiver
from tests.support.link_ends import ControlPlaneEnd, EdgeEnd
from tests.support.vcenter_truth import VCENTER, VCenterTruth
from vsphere_gateway.v1 import inventory_pb2, link_pb2

MakeEdge = Callable[..., EdgeEnd]
DELETED = link_pb2.REMOVAL_REASON_DELETED
SMALL_BATCHES = OutboxLimits(batch_objects=10)


def site(count: int) -> VCenterTruth:
    return VCenterTruth({f"vm-{number}": f"name-{number}" for number in range(count)})


def names(receiver: InventoryReceiver) -> dict[str, str]:
    return {key: state.virtual_machine.name for key, state in receiver.held.items()}


def test_first_sync_ends_in_parity(
    control_plane: ControlPlaneEnd, receiver: InventoryReceiver, make_edge: MakeEdge
) -> None:
    edge = make_edge(control_plane.port, site(1000)).start()
    edge.read_vcenter()
    control_plane.pipeline.wait(lambda: receiver.parities)
    assert names(receiver) == edge.truth.keys()
    assert edge.inventory.counts().outbox_objects == 0


def test_pages_are_sent_while_vcenter_is_read(
    control_plane: ControlPlaneEnd, receiver: InventoryReceiver, make_edge: MakeEdge
) -> None:
    edge = make_edge(control_plane.port, site(300)).start()
    pages = edge.truth.full_read(100)
    edge.inventory.begin_read(VCENTER)
    edge.health.wake()
    edge.inventory.apply(next(pages))
    control_plane.pipeline.wait(lambda: len(receiver.held) == 100)
    assert not receiver.parities
    for page in pages:
        edge.inventory.apply(page)
    control_plane.pipeline.wait(lambda: receiver.parities)
    assert len(receiver.held) == 300


def test_control_plane_killed_during_a_snapshot(
    start_control_plane: Callable[..., ControlPlaneEnd],
    receiver: InventoryReceiver,
    make_edge: MakeEdge,
) -> None:
    first = start_control_plane()
    edge = make_edge(first.port, site(300), limits=SMALL_BATCHES).start()
    first.pipeline.held_up.set()
    edge.read_vcenter()
    first.pipeline.wait(lambda: len(first.pipeline.arrived) == SMALL_BATCHES.snapshot_window)
    first.stop()
    edge.change("vm-3", "changed while nobody listened")
    second = start_control_plane(port=first.port)
    second.pipeline.wait(lambda: receiver.parities)
    assert names(receiver) == edge.truth.keys()


def test_link_cut_again_and_again(
    control_plane: ControlPlaneEnd,
    cable: Cable,
    receiver: InventoryReceiver,
    make_edge: MakeEdge,
) -> None:
    edge = make_edge(cable.port, site(400), limits=SMALL_BATCHES).start()
    edge.read_vcenter()
    for opened in range(1, 6):
        control_plane.pipeline.wait(lambda opened=opened: control_plane.pipeline.opened >= opened)
        edge.change(f"vm-{opened}", None)
        edge.change(f"vm-{opened + 100}", "renamed")
        cable.cut()
    control_plane.pipeline.wait(lambda: names(receiver) == edge.truth.keys())
    assert set(receiver.removal_count.values()) <= {1}
    assert set(receiver.removed.values()) <= {DELETED}


def test_half_open_link_is_given_up_and_dialled_anew(
    start_control_plane: Callable[..., ControlPlaneEnd],
    receiver: InventoryReceiver,
    make_edge: MakeEdge,
) -> None:
    control_plane = start_control_plane(heartbeat_interval=0.3)
    cable = Cable(control_plane.port)
    edge = make_edge(cable.port, site(20)).start()
    edge.read_vcenter()
    control_plane.pipeline.wait(lambda: receiver.parities)
    cable.freeze()
    edge.change("vm-1", "changed behind a dead link")
    control_plane.pipeline.wait(lambda: names(receiver) == edge.truth.keys())
    assert control_plane.pipeline.opened == 2
    cable.close()


def test_changes_overtake_a_snapshot(
    control_plane: ControlPlaneEnd, receiver: InventoryReceiver, make_edge: MakeEdge
) -> None:
    control_plane.pipeline.held_up.set()
    edge = make_edge(control_plane.port, site(300), limits=SMALL_BATCHES).start()
    edge.read_vcenter()
    arrived = control_plane.pipeline.arrived
    control_plane.pipeline.wait(lambda: len(arrived) == SMALL_BATCHES.snapshot_window)
    edge.change("vm-299", "urgent")
    control_plane.pipeline.wait(lambda: len(arrived) == SMALL_BATCHES.snapshot_window + 1)
    batch = arrived[-1].batch
    assert batch.lane == link_pb2.LANE_CHANGES
    assert [state.virtual_machine.name for state in batch.objects] == ["urgent"]
    control_plane.pipeline.held_up.clear()
    with control_plane.pipeline.changed:
        control_plane.pipeline.changed.notify_all()
    control_plane.pipeline.wait(lambda: receiver.parities)
    assert names(receiver) == edge.truth.keys()


def test_changes_coalesce_while_acks_stop(
    control_plane: ControlPlaneEnd, receiver: InventoryReceiver, make_edge: MakeEdge
) -> None:
    edge = make_edge(control_plane.port, site(10)).start()
    edge.read_vcenter()
    control_plane.pipeline.wait(lambda: receiver.parities)
    control_plane.pipeline.held_up.set()
    before = len(control_plane.pipeline.arrived)
    for number in range(200):
        edge.change("vm-1", f"state {number}")
    control_plane.pipeline.held_up.clear()
    with control_plane.pipeline.changed:
        control_plane.pipeline.changed.notify_all()
    control_plane.pipeline.wait(lambda: names(receiver)["VirtualMachine:vm-1"] == "state 199")
    assert len(control_plane.pipeline.arrived) - before <= 2 * OutboxLimits().changes_window


def test_unchanged_inventory_costs_a_digest_exchange(
    control_plane: ControlPlaneEnd, receiver: InventoryReceiver, make_edge: MakeEdge
) -> None:
    truth = site(10_000)
    first = make_edge(control_plane.port, truth).start()
    first.read_vcenter()
    control_plane.pipeline.wait(lambda: receiver.parities)
    cost_of_first_sync = receiver.bytes_received
    first.stop()
    receiver.parities.clear()
    restarted = make_edge(control_plane.port, truth, epoch=2).start()
    restarted.read_vcenter()
    control_plane.pipeline.wait(lambda: receiver.parities)
    assert receiver.bytes_received - cost_of_first_sync < cost_of_first_sync / 100


def test_vm_deleted_while_edge_was_away_disappears_once(
    control_plane: ControlPlaneEnd, receiver: InventoryReceiver, make_edge: MakeEdge
) -> None:
    truth = site(50)
    first = make_edge(control_plane.port, truth).start()
    first.read_vcenter()
    control_plane.pipeline.wait(lambda: receiver.parities)
    first.stop()
    receiver.parities.clear()
    del truth.names["vm-7"]
    truth.hidden.add("vm-8")
    restarted = make_edge(control_plane.port, truth, epoch=2).start()
    restarted.read_vcenter()
    control_plane.pipeline.wait(lambda: receiver.parities)
    assert receiver.removed == {
        "VirtualMachine:vm-7": DELETED,
        "VirtualMachine:vm-8": link_pb2.REMOVAL_REASON_HIDDEN,
    }
    assert set(receiver.removal_count.values()) == {1}


def test_empty_answer_of_an_expired_session_deletes_nothing(
    control_plane: ControlPlaneEnd, receiver: InventoryReceiver, make_edge: MakeEdge
) -> None:
    edge = make_edge(control_plane.port, site(50)).start()
    edge.read_vcenter()
    control_plane.pipeline.wait(lambda: receiver.parities)
    edge.inventory.begin_read(VCENTER)
    for update in VCenterTruth().full_read():
        edge.inventory.apply(update)
    control_plane.pipeline.wait(lambda: len(receiver.parities) == 2)
    assert len(receiver.held) == 50
    assert not receiver.removed


def test_refused_object_is_sent_once_and_holds_nothing_up(
    control_plane: ControlPlaneEnd, receiver: InventoryReceiver, make_edge: MakeEdge
) -> None:
    def refuse(state: inventory_pb2.InventoryObject) -> str:
        return "poison" if state.virtual_machine.name == "name-5" else ""

    receiver.refuse = refuse
    edge = make_edge(control_plane.port, site(50)).start()
    edge.read_vcenter()
    control_plane.pipeline.wait(lambda: receiver.parities)
    edge.read_vcenter()
    control_plane.pipeline.wait(lambda: len(receiver.parities) == 2)
    sent = [state for batch in receiver.batches for state in batch.objects]
    assert sum(state.virtual_machine.name == "name-5" for state in sent) == 1
    assert receiver.quarantine == {"VirtualMachine:vm-5": "poison"}
    edge.change("vm-5", "healthy")
    control_plane.pipeline.wait(lambda: names(receiver) == edge.truth.keys())


def test_control_plane_that_lost_an_object_gets_it_again(
    control_plane: ControlPlaneEnd, receiver: InventoryReceiver, make_edge: MakeEdge
) -> None:
    edge = make_edge(control_plane.port, site(50)).start()
    edge.read_vcenter()
    control_plane.pipeline.wait(lambda: receiver.parities)
    del receiver.held["VirtualMachine:vm-9"]
    edge.read_vcenter()
    control_plane.pipeline.wait(lambda: len(receiver.parities) == 2)
    assert names(receiver) == edge.truth.keys()


def test_control_plane_that_lost_its_database_gets_everything_again(
    control_plane: ControlPlaneEnd,
    cable: Cable,
    receiver: InventoryReceiver,
    make_edge: MakeEdge,
) -> None:
    edge = make_edge(cable.port, site(600)).start()
    edge.read_vcenter()
    control_plane.pipeline.wait(lambda: receiver.parities)
    receiver.lose_everything()
    receiver.parities.clear()
    cable.cut()
    control_plane.pipeline.wait(lambda: receiver.parities)
    assert names(receiver) == edge.truth.keys()


def test_second_edge_stands_by_and_takes_over(
    start_control_plane: Callable[..., ControlPlaneEnd],
    receiver: InventoryReceiver,
    make_edge: MakeEdge,
) -> None:
    control_plane = start_control_plane(heartbeat_interval=0.3)
    truth = site(50)
    first = make_edge(control_plane.port, truth, name="site-1").start()
    first.read_vcenter()
    control_plane.pipeline.wait(lambda: receiver.parities)
    second = make_edge(control_plane.port, truth, name="site-2").start()
    second.read_vcenter()
    control_plane.edges.record.wait_for(lambda call: call[0] == "edge_online")
    assert control_plane.pipeline.opened == 1
    spent = receiver.bytes_received
    first.stop()
    control_plane.pipeline.wait(lambda: len(receiver.parities) == 2)
    assert receiver.bytes_received - spent < 4096

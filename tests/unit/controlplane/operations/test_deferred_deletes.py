"""A delete that finds the edge away is carried out once when it is back, or never.

Nova is a fake that the tests can put into any state; the real one is in tests/end_to_end.
"""

import dataclasses
import threading
from collections.abc import Iterator

import pytest

from common.background import ThreadMonitor
from common.timestamps import naive_utc
from controlplane.domain.errors import NovaApiError
from controlplane.domain.records import ServerAction, ServerFacts
from controlplane.operations.deferred_deletes import DeferredDeletes
from controlplane.operations.ledger import Ledger
from controlplane.store.database import Database
from controlplane.store.own import clusters, edges
from controlplane.store.own import operations as store
from controlplane.store.own.clusters import ClusterRow, ClusterState
from controlplane.store.own.edges import VCenterRow
from controlplane.store.own.operations import OperationRow
from tests.support.compute_inventory import ScriptedInventory
from tests.support.edge_side import (
    VCENTER,
    RecordingPipeline,
    ScriptedEdge,
    SteppedClock,
    in_thread,
)
from tests.support.ledger_life import SERVER, MakeRequest
from tests.support.waiting import eventually
from vsphere_gateway.v1 import operations_pb2

CLUSTER = "66666666-0000-4000-8000-000000000001"
OWN = "service-user"
DAY = 86400.0
PATIENCE = 5.0
POLL_SECONDS = 0.01


class ScriptedNova:
    """Nova's API and worker: a delete that is asked for becomes a destroy in the ledger."""

    def __init__(self, request_for: MakeRequest) -> None:
        self.ledger: Ledger
        self.facts: ServerFacts | None = ServerFacts(
            "error", None, True, [ServerAction("delete", "req-1")]
        )
        self.asked = 0
        self.refusal = ""
        self.away = False
        self._request_for = request_for

    def change(self, **facts: object) -> None:
        assert self.facts is not None
        self.facts = dataclasses.replace(self.facts, **facts)  # type: ignore[arg-type]

    def server(self, uuid: str) -> ServerFacts | None:
        if self.away:
            raise NovaApiError("Nova's API cannot be reached")
        return self.facts

    def user_id(self) -> str:
        return OWN

    def delete(self, uuid: str) -> str:
        self.asked += 1
        if self.refusal:
            return self.refusal
        request = dataclasses.replace(
            self._request_for("destroy", recorded_delete=True), user_id=OWN
        )
        if not self.ledger.execute(request).status.code:
            self.facts = None
        return ""


class Scene:
    """An edge that is away, and a server whose delete was asked for meanwhile."""

    def __init__(
        self, database: Database, edge: ScriptedEdge, clock: SteppedClock, nova: ScriptedNova
    ) -> None:
        self.edge, self.clock, self.nova = edge, clock, nova
        self.monitor = ThreadMonitor()
        self.inventory = ScriptedInventory(edge.power)
        self._database = database
        database.run(lambda connection: edges.write_vcenter(connection, _vcenter(clock.time())))
        database.run(lambda connection: clusters.write(connection, [_cluster(clock.time())]))
        self.start()

    def start(self, patience: float = DAY) -> None:
        self.deferred = DeferredDeletes(
            self._database, self.nova, self.edge, self.inventory, patience, self.monitor, self.clock
        )
        pipeline = RecordingPipeline()
        remember = self.deferred.noticed
        self.ledger = Ledger(
            self._database, self.edge, pipeline, self.monitor, self.clock, remember
        )
        self.nova.ledger = self.ledger
        self.edge.events = self.ledger
        self.ledger.start()
        self.deferred.start()

    def stop(self) -> None:
        self.deferred.stop()
        self.ledger.stop()

    def back(self) -> None:
        """The edge comes back, and its inventory is complete."""
        self.clock.advance(60)
        self.edge.reconnect()
        self.deferred.cluster_synchronised(CLUSTER)

    def rows(self) -> list[OperationRow]:
        with self._database.read() as connection:
            return list(reversed(store.recent(connection, 100)))

    def states(self) -> list[str]:
        return [row.state.value for row in self.rows()]

    def expect_states(self, expected: list[str]) -> None:
        eventually(self.states, expected, PATIENCE, POLL_SECONDS)


def _vcenter(now: float) -> VCenterRow:
    return VCenterRow(VCENTER, "VMware vCenter Server", "8.0.3", "1", "8.0.3.0", naive_utc(now))


def _cluster(now: float) -> ClusterRow:
    return ClusterRow(
        uuid=CLUSTER,
        vcenter_uuid=VCENTER,
        moref="domain-c1",
        name="C1",
        known_name="C1",
        host_uuids=("h1",),
        compute_host="dc0-c0-1a2b3c4d",
        compute_node_uuid="77777777-0000-5000-8000-000000000001",
        hypervisor_hostname=f"domain-c1.{VCENTER}",
        state=ClusterState.ACTIVE,
        state_reason="",
        policy="managed",
        created_at=naive_utc(now),
        updated_at=naive_utc(now),
    )


@pytest.fixture
def scene(
    database: Database,
    edge: ScriptedEdge,
    clock: SteppedClock,
    request_for: MakeRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    monkeypatch.setattr("controlplane.operations.deferred_deletes.RETRY_SECONDS", 0.02)
    scene = Scene(database, edge, clock, ScriptedNova(request_for))
    edge.break_link()
    result = scene.ledger.execute(request_for("destroy", recorded_delete=True))
    assert result.status.code, "the person is told that it did not happen"
    assert scene.states() == ["deferred"]
    yield scene
    scene.stop()


def test_it_is_asked_of_nova_once_when_the_edge_is_back(scene: Scene) -> None:
    scene.back()
    scene.expect_states(["done", "done"])
    scene.deferred.cluster_synchronised(CLUSTER)
    assert scene.nova.asked == 1
    assert scene.edge.executed == ["destroy"]
    assert scene.rows()[0].finished_at is not None


def test_nothing_is_asked_before_the_inventory_is_complete(scene: Scene) -> None:
    scene.deferred.cluster_synchronised(CLUSTER)  # before the edge is back
    scene.clock.advance(60)
    scene.edge.reconnect()
    scene.deferred.noticed()
    threading.Event().wait(0.2)
    assert scene.nova.asked == 0
    scene.deferred.cluster_synchronised(CLUSTER)
    eventually(lambda: scene.nova.asked, 1, PATIENCE, POLL_SECONDS)


@pytest.mark.parametrize("action", ["start", "lock", "resetState", "createImage"])
def test_whatever_was_asked_of_the_server_since_withdraws_it(scene: Scene, action: str) -> None:
    scene.nova.change(actions=[ServerAction(action, "req-2"), ServerAction("delete", "req-1")])
    scene.back()
    scene.expect_states(["failed"])
    assert scene.rows()[0].error == f"not carried out: {action} was requested for the server since"
    assert scene.nova.asked == 0


def test_what_was_asked_before_the_delete_or_another_delete_does_not(scene: Scene) -> None:
    actions = [
        ServerAction("delete", "req-2"),
        ServerAction("delete", "req-1"),
        ServerAction("start", "req-0"),
    ]
    scene.nova.change(actions=actions)
    scene.back()
    scene.expect_states(["done", "done"])


@pytest.mark.parametrize(
    "facts", [{"vm_state": "active"}, {"actions": [ServerAction("delete", "another")]}]
)
def test_server_that_is_not_as_the_delete_left_it_is_kept(
    scene: Scene, facts: dict[str, object]
) -> None:
    scene.nova.change(**facts)
    scene.back()
    scene.expect_states(["failed"])
    assert scene.nova.asked == 0


def test_machine_that_was_started_in_vcenter_since_is_kept(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = scene.inventory.virtual_machine(SERVER)
    assert stored is not None
    stored.virtual_machine.booted_at.FromNanoseconds(int((scene.clock.time() + 0.3) * 1e9))
    monkeypatch.setattr(scene.inventory, "virtual_machine", lambda _uuid: stored)
    scene.back()
    scene.expect_states(["failed"])
    assert "started in vCenter since" in scene.rows()[0].error


@pytest.mark.parametrize("facts", [{"service_up": False}, {"task_state": "deleting"}])
def test_it_waits_until_nova_can_carry_it_out(scene: Scene, facts: dict[str, object]) -> None:
    before = scene.nova.facts
    scene.nova.change(**facts)
    scene.back()
    threading.Event().wait(0.2)
    assert (scene.nova.asked, scene.states()) == (0, ["deferred"])
    scene.nova.facts = before
    scene.expect_states(["done", "done"])


def test_it_is_given_up_after_a_day(scene: Scene) -> None:
    scene.clock.advance(DAY)
    scene.back()
    scene.expect_states(["failed"])
    assert scene.rows()[0].error == "not carried out: the edge was not back within 24 hours"
    assert scene.edge.executed == []


def test_server_that_is_gone_meanwhile_ends_it(scene: Scene) -> None:
    scene.nova.facts = None
    scene.back()
    scene.expect_states(["done"])
    assert scene.nova.asked == 0


def test_refusal_of_vcenter_counts_and_is_not_asked_again(scene: Scene) -> None:
    scene.edge.faults["destroy"] = operations_pb2.FAULT_REASON_DISK_IN_USE
    scene.back()
    scene.expect_states(["failed", "failed"])
    assert scene.rows()[0].error == "asked again: FAULT_REASON_DISK_IN_USE happened"
    scene.back()
    threading.Event().wait(0.2)
    assert scene.nova.asked == 1


def test_refusal_of_nova_counts(scene: Scene) -> None:
    scene.nova.refusal = "Nova's API answered with 409"
    scene.back()
    scene.expect_states(["failed"])
    assert scene.rows()[0].error == "asked again: Nova's API answered with 409"


def test_edge_that_leaves_again_is_waited_for_from_the_first_asking(scene: Scene) -> None:
    scene.edge.faults["destroy"] = operations_pb2.FAULT_REASON_VCENTER_UNAVAILABLE
    scene.back()
    scene.expect_states(["deferred", "deferred"])
    scene.edge.faults.clear()
    scene.clock.advance(DAY - 60)
    scene.back()
    scene.expect_states(["failed", "failed"])
    assert scene.nova.asked == 1


def test_delete_that_grows_too_old_while_it_is_looked_at_is_not_carried_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def online(vcenter_uuid: str) -> bool:
        scene.clock.advance(DAY)
        return True

    monkeypatch.setattr(scene.edge, "online", online)
    scene.back()
    scene.expect_states(["failed"])
    assert scene.edge.executed == []


def test_edge_that_leaves_again_and_comes_back_in_time_destroys_once(scene: Scene) -> None:
    scene.edge.faults["destroy"] = operations_pb2.FAULT_REASON_VCENTER_UNAVAILABLE
    scene.back()
    scene.expect_states(["deferred", "deferred"])
    scene.edge.faults.clear()
    scene.back()
    scene.expect_states(["done", "done", "done"])
    assert scene.edge.executed == ["destroy"]


def test_nova_that_is_away_is_asked_later(scene: Scene) -> None:
    scene.nova.away = True
    scene.back()
    threading.Event().wait(0.1)
    scene.nova.away = False
    scene.expect_states(["done", "done"])


def test_next_process_carries_it_out(scene: Scene) -> None:
    scene.stop()
    scene.start()
    scene.back()
    scene.expect_states(["done", "done"])


def test_no_delete_counts_as_recorded_while_it_is_deferred(
    scene: Scene, database: Database
) -> None:
    with database.read() as connection:
        assert store.deletes(connection, [SERVER]) == []


def test_only_deletes_that_a_person_asked_for_are_deferred(
    scene: Scene, request_for: MakeRequest
) -> None:
    scene.ledger.execute(request_for("power_off"))
    assert scene.states() == ["deferred", "failed"]


def test_delete_whose_link_broke_and_that_vcenter_has_not_done_is_brought_to_its_end(
    scene: Scene, edge: ScriptedEdge, clock: SteppedClock, request_for: MakeRequest
) -> None:
    scene.nova.change(vm_state="active")  # the fixture's own delete is withdrawn
    scene.back()
    scene.expect_states(["failed"])
    scene.nova.change(vm_state="error")
    edge.hold = {"destroy"}
    request = request_for("destroy", recorded_delete=True, seconds=60)
    call = in_thread(lambda: scene.ledger.execute(request))
    edge.lose(edge.await_arrival("destroy"))
    edge.break_link()
    clock.advance(61)
    call()
    scene.expect_states(["failed", "unknown"])
    edge.hold = set()
    scene.back()
    scene.expect_states(["failed", "done", "done"])
    assert edge.executed == ["get_state", "destroy"]


def test_an_unexpected_error_ends_no_delete_and_is_reported_until_it_is_over(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(scene.nova, "server", lambda uuid: {}["OS-EXT-STS:vm_state"])
        scene.back()
        eventually(
            lambda: [one.thread for one in scene.monitor.down()],
            ["deferred-deletes"],
            PATIENCE,
            POLL_SECONDS,
        )
    scene.expect_states(["done", "done"])
    eventually(scene.monitor.down, [], PATIENCE, POLL_SECONDS)


def test_a_delete_that_always_fails_holds_up_no_other(
    scene: Scene, edge: ScriptedEdge, request_for: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "0b0d9d1c-6c0f-4f29-9b9f-0000000000ff"

    def facts(uuid: str) -> None:
        if uuid == SERVER:
            raise KeyError("OS-EXT-STS:vm_state")

    request = dataclasses.replace(request_for("destroy", recorded_delete=True), instance_uuid=other)
    assert scene.ledger.execute(request).status.code, "the edge is away"
    with monkeypatch.context() as patch:
        patch.setattr(scene.nova, "server", facts)
        scene.back()
        scene.expect_states(["deferred", "done"])
        eventually(
            lambda: [one.thread for one in scene.monitor.down()],
            ["deferred-deletes"],
            PATIENCE,
            POLL_SECONDS,
        )
    scene.expect_states(["done", "done", "done"])

"""The sync protocol as the control plane keeps it, against an edge that may break it."""

import threading
from collections.abc import Collection

import pytest

from controlplane.domain.errors import FlowControlError
from controlplane.domain.records import ServerChange, ServerOutcome, ServerRecord
from controlplane.inventory.jobs import AT_ONCE_AMONG_CHANGES
from controlplane.store.errors import DatabaseUnavailableError
from tests.support.generated_vcenter import GeneratedVCenter
from tests.support.inventory_edge import WINDOW
from tests.support.inventory_stage import InventoryStage
from vsphere_gateway.v1 import inventory_pb2, link_pb2

CHANGES, SNAPSHOT = link_pb2.LANE_CHANGES, link_pb2.LANE_SNAPSHOT
OFF = inventory_pb2.POWER_STATE_OFF


@pytest.fixture
def site() -> GeneratedVCenter:
    return GeneratedVCenter(machines=3)


def test_older_snapshot_state_never_overwrites_a_newer_change(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site)
    older = dict(site.objects)
    newer = site.change_machine("vm-1", lambda m: setattr(m, "power_state", OFF))
    edge.open()
    edge.snapshot([one for key, one in older.items() if key != "VirtualMachine:vm-1"])
    edge.changes(newer)

    edge.snapshot([older["VirtualMachine:vm-1"]])

    stage.eventually(lambda: len(stage.servers_of(site)) == 3, "servers")
    assert stage.row(site.instance_uuid("vm-1"))["vm_state"] == "stopped"
    assert edge.synchronise() == 0


def test_change_overtakes_the_rest_of_a_snapshot_batch(stage: InventoryStage) -> None:
    site = GeneratedVCenter(machines=2)
    gated = stage.servers = _Gated(stage)
    gated.gate.set()
    stage.restart()
    edge = stage.edge(site)
    edge.synchronise()
    edge.changes(site.change_machine("vm-1", lambda m: setattr(m, "cpus", 3)))
    gated.sizes.clear()
    gated.began.clear()
    gated.gate.clear()

    some, rest = AT_ONCE_AMONG_CHANGES, 5
    more = [site.add_machine(f"more-{n}") for n in range(2 * some + rest)]
    edge.send_batch(SNAPSHOT, more, wait=False)
    assert gated.began.wait(30)
    change = site.change_machine("vm-2", lambda m: setattr(m, "cpus", 3))
    edge.send_batch(CHANGES, [change], wait=False)
    gated.gate.set()
    edge.wait(lambda: edge.unacked() == 0, "acks")

    assert gated.sizes == [some, 1, some, rest]


def test_removal_that_overtakes_a_snapshot_batch_is_final(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site)
    edge.synchronise()
    older = site.state("VirtualMachine:vm-1")
    edge.changes(site.remove("VirtualMachine:vm-1"))

    edge.snapshot([older])

    assert site.instance_uuid("vm-1") not in stage.servers_of(site)
    assert edge.synchronise() == 0


def test_restarted_edge_counts_its_revisions_anew(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site)
    edge.synchronise()
    edge.close()
    again = stage.edge(site, epoch=2)
    again.open()
    site.restart()

    again.changes(site.change_machine("vm-1", lambda m: setattr(m, "power_state", OFF)))

    assert stage.row(site.instance_uuid("vm-1"))["vm_state"] == "stopped"


def test_lost_link_resumes_with_what_is_not_held(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site)
    some = [key for key in site.objects if not key.startswith("VirtualMachine:vm-3")]
    edge.open()
    edge.snapshot([site.objects[key] for key in some])
    edge.close()

    sent = edge.synchronise()

    assert sent == 1
    assert len(stage.servers_of(site)) == 3


def test_difference_found_at_the_end_of_a_pass_heals(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site)
    edge.open()
    edge.snapshot([one for key, one in site.objects.items() if key != "VirtualMachine:vm-2"])

    edge.synchronise()

    assert edge.parities == 1
    assert len(stage.servers_of(site)) == 3


def test_what_vanished_unseen_is_confirmed_and_goes(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site)
    edge.synchronise()
    edge.close()
    site.objects.pop("VirtualMachine:vm-2")

    edge.synchronise()

    assert site.instance_uuid("vm-2") not in stage.servers_of(site)


def test_edge_beyond_its_window_is_refused(stage: InventoryStage, site: GeneratedVCenter) -> None:
    stage.servers = _Away(stage)
    stage.restart()
    edge = stage.edge(site)
    edge.open()
    for one in list(site.objects.values())[:WINDOW]:
        edge.send_batch(SNAPSHOT, [one], wait=False)
    assert edge.unacked() <= WINDOW
    machines = [site.state(key) for key in site.machine_keys()]
    for _ in range(WINDOW):
        edge.force_batch(CHANGES, machines)
    with pytest.raises(FlowControlError):
        edge.force_batch(CHANGES, machines)


def test_nothing_is_acknowledged_while_a_database_is_away(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    away = stage.servers = _Away(stage)
    stage.restart()
    edge = stage.edge(site)
    edge.open()
    edge.send_batch(SNAPSHOT, list(site.objects.values()), wait=False)

    away.tried.wait(30)
    assert edge.unacked() == 1
    assert stage.servers_of(site) == {}

    away.back.set()
    edge.wait(lambda: edge.unacked() == 0, "ack")
    assert len(stage.servers_of(site)) == 3
    assert edge.synchronise() == 0


def test_one_refused_machine_is_quarantined_and_the_others_go_on(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    poison = stage.servers = _Poisoned(stage, {site.instance_uuid("vm-2")})
    stage.restart()
    edge = stage.edge(site)

    edge.synchronise()

    assert set(edge.nacks) == {"VirtualMachine:vm-2"}
    assert "ROW_REFUSED" in edge.nacks["VirtualMachine:vm-2"].status.message
    assert stage.quarantined(site) == {"VirtualMachine:vm-2": "ROW_REFUSED"}
    assert len(stage.servers_of(site)) == 2

    poison.poisoned.clear()
    edge.changes(site.change_machine("vm-2", lambda m: setattr(m, "name", "harmless")))
    assert stage.quarantined(site) == {}
    assert len(stage.servers_of(site)) == 3
    assert edge.synchronise() == 0


def test_refused_object_is_asked_for_again_after_parity(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    poison = stage.servers = _Poisoned(stage, {site.instance_uuid("vm-2")})
    stage.restart()
    edge = stage.edge(site)
    edge.synchronise()
    poison.poisoned.clear()

    edge.wait_asked()
    assert edge.answer() == ["VirtualMachine:vm-2"]

    assert len(stage.servers_of(site)) == 3
    assert stage.quarantined(site) == {}


def test_object_that_breaks_the_code_is_found_by_halving(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    stage.servers = _Breaking(stage, site.instance_uuid("vm-1"))
    stage.restart()
    edge = stage.edge(site)

    edge.synchronise()

    assert set(edge.nacks) == {"VirtualMachine:vm-1"}
    assert "KeyError" in edge.nacks["VirtualMachine:vm-1"].status.message
    assert len(stage.servers_of(site)) == 2


def test_object_of_an_unknown_kind_is_refused_by_name(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    edge = stage.edge(site)
    edge.synchronise()
    strange = inventory_pb2.InventoryObject(
        reference=inventory_pb2.ObjectReference(type="VsanThing", value="v-1"),
        content_hash=b"0" * 16,
        revision=10_000,
    )

    edge.changes(strange)

    assert stage.quarantined(site) == {"VsanThing:v-1": "UNREADABLE"}
    assert edge.synchronise() == 0


def test_absurd_values_are_shown_sensibly_or_quarantined(
    stage: InventoryStage, site: GeneratedVCenter
) -> None:
    def absurd(machine: inventory_pb2.VirtualMachine) -> None:
        machine.name = "\U0001f600/" * 200
        machine.ClearField("disks")
        machine.ClearField("nics")
        machine.ClearField("created_at")
        machine.ClearField("booted_at")

    site.change_machine("vm-1", absurd)
    site.change_machine("vm-2", lambda m: setattr(m, "memory_mb", 2**63))
    site.change_machine("vm-3", _sixty_disks)

    edge = stage.edge(site)
    edge.synchronise()

    names = {row["display_name"] for row in stage.servers_of(site).values()}
    assert any(name.startswith("\\u{1F600}/") for name in names)
    assert set(stage.quarantined(site)) == {"VirtualMachine:vm-2"}
    assert len(stage.servers_of(site)) == 2


def test_lag_of_changes_is_measured(stage: InventoryStage, site: GeneratedVCenter) -> None:
    edge = stage.edge(site)
    edge.synchronise()
    one = site.change_machine("vm-1", lambda m: setattr(m, "power_state", OFF))
    one.observed_at.GetCurrentTime()

    edge.changes(one)

    counts = {count.kind: count for count in stage.diagnostics.inventory_counts()}
    assert counts["virtual_machine"].lag_p99_ms < 60_000


def _sixty_disks(machine: inventory_pb2.VirtualMachine) -> None:
    for number in range(1, 60):
        disk = machine.disks.add()
        disk.CopyFrom(machine.disks[0])
        disk.key = 2000 + number


class _Away:
    """Nova's databases are away until somebody brings them back."""

    def __init__(self, stage: InventoryStage) -> None:
        self._servers = stage.servers
        self.tried = threading.Event()
        self.back = threading.Event()

    def apply(
        self, records: list[ServerRecord], restore: Collection[str] = ()
    ) -> list[ServerOutcome]:
        self.tried.set()
        if not self.back.is_set():
            raise DatabaseUnavailableError("injected")
        return self._servers.apply(records, restore)

    def __getattr__(self, name: str) -> object:
        return getattr(self._servers, name)


class _Poisoned:
    """A database that refuses the rows of some servers."""

    def __init__(self, stage: InventoryStage, poisoned: set[str]) -> None:
        self._servers = stage.servers
        self.poisoned = poisoned

    def apply(
        self, records: list[ServerRecord], restore: Collection[str] = ()
    ) -> list[ServerOutcome]:
        sound = [one for one in records if one.uuid not in self.poisoned]
        outcomes = {one.uuid: one for one in self._servers.apply(sound, restore)}
        return [
            outcomes.get(one.uuid, ServerOutcome(one.uuid, ServerChange.REFUSED, "injected"))
            for one in records
        ]

    def __getattr__(self, name: str) -> object:
        return getattr(self._servers, name)


class _Breaking:
    """Code that a certain server makes fail."""

    def __init__(self, stage: InventoryStage, breaks: str) -> None:
        self._servers = stage.servers
        self._breaks = breaks

    def apply(
        self, records: list[ServerRecord], restore: Collection[str] = ()
    ) -> list[ServerOutcome]:
        if any(one.uuid == self._breaks for one in records):
            raise KeyError(self._breaks)
        return self._servers.apply(records, restore)

    def __getattr__(self, name: str) -> object:
        return getattr(self._servers, name)


class _Gated:
    """Lets servers be written once somebody opens the gate; notes how many at a time."""

    def __init__(self, stage: InventoryStage) -> None:
        self._servers = stage.servers
        self.began = threading.Event()
        self.gate = threading.Event()
        self.sizes: list[int] = []

    def apply(
        self, records: list[ServerRecord], restore: Collection[str] = ()
    ) -> list[ServerOutcome]:
        self.sizes.append(len(records))
        self.began.set()
        assert self.gate.wait(30)
        return self._servers.apply(records, restore)

    def __getattr__(self, name: str) -> object:
        return getattr(self._servers, name)

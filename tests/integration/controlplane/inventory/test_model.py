"""Any sequence of changes, lost links and restarts: afterwards verification finds nothing.

Hypothesis makes the sequences and shortens one that fails. A few, always the same, belong to every
run; with $VSG_MODEL_SEQUENCES that many are made, other ones each time (`make faults`).
"""

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.generated_vcenter import GIB, GeneratedVCenter
from tests.support.inventory_edge import FeedEdge
from tests.support.inventory_stage import InventoryStage
from tests.support.openstack_databases import OpenStackDatabases
from tests.support.waiting import eventually_true
from vsphere_gateway.v1 import inventory_pb2, link_pb2

SEQUENCES = int(os.environ.get("VSG_MODEL_SEQUENCES", "0"))
SHORT_RUN = {"sqlite": 12, "mariadb": 3}
STEPS = 30
Reference = inventory_pb2.ObjectReference
Machine = inventory_pb2.VirtualMachine
Entry = inventory_pb2.InventoryObject | link_pb2.ObjectRemoval

PICK = st.integers(0, 999)
NAMES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=300)
POWER = st.sampled_from(
    [
        inventory_pb2.POWER_STATE_ON,
        inventory_pb2.POWER_STATE_OFF,
        inventory_pb2.POWER_STATE_SUSPENDED,
    ]
)
CLUSTERS = st.integers(1, 3)


class Model(RuleBasedStateMachine):
    """One site, its edge and a control plane, and what may happen to them."""

    def __init__(self, make_stage: Callable[[], InventoryStage]) -> None:
        super().__init__()
        self.stage = make_stage()
        self.site = GeneratedVCenter(clusters=3, machines=3)
        self.epoch = 1
        self.edge: FeedEdge
        self.pending: list[Entry] = []
        self.stale: list[inventory_pb2.InventoryObject] = []
        self.hidden: dict[str, inventory_pb2.InventoryObject] = {}
        self.twins: set[str] = set()
        self.away: dict[int, list[inventory_pb2.InventoryObject]] = {}
        self.added = 0

    @initialize()
    def discover(self) -> None:
        self.stage.start()
        self.edge = self.stage.edge(self.site, epoch=1)
        self.edge.synchronise()

    def teardown(self) -> None:
        """Bring both sides together: then nothing differs."""
        try:
            if hasattr(self, "edge"):
                self._prove()
        finally:
            self.stage.stop()
            self.stage.own.close()

    # What happens in vCenter

    @rule(pick=PICK, state=POWER)
    def power(self, pick: int, state: int) -> None:
        self._change(pick, lambda machine: setattr(machine, "power_state", state))

    @rule(pick=PICK, name=NAMES)
    def rename(self, pick: int, name: str) -> None:
        self._change(pick, lambda machine: setattr(machine, "name", name))

    @rule(pick=PICK, cpus=st.integers(1, 128), memory=st.integers(4, 1 << 20))
    def resize(self, pick: int, cpus: int, memory: int) -> None:
        self._change(pick, lambda machine: machine.MergeFrom(Machine(cpus=cpus, memory_mb=memory)))

    @rule(pick=PICK, sizes=st.lists(st.integers(1, 3000 * GIB), max_size=30))
    def change_disks(self, pick: int, sizes: list[int]) -> None:
        def change(machine: Machine) -> None:
            del machine.disks[:]
            for number, size in enumerate(sizes):
                machine.disks.add(
                    key=2000 + number, capacity_bytes=size, adapter_type="paraVirtual",
                    file_name=f"[datastore1] {pick}/{number}.vmdk",
                )  # fmt: skip

        self._change(pick, change)

    @rule(pick=PICK, count=st.integers(0, 4), connected=st.booleans(), last=st.integers(0, 255))
    def change_nics(self, pick: int, count: int, connected: bool, last: int) -> None:
        def change(machine: Machine) -> None:
            del machine.nics[:]
            for number in range(count):
                machine.nics.add(
                    key=4000 + number, mac_address=f"00:50:56:01:{number:02x}:{last:02x}",
                    network=Reference(type="Network", value="network-1"), connected=connected,
                    ip_addresses=[f"10.0.{number}.{last}", f"fd00::{last:x}"][: number + 1],
                )  # fmt: skip

        self._change(pick, change)

    @rule(pick=PICK, cluster=CLUSTERS)
    def migrate(self, pick: int, cluster: int) -> None:
        def change(machine: Machine) -> None:
            machine.cluster.value = f"domain-c{cluster}"
            machine.host.value = f"host-{cluster}-2"

        if cluster not in self.away:
            self._change(pick, change)

    @rule(pick=PICK, name=NAMES)
    def move_into_a_new_folder(self, pick: int, name: str) -> None:
        self.added += 1
        folder = f"group-{self.added}"
        self.pending.append(self.site.add_folder(folder, name, "group-web"))
        self._change(pick, lambda machine: setattr(machine.folder, "value", folder))

    @rule(name=NAMES)
    def rename_the_network(self, name: str) -> None:
        key = "Network:network-1"
        self._put(self.site.change(key, lambda one: setattr(one.network, "name", name)))

    @rule(name=NAMES)
    def rename_the_folder(self, name: str) -> None:
        key = "Folder:group-web"
        self._put(self.site.change(key, lambda one: setattr(one.folder, "name", name)))

    @rule(cluster=CLUSTERS)
    def create(self, cluster: int) -> None:
        if cluster not in self.away:
            self.added += 1
            self._put(self.site.add_machine(f"added-{self.added}", cluster=f"domain-c{cluster}"))

    @rule(pick=PICK)
    def create_with_another_ones_uuid(self, pick: int) -> None:
        moref = self._pick(pick)
        if moref:
            self.added += 1
            uuid = self.site.machine(moref).instance_uuid
            self._put(self.site.add_machine(f"twin-{self.added}", instance_uuid=uuid))
            self.twins |= {f"VirtualMachine:twin-{self.added}", f"VirtualMachine:{moref}"}

    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        self._remove(pick, link_pb2.REMOVAL_REASON_DELETED)

    @rule(pick=PICK)
    def move_out_of_management(self, pick: int) -> None:
        self._remove(pick, link_pb2.REMOVAL_REASON_UNMANAGED)

    @rule(pick=PICK)
    def convert_to_a_template(self, pick: int) -> None:
        moref = self._pick(pick)
        if moref:
            self._put(self.site.convert(moref, template=True))

    @rule(pick=PICK)
    def convert_back(self, pick: int) -> None:
        moref = self._pick(pick, templates=True)
        if moref and self._cluster_is_here(moref):
            self._put(self.site.convert(moref, template=False))

    @rule(pick=PICK)
    def hide(self, pick: int) -> None:
        moref = self._pick(pick)
        if moref:
            key = f"VirtualMachine:{moref}"
            self.send()
            self.hidden[key] = self.site.state(key)
            self.edge.changes(self.site.remove(key, link_pb2.REMOVAL_REASON_HIDDEN))

    @rule()
    @precondition(lambda self: self.hidden)
    def show(self) -> None:
        key, one = self.hidden.popitem()
        if self._is_here(one):
            self._put(self.site.give_back(one))
        else:
            self.hidden[key] = one

    @rule(cluster=st.integers(2, 3))
    def cluster_leaves_or_returns(self, cluster: int) -> None:
        self.send()
        if cluster in self.away:
            for one in self.away.pop(cluster):
                self._put(self.site.give_back(one))
            return
        reference = f"domain-c{cluster}"
        leaving = [
            one
            for one in self.site.objects.values()
            if one.reference.value == reference
            or (one.HasField("virtual_machine") and one.virtual_machine.cluster.value == reference)
            or (one.HasField("host") and one.host.cluster.value == reference)
            or (one.HasField("resource_pool") and one.resource_pool.cluster.value == reference)
        ]
        self.away[cluster] = leaving
        unmanaged = link_pb2.REMOVAL_REASON_UNMANAGED
        keys = [f"{one.reference.type}:{one.reference.value}" for one in leaving]
        self.edge.changes(*(self.site.remove(key, unmanaged) for key in reversed(keys)))

    # What happens between

    @rule(reverse=st.booleans())
    def send(self, reverse: bool = False) -> None:
        """Send the last state of what changed, as an outbox would, in any order."""
        last = {one.reference.value: one for one in self.pending}
        self.pending.clear()
        entries = list(last.values())
        if entries:
            self.edge.changes(*(reversed(entries) if reverse else entries))

    @rule()
    def snapshot_is_overtaken(self) -> None:
        """What the snapshot lane brings was read before what the changes lane has brought."""
        self.send()
        self.edge.snapshot(self.stale)
        self.stale.clear()

    @rule()
    def answer(self) -> None:
        self._answer()

    @rule()
    def lose_the_link(self) -> None:
        """What was not sent is found by the next pass."""
        self._forget()
        self.edge.close()
        self.edge.synchronise()

    @rule()
    def restart_the_edge(self) -> None:
        self.edge.close()
        self._dial_anew()

    @rule()
    def restart_the_control_plane(self) -> None:
        self.edge.close()
        self.stage.restart()
        self._dial_anew()

    @rule(pick=PICK)
    def nova_alters_a_row(self, pick: int) -> None:
        moref = self._pick(pick)
        uuid = self.site.machine(moref).instance_uuid if moref else ""
        if uuid in self.stage.servers_of(self.site):
            self.stage.change_row(uuid, vm_state="stopped", power_state=4, display_name="altered")
            self.stage.inventory.reassert([uuid])

    def _prove(self) -> None:
        self._forget()
        self.edge.synchronise()
        found = self.stage.look(self.site)

        def same() -> bool:
            nonlocal found
            self._answer()
            found = self.stage.look(self.site)
            excused = {one.subject.object for one in found.excuses}
            return not found.differences and excused <= self.hidden.keys() | self.twins

        def evidence() -> str:
            return f"differences: {found.differences}, excuses: {found.excuses}"

        eventually_true(same, "agreement", seconds=30.0, poll=0.02, evidence=evidence)

    def _answer(self) -> None:
        self.edge.hidden = set(self.hidden)
        self.edge.answer()

    def _dial_anew(self) -> None:
        self._forget()
        self.epoch += 1
        self.site.restart()
        self.edge = self.stage.edge(self.site, epoch=self.epoch)
        self.edge.hidden = set(self.hidden)
        self.edge.synchronise()

    def _forget(self) -> None:
        self.pending.clear()
        self.stale.clear()
        self.edge.hidden = set(self.hidden)

    def _put(self, one: inventory_pb2.InventoryObject) -> None:
        self.pending.append(one)
        self.stale.append(one)

    def _change(self, pick: int, change: Callable[[Machine], object]) -> None:
        moref = self._pick(pick)
        if moref:
            self._put(self.site.change_machine(moref, change))

    def _remove(self, pick: int, reason: "link_pb2.RemovalReason.ValueType") -> None:
        moref = self._pick(pick)
        if moref:
            self.pending.append(self.site.remove(f"VirtualMachine:{moref}", reason))

    def _is_here(self, one: inventory_pb2.InventoryObject) -> bool:
        cluster = one.virtual_machine.cluster.value
        return int(cluster.removeprefix("domain-c")) not in self.away

    def _cluster_is_here(self, moref: str) -> bool:
        cluster = self.site.machine(moref).cluster.value
        return int(cluster.removeprefix("domain-c")) not in self.away

    def _pick(self, pick: int, *, templates: bool = False) -> str:
        kind = "template" if templates else "virtual_machine"
        found = [one.reference.value for one in self.site.objects.values() if one.HasField(kind)]
        return found[pick % len(found)] if found else ""


@pytest.mark.timeout(0 if SEQUENCES else 300)
def test_nothing_differs_after_any_sequence(
    databases: OpenStackDatabases, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["databases"]
    run_state_machine_as_test(
        lambda: Model(
            lambda: InventoryStage(databases.nova, databases.glance, databases.own_url())
        ),
        settings=settings(
            max_examples=SEQUENCES or SHORT_RUN[kind],
            stateful_step_count=STEPS,
            derandomize=not SEQUENCES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )

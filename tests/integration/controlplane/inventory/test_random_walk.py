"""Long random sequences of changes, lost links and restarts: afterwards nothing differs.

Seeded; each seed is a test of its own, so that a failure can be walked again.
"""

import random
from collections.abc import Callable

import pytest

from controlplane.store.own import objects
from tests.support.generated_vcenter import GeneratedVCenter
from tests.support.inventory_edge import FeedEdge
from tests.support.inventory_stage import InventoryStage
from vsphere_gateway.v1 import inventory_pb2, link_pb2

STEPS = 120
PROVEN_EVERY = 30
POWER = {
    inventory_pb2.POWER_STATE_ON: "active",
    inventory_pb2.POWER_STATE_OFF: "stopped",
    inventory_pb2.POWER_STATE_SUSPENDED: "suspended",
}


class Walk:
    """One site, its edge and the control plane, and what may happen to them."""

    def __init__(self, stage: InventoryStage, seed: int) -> None:
        self.stage = stage
        self.chance = random.Random(seed)
        self.site = GeneratedVCenter(clusters=3, machines=6)
        self.epoch = 1
        self.edge: FeedEdge = stage.edge(self.site, epoch=1)
        self.edge.synchronise()
        self.pending: list[inventory_pb2.InventoryObject | link_pb2.ObjectRemoval] = []
        self.hidden: list[inventory_pb2.InventoryObject] = []
        self.added = 0

    def step(self) -> None:
        """Let one thing happen."""
        actions: list[Callable[[], None]] = [
            *[self.power, self.resize, self.rename, self.move] * 3,
            *[self.add, self.delete, self.convert, self.send] * 2,
            *[self.unmanage, self.hide, self.show, self.rename_network],
            *[self.lose_link, self.restart_edge, self.restart_control_plane, self.nova_alters],
        ]
        self.chance.choice(actions)()

    def prove(self) -> None:
        """Bring both sides together and compare everything."""
        self.pending.clear()
        self.edge.synchronise()
        wanted = self._wanted()
        self.stage.eventually(lambda: self._agrees(wanted), "same state in Nova")
        with self.stage.own.read() as connection:
            held = {
                row.reference: row.content_hash
                for row in objects.held(connection, self.site.vcenter_uuid)
                if row.status in objects.REPORTED
            }
        assert held == self.site.hashes()
        images = {row.moref for row in self.stage.images_of(self.site)}
        assert images == set(self._machines(templates=True))

    def power(self) -> None:
        state = self.chance.choice(list(POWER))
        self._change(lambda machine: setattr(machine, "power_state", state))

    def resize(self) -> None:
        cpus = self.chance.randint(1, 64)
        self._change(lambda machine: setattr(machine, "cpus", cpus))

    def rename(self) -> None:
        name = f"machine {self.chance.random()}"
        self._change(lambda machine: setattr(machine, "name", name))

    def move(self) -> None:
        number = self.chance.randint(1, 3)

        def to(machine: inventory_pb2.VirtualMachine) -> None:
            machine.cluster.value = f"domain-c{number}"
            machine.host.value = f"host-{number}-1"

        self._change(to)

    def add(self) -> None:
        self.added += 1
        cluster = f"domain-c{self.chance.randint(1, 3)}"
        self.pending.append(self.site.add_machine(f"added-{self.added}", cluster=cluster))

    def delete(self) -> None:
        self._remove(link_pb2.REMOVAL_REASON_DELETED)

    def unmanage(self) -> None:
        self._remove(link_pb2.REMOVAL_REASON_UNMANAGED)

    def hide(self) -> None:
        moref = self._any()
        if moref:
            key = f"VirtualMachine:{moref}"
            self.hidden.append(self.site.state(key))
            self.send()
            self.edge.changes(self.site.remove(key, link_pb2.REMOVAL_REASON_HIDDEN))

    def show(self) -> None:
        while self.hidden:
            self.pending.append(self.site.give_back(self.hidden.pop()))

    def convert(self) -> None:
        templates = self._machines(templates=True)
        if templates and self.chance.random() < 0.6:
            self.pending.append(self.site.convert(self.chance.choice(templates), template=False))
        elif moref := self._any():
            self.pending.append(self.site.convert(moref, template=True))

    def rename_network(self) -> None:
        name = f"net {self.chance.randint(1, 5)}"
        change = self.site.change("Network:network-1", lambda o: setattr(o.network, "name", name))
        self.pending.append(change)

    def send(self) -> None:
        """Send what changed: only the last state of each object, as an outbox would."""
        last = {one.reference.value: one for one in self.pending}
        self.pending.clear()
        if last:
            self.edge.changes(*last.values())

    def lose_link(self) -> None:
        """What was not sent is found by the next pass."""
        self.pending.clear()
        self.edge.close()
        self.edge.synchronise()

    def restart_edge(self) -> None:
        self._dial_again()

    def restart_control_plane(self) -> None:
        self.edge.close()
        self.stage.restart()
        self._dial_again()

    def nova_alters(self) -> None:
        moref = self._any()
        uuid = self.site.machine(moref).instance_uuid if moref else ""
        if uuid in self.stage.servers_of(self.site):
            self.stage.change_row(uuid, vm_state="stopped", power_state=4, display_name="altered")
            self.stage.inventory.reassert([uuid])

    def _dial_again(self) -> None:
        self.pending.clear()
        self.edge.close()
        self.epoch += 1
        self.site.restart()
        self.edge = self.stage.edge(self.site, epoch=self.epoch)
        self.edge.synchronise()

    def _change(self, change: Callable[[inventory_pb2.VirtualMachine], object]) -> None:
        moref = self._any()
        if moref:
            self.pending.append(self.site.change_machine(moref, change))

    def _remove(self, reason: "link_pb2.RemovalReason.ValueType") -> None:
        moref = self._any()
        if moref and len(self._machines(templates=False)) > 5:
            self.pending.append(self.site.remove(f"VirtualMachine:{moref}", reason))

    def _any(self) -> str:
        morefs = self._machines(templates=False)
        return self.chance.choice(morefs) if morefs else ""

    def _machines(self, *, templates: bool) -> list[str]:
        return sorted(
            one.reference.value
            for one in self.site.objects.values()
            if one.HasField("template" if templates else "virtual_machine")
        )

    def _wanted(self) -> dict[str, tuple[str, str, int, str]]:
        hosts = {row.moref: row.compute_host for row in self.stage.clusters(self.site)}
        shown = [self.site.machine(moref) for moref in self._machines(templates=False)]
        kept = [one.virtual_machine for one in self.hidden]
        return {
            one.instance_uuid: (
                one.name,
                POWER[one.power_state],
                one.cpus,
                hosts[one.cluster.value],
            )
            for one in [*shown, *kept]
        }

    def _agrees(self, wanted: dict[str, tuple[str, str, int, str]]) -> bool:
        self.edge.hidden = {f"VirtualMachine:{one.reference.value}" for one in self.hidden}
        self.edge.answer()
        return self._found() == wanted

    def _found(self) -> dict[str, tuple[str, str, int, str]]:
        return {
            uuid: (row["display_name"], row["vm_state"], row["vcpus"], row["host"])
            for uuid, row in self.stage.servers_of(self.site).items()
        }


@pytest.mark.parametrize("seed", range(3))
def test_nothing_differs_after_a_random_walk(stage: InventoryStage, seed: int) -> None:
    walk = Walk(stage, seed)
    for number in range(1, STEPS + 1):
        walk.step()
        if number % PROVEN_EVERY == 0:
            walk.prove()

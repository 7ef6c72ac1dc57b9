"""What the collector knows of vCenter's inventory, and what of it has to be told.

Takes what vCenter announces or answers, in any order; says what must be read; presents what is
managed and new. No input and output: the collector does that.
"""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

from common.references import Key, is_virtual_machine, reference_of
from edge.interfaces import CollectorUpdate
from edge.vcenter.client.answers import ObjectProperties
from edge.vcenter.client.property_specs import POLLED_MACHINE_PATHS, spec_of
from edge.vcenter.collector.configuration_cache import CachedConfiguration
from edge.vcenter.collector.machines import Machine, MachineRegister
from edge.vcenter.collector.parser import (
    UnreadablePropertyError,
    apply_full_read,
    apply_properties,
    body_of,
    new_object,
)
from edge.vcenter.collector.serializer import Serializer
from vsphere_gateway.v1 import inventory_pb2, link_pb2


@dataclasses.dataclass(slots=True)
class ChangeSet:
    """What is to be done about the changes so far."""

    structure: CollectorUpdate
    """What is not a virtual machine; reported before those."""
    ready: list[Key] = dataclasses.field(default_factory=list)
    """Virtual machines that can be presented, or taken back, without reading."""
    details: list[Key] = dataclasses.field(default_factory=list)
    """Virtual machines whose configuration has to be read; those that are ready too are presented
    before, so that nobody waits for their power state."""
    unread: list[Key] = dataclasses.field(default_factory=list)
    """Virtual machines of which everything has to be read."""
    has_new_clusters: bool = False
    """Clusters have come under management since the first plan."""


class InventoryCache:
    """The inventory of one vCenter. Not safe for threads by itself."""

    def __init__(self, presenter: Serializer) -> None:
        self.presenter = presenter
        self.topology = presenter.topology
        self.machines = MachineRegister()
        self._touched: set[Key] = set()
        """Virtual machines to look at in the next plan."""
        self._structure_touched = True
        self._relations_changed = True
        self._has_new_clusters = False
        self._structure_reported: dict[Key, int] = {}
        self._structure_problems: dict[Key, str] = {}
        self._folders: collections.Counter[Key] = collections.Counter()
        """How many managed virtual machines are in each folder."""
        self._read_only_edition = presenter.managed.read_only_edition
        self.is_planned = False
        """It was found out what is managed; before that, everything would look unmanaged."""

    def announce(self, found: ObjectProperties) -> None:
        """Take what the watch says of an object that entered or changed."""
        if is_virtual_machine(found.key):
            if self.machines.announce(found):
                self._touched.add(found.key)
        elif spec_of(found.key.partition(":")[0]) is not None:
            self._update_structure(found, None)

    def place(self, found: ObjectProperties) -> None:
        """Take where a virtual machine is: the next plan says whether it is to be read."""
        self.machines.place(found)
        self._touched.add(found.key)

    def recall(self, found: ObjectProperties, cached: CachedConfiguration) -> bool:
        """Take what is watched of a virtual machine, and the rest from the cache.

        False if it has changed since: the next plan says whether it is to be read.
        """
        self._touched.add(found.key)
        return self.machines.recall(found, cached)

    def read(self, found: ObjectProperties, asked: Sequence[str]) -> None:
        """Take what a read of the paths ``asked`` returned."""
        if is_virtual_machine(found.key):
            self.machines.read(found, asked)
            self._touched.add(found.key)
        else:
            self._update_structure(found, asked)

    def not_returned(self, keys: Iterable[Key]) -> None:
        """Take note of virtual machines that vCenter left out of its answer.

        They are deleted, which the watch will tell, or hidden: then the audit pass asks again.
        """
        for key in keys:
            self.machines.not_returned(key)

    def differs(self, found: ObjectProperties) -> bool:
        """Tell whether what an audit read differs from what is known."""
        if is_virtual_machine(found.key):
            return self.machines.differs(found, POLLED_MACHINE_PATHS)
        known = self.topology.get(found.key)
        if known is None:
            return True
        spec = spec_of(found.key.partition(":")[0])
        state = inventory_pb2.InventoryObject()
        state.CopyFrom(known)
        try:
            apply_full_read(
                found.key,
                body_of(state),
                found.values,
                spec.watched if spec else (),
                found.missing,
            )
        except UnreadablePropertyError:
            return True
        return bool(state != known)

    def touch(self, keys: Iterable[Key]) -> None:
        """Present these virtual machines again: something that they show has changed."""
        self._touched.update(keys)

    def rescope(self) -> None:
        """Find out afresh what is managed: the site has changed its list."""
        self._relations_changed = self._structure_touched = True
        edition = self.presenter.managed.read_only_edition
        if edition != self._read_only_edition:
            self._read_only_edition = edition
            self.touch_all()

    def touch_all(self) -> None:
        """Present all virtual machines again."""
        self._touched.update(key for key, machine in self.machines.items() if machine.managed)

    def knows(self, key: Key) -> bool:
        """Tell whether vCenter has shown an object."""
        return key in self.machines or self.topology.get(key) is not None

    def keys(self) -> set[Key]:
        """Return the keys of all objects that vCenter has shown."""
        return {key for key, _ in self.machines.items()} | set(self.topology.keys())

    def is_reported(self, key: Key) -> bool:
        """Tell whether the object, or a problem with it, was told."""
        machine = self.machines.get(key)
        if machine is not None:
            return bool(machine.reported or machine.reported_problem)
        return key in self._structure_reported or key in self._structure_problems

    def has_problem(self, key: Key) -> bool:
        """Tell whether an object could not be read: then a change of it asks for a new read."""
        machine = self.machines.get(key)
        return bool(machine.problem) if machine is not None else key in self._structure_problems

    def forget(self, key: Key) -> None:
        """Take out an object that vCenter no longer shows."""
        self._touched.discard(key)
        machine = self.machines.remove(key)
        if machine is not None:
            self._count_in(machine, "")
        elif self.topology.remove(key):
            self._relations_changed = self._structure_touched = True
        self._structure_reported.pop(key, None)
        self._structure_problems.pop(key, None)

    def plan(self) -> ChangeSet:
        """Settle what belongs to management now, and say what follows from it."""
        if self._relations_changed:
            self._refresh()
        plan = ChangeSet(CollectorUpdate([]), has_new_clusters=self._has_new_clusters)
        self._has_new_clusters = False
        for key in sorted(self._touched):
            machine = self.machines.get(key)
            if machine is not None:
                self._classify(machine)
                self._show_folder(machine)
                self._assign(plan, key, machine)
        self._touched.clear()
        self._plan_structure(plan.structure)
        self.is_planned = True
        return plan

    def present(self, keys: Iterable[Key]) -> CollectorUpdate:
        """Return what is to be told of virtual machines that can be presented."""
        update = CollectorUpdate([])
        for key in keys:
            self._touched.discard(key)
            machine = self.machines.get(key)
            if machine is not None:
                self._show_folder(machine)
                self._present(update, key, machine)
        return update

    def is_all_managed(self) -> bool:
        """Tell whether every host that vCenter has shown belongs to a managed cluster."""
        self._refresh()
        return self.topology.is_all_managed

    def is_managed(self, machine: Machine) -> bool | None:
        """Tell whether a virtual machine is managed; None while nobody can know."""
        managed = self.topology.managed
        if machine.is_template:
            return any(key in managed.datastores for key in machine.datastores)
        owner = self.topology.owner_of(machine.pool, machine.host)
        return owner in managed.clusters if owner else None

    def _update_structure(self, found: ObjectProperties, asked: Sequence[str] | None) -> None:
        known = self.topology.get(found.key)
        state = new_object(found.key)
        if known is not None:
            state.CopyFrom(known)
        try:
            if asked is None:
                apply_properties(found.key, body_of(state), found.values)
            else:
                apply_full_read(found.key, body_of(state), found.values, asked, found.missing)
        except UnreadablePropertyError as error:
            self._structure_problems[found.key] = str(error)
        else:
            if asked is not None:
                self._structure_problems.pop(found.key, None)
        self._relations_changed |= self.topology.put(found.key, state)
        self._structure_touched = True

    def _refresh(self) -> None:
        """Find out what is managed, and which virtual machines that concerns."""
        self._relations_changed = False
        before = self.topology.managed
        self.topology.refresh()
        after = self.topology.managed
        self._has_new_clusters |= self.is_planned and bool(after.clusters - before.clusters)
        # Rules about folders and networks by name may now say something else about any of them.
        everything = bool(self.presenter.managed.read_only_folders) or (
            before.portgroups != after.portgroups
        )
        for key, machine in self.machines.items():
            owner = self.topology.owner_of(machine.pool, machine.host)
            if (
                everything
                or machine.is_template
                or owner != machine.cluster
                or (owner in after.clusters) != machine.managed
            ):
                self._touched.add(key)

    def _classify(self, machine: Machine) -> None:
        machine.cluster = self.topology.owner_of(machine.pool, machine.host)
        managed = self.is_managed(machine)
        if managed is not None:
            machine.managed = managed

    def _show_folder(self, machine: Machine) -> None:
        """See to it that the next plan shows a managed virtual machine's folder."""
        self._count_in(machine, machine.folder if machine.managed else "")

    def _count_in(self, machine: Machine, folder: Key) -> None:
        """Count a virtual machine in this folder and in no other; the empty key is none."""
        before, machine.counted_in = machine.counted_in, folder
        if folder == before:
            return
        if before:
            self._folders[before] -= 1
            if not self._folders[before]:
                del self._folders[before]
                self._structure_touched = True
        if folder:
            self._structure_touched |= folder not in self._folders
            self._folders[folder] += 1

    def _assign(self, plan: ChangeSet, key: Key, machine: Machine) -> None:
        if not machine.managed or machine.detailed:
            plan.ready.append(key)
            if machine.managed and machine.devices_due:
                plan.details.append(key)
        elif not machine.state:
            plan.unread.append(key)
        elif machine.change_version:
            plan.details.append(key)

    def _present(self, update: CollectorUpdate, key: Key, machine: Machine) -> None:
        if not machine.managed:
            if self.is_reported(key):
                update.removals.append(removal(key, link_pb2.REMOVAL_REASON_UNMANAGED))
            machine.forget_state()
        elif machine.problem:
            if machine.problem != machine.reported_problem:
                machine.reported_problem = machine.problem
                update.unreadable.append(unreadable(key, machine.problem))
        elif machine.detailed:
            presented = self.presenter.virtual_machine(
                key, machine.machine(), is_template=machine.is_template
            )
            told = _hash(presented)
            if told != machine.reported or machine.reported_problem:
                machine.reported, machine.reported_problem = told, ""
                update.objects.append(presented)

    def _plan_structure(self, update: CollectorUpdate) -> None:
        if not self._structure_touched:
            return
        self._structure_touched = False
        managed = set(self.topology.managed.keys())
        wanted = managed | self.topology.ancestors(managed | self._folders.keys())
        for key in sorted(wanted):
            problem = self._structure_problems.get(key)
            presented = self.presenter.structure(key)
            if problem is not None:
                update.unreadable.append(unreadable(key, problem))
            elif presented is not None:
                told = _hash(presented)
                if told != self._structure_reported.get(key):
                    self._structure_reported[key] = told
                    update.objects.append(presented)
        for key in sorted(self._structure_reported.keys() - wanted):
            # What vCenter no longer shows is settled when the watch says so.
            if self.topology.get(key) is not None:
                del self._structure_reported[key]
                update.removals.append(removal(key, link_pb2.REMOVAL_REASON_UNMANAGED))


def removal(key: Key, reason: link_pb2.RemovalReason.ValueType) -> link_pb2.ObjectRemoval:
    """Make a removal."""
    return link_pb2.ObjectRemoval(reference=reference_of(key), reason=reason)


def unreadable(key: Key, reason: str) -> link_pb2.UnreadableObject:
    """Make the note about an object that cannot be read."""
    return link_pb2.UnreadableObject(reference=reference_of(key), reason=reason)


def _hash(presented: inventory_pb2.InventoryObject) -> int:
    return hash(presented.SerializeToString(deterministic=True)) or 1
